"""A data set that a function of somebody else's returns: called by its dotted name, and looked at before it is used."""

from typing import Any

import numpy as np

from rayfed import plugins
from rayfed.data.images import Images, Labels, Splits
from rayfed.errors import UserError, counted, shown


def read(name: str, root: str | None, size: int | None) -> Splits:
    """What the function of this dotted name returns; raises UserError, in one line, for what is not a data set."""
    function = plugins.load_object("data.name", name)
    said = f"data.name = {shown(name)}"
    if not callable(function):
        raise UserError(f"{said}: is not callable ({type(function).__name__}); it must be a function of (root, size)")
    try:
        found = function(root, size)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{said}: {name.rpartition(':')[2]}({root!r}, {size}) raises {plugins.cause(error)}") from None
    return _checked(said, found)


def _checked(said: str, found: Any) -> Splits:
    fields = ", ".join(Splits._fields)
    if not isinstance(found, tuple | list) or len(found) != len(Splits._fields):
        given = counted(len(found), "value") if isinstance(found, tuple | list) else f"a {type(found).__name__}"
        raise UserError(f"{said}: returns {given}; it must return ({fields})")
    train_images, train_labels, test_images, test_labels, classes = found
    if isinstance(classes, str) or not _names(classes):
        raise UserError(f"{said}: classes is {shown(classes)}; it must be the classes' names, as in ('cat', 'dog')")
    names = _names(classes)
    train = _images(said, "train_images", train_images)
    test = _images(said, "test_images", test_images)
    if train.shape[1:] != test.shape[1:]:
        raise UserError(
            f"{said}: train_images are {list(train.shape[1:])} each and test_images {list(test.shape[1:])}; both must "
            "have the same [C, H, W]"
        )
    labels = _labels(said, "train_labels", train_labels, len(train), len(names))
    return Splits(train, labels, test, _labels(said, "test_labels", test_labels, len(test), len(names)), names)


def _names(classes: Any) -> tuple[str, ...]:
    try:
        return tuple(map(str, classes))
    except TypeError:
        return ()


def _images(said: str, which: str, found: Any) -> Images:
    images: Images = _array(said, which, found)
    shape = list(images.shape)
    if images.dtype != np.uint8:
        raise UserError(f"{said}: {which} are {images.dtype}; they must be uint8, from 0 to 255")
    if images.ndim != 4:
        raise UserError(f"{said}: {which} have the shape {shape}; it must be [N, C, H, W]")
    if images.shape[1] not in (1, 3):
        last = "; the channels come before height and width" if shape[3] in (1, 3) else ""
        raise UserError(f"{said}: {which} have the shape {shape}; C in [N, C, H, W] must be 1 or 3{last}")
    if not images.size:
        raise UserError(f"{said}: {which} have the shape {shape}; there must be an image at least")
    return images


def _labels(said: str, which: str, found: Any, count: int, classes: int) -> Labels:
    labels = _array(said, which, found)
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{said}: {which} are {labels.dtype}; they must be integers, indices into classes")
    if labels.shape != (count,):
        images = which.replace("labels", "images")
        raise UserError(f"{said}: {which} have the shape {list(labels.shape)}; {images} need [{count}]")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise UserError(
            f"{said}: {which} have a {wrong[0]}; with {counted(classes, 'class')} they must be 0 to {classes - 1}"
        )
    indices: Labels = labels.astype(np.int64)
    return indices


def _array(said: str, which: str, found: Any) -> Any:
    try:
        return np.ascontiguousarray(found)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of unequal length; a tensor on a GPU
        raise UserError(f"{said}: {which} are no array ({plugins.cause(error)})") from None
