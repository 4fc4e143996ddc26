"""Profiles: which one a device has, and when it is away."""

import numpy as np
import pytest

from rayfed.config.simulation import Profile, Twin
from rayfed.seeding import SERVER
from rayfed.twin.profiles import Processor, away, profile_of

TWIN = Twin(devices=[Profile(), Profile(dropout=0.25)], server=Profile(flops_per_s=7.0))


def test_profiles_go_round() -> None:
    assert [profile_of(TWIN, k).dropout for k in range(4)] == [0, 0.25, 0, 0.25]
    assert profile_of(TWIN, SERVER).flops_per_s == 7


def test_who_is_away() -> None:
    rounds = [away(TWIN, 40, round, seed=1) for round in range(100)]
    assert all(device % 2 == 1 for gone in rounds for device in gone)
    # 20 devices * 100 rounds * 0.25 = 500, standard deviation sqrt(2000 * 0.25 * 0.75) = 19
    assert abs(sum(map(len, rounds)) - 500) < 80
    assert rounds[3] == away(TWIN, 40, 3, seed=1) != rounds[4]
    assert away(TWIN, 10, 3, seed=1) == {device for device in rounds[3] if device < 10}


def test_a_drifting_processor_walks_from_round_to_round() -> None:
    """2 operations at 4 a second are half a second; round 3's factor is exp(0.5 * (N_1 + N_2 + N_3)), for good."""
    steps = np.log([walker(round).seconds(2) / 0.5 for round in range(1, 2001)]) / 0.5
    increments = np.diff(steps, prepend=0.0)
    assert abs(increments.mean()) < 0.1  # 2,000 standard normals: a mean within 4.5 / sqrt(2000)
    assert abs(increments.std() - 1) < 0.08
    third = walker(3)
    first, again = third.seconds(2), third.seconds(2)
    assert first == again
    assert third.slowness == pytest.approx(first / 0.5)


def walker(round: int) -> Processor:
    return Processor(Profile(flops_per_s=4.0, drift=0.5), 1.0, 9, round, 0)


def test_jitter_shows_in_what_a_round_took() -> None:
    """Two computations of a second by profile: slowness is the mean of their factors."""
    processor = Processor(Profile(flops_per_s=1.0, jitter=0.3), 1.0, 9, 1, 0)
    assert processor.slowness is None
    took = [processor.seconds(1) for _ in range(2)]
    assert took[0] != took[1]
    assert processor.slowness == pytest.approx(sum(took) / 2)
