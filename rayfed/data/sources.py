"""Readers of the whole data sets, by torchvision; each takes (root, size).

They return `Splits` as they lie on disk, or raise UserError.
"""

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_dir
from torchvision.datasets import CIFAR10, MNIST, CelebA, FashionMNIST

from rayfed.data.images import Images, Labels, Splits, needed, stack
from rayfed.errors import UserError, counted

T = TypeVar("T")

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the idx files."""

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def fashion_mnist(root: str | None, size: int | None) -> Splits:
    """Fashion-MNIST; without a root, Debian's copy comes before the cache folder."""
    return mnist_like(FashionMNIST, root, DEBIAN_FASHION_MNIST)


def mnist(root: str | None, size: int | None) -> Splits:
    """MNIST."""
    return mnist_like(MNIST, root)


def mnist_like(kind: type[MNIST], root: str | None, system: Path | None = None) -> Splits:
    """MNIST or Fashion-MNIST, 60,000 / 10,000 images of 28x28x1, from idx files, plain or .gz.

    Looks in ROOT/<kind>/raw (torchvision's layout) and ROOT itself; without a root, in the cache folder and in
    `system`. Downloads through torchvision when they are in none of these.
    """
    base = _base(root)
    raw = base / kind.__name__ / "raw"
    places = [raw, base] if root is not None else [system, raw] if system else [raw]
    folder = next((place for place in places if _idx_files(place)), None)
    if folder is None:
        looked = " or ".join(map(str, places))
        hint = f"put its four idx files ({IDX_FILES[0]}.gz ...) into {raw}"
        if system:
            hint += " or apt-get install dataset-fashion-mnist"
        _fetch(f"{kind.__name__} is not in {looked}", hint, lambda: kind(base, download=True))
        folder = raw
    return _read_mnist(folder, tuple(kind.classes))


def cifar10(root: str | None, size: int | None) -> Splits:
    """CIFAR-10, 50,000 / 10,000 images of 32x32x3, from ROOT/cifar-10-batches-py."""
    base = _base(root)
    train, test = _fetch(
        f"CIFAR10 cannot be read from {base / CIFAR10.base_folder}",
        f"unpack cifar-10-python.tar.gz into {base}",
        lambda: [CIFAR10(base, train=train, download=True) for train in (True, False)],
    )

    def arrays(split: CIFAR10) -> tuple[Images, Labels]:
        return np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)), np.array(split.targets, dtype=np.int64)

    return Splits(*arrays(train), *arrays(test), classes=tuple(train.classes))


def celeba(root: str | None, size: int | None) -> Splits:
    """CelebA, aligned, 162,770 / 19,962 faces of 178x218x3 fitted to `size`, from ROOT/celeba.

    The class of a face is 2 * Male + Smiling, two of its attributes.
    """
    side, base = needed(size, "celeba"), _base(root)
    train, test = _fetch(
        f"CelebA cannot be read from {base / CelebA.base_folder}",
        f"put its attribute files and the folder img_align_celeba into {base / CelebA.base_folder}",
        lambda: [CelebA(base, split=split, download=True) for split in ("train", "test")],
    )

    def arrays(split: CelebA) -> tuple[Images, Labels]:
        male, smiling = (split.attr[:, split.attr_names.index(name)].numpy() for name in ("Male", "Smiling"))
        faces = (split[i][0] for i in range(len(split)))
        return stack(faces, len(split), "RGB", side), (2 * male + smiling).astype(np.int64)

    return Splits(*arrays(train), *arrays(test), classes=("woman", "smiling woman", "man", "smiling man"))


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an idx file of bytes with so many dimensions, plain or .gz; UserError when it is not a whole one."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read()
        magic, *shape = struct.unpack_from(f">{1 + dimensions}I", data)
        if magic != 0x0800 + dimensions:
            raise ValueError(f"it begins with {magic:#010x}, not {0x0800 + dimensions:#010x}")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise UserError(f"{path}: not a whole idx file of images or labels ({error}); fetch it again") from None


def _read_mnist(folder: Path, classes: tuple[str, ...]) -> Splits:
    def arrays(images_file: Path, labels_file: Path) -> tuple[Images, Labels]:
        images, labels = read_idx(images_file, 3), read_idx(labels_file, 1).astype(np.int64)
        if len(images) != len(labels) or labels.max(initial=0) >= len(classes):
            raise UserError(
                f"{folder}: {images_file.name} has {counted(len(images), 'image')}, {labels_file.name} "
                f"{counted(len(labels), 'label')} up to {labels.max(initial=0)}; it must be one label, "
                f"0 to {len(classes) - 1}, for each image"
            )
        return images[:, None], labels

    files = _idx_files(folder)
    return Splits(*arrays(*files[:2]), *arrays(*files[2:]), classes=classes)


def _idx_files(folder: Path) -> list[Path]:
    """The four idx files in the order of IDX_FILES, plain before .gz; empty unless all are there."""
    candidates = [[folder / name, folder / f"{name}.gz"] for name in IDX_FILES]
    found = [next((path for path in pair if path.is_file()), None) for pair in candidates]
    return [path for path in found if path] if all(found) else []


def _base(root: str | None) -> Path:
    if root is None:
        return Path(user_cache_dir("rayfed")) / "datasets"
    base = Path(root).expanduser()
    if not base.is_dir():
        raise UserError(f"data.root = {root}: no such folder; leave it out to have the data downloaded")
    return base


def _fetch(missing: str, hint: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except Exception as error:  # urllib, tarfile, zipfile and gdown each raise their own
        reason = " ".join(str(error).split())
        raise UserError(f"{missing} and cannot be downloaded ({reason}); {hint}") from None
