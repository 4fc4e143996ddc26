"""RayFleet under faults, on devices whose every value is known by hand."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from rayfed.cluster import batch
from rayfed.cluster import fleet as ray_fleet
from rayfed.cluster.batch import run_batch
from rayfed.cluster.fleet import RayFleet
from rayfed.cluster.hosts import PooledHosts
from rayfed.cluster.objects import HostLostError
from rayfed.fleet.host import Host
from rayfed.fleet.ledger import Call, Collect, Mark, Share, Work
from rayfed.fleet.local import LocalFleet
from rayfed.fleet.protocol import Missing, QuorumError
from rayfed.fleet.states import StateFile, StateFolder


class Counter:
    """Counts its calls in its state; can sleep, and can take its host down with it."""

    def __init__(self, number: int, state: dict[str, Any]) -> None:
        self.number = number
        self.state = state

    def count(self, values: np.ndarray, sleep: float = 0) -> np.ndarray:
        time.sleep(sleep)
        self.state = {"calls": self.state.get("calls", np.zeros(1)) + 1}
        return values + self.state["calls"]

    def die_once(self, values: np.ndarray, mark: str) -> np.ndarray:
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.count(values)

    def stay(self) -> float:
        return float(self.state["calls"][0])

    def die(self, values: np.ndarray) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fail(self) -> None:
        raise ZeroDivisionError("a bug in a device half")


@ray.remote(num_cpus=0)
class CounterHost:
    def __init__(self, states: str | None = None) -> None:
        self.host = Host(Counter, states=StateFolder(states) if states else None)

    def ready(self) -> None: ...

    def run(self, slots, *values):
        return run_batch(self.host, slots, values)

    def keep(self, run, *states):
        files = [self.host.write(state) for state in states]
        return files if len(files) > 1 else files[0]


@pytest.fixture
def make(cluster: None):
    """A fleet of plain hosts; ended with the test."""
    made = []

    def fleet(hosts: int, states: Path | None = None, **options: Any) -> RayFleet:
        made.extend(CounterHost.options(**options).remote(states and str(states)) for _ in range(hosts))
        ray.get([host.ready.remote() for host in made])
        return RayFleet(PooledHosts(made), files=states is not None)

    yield fleet
    for host in made:
        ray.kill(host)


VALUES = np.arange(3.0)


def test_replies_states_and_ledger_equal_the_local_fleets(make) -> None:
    fleets = make(2), LocalFleet(Host(Counter))
    seen = []
    for fleet in fleets:
        shared = fleet.share(VALUES)
        first = [fleet.submit(k, "count", shared) for k in (4, 1, 4)]
        onward = fleet.submit(2, "count", first[1])
        replies = fleet.collect([first[2], onward, first[0]])
        ledger = fleet.settle()
        states = {k: ray.get(s) if isinstance(s, ray.ObjectRef) else s for k, s in fleet.changed().items()}
        seen.append(
            (
                [reply.tolist() for reply in replies],
                ledger.transfers,
                [(call.id, call.device, call.method) for call in ledger.calls],
                {device: state["calls"].item() for device, state in states.items()},
            )
        )
    assert seen[0] == seen[1]
    assert seen[0][0] == [[2, 3, 4], [2, 3, 4], [1, 2, 3]]
    assert seen[0][3] == {1: 1, 2: 1, 4: 2}


def test_the_server_works_beside_its_calls_and_the_ledger_equals_the_local_fleets(make) -> None:
    """A second of the server's work, begun after a call of a second was submitted, takes one second, not two."""
    seen = []
    for fleet in (make(1), LocalFleet(Host(Counter))):
        start = time.monotonic()
        call = fleet.submit(0, "count", fleet.share(VALUES, since="there"), 1.0)
        with fleet.work("think", lambda: 5):
            time.sleep(1.0)
        fleet.mark("there")
        fleet.collect([call])
        if isinstance(fleet, RayFleet):
            assert time.monotonic() - start < 1.9
        events = fleet.settle().events
        seen.append([replace(event, seconds=0) if isinstance(event, Call | Work) else event for event in events])
    assert seen[0] == seen[1]
    assert [type(event) for event in seen[0]] == [Share, Call, Work, Mark, Collect]


def test_what_is_reverted_never_happened_to_the_devices(make) -> None:
    fleet = make(2)
    fleet.collect([fleet.submit(3, "count", VALUES)])
    fleet.settle()
    calls = [fleet.submit(device, "count", VALUES) for device in (3, 3, 4, 5)]
    fleet.collect(calls)
    assert len(fleet.ledger().calls) == 4
    fleet.revert(calls[:3])
    replies = fleet.collect([fleet.submit(device, "count", VALUES) for device in (3, 4, 5)])
    assert [reply.tolist() for reply in replies] == [[2, 3, 4], [1, 2, 3], [2, 3, 4]]


def test_a_late_device_is_marked_and_keeps_its_old_state(make) -> None:
    fleet = make(2)
    futures = [fleet.submit(0, "count", VALUES, 30.0), fleet.submit(1, "count", VALUES)]
    start = time.monotonic()
    late, reply = fleet.collect(futures, deadline=3, quorum=0.5)
    assert time.monotonic() - start < 10
    assert late == Missing(0, "late")
    assert reply.tolist() == [1, 2, 3]
    assert [call.device for call in fleet.settle().calls] == [1]
    assert list(fleet.changed()) == [1]
    again = fleet.collect([fleet.submit(k, "count", VALUES) for k in (1, 2)], deadline=10)
    assert [reply.tolist() for reply in again] == [[2, 3, 4], [1, 2, 3]], "nobody queues behind the late call"


def test_a_device_whose_later_call_is_late_keeps_what_the_earlier_one_left(make) -> None:
    """Two calls on one device, the second never in time: its state counts one call, and that is what is committed."""
    fleet = make(1)
    fleet.collect([fleet.submit(0, "count", VALUES)])
    slow = fleet.submit(0, "count", VALUES, 30.0)
    assert fleet.collect([slow], deadline=2) == [Missing(0, "late")]
    assert {device: ray.get(state)["calls"].item() for device, state in fleet.changed().items()} == {0: 1}


def test_below_the_quorum_the_round_is_abandoned(make) -> None:
    fleet = make(2)
    futures = [fleet.submit(0, "count", VALUES, 30.0), fleet.submit(1, "count", VALUES)]
    with pytest.raises(QuorumError, match="1 of 2 devices replied"):
        fleet.collect(futures, deadline=3, quorum=0.6)


def test_a_killed_hosts_calls_run_again_and_change_nothing(make, tmp_path) -> None:
    """Ray restarts the host and repeats the call: same reply, same state as if nothing had happened."""
    fleet = make(1, max_restarts=2, max_task_retries=2)
    fleet.collect([fleet.submit(0, "count", VALUES)])
    mark = str(tmp_path / "died")
    (reply,) = fleet.collect([fleet.submit(0, "die_once", VALUES, mark)])
    assert os.path.exists(mark)
    assert reply.tolist() == [2, 3, 4]


def test_a_round_in_which_a_host_dies_is_not_finished_without_its_devices(make) -> None:
    """Whatever the quorum: the session computes it again on the others."""
    fleet = make(2)
    futures = [fleet.submit(0, "die", VALUES), fleet.submit(1, "count", VALUES)]
    with pytest.raises(HostLostError, match="died"):
        fleet.collect(futures, quorum=0.5)


def test_from_the_next_round_on_other_hosts_are_used(make) -> None:
    fleet = make(3)
    first, second, third = fleet._hosts._hosts
    fleet._hosts.use([second, third])
    fleet.collect([fleet.submit(k, "count", VALUES) for k in range(6)])
    assert {sent.host for sent in fleet._sent.values()} == {second, third}
    fleet.settle()
    fleet._hosts.use([first])
    replies = fleet.collect([fleet.submit(k, "count", VALUES) for k in range(6)])
    assert {sent.host for sent in fleet._sent.values()} == {first}
    assert [reply.tolist() for reply in replies] == [[2, 3, 4]] * 6


def test_a_bug_in_a_device_half_is_not_taken_for_a_lost_device(make) -> None:
    fleet = make(1)
    with pytest.raises(ZeroDivisionError, match="a bug in a device half"):
        fleet.collect([fleet.submit(0, "fail")])


def test_calls_go_to_the_host_with_the_least_outstanding_cost(make) -> None:
    """One call of cost 3, then three of cost 1: the second host runs the three, so both work alike."""
    fleet = make(2)
    start = time.monotonic()
    futures = [fleet.submit(0, "count", VALUES, 3.0, cost=3.0)]
    futures += [fleet.submit(k, "count", VALUES, 1.0, cost=1.0) for k in (1, 2, 3)]
    fleet.collect(futures)
    assert time.monotonic() - start < 4.5


def test_with_a_folder_states_are_files_when_the_round_is_settled_as_the_local_fleets_are(make, tmp_path) -> None:
    """Written at once after a device's last call, else at the end; a device that only reads keeps its file."""
    found = []
    for name in ("ray", "local"):
        states = StateFolder(str(tmp_path / name))
        fleet = make(2, tmp_path / name) if name == "ray" else LocalFleet(Host(Counter, states=states))
        rounds = []
        for _ in range(2):
            calls = [fleet.submit(k, "count", VALUES) for k in (0, 0, 1)]
            calls += [fleet.submit(k, "count", VALUES, last=True) for k in range(2, 22)]
            fleet.collect(calls)
            fleet.settle()
            changed = fleet.changed()
            assert all(isinstance(state, StateFile) for state in changed.values())
            rounds.append({device: states.read(state)["calls"].item() for device, state in changed.items()})
            assert fleet.abandoned() == []
        fleet.collect([fleet.submit(0, "stay")])
        fleet.settle()
        found.append((rounds, fleet.changed()))
        assert len(list((tmp_path / name).iterdir())) == 3, "of one, two and four calls: equal states are one file"
    assert found[0] == found[1]
    expected = {0: 2, 1: 1} | dict.fromkeys(range(2, 22), 1)
    assert found[0] == ([expected, {device: 2 * calls for device, calls in expected.items()}], {})


def test_restored_files_go_on_and_files_of_the_late_and_the_reverted_are_abandoned(make, tmp_path) -> None:
    states = StateFolder(str(tmp_path))
    seven = states.write({"calls": np.full(1, 7.0)})
    fleet = make(2, tmp_path)
    fleet.restore({3: seven, 4: {"calls": np.full(1, 9.0)}})
    late = fleet.submit(5, "count", VALUES, 4.0, cost=9.0, last=True)
    futures = [fleet.submit(k, "count", VALUES, last=True) for k in (3, 4)]
    replies = fleet.collect([*futures, late], deadline=2)
    assert [reply.tolist() for reply in replies[:2]] == [[8, 9, 10], [10, 11, 12]]
    fleet.revert(futures[:1])
    fleet.settle()
    assert {device: states.read(state)["calls"].item() for device, state in fleet.changed().items()} == {4: 10}
    assert [states.read(state)["calls"].item() for state in fleet.abandoned()] == [8]
    time.sleep(3)
    assert [states.read(state)["calls"].item() for state in fleet.abandoned()] == [1]
    assert fleet.abandoned() == []
    assert states.read(seven)["calls"].item() == 7


def test_streamed_replies_come_in_order_and_those_that_were_let_go_are_computed_again(make, tmp_path, monkeypatch):
    """Of twenty replies room for two stays, in batches of two; nothing that is asked again changes a state."""
    payload = np.arange(1000.0)
    monkeypatch.setattr(batch, "BATCH_BYTES", 2 * payload.nbytes)
    monkeypatch.setattr(ray_fleet, "HELD_BYTES", 2 * payload.nbytes)
    fleet = make(2, tmp_path)
    shared = fleet.share(payload)
    futures = [fleet.submit(k, "count", shared, last=True) for k in range(20)]
    first = [reply[0] for reply in fleet.stream(futures)]
    assert first == [1.0] * 20
    held = [sent.replies is not None for sent in fleet._sent.values()]
    assert 2 <= sum(held) <= 4
    again = [reply.tolist() for reply in fleet.again(futures[3:])]
    assert again == [(payload + 1).tolist()] * 17
    assert [call.device for call in fleet.settle().calls] == list(range(20))
    counts = {
        device: StateFolder(str(tmp_path)).read(state)["calls"].item() for device, state in fleet.changed().items()
    }
    assert counts == dict.fromkeys(range(20), 1)
