"""What a server remembers is what its arrays and facts say, through JSON too."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rayfed.engine.checkpoint import Checkpoint, checkpoint_of
from rayfed.engine.simulation import Simulation
from rayfed.events import Note
from rayfed.methods.fsl_gan.events import DevicesBack
from rayfed.methods.fsl_gan.settings import FslState
from rayfed.methods.spec import method_of
from rayfed.methods.state import State
from tests.methods.federation import Federation

MODELS = {"generator": np.arange(3, dtype=np.float32), "discriminator": np.ones(2, np.float32)}
ADAM = {"generator.step": np.full(1, 5, np.float32), "generator.exp_avg": np.zeros(3, np.float32)}
SAMPLER = {"queues": [[0, 1], [2]], "seen": [4, 0]}
STATES = [
    State(0, MODELS),
    State(7, MODELS, ADAM, SAMPLER),
    FslState(0, MODELS, ADAM),
    FslState(
        3,
        MODELS,
        ADAM,
        held={"0": [[0, [0, 1]], [2, [2, 3]]], "1": [[3, [0, 1, 2, 3]]]},
        gone=[1, 4],
        dropped=1,
        slowness={"2": 3.8125},
    ),
]


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_restored_from_its_arrays_and_facts(state: State) -> None:
    assert type(state).restored(state.round, state.arrays, state.facts()) == state
    stored = json.loads(json.dumps(state.facts(), allow_nan=False))
    assert type(state).restored(state.round, state.arrays, stored) == state


@pytest.mark.parametrize("state", STATES)
def test_arrays_are_models_and_optimizer_state(state: State) -> None:
    """Of two dictionaries one; the names of the optimizer's have a dot."""
    assert state.arrays.keys() == state.models.keys() | state.optimizer.keys()
    assert all(state.arrays[name] is array for name, array in (state.models | state.optimizer).items())
    assert {name for name in state.arrays if "." in name} == set(state.optimizer)


def test_facts_by_hand() -> None:
    """Neither arrays, which the store keeps apart, nor the round, nor what happened in it."""
    events = (DevicesBack(("a/1",)), Note("hot"))
    assert replace(STATES[1], events=events).facts() == {"sampler": SAMPLER}
    assert replace(STATES[3], events=events).facts() == {
        "sampler": {},
        "held": {"0": [[0, [0, 1]], [2, [2, 3]]], "1": [[3, [0, 1, 2, 3]]]},
        "gone": [1, 4],
        "dropped": 1,
        "slowness": {"2": 3.8125},
    }


def test_the_next_round_does_not_know_what_happened_in_the_last() -> None:
    state = replace(STATES[3], events=(Note("hot"),))
    assert FslState.restored(3, state.arrays, state.facts()) == STATES[3]


@pytest.mark.parametrize(
    "method",
    [
        {"name": "fegan", "fraction": 0.5},
        {"name": "fl-vanilla", "fraction": 0.5, "sampling": "proportional-fair"},
        {"name": "ren", "fraction": 0.5, "sampling": "balanced"},
        {"name": "md-gan", "swap_epochs": 0},
        {"name": "asyn-dgan"},
    ],
)
def test_a_round_goes_on_from_what_the_store_keeps(method: dict[str, Any]) -> None:
    """The second round after the first, and after what a commit of the first keeps, through JSON: the same state."""
    federation, resumed = (
        Federation(method | {"batch": 3, "iterations": 1}, [[4, 3], [0, 5], [6, 6], [2, 2]]) for _ in range(2)
    )
    state, _ = federation.rounds()
    commit = Checkpoint(state, (), Simulation(federation.config).facts()).commit()
    kept = replace(commit, facts=json.loads(json.dumps(commit.facts, allow_nan=False)))
    before = checkpoint_of(kept, method_of(federation.config)).state
    resumed.fleet.restore(federation.fleet.changed())
    whole, reports = federation.server.round(state, federation.fleet)
    found, same = resumed.server.round(before, resumed.fleet)
    assert same == reports
    assert found.round == whole.round
    for name, fact in whole.facts().items():
        np.testing.assert_equal(found.facts()[name], fact)
    assert found.arrays.keys() == whole.arrays.keys()
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
