"""Device states as files: what comes back, what is damaged, what is gone, what finds no room."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from rayfed.errors import UserError
from rayfed.fleet.states import StateError, StateFile, StateFolder, same

ARRAYS = {
    "scalar": np.array(3, np.int64),
    "nan": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
    "none": np.zeros((0, 4), np.float16),
    "flags": np.array([True, False]),
    "transposed": np.arange(6).reshape(2, 3).T,
}


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}/states" if request.param == "memory" else str(tmp_path / "states")


def test_every_kind_of_array_comes_back_bit_for_bit_in_another_process_too(place: str) -> None:
    state = StateFolder(place).write(ARRAYS)
    found = StateFolder(place).read(state)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_equal_states_have_one_file_and_unlike_ones_have_two(place: str) -> None:
    """Unlike in a value, a name, a dtype or a shape."""
    states, zeros = StateFolder(place), np.zeros(4, np.float32)
    first = states.write({"a": zeros, "b": zeros})
    assert states.write({"b": zeros.copy(), "a": zeros.copy()}) == first
    unlike = [{"a": zeros, "b": zeros + 1}, {"a": zeros, "c": zeros}, {"a": zeros, "b": zeros.astype(np.int32)}]
    unlike.append({"a": zeros, "b": zeros.reshape(2, 2)})
    assert len({first, *(states.write(each) for each in unlike)}) == 5


def test_a_file_is_safetensors_and_its_bytes_are_told(tmp_path: Path) -> None:
    state = StateFolder(str(tmp_path)).write({"a": np.arange(5)})
    path = tmp_path / f"{state.name}.safetensors"
    assert load_file(path)["a"].tolist() == [0, 1, 2, 3, 4]
    assert path.stat().st_size == state.nbytes


@pytest.mark.parametrize("harm", ["a bit", "shorter", "empty"])
def test_what_is_not_what_was_written_is_told_by_its_path(tmp_path: Path, harm: str) -> None:
    """To the process that wrote it too."""
    states = StateFolder(str(tmp_path))
    state = states.write({"a": np.arange(50)})
    path = tmp_path / f"{state.name}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes({"a bit": data, "shorter": data[:-8], "empty": b""}[harm])
    with pytest.raises(StateError, match=f"^{path}: the state of a device ") as caught:
        states.read(state)
    assert caught.value.name == state.name
    assert states.missing([state]) == ([] if harm == "a bit" else [state])


def test_a_state_that_is_gone_is_told_and_removing_it_again_is_no_error(place: str) -> None:
    states = StateFolder(place)
    state, other = states.write({"a": np.arange(3)}), states.write({"a": np.arange(4)})
    assert states.missing([state, other]) == []
    states.remove([state.name])
    states.remove([state.name])
    assert states.missing([state, other]) == [state]
    with pytest.raises(StateError, match=f"{state.name}.safetensors: the state of a device is gone"):
        StateFolder(place).read(state)
    assert StateFolder(place).read(other)["a"].tolist() == [0, 1, 2, 3]


def test_what_a_killed_process_has_left_behind_is_swept(tmp_path: Path) -> None:
    states = StateFolder(str(tmp_path / "states"))
    states.keep(())  # of a folder that is not there yet
    kept, orphan = states.write({"a": np.arange(3)}), states.write({"a": np.arange(4)})
    (tmp_path / "states" / "0123.part").write_bytes(b"half")
    states.keep({kept.name})
    assert [path.name for path in (tmp_path / "states").iterdir()] == [f"{kept.name}.safetensors"]
    assert states.missing([kept, orphan]) == [orphan]
    states.clear()
    assert not (tmp_path / "states").exists()


def test_where_there_is_no_room_one_line_says_so_and_nothing_is_left(tmp_path: Path) -> None:
    """The system refuses files beyond a size, as it does on a full disk."""
    code = (
        "import resource, sys\n"
        "import numpy as np\n"
        "from rayfed.fleet.states import StateError, StateFolder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    StateFolder(sys.argv[1]).write({'a': np.zeros(10_000)})\n"
        "except StateError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}: the state of a device cannot be written (File too large)\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["nope://folder", "http:/x://y"])
def test_a_url_that_nothing_opens_is_refused(url: str) -> None:
    with pytest.raises(UserError, match=r"store\.states = .*: cannot be used"):
        StateFolder(url)


def test_bfloat16_is_torchs_and_halves_what_is_narrowed_alone(tmp_path: Path) -> None:
    values = (np.random.default_rng(0).normal(size=10_000) * 1e-4).astype(np.float32)
    values[:6] = [np.nan, np.inf, -np.inf, -0.0, 3.4e38, 1e-45]
    endings = (".exp_avg", ".exp_avg_sq")
    states = StateFolder(str(tmp_path), endings)
    state = states.write({"g.exp_avg": values, "g.exp_avg_sq": values, "g.step": np.ones(1, np.float32), "g": values})
    assert state.nbytes == pytest.approx(2 * 2 * 10_000 + 4 + 4 * 10_000, abs=500)
    found = StateFolder(str(tmp_path), endings).read(state)
    expected = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    for name in ("g.exp_avg", "g.exp_avg_sq"):
        np.testing.assert_array_equal(found[name], expected)
        assert np.signbit(found[name][3])
    assert found["g"].tobytes() == values.tobytes()
    assert states.write(found) == state, "what was rounded once is not rounded again"


def test_same_is_the_same_file_or_object_or_nothing() -> None:
    arrays = {"a": np.zeros(2)}
    assert same(StateFile("a", 1), StateFile("a", 1))
    assert same(arrays, arrays)
    assert same(None, {})
    assert not same(arrays, {"a": np.zeros(2)})
    assert not same(None, arrays)
    assert not same(StateFile("a", 1), StateFile("b", 1))
