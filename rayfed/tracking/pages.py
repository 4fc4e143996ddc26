"""MLflow's pages: the address of a run's, and what a comparison's shows.

An address is what follows the server's: MLflow's pages are one page with an anchor.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from rayfed.tasks.base import Metric

EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The tag of an experiment that opens on its runs: "Machine learning", where MLflow's words for people have it."""
VIEW = {"workflowType": "machine_learning"}
"""The switch "Model training" of the page, which opens on "GenAI" otherwise."""
SECTION = "evaluation/"
"""Of MLflow's charts: a name before a slash makes a section, and what has none comes after all sections."""
SIMULATED, TRAFFIC = "sim_total_seconds", "bytes_device_total"
"""Metrics that a comparison's charts have as their x axis."""
SHOWN = 20
"""Runs in a chart at most; MLflow offers 10 and 20."""


def run_page(experiment_id: str, run_id: str) -> str:
    """The address of a run's page."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{urlencode(VIEW)}"


def charts_page(experiment_id: str, comparison: str) -> str:
    """The address of the charts of a comparison's runs, whose view is tagged on the experiment; see `charts_view`."""
    query = VIEW | {"compareRunsMode": "CHART", "viewStateShareKey": comparison}
    return f"#/experiments/{experiment_id}/runs?{urlencode(query)}"


def charts_view(comparison: str, metrics: Iterable[Metric], pictures: Iterable[str], last: int) -> dict[str, str]:
    """The experiment's tag from which MLflow draws a comparison's charts, as its button "Share" would write it.

    First a section for each of the `metrics`: against rounds, simulated seconds and bytes, a line per run. Then the
    `pictures` of round `last`, one per run. MLflow adds the other metrics below, and hides what has no data.
    """
    charts, sections = [], []
    for metric in metrics:
        title = f"{metric.label} ({metric.detail})" if metric.detail else metric.label
        sections.append(_section(metric.name, title, columns=3))
        charts += [_line(metric, "rounds", {"xAxisKey": "step"})]
        charts += [_line(metric, "simulated seconds", {"xAxisKey": "metric", "selectedXAxisMetricKey": SIMULATED})]
        charts += [_line(metric, "bytes per device", {"xAxisKey": "metric", "selectedXAxisMetricKey": TRAFFIC})]
    for name in pictures:
        sections.append(_section(name, name.capitalize(), columns=1))
        charts.append(_card("IMAGE", name, name, {"imageKeys": [SECTION + name], "step": last, "showRunParams": False}))
    view = {
        "searchFilter": f"tags.comparison = '{comparison}' and tags.run like '%'",
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "runsHiddenMode": "FIRST_20_RUNS",
        "isAccordionReordered": True,
        "compareRunCharts": charts,
        "compareRunSections": sections,
    }
    return {f"mlflow.sharedViewState.{comparison}": json.dumps(view)}


def _section(key: str, title: str, columns: int) -> dict[str, Any]:
    section = {"uuid": key, "name": title, "columns": columns, "display": True}
    return section | {"isReordered": True, "deleted": False, "isGenerated": False}


def _line(metric: Metric, x: str, axis: Mapping[str, str]) -> dict[str, Any]:
    name = SECTION + metric.name
    shape = {"lineSmoothness": 0, "scaleType": "linear", "xAxisScaleType": "linear", "range": {}, "yAxisKey": "metric"}
    shape |= {"metricKey": name, "yAxisExpressions": [], "useGlobalXaxisKey": False}
    return _card("LINE", metric.name, f"{metric.label} against {x}", {**shape, **axis})


def _card(kind: str, section: str, title: str, more: Mapping[str, Any]) -> dict[str, Any]:
    card = {"type": kind, "uuid": f"{section}: {title}", "metricSectionId": section, "displayName": title}
    return {**card, "runsCountToCompare": SHOWN, "deleted": False, "isGenerated": False, **more}
