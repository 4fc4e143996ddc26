"""Files of numpy.savez: layouts, labels, the held-out tenth, and each bad input."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from rayfed.data import datasets
from rayfed.data.images import resize
from rayfed.errors import UserError

SIX = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((6, 4, 5), np.uint8)
"""Six grey images of 4 x 5 pixels, each filled with its number."""
TWO = SIX[:2] + 100
AB = np.array(["a", "a", "a", "b", "b", "b"])


def load(folder, size=None, **arrays):
    np.savez(folder / "mine.npz", **arrays)
    return datasets.load(f"npz:{folder}/mine.npz", size=size)


def message(folder, **arrays):
    """What is wrong with the arrays, without the file's name."""
    with pytest.raises(UserError) as caught:
        load(folder, **arrays)
    said, _, rest = str(caught.value).partition("mine.npz': ")
    assert said == f"data.name = 'npz:{folder}/"
    assert "\n" not in rest
    return rest


def filled(images):
    """The values that images are filled with."""
    assert images.dtype == np.uint8
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def test_train_and_test_arrays_in_grey(tmp_path):
    data = load(tmp_path, images=SIX, labels=AB, test_images=TWO, test_labels=np.array(["b", "a"]))
    assert (data.train_images.shape, data.test_images.shape) == ((6, 1, 4, 5), (2, 1, 4, 5))
    assert (filled(data.train_images), filled(data.test_images)) == ([0, 1, 2, 3, 4, 5], [100, 101])
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([0, 0, 0, 1, 1, 1], [1, 0])
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert data.classes == ("a", "b")
    assert data.rows is None
    assert data.positions.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((6, 4, 5, 3), (0, 3, 1, 2)),
        ((6, 4, 5, 1), (0, 3, 1, 2)),
        ((6, 3, 4, 5), (0, 1, 2, 3)),
        ((6, 1, 4, 5), (0, 1, 2, 3)),
        ((6, 3, 5, 1), (0, 3, 1, 2)),  # both fit: the channels are last
        ((6, 1, 1, 3), (0, 3, 1, 2)),
    ],
)
def test_channels_come_first_or_last(tmp_path, shape, axes):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = load(tmp_path, images=images, labels=AB, test_images=images[:2], test_labels=AB[:2])
    np.testing.assert_array_equal(data.train_images, images.transpose(axes))
    np.testing.assert_array_equal(data.test_images, images[:2].transpose(axes))
    assert data.train_images.flags.c_contiguous


def test_any_height_and_width_is_resized_to_a_square(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 20, 31, 3), dtype=np.uint8)
    data = load(tmp_path, size=8, images=images, labels=AB, test_images=images[:2], test_labels=AB[:2])
    assert (data.train_images.shape, data.test_images.shape) == ((6, 3, 8, 8), (2, 3, 8, 8))
    np.testing.assert_array_equal(data.train_images, resize(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), 8))
    for image, small in zip(images[..., 0], data.train_images[:, 0], strict=True):
        pillow = Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(small.astype(int), np.asarray(pillow), rtol=0, atol=1)


@pytest.mark.parametrize(
    ("labels", "test_labels", "classes", "train", "test"),
    [
        ([7, -2, 7, 30, -2, 30], [30, 7], ("-2", "7", "30"), [1, 0, 1, 2, 0, 2], [2, 1]),
        ([7, 7, 7, 7, 7, 7], [8, 6], ("6", "7", "8"), [1] * 6, [2, 0]),  # of train and test together
        (["10", "9", "x", "9", "x", "x"], ["9", "äb"], ("10", "9", "x", "äb"), [0, 1, 2, 1, 2, 2], [1, 3]),
    ],
)
def test_the_sorted_values_of_the_labels_are_the_classes(tmp_path, labels, test_labels, classes, train, test):
    data = load(tmp_path, images=SIX, labels=np.array(labels), test_images=TWO, test_labels=np.array(test_labels))
    assert data.classes == classes
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == (train, test)


def test_integers_beyond_a_floats_precision_stay_apart(tmp_path):
    labels = np.array([2**63 - 1, 2**63 - 2] * 3, dtype=np.int64)
    test_labels = np.array([2**63, 2**63 - 2], dtype=np.uint64)
    data = load(tmp_path, images=SIX, labels=labels, test_images=TWO, test_labels=test_labels)
    assert data.classes == ("9223372036854775806", "9223372036854775807", "9223372036854775808")
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([1, 0] * 3, [2, 0])


def test_given_classes_name_the_labels(tmp_path):
    labels = np.array([2, 2, 0, 0, 2, 0], dtype=np.uint8)
    data = load(tmp_path, images=SIX, labels=labels, classes=np.array(["z", "nobody", "a"]))
    assert data.classes == ("z", "nobody", "a")
    both = dict(zip(filled(data.train_images), data.train_labels.tolist(), strict=True))
    both |= dict(zip(filled(data.test_images), data.test_labels.tolist(), strict=True))
    assert both == {0: 2, 1: 2, 2: 0, 3: 0, 4: 2, 5: 0}
    assert data.train_labels.dtype == np.int64


def test_a_tenth_of_each_class_is_held_out_and_the_rest_knows_its_row(tmp_path):
    """20 of a and 2 of b, mixed: 2 and 1 are held out."""
    labels = np.array(["a"] * 9 + ["b"] + ["a"] * 11 + ["b"])
    images = np.arange(22, dtype=np.uint8)[:, None, None] * np.ones((22, 2, 2), np.uint8)
    data, again = load(tmp_path, images=images, labels=labels), load(tmp_path, images=images, labels=labels)
    assert np.bincount(data.train_labels).tolist() == [18, 1]
    assert np.bincount(data.test_labels).tolist() == [2, 1]
    train, test = filled(data.train_images), filled(data.test_images)
    assert sorted(train + test) == list(range(22))
    assert data.rows.tolist() == train == sorted(train)
    assert [labels[row] for row in train] == [data.classes[label] for label in data.train_labels]
    assert [labels[row] for row in test] == [data.classes[label] for label in data.test_labels]
    assert data.positions.tolist() == [train.index(row) if row in train else -1 for row in range(22)]
    assert data.sha256 == again.sha256


def test_an_image_folder_of_the_same_images_holds_out_the_same(tmp_path):
    images = np.arange(45, dtype=np.uint8)[:, None, None] * np.ones((45, 6, 6), np.uint8)
    labels = np.array(["a"] * 30 + ["b"] * 15)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "folder" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "folder" / label / f"{number:02}.png")
    folder, arrays = (
        datasets.load(f"imagefolder:{tmp_path}/folder", size=6),
        load(tmp_path, images=images, labels=labels),
    )
    assert folder.sha256 == arrays.sha256
    assert folder.rows.tolist() == arrays.rows.tolist() == filled(folder.train_images)


def test_the_home_folder_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez_compressed(tmp_path / "mine.npz", images=SIX, labels=AB)
    assert datasets.load("npz:~/mine.npz").train_images.shape == (4, 1, 4, 5)


SPLIT = {"images": SIX, "labels": AB, "test_images": TWO, "test_labels": AB[:2]}
NAMED = {"images": SIX, "labels": np.arange(6) // 3}
SHAPES = "it must be [N, H, W], or [N, H, W, C] or [N, C, H, W] with C = 1 or 3"
KNOWN = "images, labels, test_images, test_labels, classes"
NAMES = "it must be the classes' names, as in ('cat', 'dog')"


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x_train": SIX, "labels": AB}, "has no images, but x_train, labels; it must have images and labels"),
        ({"images": SIX}, "has no labels, but images; it must have images and labels"),
        ({}, "has no images, but nothing; it must have images and labels"),
        (SPLIT | {"weights": AB}, f"unknown array 'weights'; the arrays are {KNOWN}"),
        (
            {"images": SIX, "labels": AB, "test_images": TWO},
            "has test_images but no test_labels; give both, or none to have a tenth held out",
        ),
        (
            {"images": SIX, "labels": AB, "test_labels": AB[:2]},
            "has test_labels but no test_images; give both, or none to have a tenth held out",
        ),
        (SPLIT | {"images": SIX / 255}, "images are float64; they must be uint8, from 0 to 255"),
        (SPLIT | {"test_images": TWO.astype(int)}, "test_images are int64; they must be uint8, from 0 to 255"),
        (SPLIT | {"images": SIX[0]}, f"images have the shape [4, 5]; {SHAPES}"),
        (SPLIT | {"images": SIX[..., None, None]}, f"images have the shape [6, 4, 5, 1, 1]; {SHAPES}"),
        (
            SPLIT | {"test_images": np.zeros((2, 2, 4, 4), np.uint8)},
            f"test_images have the shape [2, 2, 4, 4]; {SHAPES}",
        ),
        (SPLIT | {"images": SIX[:0]}, "images have the shape [0, 1, 4, 5]; there must be an image at least"),
        (
            SPLIT | {"test_images": TWO[:, :0]},
            "test_images have the shape [2, 1, 0, 5]; there must be an image at least",
        ),
        (
            SPLIT | {"test_images": np.zeros((2, 4, 5, 3), np.uint8)},
            "images are [1, 4, 5] each and test_images [3, 4, 5]; both must have the same [C, H, W]",
        ),
        (SPLIT | {"labels": AB[:5]}, "labels have the shape [5]; images need [6]"),
        (SPLIT | {"test_labels": AB}, "test_labels have the shape [6]; test_images need [2]"),
        (NAMED | {"labels": np.eye(6)}, "labels have the shape [6, 6]; images need [6]"),
        (NAMED | {"labels": np.ones(6)}, "labels are float64; they must be integers or strings"),
        (NAMED | {"labels": np.array([b"a"] * 6)}, "labels are |S1; they must be integers or strings"),
        (
            SPLIT | {"test_labels": np.array([0, 1])},
            "labels are <U1 and test_labels are int64; both must be integers, or both strings",
        ),
        (
            {"images": SIX, "labels": np.array(["a"] * 5 + ["b"])},
            "class 'b': one image; a class needs two, as one is held out for the test",
        ),
        (NAMED | {"classes": np.array(["a"])}, "labels have a 1; with 1 class they must be 0 to 0"),
        (
            {"images": SIX, "labels": AB, "classes": np.array(["a", "b"])},
            "labels are <U1; they must be integers, indices into classes",
        ),
        (NAMED | {"classes": np.array("ab")}, f"classes is 'ab'; {NAMES}"),
        (NAMED | {"classes": np.array([], dtype=str)}, f"classes is []; {NAMES}"),
        (NAMED | {"classes": np.array([["a"], ["b"]])}, f"classes is [['a'], ['b']]; {NAMES}"),
        (NAMED | {"classes": np.array(2)}, f"classes is 2; {NAMES}"),
        (
            SPLIT | {"labels": AB.astype(object)},
            "labels cannot be read (ValueError: Object arrays cannot be loaded when allow_pickle=False); it must be a "
            "whole array of numbers or strings",
        ),
        (
            SPLIT | {"images": np.array([SIX[0], SIX[1][:3], None], dtype=object)},
            "images cannot be read (ValueError: Object arrays cannot be loaded when allow_pickle=False); it must be a "
            "whole array of numbers or strings",
        ),
    ],
)
def test_wrong_arrays_are_told_in_one_line(tmp_path, arrays, expected):
    assert message(tmp_path, **arrays) == expected


def test_a_class_of_one_image_is_fine_with_a_test_split(tmp_path):
    labels = np.array(["a"] * 5 + ["b"])
    assert load(tmp_path, **SPLIT | {"labels": labels}).train_labels.tolist() == [0] * 5 + [1]


def told(path):
    with pytest.raises(UserError) as caught:
        datasets.load(f"npz:{path}")
    return str(caught.value)


def test_no_such_file(tmp_path):
    for path in (tmp_path / "no.npz", tmp_path):
        assert told(path) == f"data.name = 'npz:{path}': no such file"


def test_not_an_npz(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, images=SIX, labels=AB)
    whole = path.read_bytes()
    np.save(tmp_path / "array.npy", SIX)
    array = (tmp_path / "array.npy").read_bytes()
    for content in (b"", b"hello, this is text\n", array, whole[:200], b"PK\x03\x04" + bytes(100)):
        path.write_bytes(content)
        assert told(path) == f"data.name = 'npz:{path}': not an .npz file that can be read; write it with numpy.savez"


def test_a_damaged_array(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, images=SIX, labels=AB)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(SIX.tobytes()[-20:], bytes(20), 1))
    assert told(path).startswith(f"data.name = 'npz:{path}': images cannot be read (BadZipFile: Bad CRC-32 for file ")


def test_another_zip(tmp_path):
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images", "hello")
        file.writestr("labels", "hello")
    assert told(path) == f"data.name = 'npz:{path}': images are |S5; they must be uint8, from 0 to 255"
