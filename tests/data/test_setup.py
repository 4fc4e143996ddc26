"""From a configuration to a federation: what comes out, and each check at the door."""

import numpy as np
import pytest

from rayfed import config
from rayfed.data import partition, setup
from rayfed.errors import UserError


def prepare(method="fedgan", batch=10, devices=10, seed=0, size=28, **data):
    all_take_part = {} if method == "centralized" else {"fraction": 1.0}
    tree = {
        "seed": seed,
        "method": {"name": method, "batch": batch, **all_take_part},
        "devices": {"count": devices},
        "data": data,
    }
    return setup.prepare(config.parse(tree), size)


def message(**options):
    with pytest.raises(UserError) as caught:
        prepare(**options)
    return str(caught.value)


def test_iid_federation():
    federation = prepare(partition="iid", size=32)
    assert federation.dataset.train_images.shape == (6000, 1, 32, 32)
    assert [len(part) for part in federation.parts] == [600] * 10
    assert federation.counts.shape == (10, 10)
    assert federation.counts.sum(axis=0).tolist() == [600] * 10


@pytest.mark.parametrize("name", ["iid", "fegan", "classes", "dirichlet"])
def test_the_seed_decides_the_partition_and_the_method_does_not(name):
    first, again = prepare(partition=name), prepare(partition=name, method="fl-vanilla", batch=1)
    other = prepare(partition=name, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(first.parts, again.parts, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first.parts, other.parts, strict=True))


def test_parameters_reach_the_partition():
    assert np.count_nonzero(prepare(partition="classes", classes_per_device=3).counts, axis=1).tolist() == [3] * 10
    assert prepare(partition="fegan", max_class=1, batch=1).counts.astype(bool).sum() == 10
    assert prepare(partition="fegan", max_samples=20, batch=1).counts.max() <= 20
    assert np.ptp(prepare(partition="dirichlet", alpha=1e6).counts) <= 3


def test_small_devices():
    federation = prepare(partition="iid", devices=7)
    assert [len(part) for part in federation.parts] == [858, 857, 857, 857, 857, 857, 857]
    assert setup.small_devices(federation, 857) == 0
    assert setup.small_devices(federation, 858) == 6
    assert setup.small_devices(federation, 859) == 7


def test_too_many_classes():
    ten = "fashion-mnist-6k has 10 classes; use at most 10"
    assert message(partition="fegan", max_class=20) == f"data.max_class = 20: {ten}"
    assert message(partition="classes", classes_per_device=11) == f"data.classes_per_device = 11: {ten}"


def test_parameters_of_other_partitions_are_not_checked():
    assert prepare(partition="iid", max_class=20, classes_per_device=20).counts.sum() == 6000


@pytest.mark.parametrize("name", ["iid", "classes", "dirichlet"])
def test_more_devices_than_images(name):
    assert message(partition=name, devices=6001) == (
        "devices.count = 6001: fashion-mnist-6k has 6000 training images; use at most 6000"
    )


def test_batch_above_the_smallest_device():
    assert message(partition="iid", devices=7, batch=858) == (
        "method.batch = 858: device 1 holds 857 images; use at most 857"
    )
    federation = prepare(partition="dirichlet", batch=1)
    sizes = [len(part) for part in federation.parts]
    smallest = min(sizes)
    assert message(partition="dirichlet", batch=smallest + 1) == (
        f"method.batch = {smallest + 1}: device {sizes.index(smallest)} holds {smallest} images; use at most {smallest}"
    )
    prepare(partition="dirichlet", batch=smallest)


def test_the_engine_refuses_only_a_batch_that_fits_no_device():
    """Device 0 holds at most one image of a single class, which is less than the batch."""
    federation = prepare(partition="fegan", batch=50)
    assert len(federation.parts[0]) == 1
    sizes = [len(part) for part in federation.parts]
    largest = max(sizes)
    prepare(partition="fegan", batch=largest)
    assert message(partition="fegan", batch=largest + 1) == (
        f"method.batch = {largest + 1}: device {sizes.index(largest)}, the largest, holds {largest} images; "
        f"use at most {largest}"
    )


def test_the_centralised_reference_has_all_data():
    prepare(method="centralized", partition="iid", batch=6000)
    assert message(method="centralized", partition="iid", batch=6001) == (
        "method.batch = 6001: the devices hold 6000 distinct images together; use at most 6000"
    )
    union = len(partition.union(prepare(partition="fegan").parts))
    prepare(method="centralized", partition="fegan", batch=union)
    assert message(method="centralized", partition="fegan", batch=union + 1).startswith("method.batch = ")


def test_the_population_is_the_data_in_numbers():
    """Class by class: each client's samples, what any client holds once, and the whole training set."""
    federation = prepare(partition="fegan", max_class=3, max_samples=150, batch=1)
    labels, population = federation.dataset.train_labels, federation.population
    assert (population.channels, population.classes) == (1, 10)
    assert population.whole.tolist() == [600] * 10
    held = set().union(*(part.tolist() for part in federation.parts))
    assert sum(len(part) for part in federation.parts) > len(held), "some samples are with several clients"
    for label in range(10):
        assert population.union[label] == sum(labels[sample] == label for sample in held)
        assert population.counts[:, label].tolist() == [(labels[part] == label).sum() for part in federation.parts]


def test_shards_and_evaluation_data_are_the_federations_own():
    federation = prepare(partition="iid")
    shard = federation.shards(5).of(3)
    assert (shard.client, shard.classes, shard.seed) == (3, 10, 5)
    assert np.array_equal(shard.samples, federation.parts[3])
    assert np.array_equal(shard.class_counts(), federation.counts[3])
    assert shard.images is federation.dataset.train_images
    data = federation.evaluation_data
    assert (data.train_images.shape, data.test_images.shape[1:]) == ((6000, 1, 28, 28), (1, 28, 28))
    assert len(data.test_images) == len(data.test_labels)
    assert (data.classes, data.key) == (10, federation.dataset.key)


def by_file(folder, text, **options):
    """A federation of the built-in data by a file of rows `sample,device`."""
    path = folder / "devices.csv"
    path.write_text("sample,device\n" + text)
    return prepare(partition=f"file:{path}", **options)


def test_a_partition_file_says_who_holds_what_whatever_the_seed(tmp_path):
    """Device 0 holds a single image, less than a batch; sample 8 lies on both."""
    text = "5,0\n" + "".join(f"{sample},1\n" for sample in range(29, 9, -1)) + "8,1\n8,2\n"
    federations = [by_file(tmp_path, text, devices=3, batch=20, seed=seed) for seed in (0, 1)]
    for federation in federations:
        assert [part.tolist() for part in federation.parts] == [[5], [8, *range(10, 30)], [8]]
        assert federation.left_out == 0
    assert setup.small_devices(federations[0], 20) == 2
    labels = federations[0].dataset.train_labels
    assert federations[0].counts[1].tolist() == [sum(labels[[8, *range(10, 30)]] == label) for label in range(10)]
    with pytest.raises(UserError) as caught:
        by_file(tmp_path, text, devices=3, batch=22)
    assert str(caught.value) == "method.batch = 22: device 1, the largest, holds 21 images; use at most 21"


def test_devices_that_share_samples_may_outnumber_them(tmp_path):
    """6,001 devices hold sample 7 each; no other partition takes more devices than there are images."""
    federation = by_file(tmp_path, "".join(f"7,{device}\n" for device in range(6001)), devices=6001, batch=1)
    assert [part.tolist() for part in federation.parts] == [[7]] * 6001
    assert federation.population.union.sum() == 1


def test_the_digest_of_a_partition_tells_partitions_apart(tmp_path):
    texts = ("1,0\n2,1\n", "2,1\n1,0\n", "1,1\n2,0\n", "1,0\n1,1\n2,1\n", "1,0\n2,0\n2,1\n")
    digests = [by_file(tmp_path, text, devices=2, batch=1).partition_sha256 for text in texts]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
