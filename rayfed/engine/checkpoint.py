"""A checkpoint: everything a round leaves behind, typed; the store keeps it as a Commit."""

from dataclasses import dataclass, field, replace
from typing import Any

from rayfed.engine.simulation import TwinFacts
from rayfed.errors import UserError
from rayfed.events import Event
from rayfed.fleet.protocol import Arrays
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.spec import MethodSpec
from rayfed.methods.state import State
from rayfed.store import Commit

VERSION = 2
"""Of what `Commit.facts` holds. Version 1 had events and slowness beside the method's facts; migrations lift it."""


@dataclass(frozen=True)
class Checkpoint:
    """What stands after `state.round` rounds."""

    state: State
    """The server's."""
    seen: tuple[int, ...]
    """Samples of each class that participants have brought so far."""
    twin: TwinFacts
    devices: dict[DeviceId, Arrays] = field(default_factory=dict)
    """States of the devices that changed in this round; on Ray, first references to them. From the store: of every
    device that ever had one."""
    metrics: dict[str, float] = field(default_factory=dict)
    participants: tuple[ClientId, ...] = ()

    @property
    def round(self) -> int:
        """Rounds finished so far."""
        return self.state.round

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened in this round."""
        return self.state.events

    def with_metrics(self, metrics: dict[str, float]) -> "Checkpoint":
        """The checkpoint with more metrics."""
        return replace(self, metrics=self.metrics | metrics)

    def commit(self) -> Commit:
        """As the store keeps it."""
        facts = {"version": VERSION, "method": self.state.facts(), "seen": list(self.seen), "twin": dict(self.twin)}
        events = [event.to_json() for event in self.events]
        devices: dict[int, Arrays] = dict(self.devices.items())
        return Commit(self.round, self.state.arrays, facts, devices, self.metrics, list(self.participants), events)


def checkpoint_of(commit: Commit, spec: MethodSpec) -> Checkpoint:
    """The checkpoint that a commit of this method's is. Raises UserError for one of a later version of rayfed."""
    facts: dict[str, Any] = commit.facts
    if facts["version"] > VERSION:
        raise UserError(
            f"round {commit.round} was written by a later rayfed (checkpoint version {facts['version']}, this one "
            f"knows {VERSION}); update rayfed"
        )
    state = spec.state.restored(commit.round, commit.arrays, facts["method"])
    devices = {DeviceId(device): arrays for device, arrays in commit.devices.items()}
    participants = tuple(ClientId(client) for client in commit.participants)
    return Checkpoint(state, tuple(facts["seen"]), facts["twin"], devices, commit.metrics, participants)
