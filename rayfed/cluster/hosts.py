"""Which DeviceHost runs a device's calls, and what becomes of the device when that host dies."""

from collections.abc import Sequence
from typing import Any, Protocol

import ray

from rayfed.cluster.objects import HostLostError, reason
from rayfed.ids import DeviceId


class Hosts(Protocol):
    """Where RayFleet sends its calls."""

    def choose(self, device: DeviceId, cost: float) -> Any:
        """The host of a device's next call; None when the device is lost."""

    def collected(self) -> None:
        """Replies have come: hosts may be idle again."""

    def late(self, reply: Any, host: Any) -> None:
        """A host still works on what was due before."""

    def lost(self, host: Any, error: Exception) -> None:
        """Of what a host was asked, only this error came. Raises HostLostError where the round cannot go on without."""

    def settled(self) -> list[DeviceId]:
        """A round is over; the devices that were lost in it, which are asked again in the next."""


class PooledHosts:
    """Any host runs any device: each call goes to the host with the least cost since the last replies, and of equal
    ones to that which ran the device last: it may still have its state at hand."""

    def __init__(self, hosts: Sequence[Any]) -> None:
        self._homes: dict[DeviceId, Any] = {}
        self._late: dict[Any, Any] = {}
        self.use(hosts)

    def use(self, hosts: Sequence[Any]) -> None:
        """From the next round on these are the hosts, at least one."""
        self._hosts = list(hosts)
        self._costs = [0.0] * len(self._hosts)

    def choose(self, device: DeviceId, cost: float) -> Any:
        """The host that costs least so far."""
        stuck = self._stuck()
        free = [slot for slot, host in enumerate(self._hosts) if host not in stuck] or range(len(self._hosts))
        home = self._homes.get(device)
        slot = min(free, key=lambda slot: (self._costs[slot], self._hosts[slot] is not home))
        self._costs[slot] += cost
        self._homes[device] = self._hosts[slot]
        return self._hosts[slot]

    def _stuck(self) -> list[Any]:
        """The hosts that still work on a late call."""
        if self._late:
            running = ray.wait(list(self._late), num_returns=len(self._late), timeout=0)[1]
            self._late = {reply: self._late[reply] for reply in running}
        return list(self._late.values())

    def collected(self) -> None:
        self._costs = [0.0] * len(self._hosts)

    def late(self, reply: Any, host: Any) -> None:
        self._late[reply] = host

    def lost(self, host: Any, error: Exception) -> None:
        """Devices are not lost with a host: the round can be computed again on the others."""
        raise HostLostError(reason(error)) from error

    def settled(self) -> list[DeviceId]:
        return []


class PinnedHosts:
    """Each device lives on a host of its own, or on one that it shares; a host that dies takes its devices along.

    They are lost until the round is over, even if Ray has restarted the host by then.
    """

    def __init__(self, hosts: Sequence[Any], host_of: Sequence[int]) -> None:
        """`host_of`: the index of each device's host."""
        self._hosts = list(hosts)
        self._host_of = list(host_of)
        self._down: set[int] = set()

    def choose(self, device: DeviceId, cost: float) -> Any:
        host = self._host_of[device]
        return None if host in self._down else self._hosts[host]

    def collected(self) -> None: ...

    def late(self, reply: Any, host: Any) -> None: ...

    def lost(self, host: Any, error: Exception) -> None:
        """Ray's error may name the actor that died, also where it is not the one that was asked."""
        dead = getattr(error, "actor_id", None) or host._actor_id.hex()
        self._down |= {number for number, each in enumerate(self._hosts) if each._actor_id.hex() == dead}

    def settled(self) -> list[DeviceId]:
        down, self._down = self._down, set()
        return [DeviceId(device) for device, host in enumerate(self._host_of) if host in down]
