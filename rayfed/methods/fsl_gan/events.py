"""What happens to FSL-GAN's clients and devices between and within rounds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from rayfed.events import Event


@dataclass(frozen=True)
class DevicesBack(Event):
    """Devices that were lost answer again."""

    kind: ClassVar[str] = "devices-back"
    devices: tuple[str, ...]

    def sentence(self) -> str:
        """See `Event.sentence`."""
        return f"{_names(self.devices)} {'is' if len(self.devices) == 1 else 'are'} back"


@dataclass(frozen=True)
class ClientMoved(Event):
    """A client's model portions are held by other devices than in the round before."""

    kind: ClassVar[str] = "client-moved"
    client: str
    devices: tuple[str, ...]

    def sentence(self) -> str:
        """See `Event.sentence`."""
        return f"client {self.client} moves to {_names(self.devices)}"


@dataclass(frozen=True)
class ClientLeftOut(Event):
    """The slowest client is left out, as the configuration asks."""

    kind: ClassVar[str] = "client-left-out"
    client: str
    step_seconds: float

    def sentence(self) -> str:
        """See `Event.sentence`."""
        return f"client {self.client} is left out: the slowest, {self.step_seconds:.3g} s a step"


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

    def sentence(self) -> str:
        """See `Event.sentence`."""
        what = f"client {self.client} {f'lost {_names(self.lost)}' if self.lost else self.fault}"
        if self.batch is None:
            return f"{what} after the last batch: what it learnt is lost"
        outcome = f"begins again on {_names(self.devices)}" if self.devices else "sits out"
        return f"{what} in batch {self.batch}: {outcome}"


@dataclass(frozen=True)
class DeviceDrifted(Event):
    """A device computes in so many times the seconds of its profile, and is planned with that from now on."""

    kind: ClassVar[str] = "device-drifted"
    device: str
    slowness: float

    def sentence(self) -> str:
        """See `Event.sentence`."""
        return f"{self.device} computes in {self.slowness:.3g} times its profile's seconds"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
