"""How the training data is spread over the devices.

Every partition takes the training labels (int64 [N]) and a generator, and returns for each device the sorted indices
(int64 [n_k]) of the samples it holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from rayfed.errors import UserError, counted

Indices = npt.NDArray[np.int64]

DIRICHLET_DRAWS = 100


@dataclass(frozen=True, eq=False)
class Parts(Sequence[Indices]):
    """The sorted indices of the samples that each device holds, as one array, so that thousands travel as one."""

    indices: Indices
    """Of the first device, the second, and so on [n]."""
    ends: Indices
    """Where each device's end [K]."""

    @classmethod
    def of(cls, parts: Sequence[Indices]) -> "Parts":
        """From an array for each device."""
        return cls(np.concatenate([np.empty(0, np.int64), *parts]), np.cumsum([len(part) for part in parts]))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, device: int) -> Indices: ...
    @overload
    def __getitem__(self, device: slice) -> Sequence[Indices]: ...
    def __getitem__(self, device: int | slice) -> Indices | Sequence[Indices]:
        if isinstance(device, slice):
            return [self[each] for each in range(len(self))[device]]
        end = range(len(self))[device]
        return self.indices[self.ends[end - 1] if end else 0 : self.ends[end]]

    @property
    def sizes(self) -> Indices:
        """How many samples each device holds [K]."""
        return np.diff(self.ends, prepend=0)


def iid(labels: Indices, devices: int, rng: np.random.Generator) -> list[Indices]:
    """Shuffle and deal: disjoint, all samples placed, sizes that differ by at most one."""
    return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), devices)]


def fegan_engine(
    labels: Indices, devices: int, max_class: int, max_samples: int, rng: np.random.Generator
) -> list[Indices]:
    """The skewed and imbalanced distribution of FeGAN (Guerraoui et al. 2020, section 4, "Non-iidness").

    Device i of n, counted from 1, draws r_c ~ U{1..ceil(max_class i / n)} distinct classes and for each of them its own
    r_s ~ U{1..min(i^2, floor(max_samples i / n))} distinct samples; the bounds are at least 1, and at most what the
    data has. Every device draws from the whole data, so devices may share samples.
    """
    classes = _by_class(labels)
    parts = []
    for i in range(1, devices + 1):
        most_classes = min(-(-max_class * i // devices), len(classes))
        most_samples = max(1, min(i**2, max_samples * i // devices))
        chosen = rng.choice(len(classes), size=rng.integers(1, most_classes + 1), replace=False)
        draws = [_draw(classes[c], most_samples, rng) for c in chosen]
        parts.append(np.sort(np.concatenate(draws)))
    return parts


def n_classes(labels: Indices, devices: int, per_device: int, rng: np.random.Generator) -> list[Indices]:
    """Each device holds exactly `per_device` classes (at most what the data has).

    A class is dealt out among its owners without overlap. Owners per class differ by at most one, so every class has
    an owner as soon as devices * per_device >= classes. Raises UserError when a class has fewer samples than owners.
    """
    classes = _by_class(labels)
    owners: list[list[int]] = [[] for _ in classes]
    for device in range(devices):
        ties = rng.random(len(classes))
        for c in np.lexsort(np.stack([ties, [len(holders) for holders in owners]]))[:per_device]:
            owners[c].append(device)
    parts: list[list[Indices]] = [[] for _ in range(devices)]
    for members, holders in zip(classes, owners, strict=True):
        if len(holders) > len(members):
            raise UserError(
                f"devices.count = {devices} with data.classes_per_device = {per_device}: {len(holders)} devices would "
                f"share a class of {counted(len(members), 'image')}; use fewer devices or fewer classes per device"
            )
        if holders:
            for device, share in zip(holders, np.array_split(rng.permutation(members), len(holders)), strict=True):
                parts[device].append(share)
    return [np.sort(np.concatenate(part)) for part in parts]


def dirichlet(labels: Indices, devices: int, alpha: float, rng: np.random.Generator) -> list[Indices]:
    """Label skew by a Dirichlet distribution: disjoint, all samples placed, no device empty.

    Each class is cut into shares ~ Dir(alpha, ..., alpha) over the devices (Yurochkin et al. 2019; Hsu et al. 2019 draw
    each device's mix of classes so instead). Redrawn while a device is empty; UserError after `DIRICHLET_DRAWS` draws.
    """
    classes = _by_class(labels)
    sizes = np.array([len(members) for members in classes])
    for _ in range(DIRICHLET_DRAWS):
        shares = rng.dirichlet(np.full(devices, alpha), size=len(classes))
        cuts = np.floor(np.cumsum(shares, axis=1)[:, :-1] * sizes[:, None]).astype(np.int64)
        counts = np.diff(cuts, axis=1, prepend=0, append=sizes[:, None])
        if counts.sum(axis=0).min() > 0:
            break
    else:
        raise UserError(
            f"data.alpha = {alpha} with devices.count = {devices}: some device got no data in each of "
            f"{DIRICHLET_DRAWS} draws; use a larger data.alpha or fewer devices"
        )
    pieces = [np.split(rng.permutation(members), cut) for members, cut in zip(classes, cuts, strict=True)]
    return [np.sort(np.concatenate(shares)) for shares in zip(*pieces, strict=True)]


def class_counts(labels: Indices, parts: Sequence[Indices], classes: int) -> Indices:
    """n_k(c), the samples of each class on each device: int64 [K, classes]."""
    return np.stack([np.bincount(labels[part], minlength=classes) for part in parts])


def union(parts: Sequence[Indices]) -> Indices:
    """The distinct indices that any device holds, sorted: the data of the centralised reference."""
    return np.unique(np.concatenate(parts))


def _by_class(labels: Indices) -> list[Indices]:
    """The indices of each class that occurs."""
    return [np.flatnonzero(labels == c) for c in np.unique(labels)]


def _draw(members: Indices, most: int, rng: np.random.Generator) -> Indices:
    return rng.choice(members, size=rng.integers(1, min(most, len(members)) + 1), replace=False)
