"""What happens in a run beside its metrics, as typed facts that tell themselves in a sentence."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Event:
    """Something that the run's history must tell. A method derives its own; their fields must be JSON."""

    kind: ClassVar[str]
    """The type's name in the store, which no other type has."""

    def __init_subclass__(cls) -> None:
        """Have `from_json` know the type."""
        if "kind" not in vars(cls):
            raise TypeError(f"{cls.__name__} must have a kind of its own")
        KINDS[cls.kind] = cls

    def sentence(self) -> str:
        """What happened, in a line."""
        return str(self)

    def to_json(self) -> dict[str, Any]:
        """The event as JSON."""
        return {"kind": self.kind, **asdict(self)}


KINDS: dict[str, type[Event]] = {}
"""Every type of event whose module is imported, by its kind."""


@dataclass(frozen=True)
class Note(Event):
    """A sentence: of a method's own, or from a store that kept no typed events."""

    kind: ClassVar[str] = "note"
    text: str

    def sentence(self) -> str:
        """See `Event.sentence`."""
        return self.text


def from_json(data: Mapping[str, Any]) -> Event:
    """The event that `Event.to_json` gave; lists come back as tuples.

    One of a type that is not there any more, or has other fields now, is a Note of its JSON.
    """
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    try:
        return KINDS[str(fields.pop("kind"))](**fields)
    except (KeyError, TypeError):
        return Note(json.dumps(dict(data), ensure_ascii=False))
