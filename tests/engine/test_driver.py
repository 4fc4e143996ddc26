"""The driver's loop over a LocalSession: what is committed when, and that a stopped run goes on as if it never was."""

import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from scipy.stats import entropy

from rayfed.config import RunConfig, parse
from rayfed.data.setup import Federation, prepare
from rayfed.engine.callbacks import Callback, StoreCallback, TrackingCallback
from rayfed.engine.checkpoint import checkpoint_of
from rayfed.engine.driver import Driver, Stop
from rayfed.engine.session import LocalSession
from rayfed.methods.spec import method_of
from rayfed.store import Commit, Store
from rayfed.tasks.base import EvaluationFailure
from rayfed.tracking import NoTracker

pytestmark = pytest.mark.usefixtures("cache")

ROUNDS, BATCH, ITERATIONS, PARTICIPANTS = 5, 4, 2, 2
MODEL_BYTES = 4 * (85_687 + 4_385)
"""dcgan28 of width 4, float32. G: 100*784 + BatchNorm of 784 (4*784+1) + 16*8*25 + BatchNorm of 8 + 8*4*25 +
BatchNorm of 4 + 4*25; D: 104 + 808 + 3216 + 257."""
TIMES = {"round_seconds", "seconds", "images_per_s", "updates_per_s", "epochs_per_s"}


def configure(every: int = 0, keep: int = 2, moments: str = "keep") -> RunConfig:
    method = {"name": "fegan", "fraction": 0.5, "batch": BATCH, "iterations": ITERATIONS, "moments": moments}
    return parse(
        {
            "rounds": ROUNDS,
            "method": method,
            "devices": {"count": 4},
            "data": {"partition": "iid"},
            "model": {"name": "dcgan28", "width": 4},
            "evaluation": {"every": every, "extractor": "classifier", "samples": 64},
            "store": {"keep": keep},
        }
    )


@pytest.fixture(scope="module")
def federation() -> Federation:
    """1,500 images on each of four devices."""
    return prepare(configure(), 28)


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/store.db")
    yield store
    store.close()


@dataclass
class Watcher(Callback):
    """Hears a run and can send itself signals after some rounds."""

    signals: dict[int, list[int]] = field(default_factory=dict)
    rounds: list[int] = field(default_factory=list)
    judged: list[int] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def notice(self, text):
        self.notices.append(text)

    def on_round(self, checkpoint):
        self.rounds.append(checkpoint.round)
        for number in self.signals.get(checkpoint.round, ()):
            os.kill(os.getpid(), number)

    def on_evaluation(self, result, pictures):
        self.judged.append(result.round)


@dataclass
class Bench:
    """Drives runs of one configuration in one store."""

    config: RunConfig
    federation: Federation
    store: Store
    folder: str

    def drive(
        self,
        run_id: str,
        watcher: Watcher | None = None,
        session: LocalSession | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Commit:
        """A run from its last commit, or a new one, to its end."""
        if not any(record.id == run_id for record in self.store.runs()):
            self.store.create_run(run_id, self.config.model_dump(mode="json"), {})
        session = session or LocalSession(self.config, self.federation)
        samples = sum(map(len, self.federation.parts))
        watcher = watcher or Watcher()
        stored = StoreCallback(self.store, run_id)
        every = [stored, TrackingCallback(NoTracker(), ()), watcher, *callbacks]
        driver = Driver(self.config, session, every, watcher.notice, self.folder, samples)
        last = self.store.latest(run_id)
        with Stop().listening() as driver.stop:
            driver.drive(last and checkpoint_of(last, method_of(self.config)))
        return self.store.latest(run_id)


@pytest.fixture
def bench(federation, store, tmp_path):
    return lambda **settings: Bench(configure(**settings), federation, store, tmp_path)


def assert_same(one: Commit, other: Commit) -> None:
    """Everything but the times."""
    assert (one.round, one.facts, one.participants) == (other.round, other.facts, other.participants)
    assert one.devices.keys() == other.devices.keys()
    pairs = [(one.arrays, other.arrays), *((one.devices[k], other.devices[k]) for k in one.devices)]
    for arrays, others in pairs:
        assert arrays.keys() == others.keys()
        assert all(arrays[name].tobytes() == others[name].tobytes() for name in arrays)
    assert timeless(one.metrics) == timeless(other.metrics)


def timeless(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in TIMES}


def test_every_round_is_committed_before_the_next_begins(bench):
    setting, watcher, committed = bench(), Watcher(), []

    class Session(LocalSession):
        def round(self):
            committed.append(setting.store.run("a").rounds)
            return super().round()

    setting.drive("a", watcher, Session(setting.config, setting.federation))
    assert committed == [0, 1, 2, 3, 4]
    assert watcher.rounds == [1, 2, 3, 4, 5]
    history = setting.store.history("a")
    assert [round for round, _, _ in history] == [0, 1, 2, 3, 4, 5]
    assert history[0][1:] == ({}, [])
    for _, _, participants in history[1:]:
        assert len(set(participants)) == PARTICIPANTS
        assert set(participants) <= {0, 1, 2, 3}


def test_a_rounds_metrics_fit_together(bench):
    setting = bench()
    setting.drive("a")
    seen = np.zeros(10)
    for _, metrics, participants in setting.store.history("a")[1:]:
        seen += setting.federation.counts[participants].sum(axis=0)
        assert metrics["participants"] == PARTICIPANTS
        assert metrics["dropped"] == 0
        assert metrics["images"] == PARTICIPANTS * BATCH * ITERATIONS
        assert metrics["bytes_up"] == metrics["bytes_down"] == PARTICIPANTS * MODEL_BYTES
        assert metrics["bytes_device_max"] == 2 * MODEL_BYTES
        assert 0 < metrics["round_seconds"] <= metrics["seconds"]
        assert metrics["images_per_s"] * metrics["seconds"] == pytest.approx(metrics["images"])
        assert metrics["updates_per_s"] * metrics["seconds"] == pytest.approx(PARTICIPANTS)
        assert metrics["epochs_per_s"] * metrics["seconds"] * 6000 == pytest.approx(metrics["images"])
        assert metrics["loss_g"] > 0
        assert metrics["loss_d"] > 0
        assert [metrics[f"seen_class/{label}"] for label in range(10)] == seen.tolist()
        assert metrics["seen_per_class"] == pytest.approx(seen.mean())
        assert metrics["kl_seen"] == pytest.approx(entropy(seen, np.full(10, 600)), abs=1e-12)


def test_fid_comes_at_its_interval_and_after_the_last_round(bench, tmp_path):
    setting, watcher = bench(every=2), Watcher()
    setting.drive("a", watcher)
    assert watcher.judged == [0, 2, 4, 5]
    fids = {r: metrics["fid_classifier"] for r, metrics, _ in setting.store.history("a") if "fid_classifier" in metrics}
    assert list(fids) == [2, 4, 5]
    assert all(fid > 0 for fid in fids.values())
    assert len(set(fids.values())) == 3  # each of its own generator
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"samples-0000{r}.png" for r in (0, 2, 4, 5)]


def test_without_an_interval_nothing_is_judged(bench, tmp_path):
    setting, watcher = bench(every=0), Watcher()
    last = setting.drive("a", watcher)
    assert watcher.judged == []
    assert not {"fid", "fid_classifier"} & last.metrics.keys()


def test_a_failed_evaluation_is_a_notice_and_training_goes_on(bench):
    setting, watcher = bench(every=2), Watcher()

    class Session(LocalSession):
        def evaluations(self, wait):
            return [EvaluationFailure("no room")] * len(super().evaluations(wait))

    last = setting.drive("a", watcher, Session(setting.config, setting.federation))
    assert (last.round, watcher.judged) == (ROUNDS, [])
    assert watcher.notices == ["no evaluation: no room; training goes on"] * 4  # rounds 0, 2, 4, 5
    assert "fid_classifier" not in last.metrics


def test_each_warning_is_told_once_in_a_run(bench):
    setting, watcher = bench(every=1), Watcher()

    class Session(LocalSession):
        def evaluations(self, wait):
            results = super().evaluations(wait)
            return [replace(each, warnings=("of all", f"of round {min(2, each.round)}")) for each in results]

    setting.drive("a", watcher, Session(setting.config, setting.federation))
    assert watcher.judged == [0, 1, 2, 3, 4, 5]
    assert watcher.notices == ["of all", "of round 0", "of round 1", "of round 2"]


@pytest.mark.parametrize("moments", ["keep", "fresh"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(bench, moments, number):
    """Ctrl-C and a cluster's SIGTERM after rounds 2 and 3: each round is whole, and the end is that of no stop."""
    setting, before = bench(moments=moments), signal.getsignal(number)
    undisturbed = setting.drive("undisturbed")
    for round in (2, 3):
        assert setting.drive("stopped", Watcher({round: [number]})).round == round
        assert signal.getsignal(number) == before
    last = setting.drive("stopped")
    assert last.round == ROUNDS
    assert_same(last, undisturbed)
    histories = [[(r, timeless(m), p) for r, m, p in setting.store.history(run)] for run in ("stopped", "undisturbed")]
    assert histories[0] == histories[1]


def test_a_second_ctrl_c_does_not_wait_for_the_round(bench):
    setting = bench()
    undisturbed = setting.drive("undisturbed")
    with pytest.raises(KeyboardInterrupt):
        setting.drive("stopped", Watcher({3: [signal.SIGINT, signal.SIGINT]}))
    assert setting.store.run("stopped").rounds == 3
    assert_same(setting.drive("stopped"), undisturbed)


def test_kept_moments_are_in_the_store_and_change_the_weights(bench):
    setting = bench(moments="keep")
    kept, fresh = setting.drive("kept"), bench(moments="fresh").drive("fresh")
    turns = Counter(device for _, _, group in setting.store.history("kept") for device in group)
    assert kept.devices.keys() == turns.keys()
    for device, state in kept.devices.items():
        assert set(state["generator.step"]) == {turns[device] * ITERATIONS}
    assert all(state == {} for state in fresh.devices.values())
    assert kept.arrays["generator"].tobytes() != fresh.arrays["generator"].tobytes()


def test_a_verdict_lost_with_its_driver_is_given_on_resuming(bench):
    """Killed between round 5's commit and its FID: resuming trains nothing and judges round 5."""
    setting = bench(every=5)
    whole = setting.drive("a")
    metrics = {name: value for name, value in whole.metrics.items() if name != "fid_classifier"}
    setting.store.commit("a", replace(whole, metrics=metrics), keep=2)
    watcher = Watcher()
    last = setting.drive("a", watcher)
    assert (watcher.rounds, watcher.judged) == ([], [5])
    assert last.metrics["fid_classifier"] == whole.metrics["fid_classifier"]


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_commits_are_kept_and_each_can_be_gone_on_from(bench, keep):
    setting = bench(keep=keep)
    last = setting.drive("a")
    assert setting.store.latest("a", until=ROUNDS - keep) is None
    oldest = setting.store.latest("a", until=ROUNDS - keep + 1)
    assert oldest.round == ROUNDS - keep + 1
    session = LocalSession(setting.config, setting.federation)
    checkpoint = session.start(checkpoint_of(oldest, method_of(setting.config)))
    while checkpoint.round < ROUNDS:
        checkpoint = session.round()
    assert checkpoint.state.arrays["generator"].tobytes() == last.arrays["generator"].tobytes()


@dataclass
class Ear(Callback):
    """Writes down what it hears, and what the store had by then, into a list that it shares with others."""

    name: str
    store: Store
    heard: list[tuple[str, str, int]]

    def on_start(self, checkpoint):
        assert self.store.run("a").rounds == checkpoint.round == 0
        self.heard.append((self.name, "start", 0))

    def on_round(self, checkpoint):
        stored = self.store.latest("a")
        assert stored.round == checkpoint.round
        assert stored.metrics == checkpoint.metrics
        assert stored.arrays["generator"].tobytes() == checkpoint.state.models["generator"].tobytes()
        self.heard.append((self.name, "round", checkpoint.round))

    def on_evaluation(self, result, pictures):
        metrics = self.store.history("a")[result.round][1]
        assert result.metrics == {name: value for name, value in metrics.items() if name == "fid_classifier"}
        assert bool(result.metrics) == (result.round > 0)
        assert {name: path.name for name, path in pictures.items()} == {"samples": f"samples-{result.round:05d}.png"}
        assert all(path.exists() for path in pictures.values())
        self.heard.append((self.name, "evaluation", result.round))


def test_callbacks_hear_everything_in_their_order_after_the_store(bench):
    """Each round, then its evaluation, first one callback and then the other; a resumed run does not start again."""
    setting, heard = bench(every=2), []
    ears = Ear("one", setting.store, heard), Ear("two", setting.store, heard)
    assert setting.drive("a", Watcher({3: [signal.SIGINT]}), callbacks=ears).round == 3
    setting.drive("a", callbacks=ears)
    told = [("start", 0), ("evaluation", 0), ("round", 1), ("round", 2), ("evaluation", 2), ("round", 3)]
    told += [("round", 4), ("evaluation", 4), ("round", 5), ("evaluation", 5)]
    assert heard == [(name, *each) for each in told for name in ("one", "two")]


class Broken(Callback):
    """Fails in a round."""

    def on_round(self, checkpoint):
        if checkpoint.round == 3:
            raise ZeroDivisionError("a bug in somebody's callback")


def test_a_round_in_which_a_callback_fails_is_committed_all_the_same(bench):
    setting = bench()
    undisturbed = setting.drive("undisturbed")
    with pytest.raises(ZeroDivisionError, match="a bug in somebody's callback"):
        setting.drive("broken", callbacks=[Broken()])
    assert setting.store.run("broken").rounds == 3
    assert_same(setting.drive("broken"), undisturbed)
