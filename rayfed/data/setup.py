"""From a run's configuration to data on devices, with the checks that only the data can make."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rayfed import seeding
from rayfed.config import RunConfig
from rayfed.data import partition, partition_file
from rayfed.data.datasets import Dataset, load
from rayfed.data.partition import Indices, Parts, union
from rayfed.data.population import EvaluationData, Population
from rayfed.data.shard import Shards
from rayfed.errors import UserError, counted


@dataclass(frozen=True, eq=False)
class Federation:
    """A data set spread over K devices.

    parts: for each device the sorted indices (int64 [n_k]) of its training images; counts: int64 [K, classes], its
    samples of each class; left_out: rows of a partition file that name samples that are held out for the test.
    """

    dataset: Dataset
    parts: Parts
    counts: Indices
    left_out: int = 0

    @cached_property
    def partition_sha256(self) -> str:
        """Hex digest over the number of each device's training images, and their indices."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(repr(len(part)).encode())
            digest.update(part.tobytes())
        return digest.hexdigest()

    @cached_property
    def population(self) -> Population:
        """What servers and schedulers know of it."""
        labels, classes = self.dataset.train_labels, self.counts.shape[1]
        held = np.bincount(labels[union(self.parts)], minlength=classes)
        whole = np.bincount(labels, minlength=classes)
        return Population(self.dataset.train_images.shape[1], self.counts, held, whole)

    @cached_property
    def evaluation_data(self) -> EvaluationData:
        """What a state is judged on."""
        held = self.dataset
        images = held.train_images, held.train_labels, held.test_images, held.test_labels
        return EvaluationData(*images, len(held.classes), held.key)

    def shards(self, seed: int) -> Shards:
        """The data where the clients run, for a run's seed."""
        dataset = self.dataset
        return Shards(dataset.train_images, dataset.train_labels, self.parts, self.counts.shape[1], seed)


def prepare(config: RunConfig, size: int) -> Federation:
    """Load the data at `size` x `size` pixels and spread it over the devices.

    The partition depends on `config.seed` alone, or on its file. Raises UserError when the data cannot serve the
    configuration: too few classes, images, or images on a device for a batch; and for a file that is wrong.
    """
    dataset, left_out = load(config.data.name, config.data.root, size), 0
    _check_partition(config, dataset)
    if path := config.data.partition_file:
        parts, left_out = partition_file.read(path, dataset.positions, config.devices.count)
    else:
        parts = _partition(config, dataset.train_labels)
    _check_batch(config, parts)
    counts = partition.class_counts(dataset.train_labels, parts, len(dataset.classes))
    return Federation(dataset, Parts.of(parts), counts, left_out)


def small_devices(federation: Federation, batch: int) -> int:
    """How many devices hold fewer samples than a batch (they train on all they have)."""
    return int((federation.parts.sizes < batch).sum())


def _partition(config: RunConfig, labels: Indices) -> list[Indices]:
    data, devices = config.data, config.devices.count
    rng = seeding.generator(config.seed, 0, seeding.SERVER, "partition")
    match data.partition:
        case "iid":
            return partition.iid(labels, devices, rng)
        case "fegan":
            return partition.fegan_engine(labels, devices, data.max_class, data.max_samples, rng)
        case "classes":
            return partition.n_classes(labels, devices, data.classes_per_device, rng)
        case _:  # dirichlet; a file is no draw
            return partition.dirichlet(labels, devices, data.alpha, rng)


def _check_partition(config: RunConfig, dataset: Dataset) -> None:
    data, classes, images = config.data, len(dataset.classes), len(dataset.train_labels)
    has_classes = f"{dataset.name} has {counted(classes, 'class')}"
    if data.partition == "fegan":
        _at_most("data.max_class", data.max_class, classes, has_classes)
    elif not data.partition_file:  # on whose devices the same samples may lie
        _at_most(
            "devices.count", config.devices.count, images, f"{dataset.name} has {counted(images, 'training image')}"
        )
    if data.partition == "classes":
        _at_most("data.classes_per_device", data.classes_per_device, classes, has_classes)


def _check_batch(config: RunConfig, parts: list[Indices]) -> None:
    sizes = [len(part) for part in parts]
    if config.method.pools_data:
        limit = len(union(parts))
        holds = f"the devices hold {counted(limit, 'distinct image')} together"
    elif config.data.partition == "fegan" or config.data.partition_file:
        # The engine gives the first devices less than a batch by construction, and a file gives what there is; they
        # train on all they have.
        limit, device = max(sizes), int(np.argmax(sizes))
        holds = f"device {device}, the largest, holds {counted(limit, 'image')}"
    else:
        limit, device = min(sizes), int(np.argmin(sizes))
        holds = f"device {device} holds {counted(limit, 'image')}"
    _at_most("method.batch", config.method.batch, limit, holds)


def _at_most(key: str, value: int, limit: int, why: str) -> None:
    if value > limit:
        raise UserError(f"{key} = {value}: {why}; use at most {limit}")
