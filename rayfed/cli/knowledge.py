"""The commands that need no run: plans of split discriminators, and what names there are."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from rayfed.cli.shared import Json, touch
from rayfed.config.reading import validate
from rayfed.config.sections import Model, ModelName
from rayfed.config.table import load_table
from rayfed.errors import UserError

app = typer.Typer()


@app.command()
def plan(
    file: Annotated[Path, typer.Argument(metavar="TABLE", help="Clients and devices, e.g. jobs/devices/paper.csv.")],
    model: Annotated[ModelName, typer.Option(help="Whose discriminator, for images of one channel.")] = "dcgan28",
    width: Annotated[int | None, typer.Option(min=1, help="As model.width; 64 as published.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Real images in a step; it takes as many fakes.")] = 256,
    portions: Annotated[Literal["paper", "blocks"], typer.Option(help="paper joins the last two blocks.")] = "paper",
    flops_per_s: Annotated[float, typer.Option(min=1, help="Of a device with time factor 1.")] = 1e10,
    seed: Annotated[int, typer.Option(min=0, help="Of the random strategies.")] = 0,
    as_json: Json = False,
    picture: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw each step's seconds as well.")] = None,
) -> None:
    """Place a discriminator on the devices of each client and tell what a step would take."""
    from rayfed.console.plan import plan_text
    from rayfed.models.block import merge, paper_ends
    from rayfed.models.portions import described
    from rayfed.report.plan import plan_document, plan_figure
    from rayfed.scheduling.placement import all_plans
    from rayfed.scheduling.portions import workload

    clients = load_table(file)
    blocks = described(validate(Model, {"name": model, "width": width}))
    parts = merge(blocks, paper_ends(len(blocks))) if portions == "paper" else blocks
    work = workload(parts, 2 * batch, flops_per_s)
    plans = all_plans(clients, work, seed)
    found = plan_document(clients, work, plans)
    if picture:
        if picture.suffix.lower() != ".png":
            raise UserError(f"--picture {picture}: must end in .png")
        touch("--picture", picture)
        plan_figure(clients, plans, picture)
    print(json.dumps(found) if as_json else plan_text(found))


@app.command()
def methods(as_json: Json = False) -> None:
    """The methods that `method.name` knows."""
    from rayfed import plugins

    _print_pairs(plugins.described(), as_json)


@app.command()
def datasets(as_json: Json = False) -> None:
    """The data sets that `data.name` knows."""
    from rayfed.data.datasets import describe

    _print_pairs(dict(describe()), as_json)


def _print_pairs(pairs: dict[str, str], as_json: bool) -> None:
    from rayfed.console.tables import print_pairs

    if as_json:
        print(json.dumps(pairs, indent=2))
    else:
        print_pairs(pairs)
