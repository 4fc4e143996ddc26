"""The data sets by name."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from rayfed.config.sections import ARRAYS, IMAGE_FOLDER
from rayfed.data import imagefolder, images, npz, outside, shipped
from rayfed.data.images import Images, Labels, Splits, resize
from rayfed.errors import UserError


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled image data set in memory.

    train_images, test_images: uint8 [N, C, H, W]; train_labels, test_labels: int64 [N], indices into `classes`; rows:
    int64 [N], each training image's number in a source of which the test split was held out (none: 0 to N - 1).
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: tuple[str, ...]
    rows: Labels | None = None

    @property
    def positions(self) -> Labels:
        """For each number in the source the index of the training image, -1 for one that is held out: int64."""
        if self.rows is None:
            return np.arange(len(self.train_labels))
        positions = np.full(len(self.train_labels) + len(self.test_labels), -1)
        positions[self.rows] = np.arange(len(self.rows))
        return positions

    @cached_property
    def sha256(self) -> str:
        """Hex digest over the shapes and bytes of the four arrays, in the order of the fields."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(repr(array.shape).encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    @property
    def key(self) -> str:
        """Names the data for good, in a file name: what is cached by it never goes stale."""
        return f"{self.name.replace('/', '_').replace(':', '-')}-{self.sha256[:16]}"


@dataclass(frozen=True)
class Source:
    """A data set's line in `rayfed datasets`, and its reader of (root, size)."""

    description: str
    read: Callable[[str | None, int | None], Splits]


def _torchvision(reader: str) -> Callable[[str | None, int | None], Splits]:
    """A reader of `rayfed.data.sources`, imported when it is called: torchvision takes seconds and 150 MB."""

    def read(root: str | None, size: int | None) -> Splits:
        from rayfed.data import sources

        splits: Splits = getattr(sources, reader)(root, size)
        return splits

    return read


SOURCES = {
    "fashion-mnist-6k": Source(
        "6,000 / 1,000 of Fashion-MNIST, 28x28x1, 10 balanced classes; comes with rayfed",
        lambda root, size: shipped.fashion_mnist_6k(),
    ),
    "fashion-mnist": Source("60,000 / 10,000 images of clothes, 28x28x1, 10 classes", _torchvision("fashion_mnist")),
    "mnist": Source("60,000 / 10,000 handwritten digits, 28x28x1, 10 classes", _torchvision("mnist")),
    "cifar10": Source("50,000 / 10,000 photographs, 32x32x3, 10 classes", _torchvision("cifar10")),
    "celeba": Source("162,770 / 19,962 faces, 178x218x3, 4 classes: Male x Smiling", _torchvision("celeba")),
}


def load(name: str, root: str | None = None, size: int | None = None) -> Dataset:
    """Load a data set, its images resized to `size` x `size` pixels (none: as they are).

    `root` is where the whole data sets lie or are downloaded to (none: where the system keeps them, else rayfed's
    cache folder); the shipped subset, image folders and arrays do without. Raises UserError for an unknown name, for
    files that are missing and cannot be downloaded, and for files that are not what they should be.

    A dotted name, `package.module:FUNCTION`, is a function of (root, size) that returns `rayfed.data.images.Splits`, or
    a tuple of the same; raises UserError for one that does not import, and for one that returns something else.
    """
    rows = None
    if name.startswith(IMAGE_FOLDER):
        splits, rows = imagefolder.read(Path(name.removeprefix(IMAGE_FOLDER)).expanduser(), images.needed(size, name))
    elif name.startswith(ARRAYS):
        splits, rows = npz.read(Path(name.removeprefix(ARRAYS)).expanduser())
    elif name in SOURCES:
        splits = SOURCES[name].read(root, size)
    elif ":" in name:
        splits = outside.read(name, root, size)
    else:
        known = ", ".join(known for known, _ in describe())
        raise UserError(f"data.name = {name!r}: unknown data set; use one of {known}")
    if size is not None:
        splits = splits._replace(
            train_images=resize(splits.train_images, size), test_images=resize(splits.test_images, size)
        )
    return Dataset(name, *splits, rows)


def describe() -> list[tuple[str, str]]:
    """The name and a one-line description (training / test images, size, classes) of every data set."""
    known = [(name, source.description) for name, source in SOURCES.items()]
    folder = "your images: PATH/train/<class>/* and PATH/test/<class>/*, or PATH/<class>/* (a tenth held out)"
    arrays = "your arrays: a file of images and labels, test_images and test_labels (or a tenth held out)"
    function = "your own: a function of (root, size) that returns images, labels and classes"
    return [*known, (f"{IMAGE_FOLDER}PATH", folder), (f"{ARRAYS}FILE", arrays), ("package.module:FUNCTION", function)]
