"""What is written at the axes of figures, read back from the axes as they were drawn."""

from typing import Any

import pytest
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from rayfed.report.comparison import summarise
from rayfed.report.comparison_figure import comparison_figure
from rayfed.report.pictures import run_figure
from rayfed.tasks.gan import GanTask

METRICS = GanTask.metrics
LOG = " (log scale)"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, each as it was drawn."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **options: Any) -> None:
        save(figure, *args, **options)
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def ticks(axis: Axis) -> dict[float, Text]:
    """Those in view that have a label."""
    low, high = sorted(axis.get_view_interval())
    places = axis.get_majorticklocs()
    every = zip(places, axis.get_major_ticks(len(places)), strict=True)
    return {at: tick.label1 for at, tick in every if low <= at <= high and tick.label1.get_visible()}


def labels(axis: Axis) -> list[str]:
    return [text.get_text() for text in ticks(axis).values()]


def numbers(axis: Axis) -> list[float]:
    return [float(label.replace(",", "")) for label in labels(axis)]


def assert_readable(figure: Figure) -> None:
    """No tick's label touches another of its axis, and all that is written lies within the figure."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    for part in (*figure.axes, *figure.legends):
        box = part.get_tightbbox(renderer)
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            boxes = [text.get_window_extent(renderer) for text in ticks(axis).values()]
            assert not any(one.overlaps(two) for k, one in enumerate(boxes) for two in boxes[:k]), labels(axis)


def history(rounds: int, seconds: float = 2.0, nbytes: float = 3e6) -> list[tuple[int, dict[str, float]]]:
    fixed = {"bytes_device_max": nbytes, "images": 40, "seconds": 0.5, "loss_g": 1.0, "loss_d": 0.5}
    fixed |= {"bytes_up": nbytes, "bytes_down": nbytes, "kl_seen": 0.25}
    course = [fixed | {"sim_total_seconds": seconds * k, "fid_classifier": 500 / k} for k in range(1, rounds + 1)]
    return [(0, {}), *enumerate(course, 1)]


def compared(drawn: list[Figure], tmp_path: Any, throughput: Any, rounds: int = 3, **each: float) -> list[Any]:
    """The axes of a comparison of the runs of `throughput`: against rounds, seconds and bytes, and by devices."""
    histories = {run: {seed: history(rounds, **each) for seed in (0, 1)} for run in throughput}
    comparison_figure(histories, summarise(histories, METRICS), throughput, tmp_path / "c.png", "a comparison")
    assert_readable(drawn[-1])
    return drawn[-1].axes


TWO = {"A": {5: 100.0, 10: 200.0}, "B": {5: 150.0, 10: 250.0}}


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        (1, ["1"]),
        (2, ["1", "2"]),
        (3, ["1", "2", "3"]),
        (40, ["0", "10", "20", "30", "40"]),
        (3000, ["0", "500", "1,000", "1,500", "2,000", "2,500", "3,000"]),
    ],
)
def test_rounds_are_whole_in_every_panel_that_has_them(drawn, tmp_path, rounds, expected):
    assert labels(compared(drawn, tmp_path, TWO, rounds)[0].xaxis) == expected
    run_figure(history(rounds), METRICS, tmp_path / "run.png", "a run")
    assert_readable(drawn[-1])
    assert [labels(axes.xaxis) for axes in drawn[-1].axes] == [expected] * 4


TENS = ["10", "100", "1,000", "10,000"]
SIX = {name: {5: 1.0} for name in ("FeGAN", "FL-VANILLA", "FedGAN", "MD-GAN", "Ren serial", "Ren parallel with a tail")}


@pytest.mark.parametrize(
    ("throughput", "devices", "rates"),
    [
        (  # 1.2 times
            {"A": {5: 1000.0, 10: 1050.0, 20: 1200.0}, "B": {5: 1010.0, 10: 1020.0}},
            ["5", "10", "20"],
            ["1,000", "1,100", "1,200", "1,300"],
        ),
        (  # 1,000 times
            {"A": {10: 15.0, 10000: 15000.0}, "B": {5: 15.0, 40: 100.0}},
            ["5", "10", "40", "10,000"],
            ["20", "50", "100", "200", "500", "1,000", "2,000", "5,000", "10,000", "20,000"],
        ),
        ({"A": {2: 333.0}, "B": {2: 333.0}}, ["1", "2", "4"], ["310", "320", "330", "340", "350", "360"]),
        ({"A": {1: 0.011, 2: 0.012}}, ["1", "2"], ["0.01", "0.0105", "0.011", "0.0115", "0.012", "0.0125", "0.013"]),
        ({"A": {1: 1e-3, 1000: 1e4}, "B": {}}, ["1", "1,000"], [*("0.001", "0.01", "0.1", "1"), *TENS]),
        (SIX, ["2", "5", "10"], ["0.925", "0.95", "0.975", "1", "1.025", "1.05", "1.075", "1.1"]),
    ],
)
def test_logarithmic_axes_say_so_and_can_be_read(drawn, tmp_path, throughput, devices, rates):
    axes = compared(drawn, tmp_path, throughput)[3]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (f"devices{LOG}", f"images per simulated second{LOG}")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert labels(axes.xaxis) == devices
    assert labels(axes.yaxis) == rates


@pytest.mark.parametrize(("lowest", "span"), [(2.3, 1.01), (1.1, 1.7), (5.6, 1.6), (1.2, 7.0), (5.6, 1e5)])
def test_three_values_or_more_stand_at_the_rates_wherever_they_lie(drawn, tmp_path, lowest, span):
    axes = compared(drawn, tmp_path, {"A": {5: lowest, 10: lowest * span}})[3]
    low, high = axes.get_ylim()
    assert low < lowest <= lowest * span < high
    assert len(numbers(axes.yaxis)) >= 3
    assert numbers(axes.yaxis) == pytest.approx(list(ticks(axes.yaxis)))


def test_counts_whose_labels_would_touch_are_left_out(drawn, tmp_path):
    counts = [*range(10, 31), 1000]
    axis = compared(drawn, tmp_path, {"A": {count: float(count) for count in counts}})[3].xaxis
    found = numbers(axis)
    assert set(found) < set(counts)
    assert (found[0], found[-1]) == (10, 1000)
    assert len(found) >= 5


def test_seconds_and_bytes_have_thousands_separators_and_room(drawn, tmp_path):
    _, by_time, by_bytes, _ = compared(drawn, tmp_path, TWO, 13, seconds=1e5, nbytes=1e9)
    assert labels(by_time.xaxis) == ["250,000", "500,000", "750,000", "1,000,000", "1,250,000"]
    assert labels(by_bytes.xaxis) == ["2,500", "5,000", "7,500", "10,000", "12,500"]
    assert not any(axes.get_xlabel().endswith(LOG) for axes in (by_time, by_bytes))


def test_without_any_rate_the_panel_says_so(drawn, tmp_path):
    axes = compared(drawn, tmp_path, {"A": {}, "B": {}})[3]
    assert [text.get_text() for text in axes.texts] == ["not measured"]


@pytest.mark.parametrize("names", [["A", "B"], [f"a run with a long name, {k}" for k in range(12)], ["x" * 90, "y"]])
def test_the_legend_has_every_run_and_room(drawn, tmp_path, names):
    compared(drawn, tmp_path, {name: {5: 1.0} for name in names})
    [legend] = drawn[-1].legends
    assert [text.get_text() for text in legend.get_texts()] == names
    looks = {(line.get_color(), line.get_linestyle()) for line in legend.get_lines()}
    assert len(looks) == len(names)


def test_a_legend_over_lines_is_not_crossed_by_them(drawn, tmp_path):
    run_figure(history(3), METRICS, tmp_path / "run.png", "a run")
    frames = [axes.get_legend().get_frame() for axes in drawn[-1].axes if axes.get_legend()]
    assert len(frames) == 3
    for frame in frames:
        assert frame.get_visible()
        assert frame.get_alpha() >= 0.8
