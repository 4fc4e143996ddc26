"""Where each device's state is while RayFleet runs: in a file, or in Ray's object store."""

from typing import Any

import ray
from ray.exceptions import RayError

from rayfed.cluster.hosts import Hosts
from rayfed.cluster.objects import fetch
from rayfed.fleet.states import StateFile, same
from rayfed.ids import DeviceId

KEPT = 8
"""States that a host is asked to write at once."""


class DeviceStates:
    """The states by device. Within a round they are references, to files or to arrays; with a state folder, which
    `files` tells of, they are files when the round is settled."""

    def __init__(self, hosts: Hosts, run: str, files: bool) -> None:
        self._hosts = hosts
        self._run = run
        self._files = files
        self._states: dict[DeviceId, Any] = {}
        self._known: dict[DeviceId, Any] = {}
        """Of the devices that were called since the last `changed`, the states that they had then."""
        self._written: dict[Any, DeviceId] = {}
        """References to files that hosts have written, or may still write, in a call's course."""

    def of(self, device: DeviceId) -> Any:
        """A device's state; None if it never had one."""
        return self._states.get(device)

    def left(self, device: DeviceId, reference: Any, last: bool) -> None:
        """A call leaves the device this state; after its `last` call of the round it is in a file at once."""
        self._known.setdefault(device, self._states.get(device))
        self._states[device] = reference
        if self._files and last:
            self._written[reference] = device

    def put_back(self, device: DeviceId, before: Any) -> None:
        """A call has not happened to its device."""
        if before is None:
            self._states.pop(device, None)
        else:
            self._states[device] = before

    def settle(self) -> None:
        """A round is over: states become files; what went with a lost host begins anew."""
        if self._files:
            self._write()
        for device in self._hosts.settled():
            state = self._states.get(device)
            if isinstance(state, ray.ObjectRef) and fetch([state])[1]:
                del self._states[device]

    def _write(self) -> None:
        """Have hosts write what is still in the object store, and remember files instead of references."""
        changed = [d for d in sorted(self._known) if isinstance(self._states.get(d), ray.ObjectRef)]
        shares: dict[Any, list[DeviceId]] = {}
        for device in changed:
            if self._states[device] not in self._written and (host := self._hosts.choose(device, 1.0)) is not None:
                shares.setdefault(host, []).append(device)
        for host, devices in shares.items():
            for start in range(0, len(devices), KEPT):
                some = devices[start : start + KEPT]
                references = [self._states[device] for device in some]
                files = host.keep.options(num_returns=len(some)).remote(self._run, *references)
                self._states.update(zip(some, files if len(some) > 1 else [files], strict=True))
        self._hosts.collected()
        found, errors = fetch([self._states[device] for device in changed])
        asked = {device: host for host, devices in shares.items() for device in devices}
        for device in changed:
            reference = self._states[device]
            self.put_back(device, found.get(reference, self._known[device]))
            if reference in errors and device in asked:
                self._hosts.lost(asked[device], errors[reference])

    def changed(self) -> dict[DeviceId, Any]:
        """See `Fleet.changed`."""
        known, self._known = self._known, {}
        states = {device: self._states[device] for device in sorted(known) if device in self._states}
        return {device: state for device, state in states.items() if not same(state, known[device])}

    def abandoned(self) -> list[StateFile]:
        """See `Fleet.abandoned`; what a late call has not written yet is told of in a later round."""
        ready, late = (
            ray.wait(list(self._written), num_returns=len(self._written), timeout=0) if self._written else ([], [])
        )
        written, self._written = self._written, {reference: self._written[reference] for reference in late}
        found = []
        for reference in ready:
            try:
                state = ray.get(reference)
            except RayError:  # of a call that nobody waits for any more
                continue
            if isinstance(state, StateFile) and self._states.get(written[reference]) != state:
                found.append(state)
        return found

    def restore(self, states: dict[DeviceId, Any]) -> None:
        """See `Fleet.restore`."""
        for device, state in states.items():
            self._states[device] = ray.put(state) if isinstance(state, dict) else state
