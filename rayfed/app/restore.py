"""Where a resumed run goes on: a kept round, of which every state can be read; and what to do when one cannot."""

from collections.abc import Callable, Collection
from pathlib import Path

from rayfed.app.result import EVALUATION_PICTURE, resume_command
from rayfed.config import RunConfig
from rayfed.engine.checkpoint import Checkpoint, checkpoint_of
from rayfed.errors import UserError, counted
from rayfed.fleet.states import StateError, StateFile, StateFolder
from rayfed.methods.spec import method_of
from rayfed.store import Store

SHOWN = 10
"""Devices that a message names."""


def checkpoint_to_resume(
    store: Store,
    run_id: str,
    config: RunConfig,
    states: StateFolder,
    notice: Callable[[str], None],
    round: int | None = None,
    drop_damaged: bool = False,
) -> Checkpoint | None:
    """The last checkpoint, or that of `round`, after which the run's later rounds are forgotten; None if there is none.

    Raises UserError for a round that is not kept, and for states of devices that are gone; with `drop_damaged` such
    devices, and those whose state is not what was written, begin with a fresh one.
    """
    if round is not None and round not in (kept := store.states(run_id)):
        raise UserError(f"--round {round}: is not kept; a run goes on from {', '.join(map(str, kept)) or 'none'}")
    commit = store.latest(run_id, until=round)
    if commit is None:
        return None
    checkpoint = checkpoint_of(commit, method_of(config))
    files = {device: state for device, state in checkpoint.devices.items() if isinstance(state, StateFile)}
    gone = set(states.missing(files.values()))
    if drop_damaged:
        damaged = {device: file for device, file in files.items() if file in gone or not _reads(states, file)}
        if damaged:
            notice(f"{_devices(damaged)} with a state that is gone or damaged: fresh ones begin in their place")
        for device in damaged:
            del checkpoint.devices[device]
        store.forget_files(run_id, {file.name for file in damaged.values()})
    elif gone:
        lost = [device for device, file in files.items() if file in gone]
        raise UserError(
            f"run {run_id}: the state of {_devices(lost)} is gone from {states.place}; "
            f"`{way_on(store, run_id, config, states)}` goes on without"
        )
    if round is not None:
        store.rewind(run_id, round)
        _forget_pictures(Path(config.runs_dir).absolute() / run_id, round)
    states.keep(store.files(run_id))
    return checkpoint


def way_on(store: Store, run_id: str, config: RunConfig, states: StateFolder, damaged: str | None = None) -> str:
    """The command that goes on from the newest kept round whose state files are there, and not `damaged` by name."""
    command = resume_command(run_id, config)
    for round in reversed(store.states(run_id)):
        commit = store.latest(run_id, until=round)
        assert commit is not None
        files = [state for state in commit.devices.values() if isinstance(state, StateFile)]
        if damaged not in {file.name for file in files} and not states.missing(files):
            return f"{command} --round {round}"
    return f"{command} --drop-damaged-states"


def _forget_pictures(folder: Path, round: int) -> None:
    """Of evaluations after a round."""
    for path in folder.glob("*.png"):
        if (drawn := EVALUATION_PICTURE.fullmatch(path.name)) and int(drawn["round"]) > round:
            path.unlink()


def _reads(states: StateFolder, file: StateFile) -> bool:
    try:
        states.read(file)
    except StateError:
        return False
    return True


def _devices(devices: Collection[int]) -> str:
    named = ", ".join(map(str, sorted(devices)[:SHOWN])) + (", ..." if len(devices) > SHOWN else "")
    return f"{counted(len(devices), 'device')} ({named})"
