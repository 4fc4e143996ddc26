"""A run's actors as a group, and the groups that have worked for a run and wait for the next."""

from dataclasses import dataclass
from threading import Lock
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from rayfed.cluster import actors
from rayfed.cluster.capacity import amounts
from rayfed.config import DeviceHostRole, Resources, Role


@dataclass(frozen=True)
class Kind:
    """What the actors of a group ask for."""

    server: Role
    evaluator: Role | None
    """None means that the group has none."""
    device_host: DeviceHostRole
    pooled: bool
    """Whether the group has device hosts; pinned hosts are a run's own."""

    @classmethod
    def of(cls, resources: Resources, judged: bool, pooled: bool) -> "Kind":
        """The kind of group that a run needs."""
        return cls(resources.server, resources.evaluator if judged else None, resources.device_host, pooled)


class ActorGroup:
    """A server, an evaluator if there is to be one, and device hosts.

    They start together or not at all, in a placement group, so that two runs cannot each hold half of what both need.
    Device hosts beyond the `least` ask for themselves, and an autoscaler sees them wait.
    """

    def __init__(self, kind: Kind, least: int) -> None:
        self.kind, self.least = kind, least
        roles = [kind.server, *([kind.evaluator] if kind.evaluator else []), *[kind.device_host] * least]
        asks = [amounts(role) for role in roles]
        bundles = [each for each in asks if each]
        strategy = kind.device_host.placement.upper()
        self._reserved: PlacementGroup | None = placement_group(bundles, strategy=strategy) if bundles else None
        numbers = iter(range(len(bundles)))
        self._server_bundle, *rest = [next(numbers) if each else None for each in asks]
        self.start_server()
        self.evaluator = self._start(actors.Evaluator, kind.evaluator, rest.pop(0)) if kind.evaluator else None
        self.hosts: list[Any] = []
        self._bundle_of: dict[Any, int | None] = {}
        """Of the hosts of the least. None means that a host asks for nothing."""
        for bundle in rest:
            self._bundle_of[self._add(bundle)] = bundle

    def start_server(self) -> None:
        """A server, or another where the one that was is gone."""
        self.server = self._start(actors.GeneratorServer, self.kind.server, self._server_bundle)

    def grow(self, count: int) -> list[Any]:
        """Ask for hosts until there are so many; those that are new."""
        return [self._add(None) for _ in range(count - len(self.hosts))]

    def is_reserved(self, host: Any) -> bool:
        """Whether a host is one of the least."""
        return host in self._bundle_of

    def replace(self, host: Any) -> Any:
        """Another host in the place of one that is gone, or is to go."""
        bundle = self._bundle_of.get(host)
        reserved = self.is_reserved(host)
        self.end(host)
        new = self._add(bundle)
        if reserved:
            self._bundle_of[new] = bundle
        return new

    def end(self, host: Any) -> None:
        """End a host."""
        self.hosts.remove(host)
        self._bundle_of.pop(host, None)
        ray.kill(host)

    def close(self) -> None:
        """End them all, and what is reserved for them."""
        for actor in (*self.hosts, self.server, *([self.evaluator] if self.evaluator else [])):
            ray.kill(actor)
        if self._reserved:
            remove_placement_group(self._reserved)

    def _add(self, bundle: int | None) -> Any:
        host = self._start(actors.DeviceHost, self.kind.device_host, bundle)
        self.hosts.append(host)
        return host

    def _start(self, actor: Any, role: Role, bundle: int | None) -> Any:
        if bundle is not None:
            return actors.start_reserved(actor, role, self._reserved, bundle)
        return actors.start(actor, role)


class ActorPool:
    """Gives out groups: one that is idle if its kind is right, else a new one, whose processes must import torch."""

    def __init__(self) -> None:
        self._idle: list[ActorGroup] = []
        self._lock = Lock()
        """Runs of a comparison are threads."""

    def take(self, kind: Kind, least: int) -> ActorGroup:
        """A group of this kind, with so many hosts reserved. Idle ones of other kinds, or with fewer, end: what they
        hold of the cluster may be needed."""
        with self._lock:
            fitting = [group for group in self._idle if group.kind == kind and group.least >= least]
            others = [group for group in self._idle if group not in fitting]
            self._idle = fitting
            found = self._idle.pop() if self._idle else None
        for group in others:
            group.close()
        return found or ActorGroup(kind, least)

    def give(self, group: ActorGroup) -> None:
        """A group's work is done."""
        with self._lock:
            self._idle.append(group)
