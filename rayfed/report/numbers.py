"""Numbers for people: the same figure reads the same wherever it is shown."""


def shown(value: float | None) -> str:
    """A figure with a sensible number of digits, e.g. 47.6, 1,086 or 0.912; `-` for none."""
    if value is None:
        return "-"
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    digits = 0 if value == int(value) or abs(value) >= 1000 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
