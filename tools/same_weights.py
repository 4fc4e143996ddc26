"""Whether a refactoring leaves every bit as it was: python tools/same_weights.py REVISION

Runs every method, with each kind of option that changes what it computes, small and without Ray, once on a checkout of
REVISION and once on the working tree, on this machine. Whatever a run leaves behind must be the same bit for bit, round
by round: the server's arrays, the states of the devices, the metrics (but for those of the wall clock), the
participants and the facts. Exit code 0 if all of it is; 1 if anything differs, or a case tests nothing; 2 for bad
input. The cases are those of `same_weights_cases.py`; it needs the Python into which rayfed's packages are installed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from same_weights_cases import CASES, Case
from same_weights_compare import Dump, compare

TOOLS = Path(__file__).resolve().parent
REPOSITORY = TOOLS.parent
POLL_S = 0.1


@dataclass(frozen=True)
class Side:
    """One tree, and the process that runs the cases in it."""

    process: subprocess.Popen[bytes]
    folder: Path
    """Where the process writes."""

    def dump(self, number: int) -> Dump:
        """What the case of that number left behind, as soon as it is there."""
        folder = self.folder / str(number)
        while not (folder / "record.json").exists():
            ended = self.process.poll() is not None
            if ended and not (folder / "record.json").exists():
                sys.exit(f"same_weights: a worker ended with exit code {self.process.returncode}")
            time.sleep(POLL_S)
        found = Dump.read(folder)
        shutil.rmtree(folder)
        return found


def main() -> None:
    """The command."""
    parser = _parser()
    given = parser.parse_args()
    cases = [case for name, case in CASES.items() if given.only in name]
    if not cases:
        parser.error(f"--only {given.only}: no such case; --list names them")
    if given.list:
        print("\n".join(case.name for case in cases))
        return
    if given.revision is None:
        parser.error("REVISION is missing")
    if not (given.tree / "rayfed" / "__init__.py").exists():
        parser.error(f"--tree {given.tree}: no rayfed in it")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as with Ctrl-C, the workers end and the folder goes
    allowed = [name for name in given.allow.split(",") if name]
    with TemporaryDirectory(prefix="same-weights-") as folder:
        trees = [Path(folder).resolve() / name for name in ("before", "after")]
        _check_out(parser, given.revision, trees[0])
        # A copy: whoever edits the tree meanwhile does not change what is compared.
        shutil.copytree(given.tree / "rayfed", trees[1] / "rayfed", ignore=shutil.ignore_patterns("__pycache__"))
        with _worker(trees[0], cases) as before, _worker(trees[1], cases) as after:
            code = _judge(cases, before, after, allowed)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Compare what every method computes on REVISION and in the working tree, bit for bit."
    )
    parser.add_argument("revision", metavar="REVISION", nargs="?", help="a commit of this repository, e.g. HEAD")
    parser.add_argument("--only", metavar="PATTERN", default="", help="the cases with this in their names")
    parser.add_argument("--list", action="store_true", help="name the cases, and run none")
    parser.add_argument(
        "--allow",
        metavar="NAME[,NAME]",
        default="",
        help="metrics, and beginnings of facts' paths, whose change is meant, e.g. flops_devices,sim_seconds,twin",
    )
    parser.add_argument(
        "--tree", type=Path, default=REPOSITORY, help="another tree in place of the working tree (default: %(default)s)"
    )
    return parser


def _check_out(parser: argparse.ArgumentParser, revision: str, folder: Path) -> None:
    """The files of a revision into a new folder."""
    folder.mkdir()
    archive = folder.with_suffix(".tar")
    command = ["git", "-C", str(REPOSITORY), "archive", f"--output={archive}", revision, "rayfed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        parser.error(f"{revision}: cannot be checked out ({done.stderr.strip()})")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()


@contextmanager
def _worker(tree: Path, cases: Sequence[Case]) -> Iterator[Side]:
    """A process that runs the cases in a tree, on one thread, without the user's caches; killed at the end."""
    folder = tree.with_name(f"{tree.name}-runs")
    folder.mkdir()
    own = {"PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    own |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    # FORCE_COLOR and the like would have a run draw a moving line, as on a terminal.
    others = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    command = [sys.executable, str(TOOLS / "same_weights_worker.py"), str(tree), str(folder)]
    command += [case.name for case in cases]
    # A session of its own: Ctrl-C is for this process, and not a signal to stop after the current round.
    process = subprocess.Popen(command, cwd=folder, env=others | own, start_new_session=True)
    try:
        yield Side(process, folder)
    finally:
        process.kill()
        process.wait()


def _judge(cases: Sequence[Case], before: Side, after: Side, allowed: Sequence[str]) -> int:
    """Tell of each case that differs or tests nothing, as soon as it has run on both sides; the exit code."""
    differing, useless, meant = 0, 0, 0
    seen: dict[str, str] = {}
    for number, case in enumerate(cases):
        if sys.stderr.isatty():
            print(f"{number}/{len(cases)}", end="\r", file=sys.stderr)
        one, other = before.dump(number), after.dump(number)
        found = compare(one, other, allowed)
        for line in found.lines:
            print(f"{case.name}: {line}", flush=True)
        differing, meant = differing + bool(found.lines), meant + found.allowed
        if reason := _why_useless(case, one, seen):
            print(f"case {case.name} tests nothing: {reason}", flush=True)
            useless += 1
    if meant:
        print(f"changed as allowed: {meant} values")
    print(f"{differing} of {len(cases)} cases differ" if differing else f"{len(cases)} cases identical")
    if useless:
        print(f"{useless} of {len(cases)} cases test nothing")
    return 1 if differing or useless else 0


def _why_useless(case: Case, dump: Dump, seen: dict[str, str]) -> str | None:
    """Why a case's run on the revision compares nothing that is worth it; `seen`: the fingerprints so far."""
    if "said" in dump.record:
        return f"it does not run: {dump.record['said']}"
    for expectation in case.expects:
        if not expectation.happens(dump.record["rounds"]):
            return f"it never happens that {expectation.what}"
    twin = seen.setdefault(dump.fingerprint(), case.name)
    return f"it leaves behind what {twin} does" if twin != case.name else None


if __name__ == "__main__":
    main()
