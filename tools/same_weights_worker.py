"""Runs cases of `same_weights.py` in one tree, one after the other, and writes down all that each left in its store.

python same_weights_worker.py TREE FOLDER CASE...    with TREE before all else on PYTHONPATH
"""

import io
import json
import os
import shutil
import signal
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file
from same_weights_cases import CASES, Case

Arrays = dict[str, np.ndarray]
WALL_CLOCK = ("round_seconds", "seconds", "images_per_s", "updates_per_s", "epochs_per_s")
"""Metrics that are of the machine."""
FRAMES = 3
"""Of a failed run's traceback."""


def state_of(store: Any, runs: Path, run_id: str, round: int) -> tuple[Arrays, dict[int, Arrays], dict[str, Any]]:
    """What the store of whatever tree this is kept of a round: the server's arrays, each device's, and the facts.

    The facts are JSON: `method` (without what is empty), `seen`, `twin`, `slowness` and `events`, a list of
    [round, sentence]. Stores before version 2 of the facts had sentences among them.
    """
    commit = _as_lists(store.latest(run_id, round))
    method = {name: value for name, value in commit.facts["method"].items() if value not in ({}, [], None)}
    if "queues" in method.get("sampler", {}):
        method["sampler"] = _turned(method["sampler"], store.run(run_id).facts["class_counts"])
    facts = {"seen": commit.facts["seen"], "twin": commit.facts["twin"]}
    if "version" in commit.facts:
        facts["slowness"] = method.pop("slowness", {})
        facts["events"] = [[at, _told(data)] for at, data in store.events(run_id) if at <= round]
    else:
        facts["slowness"] = commit.facts["slowness"]
        facts["events"] = [[at, text] for at, text in commit.facts["events"]]
    devices = {device: _arrays(state, runs / run_id / "states") for device, state in commit.devices.items()}
    return commit.arrays, devices, facts | {"method": method}


def _arrays(state: Any, folder: Path) -> Arrays:
    """A device's state; older trees have the arrays in the store, newer ones a file's name."""
    return state if isinstance(state, dict) else load_file(folder / f"{state.name}.safetensors")


def _as_lists(commit: Any) -> Any:
    """A commit in whose facts there are lists, where newer trees have tables."""
    for path, array in getattr(commit, "tables", {}).items():
        *above, name = path.split("/")
        place = commit.facts
        for each in above:
            place = place[each]
        place[name] = array.tolist()
    return commit


def _turned(sampler: dict[str, Any], counts: list[list[int]]) -> dict[str, Any]:
    """What newer trees keep of balanced sampling's queues: by how many turns each is ahead of where it began."""
    begun = [[int(k) for k in np.flatnonzero(owned)[::-1]] for owned in np.array(counts).T]
    turns = [first.index(queue[0]) if queue else 0 for first, queue in zip(begun, sampler["queues"], strict=True)]
    return {"turns": turns, "seen": sampler["seen"]}


def _told(data: dict[str, Any]) -> str:
    """An event's sentence, which in older trees the report makes."""
    from rayfed.events import from_json

    event: Any = from_json(data)
    made = event.sentence() if hasattr(event, "sentence") else import_module("rayfed.report.events").sentence(event)
    return str(made)


def main() -> None:
    """Every case named, into a folder of its own, numbered in their order."""
    tree, folder, *names = sys.argv[1:]
    import rayfed

    assert Path(rayfed.__file__).is_relative_to(tree), f"{rayfed.__file__} does not lie in {tree}"
    for number, name in enumerate(names):
        _record(CASES[name], Path(folder) / str(number))


def _record(case: Case, folder: Path) -> None:
    """Run a case; its arrays to arrays.npz, the rest to record.json, which comes last."""
    runs = folder / "runs"
    runs.mkdir(parents=True)
    file = folder / "case.yaml"
    file.write_text(yaml.safe_dump(case.tree | {"runs_dir": str(runs)}))
    said = io.StringIO()
    arrays: Arrays = {}
    record: dict[str, Any] = {"rounds": []}
    try:
        with redirect_stdout(said), redirect_stderr(said):
            record["outcome"] = _train(case, file, runs)
            record["rounds"] = _read(runs, arrays)
    except Exception as error:
        record["outcome"] = f"{type(error).__name__}: {error}"
        record["said"] = said.getvalue() + traceback.format_exc(limit=-FRAMES)
    np.savez(folder / "arrays.npz", **arrays)  # type: ignore[arg-type]
    shutil.rmtree(runs)
    unfinished = folder / "unfinished.json"
    unfinished.write_text(json.dumps(record))
    unfinished.rename(folder / "record.json")


def _train(case: Case, file: Path, runs: Path) -> str:
    """Run a case by the command line's own entry; how it ended."""
    from rayfed.cli import app

    command = ["run", str(file), *case.overrides, "--local"]
    if case.resumed:
        run_id = _interrupted(command, runs)
        command = ["resume", run_id, "--runs-dir", str(runs), "--local"]
    code = app(command, standalone_mode=False)
    return f"exit code {code or 0}"


class _CtrlC(io.StringIO):
    """A stderr on which the line about the first round is answered by Ctrl-C: the run stops after that round."""

    pressed = False

    def write(self, text: str) -> int:
        if "round 1/" in text and not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


def _interrupted(command: list[str], runs: Path) -> str:
    """The run's id after its first round, in a process that is gone then: a living one could not be resumed."""
    from rayfed.cli import app

    child = os.fork()
    if child == 0:
        try:
            with redirect_stderr(_CtrlC()):
                app(command, standalone_mode=False)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    (run,) = _store(runs).runs()
    if (run.status, run.rounds) != ("interrupted", 1):
        raise RuntimeError(f"was to be interrupted after its first round, and is {run.status} after {run.rounds}")
    return str(run.id)


def _read(runs: Path, arrays: Arrays) -> list[dict[str, Any]]:
    """Every round that the one run of a store has committed; its arrays are added to `arrays`."""
    store = _store(runs)
    (run,) = store.runs()
    rounds = []
    for round, metrics, participants in store.history(run.id):
        server, devices, facts = state_of(store, runs, run.id, round)
        arrays |= {f"{round}|server {name}": values for name, values in server.items()}
        for device, state in devices.items():
            arrays |= {f"{round}|devices {name}|{device}": values for name, values in state.items()}
        kept = {name: value for name, value in metrics.items() if name not in WALL_CLOCK}
        rounds.append({"round": round, "metrics": kept, "participants": participants, "facts": facts})
    store.close()
    return rounds


def _store(runs: Path) -> Any:
    from rayfed.store import Store

    return Store(f"sqlite:///{runs / 'rayfed.db'}")


if __name__ == "__main__":
    main()
