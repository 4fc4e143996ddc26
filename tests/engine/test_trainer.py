"""What the trainer makes of a round's reports."""

from dataclasses import replace
from typing import Any

from rayfed.data.population import Population
from rayfed.engine.trainer import Trainer
from rayfed.fleet.local import LocalFleet
from rayfed.methods.exchange import Report
from rayfed.methods.fedavg import Server
from rayfed.plugins import methods
from tests.methods.federation import Federation

REPORTS = [
    Report(0, 3, {"loss_d": 1.0}),
    Report(2, 4, {"loss_d": 2.0, "accuracy": 0.5}),
    Report(3, 1, {"accuracy": 1.0}),
]


class Telling(Server):
    """Reports without training; devices 1 and 2 send something that does not pass, 1 twice."""

    def round(self, state: Any, fleet: Any) -> tuple[Any, list[Report]]:
        for client in (1, 2, 1):
            fleet.reject(client)
        return replace(state, round=state.round + 1), REPORTS


METHOD = replace(methods()["fl-vanilla"], server=Telling)


def test_a_metric_is_the_mean_over_those_who_reported_it() -> None:
    """loss_d of two devices, accuracy of two others."""
    federation = Federation({"name": f"{__name__}:METHOD", "fraction": 1.0, "batch": 4}, [[5, 3]] * 4)
    totals = federation.counts.sum(axis=0)
    population = Population(1, federation.counts, totals, totals)
    trainer = Trainer(federation.config, population, LocalFleet(federation.host), federation.server.scheduler)
    trainer.start(None)
    metrics = trainer.round().metrics
    assert metrics["rejected"] == 2
    assert (metrics["loss_d"], metrics["accuracy"]) == (1.5, 0.75)
    assert (metrics["participants"], metrics["dropped"], metrics["images"]) == (3, 1, 8)
