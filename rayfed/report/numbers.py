"""Numbers for people: the same figure reads the same wherever it is shown."""

from collections.abc import Mapping, Sequence


def shown(value: float | None) -> str:
    """A figure with a sensible number of digits, e.g. 47.6, 1,086 or 0.912; `-` for none."""
    if value is None:
        return "-"
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    digits = 0 if value == int(value) or abs(value) >= 1000 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def throughput(rounds: Sequence[Mapping[str, float]]) -> float:
    """Images per second of wall clock over rounds, but for the first where there are more: it warms up."""
    counted = rounds[1:] or rounds
    return sum(metrics["images"] for metrics in counted) / sum(metrics["seconds"] for metrics in counted)


def duration(seconds: float) -> str:
    """Seconds for people: 8 s, 5 min 19 s, 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
