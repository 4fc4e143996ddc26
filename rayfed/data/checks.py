"""What arrays of somebody else's must be: each check raises UserError, in one line that begins with `said`."""

from typing import Any

import numpy as np

from rayfed.data.images import Images, Labels
from rayfed.errors import UserError, counted, shown


def names(said: str, classes: Any) -> tuple[str, ...]:
    """The names of the classes."""
    try:
        found = () if isinstance(classes, str) else tuple(classes)
    except TypeError:
        found = ()
    if not found or any(isinstance(name, list | tuple) for name in found):
        raise UserError(f"{said}: classes is {shown(classes)}; it must be the classes' names, as in ('cat', 'dog')")
    return tuple(map(str, found))


def pixels(said: str, which: str, images: Any) -> None:
    """Whether they are uint8."""
    if images.dtype != np.uint8:
        raise UserError(f"{said}: {which} are {images.dtype}; they must be uint8, from 0 to 255")


def some(said: str, which: str, images: Images) -> None:
    """Whether there are any."""
    if not images.size:
        raise UserError(f"{said}: {which} have the shape {list(images.shape)}; there must be an image at least")


def alike(said: str, which: tuple[str, str], train: Images, test: Images) -> None:
    """Whether the images [N, C, H, W] of both splits have the same channels, height and width."""
    if train.shape[1:] != test.shape[1:]:
        raise UserError(
            f"{said}: {which[0]} are {list(train.shape[1:])} each and {which[1]} {list(test.shape[1:])}; both must "
            "have the same [C, H, W]"
        )


def one_per_image(said: str, which: str, labels: Any, count: int) -> None:
    """Whether there is a label for each of `count` images."""
    if labels.shape != (count,):
        images = which.replace("labels", "images")
        raise UserError(f"{said}: {which} have the shape {list(labels.shape)}; {images} need [{count}]")


def indices(said: str, which: str, labels: Any, classes: int) -> Labels:
    """Labels as int64, when they are integers, indices into so many classes."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{said}: {which} are {labels.dtype}; they must be integers, indices into classes")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise UserError(
            f"{said}: {which} have a {wrong[0]}; with {counted(classes, 'class')} they must be 0 to {classes - 1}"
        )
    found: Labels = labels.astype(np.int64)
    return found
