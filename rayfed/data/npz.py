"""A file of the user's own arrays, as numpy.savez writes it."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from rayfed import plugins
from rayfed.data import checks
from rayfed.data.holdout import held_out
from rayfed.data.images import Images, Labels, Splits
from rayfed.errors import UserError, cut, shown

NEEDED = ("images", "labels")
TEST = ("test_images", "test_labels")
KNOWN = (*NEEDED, *TEST, "classes")


def read(path: Path) -> tuple[Splits, Labels | None]:
    """Read `images` and `labels`, and where they are there `test_images` and `test_labels`, and `classes`.

    Images are uint8 [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3; if both fit, the channels are last. Labels
    [N] are integers or strings; their sorted distinct values are the classes, named by their own text. With `classes`,
    the names, labels are indices into it. Without a test split a tenth of each class is held out, the same at every
    call; the training images' rows in `images` (int64 [N]) then come with them. Raises UserError for anything else.
    """
    said = f"data.name = {shown(f'npz:{path}')}"
    arrays = _load(said, path)
    images = _images(said, "images", arrays["images"])
    if "test_images" in arrays:
        test = _images(said, "test_images", arrays["test_images"])
        checks.alike(said, ("images", "test_images"), images, test)
        (labels, test_labels), classes = _labels(said, arrays, {"labels": len(images), "test_labels": len(test)})
        return Splits(images, labels, test, test_labels, classes), None
    (labels,), classes = _labels(said, arrays, {"labels": len(images)})
    held = held_out(labels, [f"{said}: class {shown(name)}" for name in classes])
    kept = np.flatnonzero(~held)
    return Splits(images[kept], labels[kept], images[held], labels[held], classes), kept


def _load(said: str, path: Path) -> dict[str, Any]:
    """The arrays by name, all of them known."""
    if not path.is_file():
        raise UserError(f"{said}: no such file")
    try:
        file = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        file = None
    if not isinstance(file, NpzFile):
        raise UserError(f"{said}: not an .npz file that can be read; write it with numpy.savez")
    with file:
        _check_names(said, file.files)
        return {which: _array(said, file, which) for which in file.files}


def _check_names(said: str, found: list[str]) -> None:
    for which in NEEDED:
        if which not in found:
            has = cut(", ".join(found)) or "nothing"
            raise UserError(f"{said}: has no {which}, but {has}; it must have images and labels")
    for which in found:
        if which not in KNOWN:
            raise UserError(f"{said}: unknown array {shown(which)}; the arrays are {', '.join(KNOWN)}")
    if (given := [which for which in TEST if which in found]) and len(given) < len(TEST):
        (missing,) = set(TEST) - set(given)
        raise UserError(f"{said}: has {given[0]} but no {missing}; give both, or none to have a tenth held out")


def _array(said: str, file: NpzFile, which: str) -> Any:
    try:
        return np.asarray(file[which])
    except (OSError, EOFError, ValueError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{said}: {which} cannot be read ({plugins.cause(error)}); it must be a whole array of numbers or strings"
        ) from None


def _images(said: str, which: str, images: Any) -> Images:
    """uint8 [N, C, H, W]."""
    checks.pixels(said, which, images)
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3):
        images = np.moveaxis(images, 3, 1)
    elif images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UserError(
            f"{said}: {which} have the shape {list(images.shape)}; it must be [N, H, W], or [N, H, W, C] or "
            "[N, C, H, W] with C = 1 or 3"
        )
    checks.some(said, which, images)
    return np.ascontiguousarray(images)


def _labels(said: str, arrays: Mapping[str, Any], counts: Mapping[str, int]) -> tuple[list[Labels], tuple[str, ...]]:
    """The labels of the arrays that `counts` names, one for each image, as indices into the classes; their names."""
    for which, count in counts.items():
        checks.one_per_image(said, which, arrays[which], count)
    if "classes" in arrays:
        names = checks.names(said, arrays["classes"].tolist())
        return [checks.indices(said, which, arrays[which], len(names)) for which in counts], names
    return _by_value(said, {which: arrays[which] for which in counts})


def _by_value(said: str, arrays: Mapping[str, Any]) -> tuple[list[Labels], tuple[str, ...]]:
    for which, labels in arrays.items():
        if labels.dtype.kind not in "iuU":
            raise UserError(f"{said}: {which} are {labels.dtype}; they must be integers or strings")
    if len({labels.dtype.kind == "U" for labels in arrays.values()}) > 1:
        kinds = " and ".join(f"{which} are {labels.dtype}" for which, labels in arrays.items())
        raise UserError(f"{said}: {kinds}; both must be integers, or both strings")
    found = [np.unique(labels, return_inverse=True) for labels in arrays.values()]
    classes = sorted({value for values, _ in found for value in values.tolist()})
    position = {value: index for index, value in enumerate(classes)}
    indices = [np.array([position[value] for value in values.tolist()])[inverse] for values, inverse in found]
    return indices, tuple(map(str, classes))
