"""What every test of a method begins with: both fleets give the same weights, and a special case is a known method."""

from pathlib import Path
from typing import Any

import numpy as np

import rayfed

CONFIG = Path(__file__).with_name("example.yaml")


def weights(folder: Path, **changes: Any) -> dict[str, np.ndarray]:
    """The server's arrays after the last round."""
    quiet = {"runs_dir": str(folder), "progress": False, "tracking__enabled": False, "evaluation__every": 0}
    return rayfed.run(CONFIG, **quiet, **changes).arrays()


def test_ray_trains_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    """In this process the device halves live in a LocalFleet, on Ray in a RayFleet."""
    local, on_ray = weights(tmp_path, local=True), weights(tmp_path, local=False, resources__hosts=2)
    assert {name: each.tobytes() for name, each in local.items()} == {
        name: each.tobytes() for name, each in on_ray.items()
    }


def test_the_whole_way_is_fl_vanilla(tmp_path: Path) -> None:
    whole, vanilla = (
        weights(tmp_path, local=True, method__alpha=1.0),
        weights(tmp_path, local=True, method__name="fl-vanilla"),
    )
    half = weights(tmp_path, local=True)
    for name in vanilla:
        np.testing.assert_array_equal(whole[name], vanilla[name])
        assert not np.array_equal(half[name], vanilla[name])
