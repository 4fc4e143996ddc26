"""Writes dashboards/rayfed.json: the Grafana dashboard of runs that go on, over what rayfed/cluster/metrics.py exports.

python tools/dashboard.py            # write
python tools/dashboard.py --check    # exit 1, with a line, when the file is not current
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from generated import write_or_check
from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import VisibilityMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

FILE = Path(__file__).parents[1] / "dashboards" / "rayfed.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
RUN = '{run=~"$run"}'


def gauge(name: str, *labels: str) -> str:
    """A gauge by run: Ray adds labels of its own, and a resumed run has series of two processes for a while."""
    return f"max by ({', '.join(('run', *labels))}) (ray_rayfed_{name}{RUN})"


def quantile(level: float) -> str:
    """Of the seconds of all rounds so far: a rate is empty where a round takes longer than its window."""
    return f"histogram_quantile({level}, sum by (run, le) (ray_rayfed_round_seconds_bucket{RUN}))"


TRAFFIC = "ray_rayfed_bytes_total" + RUN
STATS: list[tuple[str, str, str]] = [
    ("Rounds finished", "none", gauge("round")),
    ("Since the last round", "s", f"time() - {gauge('last_round_timestamp_seconds')}"),
    ("Images per second, now", "none", gauge("images_per_second")),
    ("Device hosts, now", "none", gauge("hosts")),
]
"""Title, unit and query; each a figure per run."""
CURVES: list[tuple[str, str, dict[str, str]]] = [
    ("Evaluation", "none", {"{{run}} {{metric}}": gauge("evaluation", "metric")}),
    ("Images per second", "none", {"{{run}}": gauge("images_per_second")}),
    ("Seconds of a round", "s", {"{{run}} median": quantile(0.5), "{{run}} 9 of 10 below": quantile(0.9)}),
    (
        "Traffic by direction",
        "Bps",
        {"{{run}} {{direction}}": f"sum by (run, direction) (rate({TRAFFIC}[$__rate_interval]))"},
    ),
    ("Traffic so far, by kind", "bytes", {"{{run}} {{kind}}": f"sum by (run, kind) ({TRAFFIC})"}),
    (
        "Clients",
        "none",
        {
            "{{run}} took part": gauge("participants"),
            "{{run}} dropped": gauge("dropped"),
            "{{run}} rejected": gauge("rejected"),
        },
    ),
    ("Device hosts", "none", {"{{run}}": gauge("hosts")}),
    ("Simulated time", "s", {"{{run}}": gauge("simulated_seconds")}),
]
"""Title, unit, and queries by their legends."""


def main(arguments: Sequence[str]) -> int:
    """Write the dashboard, or check it; gives the exit code."""
    text = JSONEncoder(sort_keys=True, indent=2).encode(dashboard().build()) + "\n"
    return write_or_check(FILE, text, arguments)


def dashboard() -> Dashboard:
    """Figures on top, curves below, of the runs that are chosen."""
    page = Dashboard("rayfed").uid("rayfed").tags(["rayfed"]).refresh("10s").time("now-1h", "now")
    page.with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
    runs = QueryVariable("run").label("Run").datasource(SOURCE).query("label_values(ray_rayfed_round, run)")
    page.with_variable(
        runs.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True).include_all(True).all_value(".+")
    )
    for title, unit, query in STATS:
        figure = stat.Panel().title(title).unit(unit).datasource(SOURCE).height(4).span(6)
        page.with_panel(figure.with_target(target("A", "{{run}}", query)))
    for title, unit, queries in CURVES:
        curve = timeseries.Panel().title(title).unit(unit).datasource(SOURCE).height(8).span(12)
        curve.min(0).span_nulls(True).show_points(VisibilityMode.ALWAYS)
        for letter, (legend, query) in zip("ABC", queries.items(), strict=False):
            curve.with_target(target(letter, legend, query))
        page.with_panel(curve)
    return page


def target(letter: str, legend: str, query: str) -> Dataquery:
    """A panel's query."""
    return Dataquery().ref_id(letter).legend_format(legend).expr(query).datasource(SOURCE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
