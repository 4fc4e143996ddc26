"""The commands. Anything that imports torch, ray or mlflow is imported inside the command that needs it."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rayfed import config as configuration
from rayfed.config import RunConfig
from rayfed.config.reading import validate
from rayfed.config.sections import Model, ModelName
from rayfed.config.table import load_table
from rayfed.errors import UserError

INTERRUPTED = 130
FAILED = 1

app = typer.Typer(
    help="Train GANs on data that stays on its devices, on a Ray cluster, and see what each method costs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, as `rayfed list` shows it.")]
RunsDir = Annotated[str, typer.Option(help="The folder of the runs, as `runs_dir` of their configuration.")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="Their database's URL, if not in the runs folder.")]
Local = Annotated[bool, typer.Option("--local", help="Run in this process without Ray, for a debugger.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
RUNS_DIR = RunConfig.model_fields["runs_dir"].default


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, e.g. jobs/fegan.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="devices.count=80 ...")] = None,
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Train as CONFIG says."""
    from rayfed import api

    _conclude(api.run(configuration.load(file, overrides or ()), local=local), as_json)


@app.command()
def resume(
    run_id: RunId,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="rounds=80, resources.hosts=4 ...")
    ] = None,
    runs_dir: RunsDir = RUNS_DIR,
    store: StoreUrl = None,
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Go on with a run from its last commit; a finished one with more rounds."""
    from rayfed import api

    _conclude(api.resume(run_id, overrides or (), runs_dir=runs_dir, store=store, local=local), as_json)


@app.command()
def compare(
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, e.g. jobs/compare.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Of what the runs share: devices.count=20 ...")
    ] = None,
    local: Local = False,
    as_json: Json = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the task's metrics as CSV: run, seed, round ...")
    ] = None,
) -> None:
    """Compare methods, or settings of one, on the same data, devices, network and seeds."""
    comparison = configuration.load_comparison(file, overrides or ())
    if csv:
        comparison.configs()
        _touch("--csv", csv)
    from rayfed import api
    from rayfed.console.tables import comparison_closing

    found = api.compare(comparison, name=file.stem, local=local)
    if csv:
        shutil.copyfile(found["table"], csv)
    print(json.dumps(found) if as_json else comparison_closing(found))
    if found["status"] != "finished":
        raise typer.Exit(INTERRUPTED if found["status"] == "interrupted" else FAILED)


@app.command("list")
def list_runs(runs_dir: RunsDir = RUNS_DIR, store: StoreUrl = None, as_json: Json = False) -> None:
    """The runs: their state, rounds and best metrics."""
    from rayfed.app import runs
    from rayfed.console.tables import print_table

    opened = runs.open_store(runs_dir, store)
    rows = runs.rows(opened)
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        print_table(rows)
    else:
        print(f"no runs in {opened.url}; `rayfed run jobs/demo.yaml` makes one")


@app.command()
def sample(
    run_id: RunId,
    n: Annotated[int, typer.Option("--n", min=1, help="How many images.")] = 64,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("samples.png"),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the noise.")] = 0,
    runs_dir: RunsDir = RUNS_DIR,
    store: StoreUrl = None,
) -> None:
    """Draw images from a run's trained network as a grid."""
    from rayfed.app import runs
    from rayfed.report.pictures import sample_grid

    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: must end in .png")
    images = runs.load(run_id, runs_dir, store).samples(n, seed)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        print(sample_grid(images, out))
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from None


@app.command("eval")
def evaluate(
    run_id: RunId,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="evaluation.extractor=both ...")
    ] = None,
    runs_dir: RunsDir = RUNS_DIR,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """The task's metrics of a run as it was last committed."""
    from rayfed.app import runs
    from rayfed.app.evaluate import evaluate as evaluate_run
    from rayfed.console.tables import print_table

    found = evaluate_run(runs.open_store(runs_dir, store), run_id, overrides or (), partial(print, file=sys.stderr))
    if as_json:
        print(json.dumps(found))
    else:
        print_table([found])


@app.command()
def export(
    run_id: RunId,
    out: Annotated[
        Path | None, typer.Option(help="The file to write: .pt2 (torch.export) or .onnx; none: the network's name.pt2.")
    ] = None,
    runs_dir: RunsDir = RUNS_DIR,
    store: StoreUrl = None,
) -> None:
    """Save a run's trained network as a file that does without rayfed."""
    from rayfed.app import runs
    from rayfed.app.export import export as export_run

    print(export_run(runs.load(run_id, runs_dir, store), out))


@app.command("rm")
def remove(run_id: RunId, runs_dir: RunsDir = RUNS_DIR, store: StoreUrl = None) -> None:
    """Delete a run: its learning state and its pictures. What MLflow has of it stays."""
    from rayfed.app import runs

    runs.remove(runs.open_store(runs_dir, store), run_id, Path(runs_dir))
    print(f"removed {run_id}")


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
        _touch("--picture", picture)
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


def main() -> None:
    """The entry point: a user's error is one line on stderr and an exit code."""
    try:
        app()
    except UserError as error:
        print(f"rayfed: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _touch(option: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error.strerror})") from None


def _conclude(result: Any, as_json: bool) -> None:
    """The closing table of a run, and its exit code."""
    summary = result.summary()
    if as_json:
        print(json.dumps(summary))
    else:
        from rayfed.console.tables import closing_table

        print(closing_table(summary, result.task.metrics))
    if result.status != "finished":
        raise typer.Exit(INTERRUPTED if result.status == "interrupted" else FAILED)


def _print_pairs(pairs: dict[str, str], as_json: bool) -> None:
    from rayfed.console.tables import print_pairs

    if as_json:
        print(json.dumps(pairs, indent=2))
    else:
        print_pairs(pairs)
