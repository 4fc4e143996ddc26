"""Runs a method's server half round by round: the same code in this process and in the GeneratorServer actor."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rayfed.config import RunConfig
from rayfed.data.population import Population
from rayfed.data.shard import Shards
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.simulation import Simulation
from rayfed.fleet.host import Host
from rayfed.fleet.ledger import Ledger
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.fleet.states import StateFolder
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.context import DeviceContext, ServerContext
from rayfed.methods.exchange import Report
from rayfed.methods.spec import method_of
from rayfed.scheduling.divergence import kl_divergence
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER


def device_host(
    config: RunConfig,
    population: Population,
    shards: Shards,
    processor: str = "cpu",
    states: StateFolder | None = None,
) -> Host:
    """A host of device halves on one workspace of this process; see `Host` for `states`."""
    spec = method_of(config)
    half, workspace = spec.device_half(), spec.task.workspace(config, population, processor)
    clients = spec.topology(config).clients

    def build(device: DeviceId, state: Arrays) -> Any:
        client = ClientId(SERVER) if device == SERVER else clients[device]
        return half(DeviceContext(device, config, workspace, shards.of(client)), state)

    return Host(build, workspace.meter.take, states)


class Trainer:
    """Holds the learning state between rounds and turns each round into a Checkpoint."""

    def __init__(
        self, config: RunConfig, population: Population, fleet: Fleet, scheduler: Scheduler, processor: str = "cpu"
    ) -> None:
        self.config = config
        self.population = population
        self.spec = method_of(config)
        self.simulation = Simulation(config)
        self.fleet = self.simulation.watch(fleet)
        self.scheduler = scheduler
        workspace = self.spec.task.workspace(config, population, processor)
        self.server = self.spec.server_half()(ServerContext(config, workspace, scheduler))

    def start(self, checkpoint: Checkpoint | None, initial: Arrays | None = None) -> Checkpoint:
        """Begin afresh, or go on from a checkpoint; gives the checkpoint of where it stands.

        A fresh start takes of the networks `initial`, by name, those that the server has.
        """
        if checkpoint is None:
            self.state = self.server.init()
            given = {name: array for name, array in (initial or {}).items() if name in self.state.models}
            self.state = replace(self.state, models=self.state.models | given)
            self.seen = np.zeros(self.population.classes, np.int64)
            return Checkpoint(self.state, tuple(self.seen.tolist()), self.simulation.facts())
        self.state = checkpoint.state
        self.seen = np.array(checkpoint.seen, np.int64)
        self.simulation.restore(checkpoint.twin)
        self.spec.resumed(self.state, self.scheduler)
        self.fleet.restore(checkpoint.devices)
        return replace(checkpoint, devices={})

    def round(self) -> Checkpoint:
        """One round. The checkpoint's `devices` are the fleet's: files, or arrays, or references to arrays."""
        start = time.perf_counter()
        self.simulation.round = self.state.round + 1
        state, reports = self.server.round(replace(self.state, events=()), self.fleet)
        ledger = self.fleet.settle()
        metrics = self._metrics(reports, ledger) | self.simulation.advance(ledger)
        state, events = self.spec.after_round(state, self.scheduler, self.simulation.slowness)
        self.state = replace(state, events=(*state.events, *events))
        metrics["round_seconds"] = time.perf_counter() - start
        return Checkpoint(
            state=self.state,
            seen=tuple(self.seen.tolist()),
            twin=self.simulation.facts(),
            devices=self.fleet.changed(),
            abandoned=tuple(self.fleet.abandoned()),
            metrics=metrics,
            traffic=ledger.traffic,
            participants=tuple(report.client for report in reports),
        )

    def _metrics(self, reports: Sequence[Report], ledger: Ledger) -> dict[str, float]:
        for report in reports:
            if not report.examples:
                continue
            everyone = report.client == SERVER
            self.seen += self.population.union if everyone else self.population.counts[report.client]
        metrics: dict[str, float] = {
            "participants": len(reports),
            "dropped": self.config.participants - len(reports),
            "rejected": len(ledger.rejected),
            "images": sum(report.examples for report in reports),
            "bytes_down": ledger.bytes_down,
            "bytes_up": ledger.bytes_up,
            "bytes_across": ledger.bytes_across,
            "bytes_device_max": max(ledger.bytes_by_device().values(), default=0),
            "flops_devices": sum(call.flops for call in ledger.calls),
        }
        for name in dict.fromkeys(name for report in reports for name in report.metrics):
            metrics[name] = float(np.mean([report.metrics[name] for report in reports if name in report.metrics]))
        if self.seen.any():
            metrics["kl_seen"] = float(kl_divergence(self.seen, self.population.whole))
            metrics["seen_per_class"] = float(self.seen.mean())
            metrics |= {f"seen_class/{label}": int(n) for label, n in enumerate(self.seen)}
        return metrics
