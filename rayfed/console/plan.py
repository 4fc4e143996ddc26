"""A plan's document on the terminal."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

MB = 1e6
WIDTH = 100
"""Columns where there is no terminal."""


def plan_text(found: Mapping[str, Any]) -> str:
    """The portions, each client's plans as a table, and who is left out and why."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    with console.capture() as text:
        console.print(_portions(found["portions"]))
        console.print()
        console.print(_plans(found["clients"]))
    return text.get() + "".join(f"\n{line}" for line in _notes(found["clients"]))


def _table(*left: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in left:
        table.add_column(header, overflow="fold")
    return table


def _portions(portions: list[Mapping[str, Any]]) -> Table:
    table = _table("portion", "layers from")
    for header in ("parameters", "seconds at time factor 1", "MB handed on"):
        table.add_column(header, justify="right")
    for number, portion in enumerate(portions, 1):
        handed = f"{portion['activation_bytes'] / MB:,.2f}" if number < len(portions) else "-"
        cells = f"{portion['parameters']:,}", f"{portion['compute_seconds']:.3g}", handed
        table.add_row(str(number), portion["name"], *cells)
    return table


def _plans(clients: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("client", "strategy", "device: portions (parameters)")
    for header in ("step s", "slowest\nstage s", "MB\nmoved"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, client in clients.items():
        for strategy, plan in () if client["dropped"] else client["strategies"].items():
            label = strategy.replace("_", " + ")
            if plan is None:
                table.add_row(name, label, "no plan: the devices run out", "-", "-", "-")
                continue
            holders = (
                f"{device}: {_span(portions)} ({plan['memory'][device]:,})"
                for device, portions in plan["portions"].items()
            )
            seconds = f"{plan['step_seconds']:.3f}", f"{plan['bottleneck_seconds']:.3f}"
            table.add_row(name, label, "  ".join(holders), *seconds, f"{plan['bytes'] / MB:,.1f}")
        if not client["dropped"]:
            table.add_section()
    return table


def _span(portions: list[int]) -> str:
    """Portions count from 1 for people."""
    first, last = portions[0] + 1, portions[-1] + 1
    return str(first) if first == last else f"{first}-{last}"


def _notes(clients: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = []
    for name, client in clients.items():
        if client["dropped"]:
            lines.append(f"client {name} is dropped: {client['reason']}")
        elif client["dropped_devices"]:
            lines.append(
                f"client {name} drops devices that can hold no portion: {', '.join(client['dropped_devices'])}"
            )
    return lines
