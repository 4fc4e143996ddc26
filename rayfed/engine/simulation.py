"""A run on its twin: simulated time round by round, what each device did, and who is late."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from rayfed.config import RunConfig
from rayfed.errors import UserError, counted
from rayfed.fleet.ledger import Ledger
from rayfed.fleet.protocol import Fleet
from rayfed.ids import DeviceId
from rayfed.methods.spec import method_of
from rayfed.scheduling.load import capabilities
from rayfed.twin.clock import ON_TIME, Clock, State, Times
from rayfed.twin.profiles import profile_of
from rayfed.twin.punctual import Punctual

TOTALS = ("computed", "sent", "waited", "bytes", "missed")


Totals = NDArray[np.float64]
"""A value for each device."""


class TwinFacts(TypedDict):
    """The twin as JSON, but for the last five."""

    clock: State
    met: bool
    tried: list[DeviceId]
    computed: Totals
    sent: Totals
    waited: Totals
    bytes: Totals
    missed: Totals


class Simulation:
    """The twin's clock and what it has summed up since the run's start, per device."""

    def __init__(self, config: RunConfig) -> None:
        """Raises UserError when the method sends from device to device and the network has no such route."""
        self.config = config
        self.round = 0
        topology = method_of(config).topology(config)
        compute = [capability.compute for capability in capabilities(config.devices, config.seed)]
        self.devices = topology.devices
        speeds = compute if self.devices == config.devices.count else [1.0] * self.devices
        self.hardware = topology.hardware
        self.clock = Clock(topology.hardware, self.devices, config.seed, speeds)
        self.clock.network.check(config.method.sends_to_peers, config.method.without_peers)
        self.state = self.clock.start()
        self.totals = {name: np.zeros(self.devices) for name in TOTALS}
        self.slowness: dict[DeviceId, float] = {}
        """See `rayfed.twin.clock.Times`; of the last round."""
        self.met = False
        """Whether any reply has ever come before the deadline."""
        self.tried: set[DeviceId] = set()
        """The devices that have tried to meet it."""

    def watch(self, fleet: Fleet) -> Fleet:
        """The fleet, in which the devices that the twin says are late are left out if the run asks for it."""
        return Punctual(fleet, self.late) if self.config.twin.drop_late else fleet

    def late(self, ledger: Ledger) -> set[int]:
        """The calls collected so far in this round whose replies missed the deadline.

        Raises UserError when every device has tried and none has met it.
        """
        limit = self.config.twin.deadline_s
        assert limit is not None
        arrivals = self.clock.replay(ledger, self.round, self.state)[0].arrivals
        late = {call for call, seconds in arrivals.items() if seconds > limit * ON_TIME}
        self.tried |= {call.device for call in ledger.calls if call.id in arrivals}
        self.met = self.met or len(late) < len(arrivals)
        if not self.met and len(self.tried) == self.devices:
            needed = min(arrivals.values())
            raise UserError(
                f"twin.deadline_s = {limit:g}: none of {counted(self.devices, 'device')} can meet it; the fastest of "
                f"the last {len(arrivals)} needs {needed:.3g} simulated seconds"
            )
        return late

    def advance(self, ledger: Ledger) -> dict[str, float]:
        """Replay a finished round; its metrics."""
        times, self.state = self.clock.replay(ledger, self.round, self.state)
        self._add(times)
        self.slowness = times.slowness
        metrics = {"sim_seconds": times.seconds, "sim_total_seconds": times.end, "sim_late": len(times.missed)}
        if any(profile.watts for profile in self.hardware.devices):
            metrics["joules"] = sum(
                profile_of(self.hardware, device).watts * (times.seconds - waited)
                for device, waited in times.waited.items()
            )
        return metrics

    def _add(self, times: Times) -> None:
        for name in ("computed", "sent", "waited"):
            for device, seconds in getattr(times, name).items():
                self.totals[name][device] += seconds
        for nodes, nbytes in times.link_bytes.items():
            for node in nodes:
                if node >= 0:
                    self.totals["bytes"][node] += nbytes
        self.totals["missed"][times.missed] += 1

    def facts(self) -> TwinFacts:
        """All of it."""
        totals = {name: each.copy() for name, each in self.totals.items()}
        return TwinFacts(
            clock=self.state,
            met=self.met,
            tried=sorted(self.tried),
            computed=totals["computed"],
            sent=totals["sent"],
            waited=totals["waited"],
            bytes=totals["bytes"],
            missed=totals["missed"],
        )

    def restore(self, facts: TwinFacts) -> None:
        """Go on from `facts()`."""
        self.state, self.met, self.tried = facts["clock"], facts["met"], set(facts["tried"])
        self.totals = {name: np.array(dict(facts)[name], np.float64) for name in TOTALS}
