"""A folder of image files, one subfolder per class."""

from pathlib import Path

import numpy as np
from PIL import Image

from rayfed.data.holdout import held_out
from rayfed.data.images import Images, Labels, Splits, stack
from rayfed.errors import UserError

Files = dict[str, list[Path]]
"""The files of each class, classes and files in alphabetical order."""


def read(path: Path, size: int) -> tuple[Splits, Labels | None]:
    """Read PATH/train/<class>/* and PATH/test/<class>/*, or PATH/<class>/* with a tenth of each class held out.

    The images become [N, C, size, size] (see `images.stack`), with C = 1 if all of them are 8-bit grayscale, else
    C = 3. Which images are held out is the same at every call; if any are, the training images' places in the list of
    all files (int64 [N]) come with them. Raises UserError naming the file or folder for a missing or empty folder, a
    hidden file, and anything that is not an image of 8 bits a channel.
    """
    if not path.is_dir():
        raise UserError(f"data.name = imagefolder:{path}: no such folder")
    if (path / "train").is_dir() and (path / "test").is_dir():
        train, test, rows = _list(path / "train"), _list(path / "test"), None
    else:
        train, test, rows = _hold_out(_list(path))
    if odd := sorted(train.keys() ^ test.keys()):
        raise UserError(f"{path}: train and test must hold the same classes; only one of them has {', '.join(odd)}")
    modes = {_open(file, decode=False).mode for split in (train, test) for files in split.values() for file in files}
    mode = "L" if modes == {"L"} else "RGB"
    return Splits(*_decode(train, mode, size), *_decode(test, mode, size), classes=tuple(train)), rows


def _list(folder: Path) -> Files:
    classes: Files = {}
    for entry in _visible(folder):
        if not entry.is_dir():
            raise UserError(f"{entry}: not a folder; images must lie in one folder per class")
        classes[entry.name] = _visible(entry)
    return classes


def _visible(folder: Path) -> list[Path]:
    entries = sorted(folder.iterdir())
    if not entries:
        raise UserError(f"{folder}: empty; put images in it or remove it")
    for entry in entries:
        if entry.name.startswith("."):
            raise UserError(f"{entry}: a hidden file; move it out of the data set")
    return entries


def _hold_out(files: Files) -> tuple[Files, Files, Labels]:
    """Split off a tenth of each class; with the places of the training files in the list of all."""
    train: Files = {name: [] for name in files}
    test: Files = {name: [] for name in files}
    labels = np.repeat(np.arange(len(files)), [len(members) for members in files.values()])
    held = held_out(labels, [str(members[0].parent) for members in files.values()])
    named = ((name, file) for name, members in files.items() for file in members)
    for (name, file), out in zip(named, held, strict=True):
        (test if out else train)[name].append(file)
    return train, test, np.flatnonzero(~held)


def _decode(files: Files, mode: str, size: int) -> tuple[Images, Labels]:
    counts = [len(members) for members in files.values()]
    images = (_open(file) for members in files.values() for file in members)
    return stack(images, sum(counts), mode, size), np.repeat(np.arange(len(files)), counts)


def _open(file: Path, decode: bool = True) -> Image.Image:
    try:
        with Image.open(file) as image:
            if decode:
                image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise UserError(f"{file}: not an image that can be read; a class folder must hold images only") from None
    if image.mode.startswith(("I", "F")):
        raise UserError(f"{file}: more than 8 bits a channel (Pillow's mode {image.mode}); save it as 8-bit")
    return image
