"""Line figures of any quantities, side by side, saved as PNG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rayfed.report.pictures import figure_of, frame

Curves = Mapping[str, tuple[Sequence[float], np.ndarray]]
"""label -> (x [n], y [n] or [seeds, n]): seeds are drawn as their mean and a band from the lowest to the highest."""

DOTTED = 50
"""Up to so many points are marked."""


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    x: str
    y: str
    curves: Curves


def curves_figure(panels: Sequence[Panel], path: str | Path, columns: int = 2) -> Path:
    """Save the panels in rows of `columns`."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = figure_of(5.6 * columns, 4.2 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for panel, ax in zip(panels, axes, strict=False):
        frame(ax, panel.title, panel.y, panel.x)
        for label, (x, values) in panel.curves.items():
            bands = np.atleast_2d(np.asarray(values, float))
            marker = "o" if len(x) <= DOTTED else ""
            (line,) = ax.plot(x, bands.mean(axis=0), label=label, linewidth=1.8, marker=marker, markersize=3.5)
            if len(bands) > 1:
                ax.fill_between(x, bands.min(axis=0), bands.max(axis=0), color=line.get_color(), alpha=0.18, lw=0)
        ax.legend(frameon=False)
    figure.savefig(path, dpi=120)
    return Path(path)
