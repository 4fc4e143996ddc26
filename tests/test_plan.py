"""`rayfed plan` through the entry point: its document, its table and picture, and every message a table can cause."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from rayfed.config.table import load_table
from tests.test_cli import Outcome, rayfed

PAPER = Path(__file__).parents[1] / "jobs" / "devices" / "paper.csv"
STRATEGIES = ["random_single", "random_multiple", "sorted_single", "sorted_multiple", "optimal", "pipelined"]
HEADER = "client,device,capacity,time_factor"
COLUMNS = "client, device, capacity, time_factor, up_mbps, down_mbps, ray_cpus, ray_gpus, ray_memory"
GOOD = f"{HEADER}\nhome,phone,2000000,3\n"


def test_the_document(tmp_path):
    """The sixth client is dropped; the seconds are those of the counted operations at 10 GFLOP/s."""
    outcome = rayfed(tmp_path, "plan", str(PAPER), "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = outcome.json
    assert [portion["parameters"] for portion in found["portions"]] == [1_664, 204_928, 823_553]
    clients = found["clients"]
    assert [client["dropped"] for client in clients.values()] == [False] * 5 + [True]
    assert clients["1"]["reason"] is None
    assert clients["6"] == {
        "dropped": True,
        "reason": "none of its devices can hold a portion: the smallest has 1,664 parameters",
        "dropped_devices": ["a", "b", "c", "d"],
        "strategies": dict.fromkeys(STRATEGIES),
    }
    assert list(clients["5"]["strategies"]) == STRATEGIES
    # 512 images, 2 operations per multiply-add; backward: weights, and inputs but for the first layer's.
    a, b, c = 14 * 14 * 64 * 25, 7 * 7 * 128 * 64 * 25, 4 * 4 * 256 * (128 * 25 + 1)
    compute = [512 * 2 * flops / 1e10 for flops in (2 * a, 3 * b, 3 * c)]
    best = clients["5"]["strategies"]["optimal"]
    assert best == {
        "portions": {"b": [0, 1], "a": [2]},
        "step_seconds": pytest.approx(2 * (compute[0] + compute[1]) + 1.67 * compute[2] + 2 * 0.05),
        "bottleneck_seconds": pytest.approx(1.67 * compute[2]),
        "bytes": 2 * 512 * 4 * 7 * 7 * 128,
        "memory": {"b": 206_592, "a": 823_553},
    }


def test_yaml_says_what_csv_says(tmp_path):
    (tmp_path / "table.csv").write_text(
        f"{HEADER},down_mbps,up_mbps,ray_cpus,ray_memory\n 1 , a,1e6,2,,,0.5,2e9\n\n1,b,2000000,1.5,20,5.5,,\n"
        "home,a,1100000,1,,4,,\n"
    )
    clients = {
        1: [
            {"device": "a", "capacity": 1_000_000, "time_factor": 2, "ray_cpus": 0.5, "ray_memory": 2_000_000_000},
            {"device": "b", "capacity": 2e6, "time_factor": 1.5, "up_mbps": 5.5, "down_mbps": 20},
        ],
        "home": [{"device": "a", "capacity": 1_100_000, "time_factor": 1, "up_mbps": 4}],
    }
    (tmp_path / "table.yaml").write_text(yaml.safe_dump({"clients": clients}))
    assert load_table(tmp_path / "table.csv") == load_table(tmp_path / "table.yaml")
    one, other = (rayfed(tmp_path, "plan", f"table.{kind}", "--json") for kind in ("csv", "yaml"))
    assert one.code == 0
    assert one == other


def test_the_table_for_people_and_the_picture(tmp_path):
    """100 columns where there is no terminal, however long the names are."""
    table = GOOD + f"home,{'a-rather-long-name-' * 5},3000,9\naway,watch,9,9\naway,ring,2000,9\n"
    (tmp_path / "table.csv").write_text(table)
    outcome = rayfed(tmp_path, "plan", "table.csv", "--portions", "blocks", "--picture", "new/plan.png")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[4].split() == ["4", "4", "Linear", "4,097", "0.00126", "-"]
    (optimal,) = (line for line in lines if "optimal" in line)
    assert optimal.split()[:6] == ["home", "optimal", "phone:", "1-4", "(1,030,145)", "21.524"]
    assert sum("no plan: the devices run out" in line for line in lines) == 2
    assert lines[-1] == ("client away is dropped: none of its devices can hold portion 2, which has 204,928 parameters")
    picture = np.asarray(Image.open(tmp_path / "new" / "plan.png").convert("RGB"))
    assert (picture == (31, 119, 180)).all(axis=2).sum() > 1_000  # the first device's bars


def test_seeds_and_speeds(tmp_path):
    """The seed moves the random strategies alone; a hundred times the speed leaves the hops."""
    one, other = (rayfed(tmp_path, "plan", str(PAPER), "--json", "--seed", seed).json["clients"] for seed in "01")
    moved = {s for c in "12345" for s in STRATEGIES if one[c]["strategies"][s] != other[c]["strategies"][s]}
    assert moved == {"random_single", "random_multiple"}
    fast = rayfed(tmp_path, "plan", str(PAPER), "--json", "--flops-per-s", "1e12").json["clients"]
    slow_s, fast_s = (found["1"]["strategies"]["sorted_single"]["step_seconds"] for found in (one, fast))
    assert fast_s - 4 * 0.05 == pytest.approx((slow_s - 4 * 0.05) / 100)


@pytest.mark.parametrize("model", ["lsgan", "dcgan32", "dcgan64"])
def test_other_discriminators(tmp_path, model):
    (tmp_path / "table.csv").write_text(f"{HEADER}\nhome,phone,1e7,1\n")
    found = rayfed(tmp_path, "plan", "table.csv", "--json", "--model", model, "--batch", "8").json
    assert found["clients"]["home"]["strategies"]["optimal"]["bytes"] == 0
    assert len(found["portions"]) == {"lsgan": 4, "dcgan32": 3, "dcgan64": 4}[model]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", ": the table is empty; it needs a device at least"),
        (f"{HEADER}\n", ": the table is empty; it needs a device at least"),
        ("client,device,capacity\nhome,phone,1\n", f", line 1: no column time_factor; the columns are {COLUMNS}"),
        (f"{HEADER},ram\n", f", line 1: unknown column 'ram'; the columns are {COLUMNS}"),
        (f"{HEADER},client\n", ", line 1: column client is there twice"),
        (f"{GOOD}home,tv,1\n", ", line 3: 3 cells under 4 columns"),
        (f"{GOOD}home,tv,-5,1\n", ", line 3 (device tv): capacity = -5.0: must be greater than 0"),
        (f"{GOOD}home,tv,5,0\n", ", line 3 (device tv): time_factor = 0.0: must be greater than 0"),
        (f"{GOOD}home,tv,lots,1\n", ", line 3 (device tv): capacity = 'lots': must be a valid number"),
        (f"{GOOD}home,tv,nan,1\n", ", line 3 (device tv): capacity = nan: must be a finite number"),
        (f"{GOOD}home,tv,,1\n", ", line 3 (device tv): capacity: missing"),
        (f"{GOOD}home,,1,1\n", ", line 3: device: missing"),
        (f"{GOOD},tv,1,1\n", ", line 3: client: missing"),
        (f"{GOOD}home,phone,1,1\n", ", line 3: client home has a device phone already"),
    ],
)
@pytest.mark.parametrize("flag", ["", "--json"])
def test_a_bad_csv_is_one_line(tmp_path, table, message, flag):
    (tmp_path / "table.csv").write_text(table)
    outcome = rayfed(tmp_path, "plan", "table.csv", *flag.split())
    assert outcome == Outcome(2, "", f"rayfed: table.csv{message}\n")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", ": the table is empty; it needs a device at least"),
        ("clients:", ": the table is empty; it needs a device at least"),
        ("client: {}", ": client: unknown key; a device table has one, clients"),
        ("clients: 3", ": clients: must be a section of `CLIENT: [DEVICE, ...]`"),
        (
            "clients: {home: [phone]}",
            ": clients.home: must be a list of devices, each {device: NAME, capacity: ..., time_factor: ...}",
        ),
        (
            "clients: {home: [{device: phone, capacity: 1, time_factor: 1, up_mbs: 3}]}",
            ", client home, row 1 (device phone): up_mbs = 3: unknown key; did you mean up_mbps?",
        ),
        (
            "clients: {home: [{device: tv, capacity: 1, time_factor: 1}, {device: tv, capacity: 1, time_factor: 1}]}",
            ", client home, row 2: client home has a device tv already",
        ),
        (
            "clients: {home: [{device: tv, capacity: many, time_factor: 1}]}",
            ", client home, row 1 (device tv): capacity = 'many': must be a valid number",
        ),
        ("clients: {no: [{device: tv, capacity: 1, time_factor: 1}]}", ": clients: False is not a name; put it into "),
        (
            "clients: {home: [{device: 1.50, capacity: 1, time_factor: 1}]}",
            ", client home, row 1: device: 1.5 is not a name; put it into quotes",
        ),
        (
            "clients: {home: [{device: tv, name: tv, capacity: 1, time_factor: 1}]}",
            ", client home, row 1: name: unknown key; did you mean device?",
        ),
        ("clients:\n  home: [", ", line 2: not valid YAML: expected the node content, but found '<stream end>'"),
        ("clients:\n  home: []\n  home: []", ", line 3: not valid YAML: 'home' is there twice"),
    ],
)
def test_a_bad_yaml_is_one_line(tmp_path, table, message):
    (tmp_path / "table.yaml").write_text(table)
    outcome = rayfed(tmp_path, "plan", "table.yaml")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"rayfed: table.yaml{message}")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nope.csv", "nope.csv: cannot be read (No such file or directory)"),
        ("table.txt", "table.txt: a device table ends in .csv, .yaml or .yml"),
        (
            "small.csv",
            "no client fits; client home: none of its devices can hold a portion: the smallest has 1,664 parameters",
        ),
        ("good.csv --model lsgan --width 8", "model.width = 8: lsgan has fixed widths; leave it out or use a dcgan"),
        ("good.csv --picture plan.jpg", "--picture plan.jpg: must end in .png"),
        ("good.csv --picture /dev/null/plan.png", "--picture /dev/null/plan.png: cannot be written (File exists)"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, arguments, message):
    (tmp_path / "good.csv").write_text(GOOD)
    (tmp_path / "small.csv").write_text(f"{HEADER}\nhome,phone,10,999\n")
    assert rayfed(tmp_path, "plan", *arguments.split()) == Outcome(2, "", f"rayfed: {message}\n")


@pytest.mark.parametrize("network", ["{kind: wired, peers: false}", "{kind: cell}"])
def test_a_run_on_a_network_without_a_way_between_devices_is_refused(tmp_path, network):
    settings = ["data.name=fashion-mnist-6k", f"twin.network={network}"]
    outcome = rayfed(tmp_path, "run", str(PAPER.parents[1] / "fsl-gan.yaml"), "--local", *settings)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.endswith(
        ": no route between devices, and this method sends from device to device; "
        "use 'lan', or 'wired' with peers = true\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["", "--local"])
def test_a_run_in_which_no_client_fits_is_refused(tmp_path, where):
    (tmp_path / "small.csv").write_text(f"{HEADER}\nhome,phone,10,999\nhut,tv,20,1\n")
    settings = "method.table=small.csv devices.count=2 data.name=fashion-mnist-6k evaluation.every=0"
    outcome = rayfed(tmp_path, "run", str(PAPER.parents[1] / "fsl-gan.yaml"), *settings.split(), *where.split())
    message = "client home: none of its devices can hold a portion: the smallest has 1,664 parameters"
    assert outcome == Outcome(2, "", f"rayfed: method.table: no client fits; {message}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["small.csv"]


@pytest.mark.parametrize("arguments", ["", "t.csv --model resnet", "t.csv --portions halves", "t.csv --batch 0"])
def test_a_misused_plan_shows_its_usage(tmp_path, arguments):
    outcome = rayfed(tmp_path, "plan", *arguments.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage: " in outcome.err
    assert "Traceback" not in outcome.err
