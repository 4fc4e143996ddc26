"""Profiles: which one a device has, and when it is away."""

from rayfed.config.simulation import Profile, Twin
from rayfed.seeding import SERVER
from rayfed.twin.profiles import away, profile_of

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
