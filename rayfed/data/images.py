"""Images as uint8 arrays: fitting single files and resizing whole data sets."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from rayfed.errors import UserError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class Splits(NamedTuple):
    """What a reader returns: uint8 images [N, C, H, W], int64 labels [N], the names of the classes."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: tuple[str, ...]


def resize(images: Images, size: int) -> Images:
    """Resize uint8 [N, C, H, W] to [N, C, size, size], bilinear and antialiased, as Pillow does, to a level of 255."""
    if images.shape[2:] == (size, size):
        return images
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(images), size=(size, size), mode="bilinear", antialias=True
    )
    return np.asarray(resized.numpy(), dtype=np.uint8)


def stack(images: Iterable[Image.Image], count: int, mode: str, size: int) -> Images:
    """Fit `count` images into one uint8 array [count, C, size, size].

    Of each the centre square is taken and resized (bilinear). `mode` is Pillow's, "L" (C = 1) or "RGB" (C = 3).
    """
    stacked = np.empty((count, len(mode), size, size), dtype=np.uint8)
    for row, image in zip(stacked, images, strict=True):
        square = ImageOps.fit(image.convert(mode), (size, size), Image.Resampling.BILINEAR)
        row[:] = np.asarray(square).reshape(size, size, len(mode)).transpose(2, 0, 1)
    return stacked


def needed(size: int | None, name: str) -> int:
    """The size that a data set without a size of its own needs; raises UserError when there is none."""
    if size is None:
        raise UserError(f"data.name = {name!r}: its images have no size of their own; give one, in pixels")
    return size
