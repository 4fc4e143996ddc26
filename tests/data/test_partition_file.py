"""CSVs of samples and devices: who holds what, numbers in the source, and each bad input with its line."""

import time

import numpy as np
import pytest
from PIL import Image

from rayfed import config
from rayfed.data import partition_file, setup
from rayfed.errors import UserError


def read(folder, text, positions=6, devices=3):
    """By a file of this text; of so many samples, or with some of them held out."""
    (folder / "p.csv").write_text(text)
    where = np.arange(positions) if isinstance(positions, int) else np.array(positions)
    parts, left_out = partition_file.read(folder / "p.csv", where, devices)
    assert all(part.dtype == np.int64 for part in parts)
    return [part.tolist() for part in parts], left_out


def message(folder, text, **options):
    """What is wrong with a text, without the file's name."""
    with pytest.raises(UserError) as caught:
        read(folder, text, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}/p.csv")


@pytest.mark.parametrize(
    "text",
    [
        "sample,device\n5,1\n0,0\n3,2\n2,1\n0,2\n",
        "device,sample\n1,5\n0,0\n2,3\n1,2\n2,0\n",
        "\n sample , device \r\n5, 1\r\n\r\n0,0\r\n,\r\n 3,2\r\n2,1\r\n0,2",
        '\ufeff"sample","device"\n"5","1"\n0,0\n3,2\n002,1\n0,2\n',
    ],
)
def test_each_device_holds_the_sorted_samples_of_its_rows(tmp_path, text):
    """Sample 0 is on two devices, samples 1 and 4 are on none."""
    assert read(tmp_path, text) == ([[0], [2, 5], [0, 3]], 0)


def test_rows_of_held_out_samples_are_left_out(tmp_path):
    """Of six samples, numbers 1 and 4 are held out; the training images are numbers 0, 2, 3, 5."""
    text = "sample,device\n5,1\n4,1\n1,0\n0,0\n1,1\n3,2\n"
    assert read(tmp_path, text, positions=[0, -1, 1, 2, -1, 3]) == ([[0], [3], [2]], 3)


def test_a_million_rows_of_ten_thousand_devices_are_as_another_way_says(tmp_path):
    """In a second or two on a free core."""
    rng = np.random.default_rng(0)
    samples, devices = rng.permutation(1_000_000), rng.permutation(np.arange(1_000_000) % 10_000)
    text = "sample,device\n" + "\n".join(map("{},{}".format, samples.tolist(), devices.tolist()))
    began = time.process_time()
    parts, _ = read(tmp_path, text, positions=1_000_000, devices=10_000)
    assert time.process_time() - began < 10
    assert [len(part) for part in parts] == [100] * 10_000
    for device in (0, 17, 9_999):
        assert parts[device] == sorted(samples[devices == device].tolist())


GOOD = "sample,device\n0,0\n1,1\n2,2\n"
COLUMNS = "the columns are sample, device"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sample\n0\n", f", line 1: no column device; {COLUMNS}"),
        ("0,0\n1,1\n", f", line 1: no column sample; {COLUMNS}"),
        ("sample;device\n0;0\n", f", line 1: no column sample; {COLUMNS}"),
        ("sample,device,client\n0,0,0\n", f", line 1: unknown column 'client'; {COLUMNS}"),
        ("sample,device,\n0,0,\n", f", line 1: unknown column ''; {COLUMNS}"),
        ("sample,device,sample\n0,0,0\n", ", line 1: column sample is there twice"),
        (f"{GOOD}\n3\n", ", line 6: 1 cell under 2 columns"),
        (f"{GOOD}3,0,0\n", ", line 5: 3 cells under 2 columns"),
        (f"{GOOD}6,0\n", ", line 5: sample = '6': must be a sample's number, 0 to 5"),
        (f"{GOOD}-1,0\n", ", line 5: sample = '-1': must be a sample's number, 0 to 5"),
        (f"{GOOD}3.0,0\n", ", line 5: sample = '3.0': must be a sample's number, 0 to 5"),
        (f"{GOOD}1_0,0\n", ", line 5: sample = '1_0': must be a sample's number, 0 to 5"),
        (f"{GOOD},0\n", ", line 5: sample = '': must be a sample's number, 0 to 5"),
        (f"{GOOD}{'9' * 50},0\n", f", line 5: sample = '{'9' * 50}': must be a sample's number, 0 to 5"),
        (f"{GOOD}3,-1\n", ", line 5: device = '-1': must be a device's number, 0 to 2"),
        (f"{GOOD}3,phone\n", ", line 5: device = 'phone': must be a device's number, 0 to 2"),
        (
            f"{GOOD}3,3\n4,11\n",
            ", line 5: device = 3: with devices.count = 3 it must be 0 to 2; devices.count = 12 fits the file",
        ),
        (
            f"{GOOD}3,0\n\n1,0\n1,1\n0,0\n",
            ", line 8: sample 1 is on device 1 already, by line 3; leave one of them out",
        ),
        (
            "sample,device\n0,0\n1,1\n",
            ": device 2 holds no sample; each of 0 to 2 must hold a training image; devices.count = 2 fits the file",
        ),
        ("sample,device\n0,0\n1,2\n", ": device 1 holds no sample; each of 0 to 2 must hold a training image"),
        ("sample,device\n", ": device 0 holds no sample; each of 0 to 2 must hold a training image"),
        ("", ": device 0 holds no sample; each of 0 to 2 must hold a training image"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, text, expected):
    assert message(tmp_path, text) == expected


def test_a_device_with_nothing_but_held_out_samples(tmp_path):
    assert message(tmp_path, GOOD, positions=[0, -1, 1]) == (
        ": device 1 holds no sample but what is held out for the test; each of 0 to 2 must hold a training image"
    )


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError) as caught:
        partition_file.read(tmp_path / "no.csv", np.arange(3), 1)
    assert str(caught.value) == f"{tmp_path}/no.csv: cannot be read (No such file or directory)"
    (tmp_path / "p.csv").write_bytes("sample,device\n0,0\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"p\.csv: cannot be read \('utf-8' codec can't decode byte 0xff"):
        partition_file.read(tmp_path / "p.csv", np.arange(3), 1)


def holders(data, samples, folder):
    """Who holds which value, when a file gives sample i to device i % 2: images are filled with their number."""
    rows = [f"{sample},{sample % 2}" for sample in range(samples)]
    (folder / "p.csv").write_text("\n".join(["sample,device", *rows]))
    tree = {
        "method": {"name": "fegan", "batch": 1},
        "devices": {"count": 2},
        "data": {"name": data, "partition": f"file:{folder}/p.csv"},
    }
    tree["method"]["fraction"] = 1.0
    federation = setup.prepare(config.parse(tree), 4)
    values = [federation.dataset.train_images[part, 0, 0, 0].tolist() for part in federation.parts]
    return values, federation.left_out


def test_a_sample_is_a_row_of_the_npz(tmp_path):
    """Classes are mixed, so that what is held out lies between the rest: 3 of 30 and 1 of 10."""
    images = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((40, 4, 4), np.uint8)
    labels = np.where(np.arange(40) % 4, "b", "a")
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    (even, odd), left_out = holders(f"npz:{tmp_path}/mine.npz", 40, tmp_path)
    assert left_out == 4
    assert len(even) + len(odd) == 36
    assert {value % 2 for value in even} == {0}
    assert {value % 2 for value in odd} == {1}

    np.savez(tmp_path / "mine.npz", images=images, labels=labels, test_images=images[:2], test_labels=labels[:2])
    assert holders(f"npz:{tmp_path}/mine.npz", 40, tmp_path) == ([list(range(0, 40, 2)), list(range(1, 40, 2))], 0)


def test_a_sample_is_a_files_place_in_the_folder(tmp_path):
    """Classes and files in alphabetical order: B/10, B/9, a/0 to a/20 are numbers 0, 1, 2 to 22."""
    names = ["B/10", "B/9", *(f"a/{number:02}" for number in range(21))]
    for split in ("whole", "split/train"):
        for number, name in reversed(list(enumerate(names))):
            path = tmp_path / split / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), number).save(path)
    for name in ("B/0", "a/0"):
        path = tmp_path / "split" / "test" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (4, 4), 200).save(path)
    (even, odd), left_out = holders(f"imagefolder:{tmp_path}/whole", 23, tmp_path)
    assert (left_out, len(even) + len(odd)) == (3, 20)
    assert {value % 2 for value in even} == {0}
    assert {value % 2 for value in odd} == {1}
    assert holders(f"imagefolder:{tmp_path}/split", 23, tmp_path) == ([list(range(0, 23, 2)), list(range(1, 23, 2))], 0)
