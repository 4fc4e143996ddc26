"""The device hosts of a run, which join and leave between rounds. Who they are changes no weight."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray

from rayfed.cluster import nodes
from rayfed.cluster.actors import Berth
from rayfed.cluster.capacity import Amounts
from rayfed.cluster.objects import DEAD_S, LOST, fetch, got, reason
from rayfed.cluster.pool import ActorGroup
from rayfed.errors import CapacityError

LOOK_S = 1.0
"""Between two looks at the cluster."""
STILLBORN = 3
"""How often hosts may die before any is ready."""
JOIN_S = 15.0
"""How long the first round waits for hosts that it could do without and that have room."""


class ElasticHosts:
    """Asks for hosts, takes up those that have come, and lets go of the dead and of those whose node is to end."""

    def __init__(self, group: ActorGroup, run: str, wanted: Callable[[Sequence[Amounts]], int]) -> None:
        """`wanted`: how many hosts the run has use and room for on such nodes."""
        self._group = group
        self._run = run
        self._wanted = wanted
        self._nodes = nodes.nodes()
        self._looked = time.monotonic()
        self.here: dict[Any, Berth] = {}
        """The hosts that are ready."""
        self._coming: dict[Any, Any] = {}
        """What tells that a host is ready, and the host."""
        self._leaving: dict[Any, str] = {}
        """Hosts of the least that get no more calls, and their nodes: they are replaced when these are gone."""
        self._stillborn = 0
        """How often hosts have died before any was ready."""
        count = self._count()
        group.grow(count)
        for host in group.hosts[:count]:
            self._prepare(host)

    def _count(self) -> int:
        return self._wanted([node.resources for node in self._nodes.values() if not node.draining])

    def _prepare(self, host: Any) -> None:
        self._coming[host.prepare.remote(self._run)] = host

    def wait(self, least: int, until: float, check: Callable[[], None] = lambda: None) -> bool:
        """Wait for so many hosts, at most until a time of `time.monotonic`; whether they have come.

        `check` is called now and then, and may raise.
        """
        while (missing := least - len(self.here)) > 0 and self._coming and time.monotonic() < until:
            left = min(until - time.monotonic(), LOOK_S)
            ready, _ = ray.wait(list(self._coming), num_returns=min(missing, len(self._coming)), timeout=max(0, left))
            self._join(ready)
            if not ready:
                check()
        return len(self.here) >= least

    def _join(self, ready: Sequence[Any]) -> None:
        failed: Exception | None = None
        for reference in ready:
            host = self._coming.pop(reference)
            try:
                self.here[host] = got(reference)
            except LOST as error:
                failed = error
                self._prepare(self._group.replace(host))
        self._stillborn = self._stillborn + 1 if failed and not self.here else 0
        if failed and self._stillborn > STILLBORN:
            raise CapacityError(f"device hosts die as they start: {reason(failed)}")

    def look(self) -> None:
        """Between rounds: see who has come and who must go."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        if self._coming:
            self._join(ray.wait(list(self._coming), num_returns=len(self._coming), timeout=0)[0])
        known, self._nodes = self._nodes, nodes.nodes()
        if known != self._nodes or any(berth.node not in self._nodes for berth in self.here.values()):
            self._follow_nodes()
        else:
            self._let_go()

    def _follow_nodes(self) -> None:
        """Hosts go with their nodes, and come with new ones."""
        for host, berth in list(self.here.items()):
            if berth.node not in self._nodes:
                del self.here[host]
                self._prepare(self._group.replace(host))
        for host, ident in list(self._leaving.items()):
            if ident not in self._nodes:
                del self._leaving[host]
                self._prepare(self._group.replace(host))
        self._let_go()
        count = self._count() + len(self._leaving) + len(self._ending())
        for host in self._group.grow(count):
            self._prepare(host)
        for host in reversed([host for host in self._group.hosts if not self._group.is_reserved(host)]):
            if len(self._group.hosts) > count:
                self.here.pop(host, None)
                self._coming = {reference: each for reference, each in self._coming.items() if each is not host}
                self._group.end(host)

    def _let_go(self) -> None:
        """Hosts on nodes that are to end get no more calls, once there is another."""
        ending = self._ending()
        if len(ending) == len(self.here):
            return
        for host in ending:
            ident = self.here.pop(host).node
            if self._group.is_reserved(host):
                self._leaving[host] = ident
            else:
                self._prepare(self._group.replace(host))

    def _ending(self) -> list[Any]:
        """The hosts at work on nodes that are to end."""
        return [host for host, berth in self.here.items() if self._nodes[berth.node].draining]

    def bury(self, run: str) -> None:
        """After a round that failed: ask for others in the place of the dead, and have all be ready for `run`."""
        answers = {host.ready.remote(): host for host in self.here}
        answered, _ = ray.wait(list(answers), num_returns=len(answers), timeout=DEAD_S) if answers else ([], [])
        dead = [answers[answer] for answer in fetch(answered)[1]]
        for host in dead:
            del self.here[host]
            self._prepare(self._group.replace(host))
        if run != self._run:
            self._run = run
            hosts = [*self.here, *self._coming.values()]
            self.here, self._coming = {}, {}
            for host in hosts:
                self._prepare(host)
