"""The commands. Anything that imports torch, ray or mlflow is imported inside the command that needs it."""

import gc
import json
import shutil
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from rayfed import config as configuration
from rayfed.cli import jobs, knowledge, runs
from rayfed.cli.shared import FAILED, INTERRUPTED, RUNS_DIR, Json, RunId, RunsDir, StoreUrl, ident, touch
from rayfed.cluster import prepare_environment
from rayfed.config import RunConfig
from rayfed.errors import UserError

app = typer.Typer(
    help="Train GANs on data that stays on its devices, on a Ray cluster, and see what each method costs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Ident = Annotated[str | None, typer.Option("--id", parser=ident, metavar="ID", help="Its id, instead of a fresh one.")]
Local = Annotated[bool, typer.Option("--local", help="Run in this process without Ray, for a debugger.")]


def _version(asked: bool) -> None:
    if asked:
        print(f"rayfed-gan {version('rayfed-gan')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Train GANs on data that stays on its devices, on a Ray cluster, and see what each method costs."""


@app.command()
def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE]...", help="A YAML file, e.g. jobs/fegan.yaml; devices.count=80 ..."
        ),
    ] = None,
    local: Local = False,
    ident: Ident = None,
    as_json: Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the run would ask for, move and compute, and end.")
    ] = False,
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For --dry-run: a cluster file, such as cluster.yaml.")
    ] = None,
) -> None:
    """Train as CONFIG says, or as the keys alone do: method.name=fegan."""
    from rayfed import api

    given = arguments or []
    if not given:
        raise typer.BadParameter("name a configuration, e.g. jobs/demo.yaml, or a method: method.name=fegan")
    alone = "=" in given[0] and not Path(given[0]).exists()
    file, overrides = (None, given) if alone else (Path(given[0]), given[1:])
    config = configuration.load(file, overrides, notice=lambda text: print(text, file=sys.stderr))
    if cluster and not dry_run:
        raise typer.BadParameter("--cluster is for --dry-run; a run finds its cluster by ray.address or RAY_ADDRESS")
    if dry_run:
        _plan(config, cluster, as_json)
    else:
        _conclude(api.run(config, local=local, run_id=ident), as_json)


@app.command()
def resume(
    run_id: RunId,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="rounds=80, resources.hosts=4 ...")
    ] = None,
    round: Annotated[
        int | None, typer.Option(min=0, help="An earlier round that is kept; those after it are forgotten.")
    ] = None,
    drop_damaged_states: Annotated[
        bool, typer.Option("--drop-damaged-states", help="Devices with a lost or damaged state begin with a fresh one.")
    ] = False,
    runs_dir: RunsDir = RUNS_DIR,
    store: StoreUrl = None,
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Go on with a run from its last commit; a finished one with more rounds."""
    from rayfed import api

    result = api.resume(
        run_id,
        overrides or (),
        runs_dir=runs_dir,
        store=store,
        local=local,
        round=round,
        drop_damaged_states=drop_damaged_states,
    )
    _conclude(result, as_json)


@app.command()
def compare(
    file: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, e.g. jobs/compare.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="'seeds=[0,1]'; of what the runs share: rounds=20 ..."),
    ] = None,
    local: Local = False,
    ident: Ident = None,
    as_json: Json = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the task's metrics as CSV: run, seed, round ...")
    ] = None,
) -> None:
    """Compare methods, or settings of one, on the same data, devices, network and seeds."""
    comparison = configuration.load_comparison(file, overrides or ())
    if csv:
        comparison.configs()
        touch("--csv", csv)
    from rayfed import api
    from rayfed.console.tables import comparison_closing

    found = api.compare(comparison, name=file.stem, ident=ident, local=local)
    if csv:
        shutil.copyfile(found["table"], csv)
    print(json.dumps(found) if as_json else comparison_closing(found))
    if found["status"] != "finished":
        raise typer.Exit(INTERRUPTED if found["status"] == "interrupted" else FAILED)


def main() -> None:
    """The entry point: a user's error is one line on stderr and an exit code."""
    try:
        app()
    except UserError as error:
        print(f"rayfed: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        gc.freeze()  # at its end the interpreter would look through all of torch for garbage, for seconds


def _plan(config: RunConfig, cluster: Path | None, as_json: bool) -> None:
    """What a run would take."""
    prepare_environment(config.ray.address)
    from rayfed.app.dry_run import dry_run
    from rayfed.console.tables import dry_run_text

    found = dry_run(config, partial(print, file=sys.stderr), cluster)
    print(json.dumps(found) if as_json else dry_run_text(found))


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


app.add_typer(runs.app)
app.add_typer(jobs.app)
app.add_typer(knowledge.app)
