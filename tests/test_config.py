"""The configuration, and the one line a user reads when it is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rayfed.config import flatten, load, parse, with_overrides
from rayfed.errors import UserError

FEGAN = {"method": {"name": "fegan"}}


def refused(tree: dict) -> str:
    with pytest.raises(UserError) as caught:
        parse(tree)
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("method", "bach", 3, "method.bach = 3: unknown key; did you mean method.batch?"),
        ("devices", "cuont", 3, "devices.cuont = 3: unknown key; did you mean devices.count?"),
        ("method", "batch", "x", "method.batch = 'x': must be a valid integer"),
        ("method", "batch", 2.5, "method.batch = 2.5: must be a valid integer"),
        ("method", "batch", True, "method.batch = True: must be a valid integer"),
        ("method", "batch", 0, "method.batch = 0: must be greater than or equal to 1"),
        ("method", "fraction", 1.5, "method.fraction = 1.5: must be less than or equal to 1"),
        (
            "method",
            "sampling",
            "fair",
            "method.sampling = 'fair': must be 'random', 'balanced', 'round-robin', 'proportional-fair' or "
            "'best-channel'",
        ),
        ("model", "lr", float("nan"), "model.lr = nan: must be a finite number"),
        ("model", "width", 32, "model.width = 32: lsgan has fixed widths; leave it out or use a dcgan"),
        ("resources", "hosts", "x", "resources.hosts = 'x': must be a valid integer or 'auto'"),
        ("evaluation", "extractor", "vgg", "evaluation.extractor = 'vgg': must be 'auto', 'inception', 'classifier'"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(section: str, key: str, value: object, message: str) -> None:
    assert refused(FEGAN | {section: FEGAN.get(section, {}) | {key: value}}).startswith(message)


def test_an_unknown_section_lists_the_known_ones() -> None:
    assert refused(FEGAN | {"zebra": 1}).startswith("zebra = 1: unknown key; known keys: data, devices, ")


def test_an_unknown_method_lists_the_known_ones() -> None:
    names = (
        "asyn-dgan, centralized, fl-vanilla, fedgan, fedavg, centralized-classifier, fegan, fsl-gan, iotsl, md-gan, "
        "f2u, f2a, ren, split-learning, splitfed, or package.module:METHOD"
    )
    assert refused({"method": {"name": "gan"}}) == f"method.name = 'gan': must be one of {names}"
    assert refused({"method": {"batch": 3}}) == f"method.name = None: must be one of {names}"


@pytest.mark.parametrize("name", ["idd", "file:", "File:x.csv", ""])
def test_a_partition_is_one_of_four_or_a_file(name):
    right = "must be one of iid, fegan, classes, dirichlet, or file:PATH"
    assert refused(FEGAN | {"data": {"partition": name}}) == f"data.partition = {name!r}: {right}"


def test_a_partition_file_is_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    paths = [
        parse(FEGAN | {"data": {"partition": name}}).data.partition_file
        for name in ("iid", "fegan", "classes", "dirichlet", "file:a b.csv", "file:~/clinics.csv", "file:file:x")
    ]
    assert paths == [None] * 4 + [Path("a b.csv"), Path("/home/ann/clinics.csv"), Path("file:x")]


@pytest.mark.parametrize("name", [[], {}, ["fegan"], 3, True])
def test_a_name_of_a_method_that_is_no_text_is_refused(name: object) -> None:
    assert refused({"method": {"name": name}}).startswith(f"method.name = {name!r}: must be one of asyn-dgan, ")


def test_a_missing_method_is_named() -> None:
    assert refused({}) == "method: missing"


def test_a_section_must_be_a_section() -> None:
    assert refused(FEGAN | {"devices": 3}) == "devices = 3: must be a section of `key: value` lines"


LONG = "x" * 5_000


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("method.batch", "must be a valid integer"),
        ("method.sampling", "must be 'random', 'balanced', "),
        ("method.name", "must be one of asyn-dgan, "),
        ("method.zebra", "unknown key; known keys: "),
        ("method", "must be a section of `key: value` lines"),
        ("model.name", "must be one of lsgan, "),
        ("wire", "must be 'float32', 'float16' or 'int8'"),
        ("twin.network.kind", "must be one of lan, wired, cell"),
        ("resources.hosts", "must be a valid integer or 'auto'"),
    ],
)
def test_a_long_value_is_shown_in_part(tmp_path, key: str, right: str) -> None:
    """5,000 letters and two quotes; of them the message shows 120."""
    path = tmp_path / "run.yaml"
    path.write_text("method: {name: fegan}\n")
    with pytest.raises(UserError) as caught:
        load(path, [f"{key}={LONG}"])
    message = str(caught.value)
    assert message.startswith(f"{key} = '{LONG[:119]}... (5,002 characters): {right}")
    assert len(message) < 400
    assert "\n" not in message


def test_a_number_beyond_all_bounds_is_refused_in_one_short_line(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("method: {name: fegan}\n")
    message = f"devices.count = 1{'0' * 30}: must be less than or equal to 1000000"
    assert refused(FEGAN | {"devices": {"count": 10**30}}) == message
    with pytest.raises(UserError) as caught:
        load(path, [f"devices.count={10**30}"])
    assert str(caught.value) == message
    thousands = "devices.count = a number of thousands of digits: must be less than or equal to 1000000"
    assert refused(FEGAN | {"devices": {"count": 10**5000}}) == thousands
    with pytest.raises(UserError) as caught:
        load(path, [f"devices.count=0x1{'0' * 5_000}"])
    assert str(caught.value) == thousands


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (LONG, f"'{LONG[:119]}... (5,002 characters): an override is key=value, e.g. devices.count=80"),
        (f"seed=[{LONG}", f"'seed=[{LONG[:113]}... (5,008 characters): the value is not valid YAML; quote it"),
        (f"seed={'9' * 5_000}", f"'seed={'9' * 114}... (5,007 characters): the value is not valid YAML; quote it"),
        ("data.name=2026-13-01", "'data.name=2026-13-01': the value is not valid YAML; quote it"),
    ],
)
def test_an_override_that_yaml_cannot_read_is_shown_in_part(tmp_path, override: str, message: str) -> None:
    """The last two look like a number and a day, and are none that there are."""
    path = tmp_path / "run.yaml"
    path.write_text("method: {name: fegan}\n")
    with pytest.raises(UserError) as caught:
        load(path, [override])
    assert str(caught.value) == message


def test_a_file_with_a_day_that_there_is_not_is_one_line(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("method: {name: fegan}\ndata: {name: 2026-13-01}\n")
    with pytest.raises(UserError, match=r"run\.yaml: not valid YAML: month must be in 1\.\.12"):
        load(path)


def test_fewer_than_one_participant_is_refused_with_the_least_fraction() -> None:
    message = refused({"method": {"name": "fegan", "fraction": 0.05}, "devices": {"count": 10}})
    assert message == (
        "method.fraction = 0.05: C*K = 0.05 * 10 = 0.5 devices a round is less than one; "
        "with devices.count = 10 it must be at least 0.1"
    )


@pytest.mark.parametrize(
    ("gpus", "what"),
    [(1.5, "must be whole above 1"), (0.00005, "must be a multiple of 0.0001")],
)
def test_ray_cannot_give_these_fractions(gpus: float, what: str) -> None:
    message = refused(FEGAN | {"resources": {"device_host": {"num_gpus": gpus}}})
    assert message.startswith(f"resources.device_host.num_gpus = {gpus!r}: {what}")


def test_centralized_has_no_wire() -> None:
    message = refused({"method": {"name": "centralized"}, "wire": "int8"})
    assert message == "wire = 'int8': centralized sends nothing over a wire; use float32"


def test_linear_weights_have_no_sign_to_turn() -> None:
    message = refused({"method": {"name": "fegan", "scheme": "linear", "sign": "opposite"}})
    assert message == "method.sign = 'opposite': the linear scheme has no exponent to turn; use exp or dirac"


@pytest.mark.parametrize(
    ("method", "count", "message"),
    [
        (
            {"name": "md-gan", "batches": 5},
            3,
            "method.batches = 5: more batches than the 3 devices; use at most 3 or log",
        ),
        (
            {"name": "md-gan"},
            1,
            "method.swap_epochs = 1: one device has nobody to swap with; set it to 0",
        ),
        (
            {"name": "ren", "fraction": 0.05},
            10,
            "method.fraction = 0.05: C*K = 0.05 * 10 = 0.5 devices a round is less than one; "
            "with devices.count = 10 it must be at least 0.1",
        ),
        (
            {"name": "f2a", "forgivness": 1.0},
            3,
            "method.forgivness = 1.0: unknown key; did you mean method.forgiveness?",
        ),
        ({"name": "md-gan", "batches": "lg"}, 3, "method.batches = 'lg': must be a valid integer or 'log'"),
    ],
)
def test_what_a_method_cannot_do_is_refused(method: dict, count: int, message: str) -> None:
    assert refused({"method": method, "devices": {"count": count}}) == message


def test_as_many_batches_as_devices_and_one_device_without_swaps_are_fine() -> None:
    three = parse({"method": {"name": "md-gan", "batches": 3}, "devices": {"count": 3}})
    assert three.method.distinct_batches(3) == 3
    assert not parse({"method": {"name": "md-gan", "swap_epochs": 0}, "devices": {"count": 1}}).method.sends_to_peers
    assert parse({"method": {"name": "ren", "fraction": 0.1}, "devices": {"count": 10}}).participants == 1


@pytest.mark.parametrize(("devices", "k"), [(1, 1), (2, 1), (3, 2), (7, 2), (8, 3), (20, 3), (21, 4), (55, 5)])
def test_log_batches_are_the_natural_logarithm_rounded_up(devices: int, k: int) -> None:
    """e = 2.718, e^2 = 7.389, e^3 = 20.09, e^4 = 54.6; never under one."""
    assert parse({"method": {"name": "md-gan", "swap_epochs": 0}}).method.distinct_batches(devices) == k


@pytest.mark.parametrize(
    ("twin", "message"),
    [
        ({"network": {"kind": "5g"}}, "twin.network.kind = '5g': must be one of lan, wired, cell"),
        (
            {"network": {"hop_s": 0.1}},
            "twin.network.hop_s = 0.1: unknown key; known keys: down_mbps, kind, latency_s, peers, server_down_mbps, "
            "server_up_mbps, up_mbps",
        ),
        ({"network": 3}, "twin.network = 3: must be a section of `key: value` lines"),
        (
            {"network": {"kind": "cell", "bandwidth_mhz": -1.0}},
            "twin.network.bandwidth_mhz = -1.0: must be greater than 0",
        ),
        (
            {"network": {"kind": "cell", "bandwith_mhz": 1.0}},
            "twin.network.bandwith_mhz = 1.0: unknown key; did you mean twin.network.bandwidth_mhz?",
        ),
        (
            {"network": {"kind": "lan", "zebra": 1}},
            "twin.network.zebra = 1: unknown key; known keys: hop_s, kind",
        ),
        (
            {"devices": [{}, {"flops": 1e9}]},
            "twin.devices.1.flops = 1000000000.0: unknown key; did you mean twin.devices.1.flops_per_s?",
        ),
        ({"devices": [{"flops_per_s": -1}]}, "twin.devices.0.flops_per_s = -1: must be greater than 0"),
        ({"devices": [3]}, "twin.devices.0 = 3: must be a section of `key: value` lines"),
        ({"devices": {"up_mbps": 1.0}}, "twin.devices = {'up_mbps': 1.0}: must be a valid list"),
        (
            {"drop_late": True},
            "twin.drop_late = true: needs twin.deadline_s, the simulated seconds an exchange may take",
        ),
    ],
)
def test_a_twin_that_cannot_be_is_named(twin: dict, message: str) -> None:
    assert refused(FEGAN | {"twin": twin}) == message


@pytest.mark.parametrize(("fraction", "count", "participants"), [(0.025, 80, 2), (0.29, 100, 29), (0.1, 35, 3)])
def test_participants_are_c_times_k_rounded_down(fraction: float, count: int, participants: int) -> None:
    config = parse({"method": {"name": "fegan", "fraction": fraction}, "devices": {"count": count}})
    assert config.participants == participants


def test_overrides_reach_into_sections(tmp_path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("method: {name: fegan}\n")
    config = load(path, ["devices.count=80", "method.sampling=random", "store.url=null", "model.lr=2e-4"])
    assert config.model.lr == 0.0002
    assert (config.devices.count, config.method.sampling, config.store.url) == (80, "random", None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("devices.count", "'devices.count': an override is key=value, e.g. devices.count=80"),
        ("seed.x=1", "seed.x: seed is a value, not a section"),
        ("rounds=[", "'rounds=[': the value is not valid YAML; quote it"),
    ],
)
def test_a_malformed_override_is_named(tmp_path, override: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("method: {name: fegan}\nseed: 1\n")
    with pytest.raises(UserError) as caught:
        load(path, [override])
    assert str(caught.value) == message


def test_an_unreadable_file_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"missing\.yaml: cannot be read \(No such file or directory\)"):
        load(tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match=r"list\.yaml: must hold `key: value` lines, not list"):
        load(tmp_path / "list.yaml")


def test_a_configuration_survives_its_own_flat_form(tmp_path) -> None:
    config = parse({"method": {"name": "fegan", "fraction": 0.3}, "devices": {"count": 20}})
    flat = flatten(config)
    assert flat["method.fraction"] == 0.3
    assert flat["devices.count"] == 20
    overrides = [f"{key}={json.dumps(value)}" for key, value in flat.items()]
    assert with_overrides(config, overrides) == config


PHONE = {"name": "phone", "capacity": 2e6, "time_factor": 1.0}
EVERY = {
    "asyn-dgan": {},
    "centralized": {},
    "fl-vanilla": {},
    "fedgan": {},
    "fedavg": {},
    "centralized-classifier": {},
    "fegan": {},
    "fsl-gan": {"clients": [{"name": f"{k}", "devices": [PHONE]} for k in range(10)]},
    "iotsl": {},
    "md-gan": {},
    "f2u": {},
    "f2a": {},
    "ren": {},
    "split-learning": {},
    "splitfed": {},
}
"""What each method needs to be told."""


def test_a_configuration_of_any_method_needs_neither_torch_nor_ray() -> None:
    """In a process of its own: the section, the checks, and which devices the run stands on."""
    code = (
        "import json, sys\n"
        "from rayfed import plugins\n"
        "from rayfed.config import parse\n"
        "from rayfed.methods.spec import method_of\n"
        "found = {}\n"
        "for name, method in json.loads(sys.argv[1]).items():\n"
        "    config = parse({'method': {'name': name, **method}})\n"
        "    spec = method_of(config)\n"
        "    heavy = [each for each in ('torch', 'ray', 'mlflow') if each in sys.modules]\n"
        "    found[name] = [type(config.method) is spec.settings, spec.topology(config).devices, heavy]\n"
        "print(json.dumps([found, list(plugins.methods())]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(EVERY)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    found, known = json.loads(done.stdout)
    assert known == list(EVERY)
    assert found == {name: [True, 10, []] for name in EVERY}


def test_the_states_folder_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("RAYFED_STORE_STATES", "s3://bucket/states")
    assert parse(FEGAN).store.states == "s3://bucket/states"
    assert parse(FEGAN | {"store": {"keep": 3}}).store.states == "s3://bucket/states"
    assert parse(FEGAN | {"store": {"states": "/mnt/states"}}).store.states == "/mnt/states"
    assert parse(FEGAN | {"store": {"states": None}}).store.states is None  # as a run was stored that had none
    monkeypatch.setenv("RAYFED_STORE_STATES", "states")
    assert parse(FEGAN).store.states == str(Path("states").absolute())
    monkeypatch.setenv("RAYFED_STORE_STATES", "")
    assert parse(FEGAN).store.states is None


def test_the_stores_url_of_the_environment_is_no_part_of_a_configuration(monkeypatch):
    monkeypatch.setenv("RAYFED_STORE_URL", "postgresql://ann:secret@host/runs")
    assert "secret" not in parse(FEGAN).model_dump_json()
