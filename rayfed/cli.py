"""The commands. Anything that imports torch, ray or mlflow is imported inside the command that needs it."""

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

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
    """Train a GAN as CONFIG says."""
    config = configuration.load(file, overrides or ())
    _prepare_ray(config)
    from rayfed.display import Display
    from rayfed.runtime import launch

    _conclude(launch.start(config, local, Display(config.rounds)), as_json)


@app.command()
def resume(
    run_id: RunId, runs_dir: RunsDir = RUNS_DIR, store: StoreUrl = None, local: Local = False, as_json: Json = False
) -> None:
    """Go on with a run from its last commit."""
    opened = _open(runs_dir, store)
    stored = opened.run(run_id).config
    config = configuration.parse(stored if store else stored | {"runs_dir": runs_dir})
    _prepare_ray(config)
    from rayfed.display import Display
    from rayfed.runtime import launch

    _conclude(launch.resume(run_id, config, opened, local, Display(config.rounds)), as_json)


@app.command()
def compare(
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, e.g. jobs/compare.yaml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Of what the runs share: devices.count=20 ...")
    ] = None,
    local: Local = False,
    as_json: Json = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the FIDs as CSV: run, seed, round ...")
    ] = None,
) -> None:
    """Compare methods, or settings of one, on the same data, devices, network and seeds."""
    comparison = configuration.load_comparison(file, overrides or ())
    first = next(iter(comparison.configs().values()))
    _prepare_ray(next(iter(first.values())))
    from rayfed.display import Board, comparison_closing
    from rayfed.runtime.compare import compare as run_comparison

    if csv:
        _touch("--csv", csv)
    found = run_comparison(comparison, file.stem, local, Board())
    if csv:
        shutil.copyfile(found["table"], csv)
    print(json.dumps(found) if as_json else comparison_closing(found))
    if found["status"] != "finished":
        raise typer.Exit(INTERRUPTED if found["status"] == "interrupted" else FAILED)


@app.command("list")
def list_runs(runs_dir: RunsDir = RUNS_DIR, store: StoreUrl = None, as_json: Json = False) -> None:
    """The runs: their state, rounds and best FID."""
    from rayfed.runtime.owner import is_dead

    opened = _open(runs_dir, store)
    rows = []
    for record in opened.runs():
        history = opened.history(record.id)
        rows.append(
            {
                "run": record.id,
                "method": record.config["method"]["name"],
                "data": record.config["data"]["name"],
                "state": "killed" if record.status == "running" and is_dead(record.facts) else record.status,
                "rounds": max(record.rounds or 0, 0),
                "of": record.config["rounds"],
                "best_fid": _best(history, "fid"),
                "best_fid_classifier": _best(history, "fid_classifier"),
                "began": record.created.isoformat(timespec="seconds"),
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        print(f"no runs in {opened.url}; `rayfed run jobs/demo.yaml` makes one")
        return
    _print_table(rows)


@app.command()
def sample(
    run_id: RunId,
    n: Annotated[int, typer.Option("--n", min=1, help="How many images.")] = 64,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("samples.png"),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the noise.")] = 0,
    runs_dir: RunsDir = RUNS_DIR,
    store: StoreUrl = None,
) -> None:
    """Draw images from a run's generator as a grid."""
    from rayfed.report.pictures import sample_grid
    from rayfed.runtime import replay

    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: must end in .png")
    generator = replay.generator(_open(runs_dir, store), run_id)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        print(sample_grid(generator.generate(n, seed), out))
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
    """The FID of a run's generator as it was last committed."""
    from rayfed.runtime import replay

    for override in overrides or ():
        if not override.startswith(("evaluation.", "data.root=")):
            raise UserError(f"{override}: would not be the run's generator; only evaluation.* and data.root can change")
    rows = replay.evaluate(_open(runs_dir, store), run_id, overrides or ())
    if as_json:
        print(json.dumps(rows))
    else:
        _print_table([rows])


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
    """Place a discriminator on the devices of each client (FSL-GAN) and tell what a step would take."""
    from rayfed.models.block import merge, paper_ends
    from rayfed.models.portions import described
    from rayfed.plan_display import plan_text
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
    from rayfed.algorithms import METHODS

    _print_pairs({name: method.about for name, method in METHODS.items()}, as_json)


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


def _prepare_ray(config: RunConfig) -> None:
    from rayfed.runtime import prepare_environment

    prepare_environment(config.ray.address)


def _touch(option: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error.strerror})") from None


def _open(runs_dir: str, url: str | None) -> Any:
    from rayfed.store import Store

    path = Path(runs_dir).absolute() / "rayfed.db"
    if url is None and not path.exists():
        raise UserError(f"no runs in {path.parent}; name their folder with --runs-dir or their database with --store")
    return Store(url or f"sqlite:///{path}")


def _best(history: list[tuple[int, dict[str, float], list[int]]], metric: str) -> float | None:
    values = [metrics[metric] for _, metrics, _ in history if metric in metrics]
    return round(min(values), 3) if values else None


def _conclude(result: Any, as_json: bool) -> None:
    """The closing table of a run, and its exit code."""
    summary = result.summary()
    if as_json:
        print(json.dumps(summary))
    else:
        from rayfed.display import closing_table

        print(closing_table(summary))
    if result.status != "finished":
        raise typer.Exit(INTERRUPTED if result.status == "interrupted" else FAILED)


def _print_pairs(pairs: dict[str, str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(pairs, indent=2))
        return
    width = max(map(len, pairs))
    for name, about in pairs.items():
        print(f"{name:<{width}}  {about}")


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*("-" if value is None else _cell(value) for value in row.values()))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)
