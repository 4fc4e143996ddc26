"""CIFAR-10 and CelebA through torchvision, from tiny files in their own formats (torchvision's checksums set aside)."""

import hashlib
import pickle

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, CelebA

from rayfed.data import datasets
from rayfed.errors import UserError


def test_cifar10_in_its_own_format(tmp_path, monkeypatch):
    """A batch of two rows: red is 0..1023 mod 256, then green all 7, then blue all 9."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    row = np.concatenate([np.arange(1024) % 256, np.full(1024, 7), np.full(1024, 9)]).astype(np.uint8)

    def write(name, entry):
        (folder / name).write_bytes(pickle.dumps(entry))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    names = [f"c{i}" for i in range(10)]
    train = write("data_batch_1", {"data": np.stack([row, 255 - row]), "labels": [3, 9]})
    test = write("test_batch", {"data": row[None], "labels": [5]})
    meta = write("batches.meta", {"label_names": names})
    monkeypatch.setattr(CIFAR10, "train_list", [("data_batch_1", train)])
    monkeypatch.setattr(CIFAR10, "test_list", [("test_batch", test)])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta})

    data = datasets.load("cifar10", root=str(tmp_path))
    assert data.train_images.shape == (2, 3, 32, 32)
    assert data.train_images[0, :, 1, 2].tolist() == [34, 7, 9]
    assert data.train_images[1, :, 0, 0].tolist() == [255, 248, 246]
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([3, 9], [5])
    assert data.train_labels.dtype == np.int64
    assert data.classes == tuple(names)


def test_celeba_in_its_own_format(tmp_path, monkeypatch):
    """Six faces, the classes 2 * Male + Smiling; the last two are the test split."""
    monkeypatch.setattr(CelebA, "file_list", [])
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    faces = [f"{i:06}.jpg" for i in range(1, 7)]
    for value, face in enumerate(faces):
        Image.new("RGB", (178, 218), (40 * value, 40 * value, 40 * value)).save(folder / "img_align_celeba" / face)
    attributes = [("-1", "-1"), ("1", "-1"), ("-1", "1"), ("1", "1"), ("1", "-1"), ("-1", "1")]

    def table(name, rows, header=""):
        lines = [f"{face} {' '.join(row)}" for face, row in zip(faces, rows, strict=True)]
        (folder / name).write_text(header + "\n".join(lines) + "\n")

    table("list_attr_celeba.txt", attributes, "6\nSmiling Male\n")
    table("list_eval_partition.txt", [["0"]] * 4 + [["2"]] * 2)
    table("identity_CelebA.txt", [["1"]] * 6)
    table("list_bbox_celeba.txt", [["0"] * 4] * 6, "6\nimage_id x_1 y_1 width height\n")
    table("list_landmarks_align_celeba.txt", [["0"] * 10] * 6, "6\nlefteye_x\n")

    data = datasets.load("celeba", root=str(tmp_path), size=16)
    assert data.train_images.shape == (4, 3, 16, 16)
    assert data.train_labels.tolist() == [0, 1, 2, 3]
    assert data.test_labels.tolist() == [1, 2]
    assert data.classes == ("woman", "smiling woman", "man", "smiling man")
    np.testing.assert_allclose(data.train_images[:, :, 8, 8], [[0] * 3, [40] * 3, [80] * 3, [120] * 3], atol=1)


def test_missing_cifar10_that_cannot_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", f"file://{tmp_path}/no.tar.gz")
    with pytest.raises(UserError) as caught:
        datasets.load("cifar10", root=str(tmp_path))
    assert str(caught.value) == (
        f"CIFAR10 cannot be read from {tmp_path}/cifar-10-batches-py and cannot be downloaded "
        f"(<urlopen error [Errno 2] No such file or directory: '{tmp_path}/no.tar.gz'>); "
        f"unpack cifar-10-python.tar.gz into {tmp_path}"
    )
