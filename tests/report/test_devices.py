"""A run's devices as CSV, from totals that are known."""

import csv

import pytest

from rayfed.report.devices import devices_csv

TOTALS = {
    "computed": [1.5, 0.25, 3.0],
    "sent": [0.5, 0.125, 0.0],
    "waited": [0.0, 2.0, 1.0],
    "bytes": [4_000_000_000.0, 12.0, 0.0],
    "missed": [0, 1, 2],
}
FIGURES = [["1.5", "0.5", "0", "4000000000", "0"], ["0.25", "0.125", "2", "12", "1"], ["3", "0", "1", "0", "2"]]


@pytest.mark.parametrize(
    ("names", "samples", "cells"),
    [
        (["0", "1", "2"], [7, 0, 9], [["0", "7"], ["1", "0"], ["2", "9"]]),
        (["a/0", "a/1", "b/0"], [7, 9], [["a/0", ""], ["a/1", ""], ["b/0", ""]]),
    ],
)
def test_a_device_has_its_clients_samples_unless_it_shares_the_client(tmp_path, names, samples, cells):
    path = devices_csv(TOTALS, names, samples, tmp_path / "devices.csv")
    with path.open() as file:
        header, *rows = csv.reader(file)
    assert header == ["device", "samples", "computed_s", "sent_s", "waited_s", "link_bytes", "rounds_missed"]
    assert rows == [[*cell, *figures] for cell, figures in zip(cells, FIGURES, strict=True)]
