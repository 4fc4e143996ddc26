"""Arguments and options that several commands share."""

import re
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated

import typer

from rayfed.config.run import default_runs_dir
from rayfed.errors import UserError

INTERRUPTED = 130
FAILED = 1
RUNS_DIR = default_runs_dir()


def ident(text: str) -> str:
    """An id that somebody has chosen; raises UserError for one that is no name of a folder."""
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise UserError(f"--id {text}: must be of letters, digits, `.`, `_` and `-`")
    return text


def run_ids(context: typer.Context, incomplete: str) -> list[str]:
    """The runs that a shell offers to complete."""
    from rayfed.app.runs import open_store

    runs_dir, url = context.params.get("runs_dir") or default_runs_dir(), context.params.get("store")
    with suppress(UserError), closing(open_store(runs_dir, url)) as store:
        return [record.id for record in store.runs() if record.id.startswith(incomplete)]
    return []


RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, as `rayfed list` shows it.", autocompletion=run_ids)
]
RunsDir = Annotated[
    str, typer.Option(envvar="RAYFED_RUNS_DIR", help="The folder of the runs, as `runs_dir` of their configuration.")
]
StoreUrl = Annotated[str | None, typer.Option("--store", help="Their database's URL, else RAYFED_STORE_URL.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def touch(option: str, path: Path) -> None:
    """Make a file that is to be written; raises UserError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error.strerror})") from None


def refuse_existing(option: str, path: Path) -> None:
    """Raise UserError for a file that is there already."""
    if path.is_file():
        raise UserError(f"{option} {path}: is there already; name another file or remove it")
