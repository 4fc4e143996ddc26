"""Runs a method's server half round by round: the same code in this process and in the GeneratorServer actor."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rayfed.algorithms import METHODS
from rayfed.algorithms.common import Report, Scheduler, State
from rayfed.algorithms.site import Site
from rayfed.config import FslGan, RunConfig
from rayfed.fleet.ledger import Ledger
from rayfed.fleet.protocol import Fleet
from rayfed.runtime.simulation import Simulation
from rayfed.scheduling.divergence import kl_divergence
from rayfed.scheduling.drift import drifted
from rayfed.seeding import SERVER
from rayfed.store import Commit


class Trainer:
    """Holds the learning state between rounds and turns each round into a Commit."""

    def __init__(
        self,
        config: RunConfig,
        channels: int,
        fleet: Fleet,
        scheduler: Scheduler,
        union: np.ndarray,
        whole: np.ndarray,
        processor: str = "cpu",
    ) -> None:
        """Class counts [C]: `union` of the distinct samples that devices hold, `whole` of the whole training set."""
        self.config = config
        self.simulation = Simulation(config)
        self.fleet = self.simulation.watch(fleet)
        self.counts = scheduler.class_counts()
        self.scheduler = scheduler
        self.union = union
        self.whole = whole
        site = Site(config, channels, len(whole), processor=processor)
        self.server = METHODS[config.method.name].server(site, scheduler)

    def start(self, commit: Commit | None) -> Commit:
        """Begin afresh, or go on from a commit; gives the commit of where it stands."""
        if commit is None:
            self.state = self.server.init()
            self.seen = np.zeros(self.counts.shape[1], np.int64)
            self.slowness: dict[int, float] = {}
            self.events: list[tuple[int, str]] = []
            return Commit(0, self.state.arrays, self._facts(), {}, {}, [])
        self.state = State(commit.round, commit.arrays, commit.facts["method"])
        self.seen = np.array(commit.facts["seen"], np.int64)
        self.simulation.restore(commit.facts["twin"])
        self.slowness = {int(device): factor for device, factor in commit.facts["slowness"].items()}
        self.events = [(round, text) for round, text in commit.facts["events"]]
        if self.slowness:
            self.scheduler.assume(self.slowness)
        self.fleet.restore(commit.devices)
        return replace(commit, devices={})

    def round(self) -> Commit:
        """One round. The commit's `devices` are the fleet's: arrays, or references to them."""
        start = time.perf_counter()
        self.simulation.round = self.state.round + 1
        self.state, reports = self.server.round(self.state, self.fleet)
        ledger = self.fleet.settle()
        participants = [report.device for report in reports]
        for device in participants:
            self.seen += self.union if device == SERVER else self.counts[device]
        metrics = self._metrics(reports, ledger) | self.simulation.advance(ledger)
        self.events += [(self.state.round, text) for text in (*self.state.events, *self._drifted())]
        metrics["round_seconds"] = time.perf_counter() - start
        return Commit(self.state.round, self.state.arrays, self._facts(), self.fleet.changed(), metrics, participants)

    def _facts(self) -> dict[str, Any]:
        return {
            "method": self.state.facts,
            "seen": self.seen.tolist(),
            "twin": self.simulation.facts(),
            "slowness": {str(device): factor for device, factor in self.slowness.items()},
            "events": self.events,
        }

    def _drifted(self) -> list[str]:
        """Have devices that are no longer what their profile says planned as they are; what there is to tell."""
        if not isinstance(self.config.method, FslGan):
            return []
        found = drifted(self.slowness, self.simulation.slowness)
        if found:
            self.slowness |= found
            self.scheduler.assume(found)
        names = self.config.method.device_names
        return [f"{names[k]} computes in {factor:.3g} times its profile's seconds" for k, factor in found.items()]

    def _metrics(self, reports: Sequence[Report], ledger: Ledger) -> dict[str, float]:
        metrics: dict[str, float] = {
            "participants": len(reports),
            "dropped": self.config.participants - len(reports),
            "images": sum(report.images for report in reports),
            "bytes_down": ledger.bytes_down,
            "bytes_up": ledger.bytes_up,
            "bytes_across": ledger.bytes_across,
            "bytes_device_max": max(ledger.bytes_by_device().values(), default=0),
            "flops_devices": sum(call.flops for call in ledger.calls),
        }
        if reports:
            metrics["loss_g"] = float(np.mean([report.loss_g for report in reports]))
            metrics["loss_d"] = float(np.mean([report.loss_d for report in reports]))
        if self.seen.any():
            metrics["kl_seen"] = float(kl_divergence(self.seen, self.whole))
            metrics["seen_per_class"] = float(self.seen.mean())
            metrics |= {f"seen_class/{label}": int(n) for label, n in enumerate(self.seen)}
        return metrics
