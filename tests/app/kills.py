"""A run that is killed with SIGKILL again and again, each time in a forked child: python -m tests.app.kills FOLDER SEED

Prints what was under way at each kill. In a process of its own, which forks before torch has threads.
"""

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rayfed import api
from rayfed.config import RunConfig, parse
from rayfed.fleet import folders
from rayfed.fleet.folders import LocalFolder
from rayfed.fleet.states import StateFolder
from rayfed.store import Store

ROUNDS, KILLS = 60, 20
SWEEP = "the sweep of a resumed run"
MOMENTS: dict[str, tuple[Any, str]] = {
    "a state": (LocalFolder, "put"),
    "a state's temporary file": (folders, "save_file"),
    "the names of the files": (StateFolder, "sync"),
    "the transaction": (Store, "commit"),
    "the removal of what nobody needs": (StateFolder, "remove"),
    SWEEP: (StateFolder, "keep"),
}


def config(folder: Path) -> RunConfig:
    """Half of six devices a round, each with moments of its own."""
    return parse(
        {
            "seed": 5,
            "rounds": ROUNDS,
            "runs_dir": str(folder),
            "method": {"name": "fegan", "fraction": 0.5, "iterations": 1, "batch": 4, "moments": "keep"},
            "devices": {"count": 6},
            "model": {"name": "dcgan28", "width": 4},
            "evaluation": {"every": 0},
            "tracking": {"enabled": False},
        }
    )


@contextmanager
def dying(owner: Any, name: str, countdown: int, after: bool) -> Iterator[None]:
    """This process dies before, or after, a function runs for the so-manieth time."""
    left, original = [countdown], getattr(owner, name)

    def interposed(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if not left[0] and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, interposed)
    try:
        yield
    finally:
        setattr(owner, name, original)


def in_a_child(work: Callable[[], Any]) -> bool:
    """Whether it was killed; it must have come to its end otherwise."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def go_on(folder: Path) -> None:
    """Begin the run, or resume it, in this process."""
    path = folder / "rayfed.db"
    if path.exists() and (runs := Store(f"sqlite:///{path}").runs()):
        api.resume(runs[0].id, runs_dir=str(folder), local=True, progress=False)
    else:
        api.run(config(folder), local=True, progress=False)


def main() -> None:
    """A run in FOLDER/undisturbed, and one in FOLDER/disturbed that is killed, and goes on to its end."""
    folder, moments = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    assert not in_a_child(lambda: go_on(folder / "undisturbed"))
    kills = 0
    while kills < KILLS:
        what, countdown, after = moments.choice(list(MOMENTS)), moments.randint(1, 3), moments.random() < 0.5
        if what == SWEEP:  # there is one, if the run has begun
            what, countdown = (SWEEP, 1) if kills else ("a state", 1)

        def work(moment: Any = (*MOMENTS[what], countdown, after)) -> None:
            with dying(*moment):
                go_on(folder / "disturbed")
            raise AssertionError(f"did not come to {moment}")

        if in_a_child(work):
            kills += 1
            print(f"{'after' if after else 'before'} {what}", flush=True)
    assert not in_a_child(lambda: go_on(folder / "disturbed"))


if __name__ == "__main__":
    main()
