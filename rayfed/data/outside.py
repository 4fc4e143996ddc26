"""A data set that a function of somebody else's returns: called by its dotted name, and looked at before it is used."""

from typing import Any

import numpy as np

from rayfed import plugins
from rayfed.data import checks
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
    names = checks.names(said, classes)
    train = _images(said, "train_images", train_images)
    test = _images(said, "test_images", test_images)
    checks.alike(said, ("train_images", "test_images"), train, test)
    labels = _labels(said, "train_labels", train_labels, len(train), len(names))
    return Splits(train, labels, test, _labels(said, "test_labels", test_labels, len(test), len(names)), names)


def _images(said: str, which: str, found: Any) -> Images:
    images: Images = _array(said, which, found)
    checks.pixels(said, which, images)
    shape = list(images.shape)
    if images.ndim != 4:
        raise UserError(f"{said}: {which} have the shape {shape}; it must be [N, C, H, W]")
    if images.shape[1] not in (1, 3):
        last = "; the channels come before height and width" if shape[3] in (1, 3) else ""
        raise UserError(f"{said}: {which} have the shape {shape}; C in [N, C, H, W] must be 1 or 3{last}")
    checks.some(said, which, images)
    return images


def _labels(said: str, which: str, found: Any, count: int, classes: int) -> Labels:
    labels = _array(said, which, found)
    checks.one_per_image(said, which, labels, count)
    return checks.indices(said, which, labels, classes)


def _array(said: str, which: str, found: Any) -> Any:
    try:
        return np.ascontiguousarray(found)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of unequal length; a tensor on a GPU
        raise UserError(f"{said}: {which} are no array ({plugins.cause(error)})") from None
