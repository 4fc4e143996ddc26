"""Transfers that share links: max-min fair rates by progressive filling (Bertsekas, Gallager: Data Networks, 6.5)."""

import math

import numpy as np
from numpy.typing import NDArray

NEARLY = 1e-9
"""A transfer with this part of its bits left has finished."""

Link = tuple[str, float]
"""A link's name and bit/s."""


def fair_rates(capacity: NDArray[np.float64], uses: NDArray[np.intp]) -> NDArray[np.float64]:
    """Max-min fair bit/s [F] of flows over the links `uses` [F, 2] with `capacity` [R] bit/s.

    A flow with one link names a second of infinite capacity. A link is tight when no flow on it is held
    back more by its other link; each step settles the flows of all tight links.
    """
    rates, left, todo = np.empty(len(uses)), capacity.copy(), np.arange(len(uses))
    while True:
        used = uses[todo]
        share = left / np.maximum(np.bincount(used.ravel(), minlength=len(left)), 1)
        rate = share[used].min(axis=1)
        lowest = np.full(len(left), math.inf)
        np.minimum.at(lowest, used, rate[:, None])
        settled = (lowest >= share * (1 - 1e-12))[used].any(axis=1)
        rates[todo[settled]] = rate[settled]
        if settled.all():
            break
        left -= np.bincount(used[settled].ravel(), np.repeat(rate[settled], 2), len(left))
        todo = todo[~settled]
    return rates


class Channel:
    """Links that some transfers share, and the transfers under way on them; other channels do not matter to it."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._capacity = np.array([math.inf])
        self._tasks = np.empty(0, np.intp)
        self._uses = np.empty((0, 2), np.intp)
        self._left = self._size = self._rates = self._finish = np.empty(0)
        self._joining: list[tuple[int, float, tuple[Link, ...]]] = []
        self._alone: tuple[int, float, tuple[Link, ...]] | None = None
        """The one transfer under way, outside the vectors: most links see one at a time."""
        self._now = self._end = -math.inf
        self.version = 0
        """Grows whenever the rates change: an earlier forecast no longer holds."""

    def join(self, task: int, bits: float, links: tuple[Link, ...]) -> None:
        """A transfer starts; it takes effect at the next `settle`, which must be at the same time."""
        self._joining.append((task, bits, links))

    def settle(self, now: float) -> tuple[list[int], float]:
        """Move the bits until `now`, take in who joined and share the links anew.

        Returns the tasks that finished by now, in the order they joined, and when the next one
        will (infinite: none is under way).
        """
        finished = self._part(now) if self._alone else self._advance(now) if self._tasks.size else []
        self._now = now
        self.version += 1
        if not self._tasks.size and len(self._joining) == 1:
            self._alone = self._joining.pop()
            self._end = now + self._alone[1] / _narrowest(self._alone[2])
            return finished, self._end
        if self._joining:
            self._admit()
        if not self._tasks.size:
            return finished, math.inf
        self._rates = fair_rates(self._capacity, self._uses)
        self._finish = now + self._left / self._rates
        return finished, float(self._finish.min())

    def _part(self, now: float) -> list[int]:
        """The lone transfer has finished, or joins those that join now with what is left of it."""
        assert self._alone is not None
        (task, _, links), self._alone = self._alone, None
        if self._end <= now:
            return [task]
        self._joining.insert(0, (task, (self._end - now) * _narrowest(links), links))
        return []

    def _advance(self, now: float) -> list[int]:
        self._left -= self._rates * (now - self._now)
        under_way = (self._finish > now) & (self._left > NEARLY * self._size)
        if under_way.all():
            return []
        finished: list[int] = self._tasks[~under_way].tolist()
        self._tasks, self._uses = self._tasks[under_way], self._uses[under_way]
        self._left, self._size = self._left[under_way], self._size[under_way]
        return finished

    def _admit(self) -> None:
        tasks, bits, routes = zip(*self._joining, strict=True)
        self._joining.clear()
        uses = [[self._link(*links[0]), self._link(*links[1]) if len(links) > 1 else 0] for links in routes]
        self._tasks = np.concatenate([self._tasks, tasks])
        self._left, self._size = np.concatenate([self._left, bits]), np.concatenate([self._size, bits])
        self._uses = np.concatenate([self._uses, uses])

    def _link(self, name: str, bps: float) -> int:
        if name not in self._index:
            self._index[name] = len(self._capacity)
            self._capacity = np.append(self._capacity, bps)
        return self._index[name]


def _narrowest(links: tuple[Link, ...]) -> float:
    return min(bps for _, bps in links)


def binding(routes: list[tuple[Link, ...]]) -> list[tuple[Link, ...]]:
    """The routes without the links that carry all their neighbours at once, and so never hold a transfer back."""
    beside: dict[Link, dict[Link, None] | None] = {}  # None: some transfer has no other link
    for links in dict.fromkeys(routes):
        for link in links:
            others = [other for other in links if other != link]
            known = beside.setdefault(link, {})
            if not others:
                beside[link] = None
            elif known is not None:
                known.update(dict.fromkeys(others))
    spare: set[Link] = set()
    for link, others_of in beside.items():
        if others_of is None or not spare.isdisjoint(others_of):
            continue
        if math.fsum(bps for _, bps in others_of) <= link[1]:
            spare.add(link)
    return [tuple(link for link in links if link not in spare) for links in routes]


def channels(routes: list[tuple[Link, ...]]) -> tuple[list[Channel], list[int]]:
    """The channels, and for each route the number of its own.

    Routes that have a link in common, directly or through others, have the same channel.
    """
    parent: dict[Link, Link] = {}

    def root(link: Link) -> Link:
        while parent.setdefault(link, link) != link:
            parent[link] = link = parent[parent[link]]
        return link

    for links in dict.fromkeys(routes):
        for link in links[1:]:
            parent[root(link)] = root(links[0])
    numbers: dict[Link, int] = {}
    of_route = [numbers.setdefault(root(links[0]), len(numbers)) for links in routes]
    return [Channel() for _ in numbers], of_route
