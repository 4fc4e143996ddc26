"""Device states of a commit as arrays, wherever they lie."""

from dataclasses import replace
from pathlib import Path

from rayfed.app.result import states_place
from rayfed.fleet.states import StateFile, StateFolder
from rayfed.store import Commit, Store


def last_commit(store: Store, run_id: str) -> Commit:
    """The last commit of a run in the SQLite store of a runs folder; its device states are arrays."""
    commit = store.latest(run_id)
    assert commit is not None
    states = StateFolder(states_place(run_id, Path(store.url.removeprefix("sqlite:///")).parent, None))
    read = {
        device: states.read(state) if isinstance(state, StateFile) else state
        for device, state in commit.devices.items()
    }
    return replace(commit, devices=read)
