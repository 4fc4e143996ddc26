"""Which links a transfer takes, and what they carry: a LAN, a star of wired links, or a wireless cell."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayfed.config.simulation import Cell, Lan, Twin, Wired
from rayfed.errors import UserError
from rayfed.seeding import SERVER
from rayfed.twin.channel import positions, rate
from rayfed.twin.profiles import profile_of

MBPS = 1e6


@dataclass(frozen=True)
class Route:
    """The way of one transfer: latency in seconds, and the links it shares with others as (name, bit/s)."""

    latency_s: float
    resources: tuple[tuple[str, float], ...]


class Network:
    """The network of a twin with so many devices; in a cell, `seed` places them."""

    def __init__(self, twin: Twin, devices: int, seed: int):
        self._twin = twin
        self._model = twin.network
        self.distances: list[float] = []
        """Metres from the server, in a cell."""
        if isinstance(self._model, Cell):
            places = positions(seed, devices, self._model.radius_m)
            self.distances = [float(d) for d in np.hypot(places[:, 0], places[:, 1])]
        self._devices = devices
        if devices and not np.all(self.rates(max(1, devices)) > 0):
            raise UserError(
                "twin.network: the farthest device has no signal left (0 bit/s); use a smaller radius_m or more power"
            )

    def check(self, peers: bool, without: str = "") -> None:
        """Raise UserError when the method sends from device to device (`peers`) and this network cannot.

        without: what else the user could set, if there is anything; see `Training.without_peers`.
        """
        model = self._model
        if not peers or isinstance(model, Lan) or (isinstance(model, Wired) and model.peers):
            return
        kind = f"{model.kind}' with peers = false" if isinstance(model, Wired) else f"{model.kind}'"
        raise UserError(
            f"twin.network.kind = '{kind}: no route between devices, and this method sends from device to device; "
            f"use 'lan', or 'wired' with peers = true{f' (or {without})' if without else ''}"
        )

    def route(self, source: int, destination: int, broadcast: bool, scheduled: int) -> Route:
        """The route between two nodes (SERVER or a device), in a round with so many `scheduled` devices.

        broadcast: the payload is one that the server sends to many. Raises UserError where there is no route.
        """
        self.check(peers=SERVER not in (source, destination))
        down = (f"down {destination}", self._down(destination, 1))
        if isinstance(self._model, Cell) and not broadcast and profile_of(self._twin, destination).down_mbps is None:
            # A payload for one device has a part of the band of its own, beside the broadcast's.
            down = (f"down alone {destination}", self._down(destination, scheduled))
        latencies = [self._latency(node) for node in (source, destination) if node != SERVER]
        latency = max(latencies) if isinstance(self._model, Lan) else sum(latencies)
        ends = ((f"up {source}", self._up(source, scheduled)), down)
        return Route(latency, tuple(link for link in ends if link[1] < math.inf))

    def rates(self, scheduled: int) -> NDArray[np.float64]:
        """[K] bit/s of the devices' uplinks when so many of them are scheduled."""
        return np.array([self._up(device, scheduled) for device in range(self._devices)])

    def _latency(self, device: int) -> float:
        own, model = profile_of(self._twin, device).latency_s, self._model
        if own is not None:
            return own
        return model.hop_s if isinstance(model, Lan) else model.latency_s if isinstance(model, Wired) else 0.0

    def _up(self, node: int, scheduled: int) -> float:
        own, model = profile_of(self._twin, node).up_mbps, self._model
        if own is not None:
            return own * MBPS
        if isinstance(model, Wired):
            return (model.server_up_mbps if node == SERVER else model.up_mbps) * MBPS
        if isinstance(model, Lan) or node == SERVER:
            return math.inf
        return self._wireless(model, node, scheduled, model.device_dbm)

    def _down(self, node: int, scheduled: int) -> float:
        own, model = profile_of(self._twin, node).down_mbps, self._model
        if own is not None:
            return own * MBPS
        if isinstance(model, Wired):
            return (model.server_down_mbps if node == SERVER else model.down_mbps) * MBPS
        if isinstance(model, Lan) or node == SERVER:
            return math.inf
        return self._wireless(model, node, scheduled, model.server_dbm)

    def _wireless(self, cell: Cell, device: int, scheduled: int, power_dbm: float) -> float:
        share_hz = cell.bandwidth_mhz * 1e6 / scheduled
        return rate(self.distances[device], share_hz, power_dbm, cell.noise_dbm_hz)
