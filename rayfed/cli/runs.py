"""The commands about runs that are there: what they have come to, and what can be taken from them."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rayfed.cli.shared import RUNS_DIR, Json, RunId, RunsDir, StoreUrl, refuse_existing
from rayfed.errors import UserError

app = typer.Typer()


def _round(text: str) -> int | Literal["last", "best"]:
    if text.isdecimal():
        return int(text)
    if text in ("last", "best"):
        return text  # type: ignore[return-value]
    raise UserError(f"--round {text}: must be last, best, or a round's number")


Round = Annotated[
    Any, typer.Option("--round", parser=_round, metavar="ROUND", help="last, best (of the evaluations), or a number.")
]


@app.command("list")
def list_runs(runs_dir: RunsDir = RUNS_DIR, store: StoreUrl = None, as_json: Json = False) -> None:
    """The runs and comparisons: their state, rounds, and the best and last of their metrics."""
    from rayfed.app.listing import rows
    from rayfed.app.runs import open_store
    from rayfed.console.listing import list_text

    opened = open_store(runs_dir, store)
    found = rows(opened)
    if as_json:
        print(json.dumps(found, indent=2))
    elif found:
        print(list_text(found))
    else:
        print(f"no runs in {opened.url}; `rayfed run jobs/demo.yaml` makes one")


@app.command()
def show(run_id: RunId, runs_dir: RunsDir = RUNS_DIR, store: StoreUrl = None, as_json: Json = False) -> None:
    """One run in full: its configuration, its history, and what there is of it."""
    from rayfed.app import runs
    from rayfed.app.listing import document
    from rayfed.console.listing import show_text

    result = runs.load(run_id, runs_dir, store)
    found = document(result, runs.open_store(runs_dir, store))
    print(json.dumps(found) if as_json else show_text(found, result.task.metrics))


@app.command()
def sample(
    run_id: RunId,
    n: Annotated[int, typer.Option("--n", min=1, help="How many images.")] = 64,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("samples.png"),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the noise.")] = 0,
    round: Round = "last",
    runs_dir: RunsDir = RUNS_DIR,
    store: StoreUrl = None,
) -> None:
    """Draw images from a run's trained network as a grid."""
    from rayfed.app import runs
    from rayfed.report.pictures import sample_grid

    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: must end in .png")
    refuse_existing("--out", out)
    images = runs.load(run_id, runs_dir, store).samples(n, seed, round)
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
    round: Round = "last",
    runs_dir: RunsDir = RUNS_DIR,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """The task's metrics of a run as it was last committed, or after another round that is kept."""
    from rayfed.app import runs
    from rayfed.app.evaluate import evaluate as evaluate_run
    from rayfed.console.tables import print_table

    said = partial(print, file=sys.stderr)
    found = evaluate_run(runs.open_store(runs_dir, store), run_id, overrides or (), round, said)
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
    round: Round = "last",
    runs_dir: RunsDir = RUNS_DIR,
    store: StoreUrl = None,
) -> None:
    """Save a run's trained network as a file that does without rayfed."""
    from rayfed.app import runs
    from rayfed.app.export import export as export_run

    print(export_run(runs.load(run_id, runs_dir, store), out, round))


@app.command("rm")
def remove(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or a comparison's with all of its runs.")],
    runs_dir: RunsDir = RUNS_DIR,
    store: StoreUrl = None,
) -> None:
    """Delete a run or a comparison: its learning state and its pictures. What MLflow has of it stays."""
    from rayfed.app import runs

    removed = runs.remove(runs.open_store(runs_dir, store), run_id, Path(runs_dir))
    print(f"removed {run_id}" + (f" and its runs {', '.join(removed)}" if removed != [run_id] else ""))
