"""What happens in a run beside its metrics, as typed facts; `rayfed.report.events` makes the sentences."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Event:
    """Something that the run's history must tell. `kind` names its type in the store."""

    kind: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """The event as JSON."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class DevicesBack(Event):
    """Devices that were lost answer again."""

    kind: ClassVar[str] = "devices-back"
    devices: tuple[str, ...]


@dataclass(frozen=True)
class ClientMoved(Event):
    """A client's model portions are held by other devices than in the round before."""

    kind: ClassVar[str] = "client-moved"
    client: str
    devices: tuple[str, ...]


@dataclass(frozen=True)
class ClientLeftOut(Event):
    """The slowest client is left out, as the configuration asks."""

    kind: ClassVar[str] = "client-left-out"
    client: str
    step_seconds: float


@dataclass(frozen=True)
class ClientFailed(Event):
    """A client had no valid reply: it lost devices, or, with none lost, for the reason in `fault`.

    `batch` counts from 1; None means after the round's last batch. `devices` hold its portions now: empty means that
    the client sits out.
    """

    kind: ClassVar[str] = "client-failed"
    client: str
    lost: tuple[str, ...]
    fault: str
    batch: int | None
    devices: tuple[str, ...]


@dataclass(frozen=True)
class DeviceDrifted(Event):
    """A device computes in so many times the seconds of its profile, and is planned with that from now on."""

    kind: ClassVar[str] = "device-drifted"
    device: str
    slowness: float


@dataclass(frozen=True)
class Note(Event):
    """A sentence: of a method's own, or from a store that kept no typed events."""

    kind: ClassVar[str] = "note"
    text: str


KINDS: dict[str, type[Event]] = {
    each.kind: each for each in (DevicesBack, ClientMoved, ClientLeftOut, ClientFailed, DeviceDrifted, Note)
}


def from_json(data: Mapping[str, Any]) -> Event:
    """The event that `Event.to_json` gave; lists come back as tuples."""
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    kind = KINDS[str(fields.pop("kind"))]
    return kind(**fields)
