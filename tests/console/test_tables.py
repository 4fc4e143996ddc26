"""What the commands print at their end, line by line."""

from typing import Any

import pytest
from rich.table import Table

from rayfed.console.tables import (
    closing_table,
    comparison_closing,
    comparison_table,
    costs_table,
    print_pairs,
    print_table,
)
from rayfed.tasks.base import Metric
from rayfed.tasks.gan import GanTask

SUMMARY: dict[str, Any] = {
    "run": "fegan-1a2b3c",
    "status": "interrupted",
    "rounds": 2,
    "fid": {"first": 90.0, "best": 47.25, "last": 50.125},
    "fid_classifier": {"first": 1234.5, "best": 9.5, "last": 9.75},
    "images_per_s": 1234.5,
    "bytes_up_per_round": 720_576.0,
    "bytes_down_per_round": 1_500_000_000.0,
    "samples": "runs/samples-00002.png",
    "mlflow": "mlflow ui",
    "resume": "rayfed resume fegan-1a2b3c",
}


def test_the_closing_table_line_by_line():
    assert closing_table(SUMMARY, GanTask.metrics).splitlines() == [
        "",
        "run                          fegan-1a2b3c (interrupted, 2 rounds)",
        "FID                          first 90   best 47.2   last 50.1",
        "FID (classifier's features)  first 1,234   best 9.50   last 9.75",
        "images/s                     1,234",
        "per round                    0.72 MB up, 1,500.00 MB down",
        "samples                      runs/samples-00002.png",
        "MLflow                       mlflow ui",
        "go on with                   rayfed resume fegan-1a2b3c",
    ]


def test_what_a_run_does_not_have_has_no_line():
    """Cut off before its first round ended."""
    bare = {"run": "a", "status": "failed", "rounds": 0, "samples": None, "mlflow": None, "resume": None}
    assert closing_table(bare, GanTask.metrics) == "\nrun  a (failed, 0 rounds)"
    assert closing_table(bare | {"rounds": 1}, GanTask.metrics) == "\nrun  a (failed, 1 round)"


def test_a_methods_own_figures_follow_its_tasks():
    bare = {"run": "a", "status": "finished", "rounds": 1, "samples": None, "mlflow": None, "resume": None}
    table = closing_table(bare | {"closing": {"epsilon": 725.71}}, GanTask.metrics)
    assert table.splitlines()[-1] == "epsilon  725.7"


def test_any_tasks_metric_has_its_label():
    bare = {"run": "a", "status": "finished", "rounds": 1, "samples": None, "mlflow": None, "resume": None}
    accuracy = Metric("accuracy", "accuracy", "on the test set", lower_is_better=False)
    table = closing_table(bare | {"accuracy": {"first": 0.5, "best": 0.75, "last": 0.625}}, [accuracy])
    assert table.splitlines()[-1] == "accuracy  first 0.500   best 0.750   last 0.625"


FIGURES = ("rounds", "best", "last", "sim_seconds", "sim_seconds_to_common")
MORE = ("bytes_device", "bytes_device_to_common", "images_per_sim_s", "images_per_s")


def summary(*values: float | None, spread: float | None = None) -> dict[str, Any]:
    found = dict(zip((*FIGURES, *MORE), values, strict=True))
    return {name: {"mean": value, "spread": spread, "seeds": {}} for name, value in found.items()}


def document(**more: Any) -> dict[str, Any]:
    runs = {
        "A": {
            "summary": summary(10, 47.25, 50.5, 12.5, 3.25, 4.5e6, 2.5e6, 80.0, 1234.5, spread=1.125),
            "series": {"0": {}},
        },
        "B": {"summary": summary(0, None, None, 0.0, None, None, None, None, None), "series": {}},
    }
    metric = {"name": "fid_classifier", "label": "FID", "detail": "classifier's features", "lower_is_better": True}
    found = {"comparison": "c-1", "status": "failed", "metric": metric, "common": 51.5, "runs": runs}
    found |= {"figure": "c.png", "table": "c.csv", "mlflow": None, "resume": {}, "without_result": []}
    return found | {"throughput": {"A": {5: 252.625, 10: 503.0, 20: 1183.5}, "B": {10: 1.25}}} | more


def test_a_comparisons_table_cell_by_cell():
    assert texts(comparison_table(document())) == [
        ("run", "rounds", "FID best", "FID last", "sim. images/s", "wall images/s"),
        ("A", "10", "47.2 ± 1.12", "50.5 ± 1.12", "80", "1,234"),
        ("B", "0", "-", "-", "-", "-"),
    ]
    assert texts(costs_table(document())) == [
        ("run", "sim. seconds", "sim. s to FID 51.5", "MB per device", "MB to FID 51.5"),
        ("A", "12.5", "3.25", "4.50", "2.50"),
        ("B", "0", "-", "-", "-"),
    ]


def texts(table: Table) -> list[tuple[str, ...]]:
    """The header in one line, and the rows."""
    header = tuple(str(column.header).replace("\n", " ") for column in table.columns)
    return [header, *zip(*(map(str, column.cells) for column in table.columns), strict=True)]


def test_a_runs_name_stays_whole_beside_figures_of_a_hundred_columns():
    """Where there is no terminal, whatever the spreads."""
    document_ = document()
    document_["runs"] = {"pretrained, int8, SplitFed, cut 5": document_["runs"]["A"]}
    text = comparison_closing(document_)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("pretrained, int8, SplitFed, cut 5") == 2


@pytest.mark.parametrize("key", [int, str])
def test_the_throughput_stands_under_the_table_by_run_and_number_of_devices(key):
    """A document's counts are numbers, in JSON they are texts."""
    throughput = {"A": {key(5): 252.625, key(20): 1183.5, key(10): 503.0}, "B": {key(10): 1.25}}
    first, costs, second, _ = comparison_closing(document(throughput=throughput)).strip("\n").split("\n\n")
    assert first.splitlines()[1].split()[:2] == ["run", "rounds"]
    assert costs.splitlines()[1].split()[:2] == ["run", "seconds"]
    assert [line.rstrip() for line in second.splitlines()[:-1]] == [
        "sim. images/s by number of devices",
        "run      5    10     20",
        "A    252.6   503  1,184",
        "B        -  1.25      -",
    ]


def test_many_device_counts_stay_within_a_hundred_columns():
    """In tables of eight counts, whole numbers and all."""
    counts = [2**k for k in range(11)]
    name = "a run with a name of many words, which may take two lines"
    text = comparison_closing(document(throughput={name: {count: 1234.5 * count for count in counts}}))
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("sim. images/s by number of devices") == 2
    words = text.split()
    for count in counts:
        assert f"{count:,}" in words
        assert f"{1234.5 * count:,.0f}" in words


def test_without_any_throughput_there_is_no_second_table():
    assert "number of devices" not in comparison_closing(document(throughput={"A": {}, "B": {}}))


def test_a_comparisons_notes_and_what_goes_on_how():
    found = comparison_closing(document(mlflow="mlflow ui", resume={"A": "rayfed resume a"}, without_result=["B"]))
    notes, rows = found.split("\n\n")[-2:]
    assert notes.splitlines()[-1] == "FID in classifier's features; sim.: on the simulated devices"
    assert rows.splitlines() == [
        "comparison      c-1 (failed)",
        "figure          c.png",
        "as CSV          c.csv",
        "MLflow          mlflow ui",
        "A goes on with  rayfed resume a",
        "without result  B",
    ]


@pytest.mark.parametrize(
    ("metric", "note"),
    [
        (None, "no run was judged; sim.: on the simulated devices"),
        (
            {"name": "accuracy", "label": "accuracy", "detail": "", "lower_is_better": False},
            "accuracy; sim.: on the simulated devices",
        ),
    ],
)
def test_a_comparison_says_by_what_it_was_judged(metric, note):
    assert note in comparison_closing(document(metric=metric)).splitlines()


def test_rows_with_the_same_keys_are_a_table(capsys):
    print_table([{"run": "a", "best_fid": 47.256}, {"run": "b", "best_fid": None}, {"run": "c", "best_fid": 1e-7}])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["run", "best", "fid"], ["a", "47.26"], ["b", "-"], ["c", "1e-07"]]


def test_pairs_are_aligned(capsys):
    print_pairs({"a": "one", "long": "two"})
    assert capsys.readouterr().out == "a     one\nlong  two\n"
