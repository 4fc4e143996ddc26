"""Placements of a discriminator's portions: all of them as one JSON document, and their seconds as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from rayfed.config.clients import Client
from rayfed.report.pictures import figure_of, frame
from rayfed.scheduling.portions import Plan, Workload, dropped_devices, misfit

Plans = Mapping[str, Mapping[str, Plan | None]]
"""client -> strategy -> its plan, None where there is none."""
PICTURED = 12
"""Clients that a picture has room for."""


def plan_document(clients: Sequence[Client], work: Workload, plans: Plans) -> dict[str, Any]:
    """The portions by name, and per client what is dropped and why, and each strategy's plan (None: there is none).

    Portions are indices from 0; memory is in parameters, seconds and bytes are of one step.
    """
    needs = zip(work.names, work.parameters, work.compute_s, work.nbytes, strict=True)
    return {
        "portions": [
            {"name": name, "parameters": parameters, "compute_seconds": compute_s, "activation_bytes": nbytes}
            for name, parameters, compute_s, nbytes in needs
        ],
        "clients": {client.name: _client(client, work, plans[client.name]) for client in clients},
    }


def _client(client: Client, work: Workload, plans: Mapping[str, Plan | None]) -> dict[str, Any]:
    dropped = not any(plans.values())
    return {
        "dropped": dropped,
        "reason": misfit(client, work) if dropped else None,
        "dropped_devices": [client.devices[k].name for k in dropped_devices(client, work)],
        "strategies": {strategy: plan and _plan(client, plan) for strategy, plan in plans.items()},
    }


def _plan(client: Client, plan: Plan) -> dict[str, Any]:
    named = [(client.devices[stage.device].name, stage) for stage in plan.stages]
    return {
        "portions": {name: list(stage.portions) for name, stage in named},
        "step_seconds": plan.step_seconds,
        "bottleneck_seconds": plan.bottleneck_seconds,
        "bytes": plan.nbytes,
        "memory": {name: stage.parameters for name, stage in named},
    }


def plan_figure(clients: Sequence[Client], plans: Plans, path: str | Path) -> Path:
    """Save each strategy's step as a bar: seconds of each device in its colour, of each exchange hatched.

    Shows the first PICTURED clients that take part; raises OSError.
    """
    taking_part = [client for client in clients if any(plans[client.name].values())]
    shown = taking_part[:PICTURED]
    strategies = list(plans[shown[0].name])
    figure = figure_of(10, 1.6 + 0.24 * (len(strategies) + 1) * len(shown))
    axes = figure.add_subplot()
    left_out = f" (first {PICTURED} of {len(taking_part)} clients)" if len(taking_part) > PICTURED else ""
    frame(axes, f"One step of each client{left_out}", "", x="seconds")
    ticks = []
    for index, client in enumerate(shown):
        for row, strategy in enumerate(strategies, index * (len(strategies) + 1)):
            ticks.append((row, f"{client.name}  {strategy.replace('_', ' + ')}"))
            _bar(axes, row, plans[client.name][strategy])
    axes.set_yticks(*zip(*ticks, strict=True), fontsize=8)
    axes.set_ylim(ticks[-1][0] + 1, -1)
    axes.set_axisbelow(True)
    axes.grid(visible=False, axis="y")
    devices = range(max(len(client.devices) for client in shown))
    handles = [Patch(color=_color(k), label=f"device {k + 1}") for k in devices]
    handles.append(Patch(facecolor="white", edgecolor="0.3", hatch="/////", label="exchange"))
    axes.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(1, 1), title="in the table's order")
    figure.savefig(path, dpi=120)
    return Path(path)


def _bar(axes: Axes, row: int, plan: Plan | None) -> None:
    if plan is None:
        axes.text(0, row, " no plan", va="center", color="0.5", fontsize=8)
        return
    left = 0.0
    for stage in plan.stages:
        axes.barh(row, stage.compute_s, left=left, color=_color(stage.device))
        left += stage.compute_s
        axes.barh(row, stage.exchange_s, left=left, facecolor="white", edgecolor="0.3", hatch="/////", linewidth=0)
        left += stage.exchange_s


def _color(device: int) -> str:
    return f"C{device % 10}"
