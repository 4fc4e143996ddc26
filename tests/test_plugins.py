"""Objects of other packages by dotted name and by entry point, and the one line when there is none such."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayfed import plugins
from rayfed.config import parse
from rayfed.errors import UserError
from rayfed.methods.fegan import METHOD
from rayfed.models.networks import architecture

OWN = """
from dataclasses import replace

from rayfed.config import FederatedTraining, Training
from rayfed.methods.fedavg import METHODS


class Settings(FederatedTraining):
    spice: int = 3


class Closed(Training):
    open: bool = False

    def participants(self, devices: int) -> int:
        return devices if self.open else 0


METHOD = replace(METHODS[0], name="own", about="FedAvg with spice", settings=Settings)
CLOSED = replace(METHOD, settings=Closed)
LIST = [1, 2]
"""
BROKEN = 'raise RuntimeError("the pepper\\n  is out")\n'


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules of somebody else's."""
    (tmp_path / "kitchen").mkdir()
    (tmp_path / "kitchen" / "__init__.py").write_text("")
    (tmp_path / "kitchen" / "own.py").write_text(OWN)
    (tmp_path / "kitchen" / "broken.py").write_text(BROKEN)
    (tmp_path / "kitchen" / "needy.py").write_text("import a_module_that_is_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [each for each in sys.modules if each.partition(".")[0] == "kitchen"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def refused(name: object) -> str:
    with pytest.raises(UserError) as caught:
        parse({"method": {"name": name}})
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pantry.salt:METHOD", "cannot import pantry.salt (ModuleNotFoundError: No module named 'pantry')"),
        (
            "kitchen.needy:METHOD",
            "cannot import kitchen.needy (ModuleNotFoundError: No module named 'a_module_that_is_not_installed')",
        ),
        ("kitchen.broken:METHOD", "cannot import kitchen.broken (RuntimeError: the pepper is out)"),
        ("kitchen.own:SALT", "kitchen.own has no SALT, as in package.module:OBJECT"),
        ("kitchen.own:LIST", "is a list; it must be a rayfed.methods.spec.MethodSpec"),
        ("kitchen.own:Settings", "is a class; it must be a rayfed.methods.spec.MethodSpec"),
    ],
)
def test_a_method_that_cannot_be_had_is_one_line_with_the_cause(kitchen: Path, name: str, message: str) -> None:
    assert refused(name) == f"method.name = {name!r}: {message}"


def test_a_long_dotted_name_is_shown_in_part() -> None:
    """The value, the module and the error are each cut."""
    name = f"{'x' * 5_000}:METHOD"
    message = refused(name)
    assert message.startswith(f"method.name = '{'x' * 119}... (5,009 characters): cannot import {'x' * 120}... (5,000 ")
    assert len(message) < 1_000
    with pytest.raises(UserError) as caught:
        architecture(name)
    assert len(str(caught.value)) < 1_000


def test_a_method_by_its_dotted_name_has_its_own_section(kitchen: Path) -> None:
    config = parse({"method": {"name": "kitchen.own:METHOD", "spice": 5}})
    assert (config.method.name, config.method.spice, config.method.batch) == ("kitchen.own:METHOD", 5, 50)
    assert plugins.method("kitchen.own:METHOD").about == "FedAvg with spice"
    with pytest.raises(UserError) as caught:
        parse({"method": {"name": "kitchen.own:METHOD", "spise": 5}})
    assert str(caught.value) == "method.spise = 5: unknown key; did you mean method.spice?"
    assert parse(config.model_dump(mode="json")) == config


def test_a_method_that_asks_nobody_is_told_in_one_line(kitchen: Path) -> None:
    """Its section has no fraction to blame."""
    assert refused("kitchen.own:CLOSED") == (
        "devices.count = 10: kitchen.own:CLOSED asks none of them in a round; at least one must take part"
    )
    assert parse({"method": {"name": "kitchen.own:CLOSED", "open": True}}).participants == 10


def test_rayfeds_own_methods_have_dotted_names_too() -> None:
    assert plugins.method("rayfed.methods.fegan:METHOD") is plugins.method("fegan") is METHOD


def test_an_object_of_any_kind_is_found_by_its_dotted_name(kitchen: Path) -> None:
    assert plugins.load_object("key", "kitchen.own:LIST") == [1, 2]
    with pytest.raises(UserError, match=r"^salt = 'kitchen\.own:NONE': kitchen\.own has no NONE, as in "):
        plugins.load_object("salt", "kitchen.own:NONE")


def test_methods_by_entry_point(kitchen: Path) -> None:
    """In a process of its own: one that is there, one whose module does not import, one that has a name of ours."""
    folder = kitchen / "kitchen-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: kitchen\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[rayfed.methods]\nown = kitchen.own:METHOD\nstale = kitchen.broken:METHOD\nfegan = kitchen.own:METHOD\n"
    )
    code = (
        "import json\n"
        "from rayfed import plugins\n"
        "from rayfed.config import parse\n"
        "from rayfed.errors import UserError\n"
        "config = parse({'method': {'name': 'own', 'spice': 9}})\n"
        "try: parse({'method': {'name': 'stale'}})\n"
        "except UserError as error: stale = str(error)\n"
        "try: parse({'method': {'name': 'zebra'}})\n"
        "except UserError as error: zebra = str(error)\n"
        "lines = plugins.described()\n"
        "print(json.dumps([config.method.spice, stale, zebra, lines]))\n"
    )
    env = os.environ | {"PYTHONPATH": f"{kitchen}{os.pathsep}{Path(plugins.__file__).parents[1]}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    spice, stale, zebra, lines = json.loads(done.stdout)
    assert spice == 9
    assert stale.endswith(": cannot import kitchen.broken (RuntimeError: the pepper is out)")
    ours = (
        "asyn-dgan, centralized, fl-vanilla, fedgan, fedavg, centralized-classifier, fegan, fsl-gan, iotsl, md-gan, "
        "f2u, f2a, ren, split-learning, splitfed"
    )
    known, _, rest = zebra.removeprefix("method.name = 'zebra': must be one of ").partition(ours)
    assert (known, set(rest.removesuffix(", or package.module:METHOD").split(", "))) == ("", {"", "own", "stale"})
    assert lines["fegan"] == METHOD.about
    assert (lines["own"], lines["stale"]) == ("FedAvg with spice", stale)
