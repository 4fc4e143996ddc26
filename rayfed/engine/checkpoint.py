"""A checkpoint: everything a round leaves behind, typed; the store keeps it as a Commit."""

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rayfed.engine.simulation import TwinFacts
from rayfed.errors import UserError
from rayfed.events import Event
from rayfed.fleet.ledger import Traffic
from rayfed.fleet.protocol import Arrays
from rayfed.fleet.states import StateFile
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.spec import MethodSpec
from rayfed.methods.state import State
from rayfed.store import Commit, DeviceState

VERSION = 3
"""Of what `Commit.facts` holds. Version 1 had events and slowness beside the method's facts; migrations lift it.
Version 2 had lists where there are arrays now; they are taken as well."""


@dataclass(frozen=True)
class Checkpoint:
    """What stands after `state.round` rounds."""

    state: State
    """The server's."""
    seen: tuple[int, ...]
    """Samples of each class that participants have brought so far."""
    twin: TwinFacts
    devices: dict[DeviceId, DeviceState] = field(default_factory=dict)
    """States of the devices that changed in this round: files, or arrays; on Ray, first references to arrays. From the
    store: of every device that ever had one."""
    metrics: dict[str, float] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=dict)
    """What crossed the links in this round; the store does not keep it."""
    participants: tuple[ClientId, ...] = ()
    abandoned: tuple[StateFile, ...] = ()
    """Files that were written in this round and are no device's state."""

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
        facts, tables = _apart(facts)
        events = [event.to_json() for event in self.events]
        devices: dict[int, DeviceState] = dict(self.devices.items())
        participants: list[int] = list(self.participants)
        return Commit(self.round, self.state.arrays, facts, devices, self.metrics, participants, events, tables=tables)


def checkpoint_of(commit: Commit, spec: MethodSpec) -> Checkpoint:
    """The checkpoint that a commit of this method's is. Raises UserError for one of a later version of rayfed."""
    facts = _together(commit.facts, commit.tables)
    if facts["version"] > VERSION:
        raise UserError(
            f"round {commit.round} was written by a later rayfed (checkpoint version {facts['version']}, this one "
            f"knows {VERSION}); update rayfed"
        )
    state = spec.state.restored(commit.round, commit.arrays, facts["method"])
    devices = {DeviceId(device): state for device, state in commit.devices.items()}
    return Checkpoint(
        state,
        tuple(facts["seen"]),
        facts["twin"],
        devices,
        commit.metrics,
        participants=tuple(ClientId(client) for client in commit.participants),
    )


def _apart(facts: dict[str, Any], path: str = "") -> tuple[dict[str, Any], Arrays]:
    """Facts without the arrays among them, and those by their paths."""
    rest: dict[str, Any] = {}
    arrays: Arrays = {}
    for name, value in facts.items():
        if isinstance(value, np.ndarray):
            arrays[f"{path}{name}"] = value
        elif isinstance(value, dict):
            rest[name], inner = _apart(value, f"{path}{name}/")
            arrays |= inner
        else:
            rest[name] = value
    return rest, arrays


def _together(facts: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    """What `_apart` took apart."""
    facts = copy.deepcopy(facts)
    for path, array in arrays.items():
        *above, name = path.split("/")
        place = facts
        for each in above:
            place = place[each]
        place[name] = array
    return facts
