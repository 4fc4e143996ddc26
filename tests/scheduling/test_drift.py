"""When a measured speed is a reason for another plan."""

from rayfed.scheduling.drift import TOLERANCE, drifted


def test_only_what_is_off_by_more_than_the_tolerance_has_drifted() -> None:
    """1.2 / 1 and 2.4 / 2 are within 1.25; 1.3 / 1, 1 / 2 and 0.7 / 1 are not."""
    assert TOLERANCE == 1.25
    assumed = {3: 2.0, 4: 2.0}
    assert drifted(assumed, {0: 1.2, 1: 1.3, 2: 0.7, 3: 2.4, 4: 1.0}) == {1: 1.3, 2: 0.7, 4: 1.0}
    assert drifted({}, {}) == {}
