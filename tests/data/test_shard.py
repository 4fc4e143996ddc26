"""A client's data: its own samples in batches, the same for whoever asks, and nobody else's."""

from itertools import islice

import numpy as np
import pytest

from rayfed.data.shard import Shard, Shards
from rayfed.seeding import SERVER, generator

LABELS = np.array([0, 2, 2, 1, 0, 2, 2, 0, 1, 1])
PARTS = [np.array([1, 2, 5, 6, 8]), np.array([0, 3, 5]), np.array([], np.int64)]
"""Sample 5 is with two clients; 4, 7 and 9 are with none."""


def shards(seed: int = 7) -> Shards:
    images = np.arange(10, dtype=np.uint8).repeat(4).reshape(10, 1, 2, 2)
    return Shards(images, LABELS, PARTS, 3, seed)


def taken(shard: Shard, batch: int, round: int, start: int, count: int) -> list[list[int]]:
    return [indices.tolist() for indices in shard.indices(batch, round, start, count)]


def test_class_counts_by_hand() -> None:
    """Labels 2, 2, 2, 2, 1; labels 0, 1, 2; none."""
    assert [shards().of(client).class_counts().tolist() for client in range(3)] == [[0, 1, 4], [1, 1, 1], [0, 0, 0]]


def test_the_server_of_the_centralised_reference_holds_what_any_client_holds_once() -> None:
    """Samples 0, 1, 2, 3, 5, 6 and 8, with labels 0, 2, 2, 1, 2, 2, 1."""
    everyone = shards().of(SERVER)
    assert everyone.samples.tolist() == [0, 1, 2, 3, 5, 6, 8]
    assert everyone.class_counts().tolist() == [1, 2, 4]
    assert sorted(taken(everyone, 7, 1, 0, 1)[0]) == [0, 1, 2, 3, 5, 6, 8]


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7])
def test_every_pass_through_the_data_has_each_sample_once(batch: int) -> None:
    """A batch goes over the end of a pass into the next one."""
    drawn = np.concatenate(taken(shards().of(0), batch, 1, 0, 20))
    passes = [drawn[start : start + 5].tolist() for start in range(0, len(drawn) - 4, 5)]
    assert all(sorted(each) == [1, 2, 5, 6, 8] for each in passes)
    assert len({tuple(each) for each in passes}) > 1, "shuffled anew each time"


def test_the_order_is_that_of_numpys_permutations_keyed_by_round_and_client() -> None:
    rng = generator(7, 4, 1, "batches")
    order = np.concatenate([rng.permutation(PARTS[1]) for _ in range(4)])
    assert taken(shards().of(1), 4, 4, 0, 3) == [order[:4].tolist(), order[4:8].tolist(), order[8:12].tolist()]


def test_later_batches_are_the_same_without_the_earlier_ones() -> None:
    shard = shards().of(0)
    whole = taken(shard, 3, 2, 0, 9)
    assert len(whole) == 9
    for start, count in ((0, 3), (4, 1), (7, 2), (5, 0)):
        assert taken(shard, 3, 2, start, count) == whole[start : start + count]


def test_round_client_and_seed_each_give_another_order() -> None:
    first = taken(shards().of(0), 5, 1, 0, 4)
    assert taken(shards().of(0), 5, 1, 0, 4) == first
    assert taken(shards().of(0), 5, 2, 0, 4) != first
    assert taken(shards(8).of(0), 5, 1, 0, 4) != first
    same_data = Shards(shards().images, LABELS, [PARTS[0]] * 2, 3, 7)
    assert taken(same_data.of(0), 5, 1, 0, 4) == first != taken(same_data.of(1), 5, 1, 0, 4)


def test_batches_are_the_images_of_the_indices() -> None:
    """Each image is full of its own number."""
    shard = shards().of(0)
    found = list(shard.batches(3, 4, round=2))
    assert [batch.shape for batch in found] == [(3, 1, 2, 2)] * 4
    assert [batch[:, 0, 0, 0].tolist() for batch in found] == taken(shard, 3, 2, 0, 4)
    assert all((batch == batch[:, :, :1, :1]).all() for batch in found)


def test_batches_are_drawn_as_they_are_asked_for() -> None:
    """A round of very many batches costs what is looked at."""
    assert len(list(islice(shards().of(0).indices(5, 1, 0, 10**12), 3))) == 3
