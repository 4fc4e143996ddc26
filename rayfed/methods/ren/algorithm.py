"""Ren, Liu, Yu, Guo: "A New Distributed Method for Training Generative Adversarial Networks" (2021).

One generator on the server, a discriminator on every device. Each round the scheduled devices get (phi, theta), make
n_d steps on their discriminator (Algorithm 1) and send it up; the server averages (Algorithm 2) and makes n_g steps on
the generator (Algorithm 3). Serial schedule: against the new phi, whose broadcast overlaps those steps. Parallel
schedule: against the old phi, while the devices compute, on the same noise, which both sides draw from one seed.

Both networks use the run's loss and Adam: G ascends log D(G(z)) with BCE (the non-saturating form), where the paper
writes log(1 - D(G(z))).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rayfed.aggregation import GroupWeights, by_batch
from rayfed.config import RunConfig
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays, Fleet, Future
from rayfed.ids import DeviceId
from rayfed.methods.context import DeviceContext, ServerContext
from rayfed.methods.exchange import Report, Update, average, choose_group
from rayfed.methods.ren import Settings
from rayfed.methods.state import State
from rayfed.models.gan import seeded, to_images
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER, torch_seed
from rayfed.tasks.gan.workspace import GanWorkspace

PHI, THETA = "discriminator", "generator"


class Device:
    """Algorithm 1. What a device owns between rounds is its Adam's state."""

    def __init__(self, context: DeviceContext[GanWorkspace], state: Arrays) -> None:
        self.context = context
        self.state = state

    def train(self, phi: Packed, theta: Packed, load: Load, round: int) -> Update:
        """n_d steps of D on m_k real and m_k generated images each; only D goes up."""
        workspace, shard = self.context.workspace, self.context.shard
        gan, config, device = workspace.gan, self.context.config, self.context.device
        gan.load_models(workspace.codecs[PHI].decode(phi) | workspace.codecs[THETA].decode(theta))
        gan.load_optimizer_state(self.state or None, [PHI])
        losses = []
        with seeded(torch_seed(config.seed, round, device, "train")):
            for step, batch in enumerate(shard.batches(load.batch, load.iterations, round)):
                with torch.no_grad():
                    fakes = gan.fakes(noise(config, workspace, round, device, step)[: load.batch])
                losses.append(gan.discriminator_step(to_images(batch, gan.device), fakes))
        if config.method.keeps_optimizer_state:
            self.state = gan.optimizer_state([PHI])
        models = workspace.codecs[PHI].encode(gan.models([PHI]))
        return Update(shard.client, models, load, {"loss_d": float(torch.stack(losses).mean())})


def noise(config: RunConfig, workspace: GanWorkspace, round: int, node: int, step: int) -> Tensor:
    """z [batch, latent] of a step; with the parallel schedule all nodes draw the same (section III.A)."""
    assert isinstance(config.method, Settings)
    source = SERVER if config.method.schedule == "parallel" else node
    with seeded(torch_seed(config.seed, round, source, f"noise {step}")):
        return workspace.gan.noise(config.method.batch)


class Server:
    """Scheduling, Algorithms 2 and 3, and the two schedules of section III."""

    def __init__(self, context: ServerContext[GanWorkspace, Scheduler]) -> None:
        self.context = context
        self.workspace = context.workspace
        self.scheduler = context.scheduler
        assert isinstance(context.config.method, Settings)
        self.method = context.config.method

    def init(self) -> State:
        """Fresh networks; the state of G's optimizer at zero."""
        gan = self.workspace.gan
        gan.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        gan.load_optimizer_state(None, [THETA])
        return State(0, gan.models(), gan.optimizer_state([THETA]), self.scheduler.start())

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """One communication round; without any update both models stay as they are."""
        round = state.round + 1
        loads, sampler = choose_group(self.scheduler, round, state.sampler)
        weights = GroupWeights(by_batch, loads)
        phi = fleet.share(self._encode(state, PHI), since="phi")
        theta = fleet.share(self._encode(state, THETA))
        futures = [
            fleet.submit(DeviceId(client), "train", phi, theta, load, round, cost=load.images, last=True)
            for client, load in loads.items()
        ]
        after, metrics = replace(state, round=round, sampler=sampler), dict[str, float]()
        parallel = self.method.schedule == "parallel"
        trained = self.update_generator(fleet, after) if parallel else (after, metrics)
        averaged, reports = self.average_discriminators(fleet, futures, weights)
        if not reports:
            return after, []
        after, metrics = trained
        after = replace(after, models=after.models | averaged)
        fleet.mark("phi")
        if not parallel:
            after, metrics = self.update_generator(fleet, after)
        return after, [replace(report, metrics={**metrics, **report.metrics}) for report in reports]

    def average_discriminators(
        self, fleet: Fleet, futures: Sequence[Future], weights: GroupWeights
    ) -> tuple[Arrays, list[Report]]:
        """Algorithm 2: phi becomes the mean of the devices' discriminators, weighted by their batches m_k."""
        return average(fleet, self.method, self.workspace.meter, self.workspace.codecs[PHI], futures, weights)

    def update_generator(self, fleet: Fleet, state: State) -> tuple[State, dict[str, float]]:
        """Algorithm 3: n_g steps of G against the state's phi; the state with the new G, and G's mean loss."""
        workspace, round = self.workspace, state.round
        gan = workspace.gan
        with (
            fleet.work("update generator", workspace.meter.take),
            seeded(torch_seed(self.context.seed, round, SERVER, "train")),
        ):
            gan.load_models(state.models)
            gan.load_optimizer_state(state.optimizer, [THETA])
            noises = (noise(self.context.config, workspace, round, SERVER, n) for n in range(self.method.g_steps))
            losses = [gan.generator_step(gan.fakes(z)) for z in noises]
            models = state.models | gan.models([THETA])
            loss = {"loss_g": float(torch.stack(losses).mean())}
        return replace(state, models=models, optimizer=gan.optimizer_state([THETA])), loss

    def _encode(self, state: State, name: str) -> Packed:
        return self.workspace.codecs[name].encode({name: state.models[name]})
