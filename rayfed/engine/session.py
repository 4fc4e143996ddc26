"""What the driver drives: a run's trainer and evaluator, in this process or, in `rayfed.cluster.session`, as actors."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from rayfed.config import RunConfig
from rayfed.data.setup import Federation
from rayfed.engine.callbacks import Callback
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.trainer import Trainer, device_host
from rayfed.fleet.local import LocalFleet
from rayfed.fleet.protocol import Arrays
from rayfed.fleet.states import StateFolder
from rayfed.methods.spec import method_of
from rayfed.models.process import set_up
from rayfed.tasks.base import EvaluationFailure, EvaluationResult, judged

Evaluated = EvaluationResult | EvaluationFailure


class Session(Protocol):
    """Rounds one after the other, and evaluations whenever they are ready."""

    def start(self, checkpoint: Checkpoint | None, initial: Arrays | None = None) -> Checkpoint:
        """See `Trainer.start`."""

    def round(self) -> Checkpoint:
        """See `Trainer.round`; the device states are files, or arrays where there is no state folder."""

    def evaluate(self, round: int, arrays: Arrays) -> None:
        """Have what `Task.outcome` gave of the state after `round` judged, at once or beside the training.

        Of the initial state, round 0, only the pictures are drawn.
        """

    def evaluations(self, wait: bool) -> list[Evaluated]:
        """Those that are ready, or, after waiting, all."""

    @property
    def waiting(self) -> int:
        """Evaluations that are not heard yet."""

    def about_evaluator(self) -> dict[str, str]:
        """See `Evaluator.about`."""

    def facts(self) -> dict[str, Any]:
        """Tags: which fleet, how many hosts."""

    def live(self, run_id: str) -> AbstractContextManager[Callback]:
        """What else hears of the run's rounds; open while they go on."""


class LocalSession:
    """Everything in this process, on one thread: `rayfed run --local`, for a debugger."""

    def __init__(self, config: RunConfig, federation: Federation, states: StateFolder | None = None) -> None:
        """`states`: where device states lie between rounds. None keeps them in memory."""
        set_up()
        spec, population = method_of(config), federation.population
        fleet = LocalFleet(device_host(config, population, federation.shards(config.seed), states=states))
        self._trainer = Trainer(config, population, fleet, spec.scheduler(config, population))
        judged = bool(config.evaluation.every)
        self._evaluator = spec.task.evaluator(config, federation.evaluation_data) if judged else None
        self._ready: list[Evaluated] = []

    def start(self, checkpoint: Checkpoint | None, initial: Arrays | None = None) -> Checkpoint:
        return self._trainer.start(checkpoint, initial)

    def round(self) -> Checkpoint:
        return self._trainer.round()

    def evaluate(self, round: int, arrays: Arrays) -> None:
        assert self._evaluator is not None
        self._ready.append(judged(self._evaluator, round, arrays))

    def evaluations(self, wait: bool) -> list[Evaluated]:
        ready, self._ready = self._ready, []
        return ready

    @property
    def waiting(self) -> int:
        return len(self._ready)

    def about_evaluator(self) -> dict[str, str]:
        return self._evaluator.about() if self._evaluator else {}

    def facts(self) -> dict[str, Any]:
        return {"fleet": "local", "hosts": 1}

    def live(self, run_id: str) -> AbstractContextManager[Callback]:
        return nullcontext(Callback())
