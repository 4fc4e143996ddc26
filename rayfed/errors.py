"""Errors that a user can cause: one line that says what, where, and what would be right. How messages are worded."""

import re
from typing import Any

SHOWN = 120
"""Characters of a value that a message shows."""


class UserError(Exception):
    """Bad input; the command line prints the message alone and exits with `exit_code`."""

    exit_code = 2


class CapacityError(UserError):
    """The cluster can never hold what the run asks for."""

    exit_code = 3


class ConnectionLostError(UserError):
    """What was followed goes on, but not here."""

    exit_code = 1


def shown(value: object) -> str:
    """A value as a message shows it: what is long is cut."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return cut(text)


def cut(text: str, length: int = SHOWN) -> str:
    """A text; what is longer than `length` is cut."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"


def mask(value: Any) -> Any:
    """A URL without its password, in which all but an `@` may stand unquoted; anything else as it is."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", value) if isinstance(value, str) else value


def counted(number: int, noun: str) -> str:
    """A number of things: `1 round`, `2 rounds`, `10 classes`."""
    return f"{number} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")
