"""Image folders written as PNGs: layouts, channels, cropping, the held-out tenth, and each bad input."""

import numpy as np
import pytest
from PIL import Image

from rayfed.data import datasets
from rayfed.errors import UserError


def write(path, color=0, mode="L", size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def load(path, size=8):
    return datasets.load(f"imagefolder:{path}", size=size)


def message(path):
    with pytest.raises(UserError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_train_and_test_folders_in_grayscale(tmp_path):
    for split, values in (("train", (10, 20)), ("test", (30,))):
        for value in values:
            write(tmp_path / split / "dog" / f"{value}.png", value)
            write(tmp_path / split / "cat" / f"{value}.png", value + 1)
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.train_images.shape == (4, 1, 8, 8)
    assert data.train_images.dtype == np.uint8
    assert data.train_images[:, 0, 3, 3].tolist() == [11, 21, 10, 20]
    assert data.train_labels.tolist() == [0, 0, 1, 1]
    assert data.train_labels.dtype == np.int64
    assert data.test_images[:, 0, 3, 3].tolist() == [31, 30]
    assert data.test_labels.tolist() == [0, 1]


def test_one_colour_image_makes_all_rgb(tmp_path):
    write(tmp_path / "train" / "a" / "1.png", 5)
    write(tmp_path / "train" / "a" / "2.png", (1, 2, 3), mode="RGB")
    write(tmp_path / "test" / "a" / "1.png", 6)
    data = load(tmp_path)
    assert data.train_images[:, :, 0, 0].tolist() == [[5, 5, 5], [1, 2, 3]]
    assert data.test_images[:, :, 0, 0].tolist() == [[6, 6, 6]]


def test_a_tenth_of_each_class_is_held_out_the_same_at_every_load(tmp_path):
    for i in range(20):
        write(tmp_path / "a" / f"{i:02}.png", i)
    for i in range(2):
        write(tmp_path / "b" / f"{i}.png", 100 + i)
    data, again = load(tmp_path), load(tmp_path)
    assert np.bincount(data.train_labels).tolist() == [18, 1]
    assert np.bincount(data.test_labels).tolist() == [2, 1]
    values = [*data.train_images[:, 0, 0, 0].tolist(), *data.test_images[:, 0, 0, 0].tolist()]
    assert sorted(values) == [*range(20), 100, 101]
    assert data.sha256 == again.sha256


def test_the_centre_square_is_kept(tmp_path):
    """24 x 8 pixels in three squares of 50, 100, 150: the middle one is left, at any size."""
    strip = np.repeat(np.array([50, 100, 150], np.uint8), 8)
    for split in ("train", "test"):
        write(tmp_path / split / "a" / "1.png")
        Image.fromarray(np.tile(strip, (8, 1))).save(tmp_path / split / "a" / "1.png")
    np.testing.assert_array_equal(load(tmp_path).train_images, np.full((1, 1, 8, 8), 100))
    half = load(tmp_path, size=4).train_images
    assert half.shape == (1, 1, 4, 4)
    np.testing.assert_array_equal(half[0, 0, :, 1:3], 100)


def test_size_is_needed(tmp_path):
    with pytest.raises(UserError) as caught:
        datasets.load(f"imagefolder:{tmp_path}")
    assert str(caught.value) == (
        f"data.name = 'imagefolder:{tmp_path}': its images have no size of their own; give one, in pixels"
    )


def test_no_such_folder(tmp_path):
    assert message(tmp_path / "no") == f"data.name = imagefolder:{tmp_path}/no: no such folder"


def test_empty_folder_and_empty_class(tmp_path):
    assert message(tmp_path) == f"{tmp_path}: empty; put images in it or remove it"
    (tmp_path / "a").mkdir()
    assert message(tmp_path) == f"{tmp_path}/a: empty; put images in it or remove it"


def test_hidden_file(tmp_path):
    write(tmp_path / "a" / "1.png")
    (tmp_path / "a" / ".DS_Store").touch()
    assert message(tmp_path) == f"{tmp_path}/a/.DS_Store: a hidden file; move it out of the data set"


def test_file_beside_the_classes(tmp_path):
    write(tmp_path / "a" / "1.png")
    (tmp_path / "notes.txt").touch()
    assert message(tmp_path) == f"{tmp_path}/notes.txt: not a folder; images must lie in one folder per class"


def test_not_an_image(tmp_path):
    write(tmp_path / "a" / "1.png")
    bad = "not an image that can be read; a class folder must hold images only"
    (tmp_path / "a" / "notes.txt").write_text("hello")
    assert message(tmp_path) == f"{tmp_path}/a/notes.txt: {bad}"
    (tmp_path / "a" / "notes.txt").unlink()
    (tmp_path / "a" / "deeper").mkdir()
    assert message(tmp_path) == f"{tmp_path}/a/deeper: {bad}"


def test_truncated_image(tmp_path):
    for name in ("1.png", "2.png"):
        write(tmp_path / "a" / name, 3, size=(64, 64))
        (tmp_path / "a" / name).write_bytes((tmp_path / "a" / name).read_bytes()[:60])
    assert message(tmp_path).endswith(".png: not an image that can be read; a class folder must hold images only")


def test_sixteen_bits(tmp_path):
    for name in ("1.png", "2.png"):
        write(tmp_path / "a" / name, 40_000, mode="I;16")
    assert message(tmp_path).endswith(".png: more than 8 bits a channel (Pillow's mode I;16); save it as 8-bit")


def test_class_of_one_image_without_a_test_folder(tmp_path):
    write(tmp_path / "a" / "1.png")
    assert message(tmp_path) == f"{tmp_path}/a: one image; a class needs two, as one is held out for the test"


def test_train_and_test_with_different_classes(tmp_path):
    write(tmp_path / "train" / "a" / "1.png")
    write(tmp_path / "test" / "b" / "1.png")
    assert message(tmp_path) == f"{tmp_path}: train and test must hold the same classes; only one of them has a, b"
