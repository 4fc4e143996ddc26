"""The shipped subset, the idx files in every place they may lie, and each bad input."""

import gzip
import hashlib
import shutil
import struct

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.mnist import read_image_file, read_label_file

from rayfed.data import datasets, sources
from rayfed.data.assets.make_fashion_mnist_6k import subset
from rayfed.data.images import resize
from rayfed.errors import UserError

needs_debian = pytest.mark.skipif(
    not sources.DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


def write_idx(path, array, magic=None):
    data = struct.pack(f">{1 + array.ndim}I", magic or 0x0800 + array.ndim, *array.shape)
    data += array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_mnist(folder, suffix=".gz", train_labels=(2, 0, 1)):
    """Three training images filled with 1, 2, 3 and one test image filled with 9."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.stack([np.full((28, 28), value) for value in (1, 2, 3)])
    write_idx(folder / f"train-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"train-labels-idx1-ubyte{suffix}", np.array(train_labels))
    write_idx(folder / f"t10k-images-idx3-ubyte{suffix}", np.full((1, 28, 28), 9))
    write_idx(folder / f"t10k-labels-idx1-ubyte{suffix}", np.array([7]))


def message(name, **options):
    with pytest.raises(UserError) as caught:
        datasets.load(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_shipped_subset_is_balanced_and_as_made():
    data = datasets.load("fashion-mnist-6k")
    assert data.train_images.shape == (6000, 1, 28, 28)
    assert data.test_images.shape == (1000, 1, 28, 28)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert np.bincount(data.train_labels).tolist() == [600] * 10
    assert np.bincount(data.test_labels).tolist() == [100] * 10
    assert (data.classes[0], data.classes[9]) == ("T-shirt/top", "Ankle boot")
    assert data.sha256 == "e4a69bd392d55fc0f21347008df2c8276bc2af4d0ece4725896f63107f2f8fe3"


def test_sha256_is_over_shapes_and_bytes():
    ones = np.ones((2, 1, 1, 1), np.uint8)
    data = datasets.Dataset("d", ones, np.array([0, 1]), ones[:1], np.array([1]), ("a", "b"))
    parts = [b"(2, 1, 1, 1)\1\1", b"(2,)" + struct.pack("<2q", 0, 1), b"(1, 1, 1, 1)\1", b"(1,)" + struct.pack("<q", 1)]
    assert data.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()


@needs_debian
def test_whole_fashion_mnist_is_found_and_holds_the_subset(tmp_path):
    whole = datasets.load("fashion-mnist")
    for name in sources.IDX_FILES:
        with gzip.open(sources.DEBIAN_FASHION_MNIST / f"{name}.gz") as packed, (tmp_path / name).open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    images, labels, test_images, test_labels = (
        (read_image_file if "idx3" in name else read_label_file)(str(tmp_path / name)).numpy()
        for name in sources.IDX_FILES
    )
    np.testing.assert_array_equal(whole.train_images[:, 0], images)
    np.testing.assert_array_equal(whole.train_labels, labels)
    np.testing.assert_array_equal(whole.test_images[:, 0], test_images)
    np.testing.assert_array_equal(whole.test_labels, test_labels)

    shipped, made = datasets.load("fashion-mnist-6k"), subset(sources.DEBIAN_FASHION_MNIST)
    assert datasets.Dataset("made", *made).sha256 == shipped.sha256
    pairs = {(image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)}
    picked = [
        (i.tobytes(), label) for i, label in zip(shipped.train_images, shipped.train_labels.tolist(), strict=True)
    ]
    assert pairs.issuperset(picked)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "place"), [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw"), ("mnist", "")]
)
def test_idx_files_in_each_layout(tmp_path, name, place, suffix):
    write_mnist(tmp_path / place, suffix)
    data = datasets.load(name, root=str(tmp_path))
    assert data.name == name
    assert data.train_images.shape == (3, 1, 28, 28)
    assert data.train_images[:, 0, 5, 5].tolist() == [1, 2, 3]
    assert data.train_labels.tolist() == [2, 0, 1]
    assert data.test_images[:, 0, 0, 27].tolist() == [9]
    assert data.test_labels.tolist() == [7]
    assert len(data.classes) == 10
    assert data.train_images.flags.writeable  # torch.from_numpy warns otherwise


def test_without_a_root_the_cache_folder_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_mnist(tmp_path / "rayfed" / "datasets" / "MNIST" / "raw")
    assert datasets.load("mnist").train_labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 32, 14])
def test_resize_agrees_with_pillow(channels, size):
    images = np.random.default_rng(0).integers(0, 256, (20, channels, 28, 28), dtype=np.uint8)
    resized = resize(images, size)
    assert resized.dtype == np.uint8
    for image, small in zip(images, resized, strict=True):
        for plane, expected in zip(small, image, strict=True):
            pillow = Image.fromarray(expected).resize((size, size), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(plane, np.asarray(pillow))


def test_load_resizes_both_splits():
    data = datasets.load("fashion-mnist-6k", size=32)
    assert data.train_images.shape == (6000, 1, 32, 32)
    assert data.test_images.shape == (1000, 1, 32, 32)
    assert data.train_images.dtype == np.uint8


def test_describe_names_every_data_set():
    assert [name for name, _ in datasets.describe()] == [
        "fashion-mnist-6k", "fashion-mnist", "mnist", "cifar10", "celeba", "imagefolder:PATH",
        "npz:FILE", "package.module:FUNCTION",
    ]  # fmt: skip


def test_unknown_name():
    assert message("fashion") == (
        "data.name = 'fashion': unknown data set; use one of fashion-mnist-6k, fashion-mnist, mnist, cifar10, celeba, "
        "imagefolder:PATH, npz:FILE, package.module:FUNCTION"
    )


def test_root_that_is_no_folder(tmp_path):
    for name in ("mnist", "fashion-mnist", "cifar10"):
        assert message(name, root=f"{tmp_path}/nope") == (
            f"data.root = {tmp_path}/nope: no such folder; leave it out to have the data downloaded"
        )


def test_celeba_needs_a_size():
    assert message("celeba") == "data.name = 'celeba': its images have no size of their own; give one, in pixels"


@pytest.mark.parametrize(
    ("name", "kind", "hint"),
    [("mnist", "MNIST", ""), ("fashion-mnist", "FashionMNIST", " or apt-get install dataset-fashion-mnist")],
)
def test_missing_idx_files_that_cannot_be_downloaded(tmp_path, name, kind, hint):
    """A file in the way of torchvision's folder makes the download fail at once, network or not."""
    (tmp_path / kind).touch()
    raw = f"{tmp_path}/{kind}/raw"
    assert message(name, root=str(tmp_path)) == (
        f"{kind} is not in {raw} or {tmp_path} and cannot be downloaded ([Errno 20] Not a directory: '{raw}'); "
        f"put its four idx files (train-images-idx3-ubyte.gz ...) into {raw}{hint}"
    )


def test_damaged_idx_files(tmp_path):
    write_mnist(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    write_idx(images, np.zeros((3, 28, 28)), magic=0x0D03)
    assert message("mnist", root=str(tmp_path)) == (
        f"{images}: not a whole idx file of images or labels (it begins with 0x00000d03, not 0x00000803); "
        "fetch it again"
    )
    write_idx(images, np.zeros((3, 28, 28)))
    whole = images.read_bytes()
    for damaged in (whole[:-20], whole[:-1] + b"x", b"", b"<html>", gzip.compress(gzip.decompress(whole)[:-1])):
        images.write_bytes(damaged)
        assert message("mnist", root=str(tmp_path)).startswith(f"{images}: not a whole idx file of images or labels (")


@pytest.mark.parametrize(("labels", "count", "highest"), [((0, 1), 2, 1), ((0, 1, 10), 3, 10)])
def test_labels_that_are_not_the_images(tmp_path, labels, count, highest):
    write_mnist(tmp_path, train_labels=labels)
    assert message("mnist", root=str(tmp_path)) == (
        f"{tmp_path}: train-images-idx3-ubyte.gz has 3 images, train-labels-idx1-ubyte.gz {count} labels up to "
        f"{highest}; it must be one label, 0 to 9, for each image"
    )
