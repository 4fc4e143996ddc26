"""FSL-GAN: "Federated Split GANs" (2022), a discriminator per client, split over the client's own devices.

One generator on the server. Each client trains a discriminator on its data; its devices hold consecutive portions of it
(`rayfed.scheduling.placement` says which). Per iteration the server sends one batch of fakes to all clients. In each,
activations go from device to device and gradients come back the same way, never through the server: first a step of D,
then, for the same fakes, dL/dx for the generator, whose loss is the sum over clients. After an epoch (a round of
`iterations`) the portions are averaged over the clients, block by block, weighted by n_k, whatever the placement.

Micro-batches pass through the devices one behind the other: while a device computes one, the next device computes the
one before it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rayfed.algorithms.common import Report, Scheduler, State, is_valid
from rayfed.algorithms.fsl_messages import Passed, Step, block_codec, micro_batches, micro_rows
from rayfed.algorithms.fsl_planner import Chain, Planner
from rayfed.algorithms.site import Site
from rayfed.config import FslGan
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Fleet, Future, Handle, Missing
from rayfed.models import flat
from rayfed.models.gan import seeded
from rayfed.models.portions import blocks
from rayfed.seeding import SERVER, torch_seed

D, G = "discriminator", "generator"


class Server:
    """The generator, the plan of each round, and the average."""

    def __init__(self, site: Site, scheduler: Scheduler) -> None:
        self.site = site
        self.scheduler = scheduler
        assert isinstance(site.config.method, FslGan)
        self.method = site.config.method
        self.samples = scheduler.class_counts().sum(axis=1)
        self.sizes = [sum(flat.sizes(block)) for block in blocks(site.gan.discriminator)]

    def init(self) -> State:
        """Fresh networks; G's moments at zero."""
        gan = self.site.gan
        gan.initialise(torch_seed(self.site.config.seed, 0, SERVER, "weights"))
        gan.load_moments(None, [G])
        return State(0, gan.models() | gan.moments([G]), {})

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """One epoch: portions out, `iterations` of the clients and G, portions back and averaged."""
        round, gan = state.round + 1, self.site.gan
        gan.load_models({G: state.arrays[G]})
        gan.load_moments(state.arrays, [G])
        weights = self._share_blocks(fleet, state.arrays[D])
        planner = Planner(self.method, self.scheduler, fleet, round, weights, state.facts)
        chains = planner.begin()
        for iteration in range(self.method.iterations):
            chains = self._iterate(fleet, planner, chains, round, iteration)
        discriminator, whole = self._average(fleet, state.arrays[D], chains)
        if missed := [chain for chain in chains if chain not in whole]:
            planner.miss(missed)
        arrays = gan.models([G]) | gan.moments([G]) | {D: discriminator}
        reports = [self._report(chain) for chain in whole]
        return State(round, arrays, planner.facts(), tuple(planner.events)), reports

    def _share_blocks(self, fleet: Fleet, discriminator: np.ndarray) -> list[Handle]:
        vectors = np.split(discriminator, np.cumsum(self.sizes)[:-1])
        return [
            fleet.share(block_codec(self.site, [number]).encode({f"block{number}": vector}))
            for number, vector in enumerate(vectors)
        ]

    def _iterate(self, fleet: Fleet, planner: Planner, chains: list[Chain], round: int, iteration: int) -> list[Chain]:
        """One iteration of all clients and one step of G; the chains that are still there."""
        site, gan, size = self.site, self.site.gan, self.method.batch
        with site.work(fleet, "generate"), seeded(torch_seed(site.config.seed, round, SERVER, f"noise {iteration}")):
            fakes = gan.fakes(gan.noise(size))
        rows = micro_rows(size, micro_batches(site))
        handles = [fleet.share(site.pack_images(fakes[part])) for part in rows]
        whole, broken = self._pass(fleet, chains, handles, round, iteration)
        while broken:
            more, broken = self._pass(fleet, planner.mend(broken, iteration), handles, round, iteration)
            whole = sorted(whole + more, key=lambda chain: chain.client)
        if whole:
            total = torch.zeros_like(fakes)
            for chain in whole:
                for part, passed in zip(rows, chain.replies[-1], strict=True):
                    assert passed.gradient is not None
                    total[part] += site.unpack_images(passed.gradient)
            with site.work(fleet, "update generator"):
                gan.follow([fakes], [total])
        return whole

    def _pass(
        self, fleet: Fleet, chains: list[Chain], handles: Sequence[Handle], round: int, iteration: int
    ) -> tuple[list[Chain], list[Chain]]:
        """A step of D and the pass for G of every client; the chains that replied in full, and the others."""
        self._there_and_back(fleet, chains, handles, round, iteration, for_generator=False)
        ends = self._there_and_back(fleet, chains, [None] * len(handles), round, iteration, for_generator=True)
        futures = [future for chain in chains for future in ends[chain.client]]
        replies = iter(fleet.collect(futures, self.method.deadline_s) if futures else [])
        whole, broken = [], []
        for chain in chains:
            mine = [next(replies) for _ in handles]
            if all(isinstance(reply, Passed) and self._valid(reply) for reply in mine):
                chain.replies.append(mine)
                whole.append(chain)
            else:
                chain.fault = _fault(mine)
                broken.append(chain)
        return whole, broken

    def _there_and_back(
        self,
        fleet: Fleet,
        chains: list[Chain],
        handles: Sequence[Handle | None],
        round: int,
        iteration: int,
        for_generator: bool,
    ) -> dict[int, list[Future]]:
        """All micro-batches forward, then all back; each client's first device's last words, by client.

        Device by device over all clients, so that what can run beside each other is submitted together.
        """
        ends: dict[int, list[Future]] = {chain.client: [] for chain in chains}
        steps = [Step(round, iteration, micro, for_generator) for micro in range(len(handles))]
        depth = max((len(chain.links) for chain in chains), default=0)
        passed: dict[tuple[int, int], Future] = {}
        for step, handle in zip(steps, handles, strict=True):
            for level in range(depth):
                for chain in (chain for chain in chains if level < len(chain.links)):
                    device, stage = chain.links[level]
                    given = passed.get((chain.client, step.micro), handle)
                    inputs = [] if given is None else [given]
                    method = "turn" if stage.last else "forward"
                    key = chain.client, step.micro
                    passed[key] = fleet.submit(device, method, stage, step, chain.load, *inputs)
        for step in steps:
            for level in reversed(range(depth - 1)):
                for chain in (chain for chain in chains if level < len(chain.links) - 1):
                    device, stage = chain.links[level]
                    key = chain.client, step.micro
                    passed[key] = fleet.submit(device, "backward", stage, step, chain.load, passed[key])
        for (client, _), future in passed.items():
            ends[client].append(future)
        return ends

    def _average(self, fleet: Fleet, before: np.ndarray, chains: list[Chain]) -> tuple[np.ndarray, list[Chain]]:
        """Each block's mean over the clients whose portions all came back, weighted by n_k."""
        futures = [fleet.submit(device, "give", stage) for chain in chains for device, stage in chain.links]
        replies = iter(fleet.collect(futures, self.method.deadline_s) if futures else [])
        whole, vectors = [], []
        for chain in chains:
            portions = [(block_codec(self.site, stage.blocks), next(replies)) for _, stage in chain.links]
            if all(isinstance(packed, Packed) and is_valid(packed, codec) for codec, packed in portions):
                whole.append(chain)
                vectors.append(np.concatenate([codec.values(packed) for codec, packed in portions]))
            else:
                chain.fault = _fault([packed for _, packed in portions])
        if not whole:
            return before, []
        samples = self.samples[[chain.client for chain in whole]].astype(np.float32)
        mean = np.zeros_like(before)
        with self.site.work(fleet, "average"):
            self.site.gan.meter.add(2 * mean.size * len(whole))
            for share, vector in zip(samples / samples.sum(), vectors, strict=True):
                mean += share * vector
        return mean, whole

    def _valid(self, reply: Passed) -> bool:
        if reply.gradient is None:
            return False
        return is_valid(reply.gradient, self.site.image_codec(reply.gradient.data.size))

    def _report(self, chain: Chain) -> Report:
        losses = np.array([[reply.loss, reply.loss_d] for replies in chain.replies for reply in replies])
        loss_g, loss_d = losses.sum(axis=0) / max(1, len(chain.replies))
        return Report(chain.client, chain.load.batch * len(chain.replies), float(loss_g), float(loss_d))


def _fault(replies: Sequence[Any]) -> str:
    """What is wrong with replies that are not all there and valid."""
    reasons = {reply.reason for reply in replies if isinstance(reply, Missing)}
    if "late" in reasons:
        return "missed method.deadline_s"
    return "lost a reply" if reasons else "sent values that are not finite"
