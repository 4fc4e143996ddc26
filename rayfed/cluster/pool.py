"""Actors that have worked for a run and wait for the next: a process that has imported torch is dear to start."""

from collections.abc import Iterable
from typing import Any

import ray

from rayfed.cluster import actors
from rayfed.config import Role

Kind = tuple[Any, Role]
"""An actor's class, and what it asks of the cluster."""


class ActorPool:
    """Gives out actors of a kind: idle ones if there are any, else new ones."""

    def __init__(self) -> None:
        self._idle: dict[Kind, list[Any]] = {}

    def keep(self, kinds: Iterable[Kind]) -> None:
        """End the idle actors of other kinds: what they hold of the cluster may be needed."""
        for kind in self._idle.keys() - set(kinds):
            for actor in self._idle.pop(kind):
                ray.kill(actor)

    def take(self, kind: Kind) -> Any:
        """An actor of this kind."""
        idle = self._idle.get(kind)
        return idle.pop() if idle else actors.start(*kind)

    def give(self, kind: Kind, actor: Any) -> None:
        """An actor's work is done."""
        self._idle.setdefault(kind, []).append(actor)
