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
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rayfed.aggregation import by_samples
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Fleet, Future, Handle, Missing
from rayfed.ids import ClientId
from rayfed.methods.context import ServerContext
from rayfed.methods.exchange import Report, is_valid, mean
from rayfed.methods.fsl_gan.messages import Passed, Step, block_codec, micro_rows
from rayfed.methods.fsl_gan.planner import Chain, Planner
from rayfed.methods.fsl_gan.scheduler import ClientScheduler
from rayfed.methods.fsl_gan.settings import FslState, Settings
from rayfed.models import flat
from rayfed.models.gan import seeded
from rayfed.models.portions import blocks
from rayfed.seeding import SERVER, torch_seed
from rayfed.tasks.gan.workspace import GanWorkspace

D, G = "discriminator", "generator"


class Server:
    """The generator, the plan of each round, and the average."""

    def __init__(self, context: ServerContext[GanWorkspace, ClientScheduler]) -> None:
        self.context = context
        self.workspace = context.workspace
        self.scheduler = context.scheduler
        assert isinstance(context.config.method, Settings)
        self.method = context.config.method
        self.weigh = by_samples(self.scheduler.class_counts().sum(axis=1))
        self.sizes = [sum(flat.sizes(block)) for block in blocks(self.workspace.gan.discriminator)]

    def init(self) -> FslState:
        """Fresh networks; the state of G's optimizer at zero."""
        gan = self.workspace.gan
        gan.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        gan.load_optimizer_state(None, [G])
        return FslState(0, gan.models(), gan.optimizer_state([G]))

    def round(self, state: FslState, fleet: Fleet) -> tuple[FslState, list[Report]]:
        """One epoch: portions out, `iterations` of the clients and G, portions back and averaged."""
        round, gan = state.round + 1, self.workspace.gan
        gan.load_models({G: state.models[G]})
        gan.load_optimizer_state(state.optimizer, [G])
        weights = self._share_blocks(fleet, state.models[D])
        planner = Planner(self.method, self.scheduler, fleet, state, weights)
        chains = planner.begin()
        for iteration in range(self.method.iterations):
            chains = self._iterate(fleet, planner, chains, round, iteration)
        discriminator, whole = self._average(fleet, state.models[D], chains)
        if missed := [chain for chain in chains if chain not in whole]:
            planner.miss(missed)
        models = gan.models([G]) | {D: discriminator}
        state = replace(state, round=round, models=models, optimizer=gan.optimizer_state([G]))
        return planner.after(state), [self._report(chain) for chain in whole]

    def _share_blocks(self, fleet: Fleet, discriminator: np.ndarray) -> list[Handle]:
        vectors = np.split(discriminator, np.cumsum(self.sizes)[:-1])
        return [
            fleet.share(block_codec(self.workspace, [number]).encode({f"block{number}": vector}))
            for number, vector in enumerate(vectors)
        ]

    def _iterate(self, fleet: Fleet, planner: Planner, chains: list[Chain], round: int, iteration: int) -> list[Chain]:
        """One iteration of all clients and one step of G; the chains that are still there."""
        workspace, gan, size = self.workspace, self.workspace.gan, self.method.batch
        seed = torch_seed(self.context.seed, round, SERVER, f"noise {iteration}")
        with fleet.work("generate", workspace.meter.take), seeded(seed):
            fakes = gan.fakes(gan.noise(size))
        rows = micro_rows(size, self.method.micro_batches)
        handles = [fleet.share(workspace.pack_images(fakes[part], "fakes")) for part in rows]
        whole, broken = self._pass(fleet, chains, handles, round, iteration)
        while broken:
            more, broken = self._pass(fleet, planner.mend(broken, iteration), handles, round, iteration)
            whole = sorted(whole + more, key=lambda chain: chain.client)
        if whole:
            total = torch.zeros_like(fakes)
            for chain in whole:
                for part, passed in zip(rows, chain.replies[-1], strict=True):
                    assert passed.gradient is not None
                    total[part] += workspace.unpack_images(passed.gradient)
            with fleet.work("update generator", workspace.meter.take):
                gan.follow([fakes], [total])
        return whole

    def _pass(
        self, fleet: Fleet, chains: list[Chain], handles: Sequence[Handle], round: int, iteration: int
    ) -> tuple[list[Chain], list[Chain]]:
        """A step of D and the pass for G of every client; the chains that replied in full, and the others."""
        self.there_and_back(fleet, chains, handles, round, iteration, for_generator=False)
        ends = self.there_and_back(fleet, chains, [None] * len(handles), round, iteration, for_generator=True)
        futures = [future for chain in chains for future in ends[chain.client]]
        replies = iter(fleet.collect(futures, self.method.deadline_s) if futures else [])
        whole, broken = [], []
        for chain in chains:
            mine = [next(replies) for _ in handles]
            if all(isinstance(reply, Passed) and self._valid(reply) for reply in mine):
                chain.replies.append(mine)
                whole.append(chain)
            else:
                _broke(fleet, chain, mine)
                broken.append(chain)
        return whole, broken

    def there_and_back(
        self,
        fleet: Fleet,
        chains: list[Chain],
        handles: Sequence[Handle | None],
        round: int,
        iteration: int,
        for_generator: bool,
    ) -> dict[ClientId, list[Future]]:
        """All micro-batches forward, then all back; each client's first device's last words, by client.

        Device by device over all clients, so that what can run beside each other is submitted together.
        """
        ends: dict[ClientId, list[Future]] = {chain.client: [] for chain in chains}
        steps = [Step(round, iteration, micro, for_generator) for micro in range(len(handles))]
        depth = max((len(chain.links) for chain in chains), default=0)
        passed: dict[tuple[ClientId, int], Future] = {}
        for step, handle in zip(steps, handles, strict=True):
            for level in range(depth):
                for chain in (chain for chain in chains if level < len(chain.links)):
                    device, place = chain.links[level]
                    given = passed.get((chain.client, step.micro), handle)
                    inputs = [] if given is None else [given]
                    method = "turn" if place.last else "forward"
                    key = chain.client, step.micro
                    passed[key] = fleet.submit(device, method, place, step, chain.load, *inputs)
        for step in steps:
            for level in reversed(range(depth - 1)):
                for chain in (chain for chain in chains if level < len(chain.links) - 1):
                    device, place = chain.links[level]
                    key = chain.client, step.micro
                    passed[key] = fleet.submit(device, "backward", place, step, chain.load, passed[key])
        for (client, _), future in passed.items():
            ends[client].append(future)
        return ends

    def _average(self, fleet: Fleet, before: np.ndarray, chains: list[Chain]) -> tuple[np.ndarray, list[Chain]]:
        """Each block's mean over the clients whose portions all came back, weighted by n_k."""
        futures = [fleet.submit(device, "give", place) for chain in chains for device, place in chain.links]
        replies = iter(fleet.collect(futures, self.method.deadline_s) if futures else [])
        whole, vectors = [], []
        for chain in chains:
            portions = [(block_codec(self.workspace, place.blocks), next(replies)) for _, place in chain.links]
            if all(isinstance(packed, Packed) and is_valid(packed, codec) for codec, packed in portions):
                whole.append(chain)
                vectors.append(np.concatenate([codec.values(packed) for codec, packed in portions]))
            else:
                _broke(fleet, chain, [packed for _, packed in portions])
        if not whole:
            return before, []
        shares = self.weigh([chain.client for chain in whole], [chain.load for chain in whole])
        return mean(fleet, self.workspace.meter, vectors, shares, before.size), whole

    def _valid(self, reply: Passed) -> bool:
        if reply.gradient is None:
            return False
        return is_valid(reply.gradient, self.workspace.image_codec(reply.gradient.data.size, "feedback"))

    def _report(self, chain: Chain) -> Report:
        losses = np.array([[reply.loss, reply.loss_d] for replies in chain.replies for reply in replies])
        loss_g, loss_d = losses.sum(axis=0) / max(1, len(chain.replies))
        metrics = {"loss_g": float(loss_g), "loss_d": float(loss_d)}
        return Report(chain.client, chain.load.batch * len(chain.replies), metrics)


def _broke(fleet: Fleet, chain: Chain, replies: Sequence[Any]) -> None:
    """Say what is wrong with a chain's replies, which are not all there and valid."""
    reasons = {reply.reason for reply in replies if isinstance(reply, Missing)}
    if not reasons:
        fleet.reject(chain.client)
        chain.fault = "sent values that are not finite"
    else:
        chain.fault = "missed method.deadline_s" if "late" in reasons else "lost a reply"
