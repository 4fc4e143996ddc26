"""IoTSL's device half: a private generator, the missing classes from others' generators, and split learning."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice

import numpy as np
import torch

from rayfed.fleet.codec import Codec, Packed
from rayfed.ids import ClientId
from rayfed.methods.iotsl.settings import Settings, settings_of
from rayfed.methods.local_epochs import Batch
from rayfed.methods.split_learning.algorithm import Device as SplitDevice
from rayfed.methods.splitfed.algorithm import Device as SplitFedDevice
from rayfed.models.conditional import ConditionalGAN
from rayfed.privacy.sanitise import sanitise
from rayfed.scheduling.load import Load
from rayfed.seeding import generator, torch_seed
from rayfed.tasks.classification.workspace import ClassifierWorkspace

G = "generator"
IMAGES, LABELS = "imputed_images", "imputed_labels"


@dataclass(frozen=True)
class Trained:
    """A device's reply in step 1: its losses, where it trains without noise; in the last round its generator and its
    class counts too."""

    client: ClientId
    metrics: Mapping[str, float]
    generator: Packed | None = None
    counts: Packed | None = None


class Device(SplitDevice, SplitFedDevice):
    """A device, for either kind of fine-tuning.

    Beside f_a it owns its generator and critic, both with Adam's state, and what was imputed.
    """

    private = ("critic", "critic.exp_avg", "critic.exp_avg_sq")
    """What never leaves the device: the fleet refuses to send it."""

    def train_generator(self, task: tuple[int, bool], round: int) -> Trained:
        """Steps of the generator by losses (6) and (7) through the sanitised gradient (Algorithm 1, line 6).

        `task`: how many steps, and whether the generator is sent after them.
        """
        steps, last = task
        context, settings = self.context, settings_of(self.context.config)
        gan, shard = self._gan(), context.shard
        draws, noise = (
            torch.Generator().manual_seed(torch_seed(context.seed, round, context.device, purpose))
            for purpose in ("generator", "noise")
        )
        privacy, size, counts = settings.privacy, settings.generator_batch, shard.class_counts()
        clip = torch.inf if privacy.clip is None else privacy.clip
        clean = partial(sanitise, clip=clip, sigma=privacy.sigma, draws=noise)
        indices = shard.indices(size, round, 0, steps * settings.critic_steps)
        rng, losses = generator(context.seed, round, context.device, "labels"), []
        for _ in context.workspace.meter.steps(steps):
            batches = [
                (shard.images[chosen], shard.labels[chosen]) for chosen in islice(indices, settings.critic_steps)
            ]
            labels = rng.choice(len(counts), size, p=counts / counts.sum())
            losses.append(gan.step(batches, labels, draws, clean))
        self.state = self.state | gan.models() | gan.optimizer_state()
        metrics = {}
        if losses and settings.mechanism is None:  # no epsilon would cover them
            metrics = dict(zip(("loss_g", "loss_d"), torch.stack(losses).mean(dim=0).tolist(), strict=True))
        if not last:
            return Trained(shard.client, metrics)
        return Trained(
            shard.client,
            metrics,
            codec(gan, context.config.wire).encode(gan.models([G])),
            count_codec(len(counts)).encode({"values": counts.astype(np.float32)}),
        )

    def impute(self, wanted: tuple[tuple[tuple[int, int], ...], ...], round: int, *generators: Packed) -> int:
        """Draw the missing classes (Algorithm 2, line 19) by these generators; how many samples there are now.

        `wanted` has for each generator (class, samples) of what it draws.
        """
        gan, seed, images, labels = self._gan(), self.context.seed, [], []
        for place, (counts, packed) in enumerate(zip(wanted, generators, strict=True)):
            gan.load_models(codec(gan, self.context.config.wire).decode(packed))
            labels.append(np.repeat(*np.array(counts).T))
            images.append(gan.generate(labels[-1], torch_seed(seed, round, self.context.device, f"impute {place}")))
        drawn = np.concatenate(images)
        self.state = self.state | {IMAGES: drawn, LABELS: np.concatenate(labels)}
        return len(drawn)

    def _batch(self, load: Load, round: int, iteration: int) -> Batch:
        """Of the device's own samples and the imputed ones together."""
        if IMAGES not in self.state:
            return super()._batch(load, round, iteration)
        shard = self.context.shard
        own, total = len(shard.samples), len(shard.samples) + len(self.state[LABELS])
        rng = generator(shard.seed, round, shard.client, "batches")
        if self.method.iterations:
            repeats = -(-load.batch * load.iterations // total)
            order = np.concatenate([rng.permutation(total) for _ in range(repeats)])
        else:
            order = rng.permutation(total)
        chosen = order[load.batch * iteration : load.batch * (iteration + 1)]
        mine, drawn = chosen[chosen < own], chosen[chosen >= own] - own
        images = np.concatenate([shard.images[shard.samples[mine]], self.state[IMAGES][drawn]])
        return images, np.concatenate([shard.labels[shard.samples[mine]], self.state[LABELS][drawn]])

    def _gan(self) -> ConditionalGAN:
        """The process's generator and critic with this device's weights; before its first turn, fresh ones."""
        context = self.context
        gan = gan_of(context.workspace, context.shard.classes, settings_of(context.config))
        if G in self.state:
            gan.load_models({name: self.state[name] for name in gan.networks})
            gan.load_optimizer_state(self.state)
        else:
            gan.initialise(torch_seed(context.seed, 0, context.device, "generator"))
            gan.load_optimizer_state(None)
        return gan


def gan_of(workspace: ClassifierWorkspace, classes: int, settings: Settings) -> ConditionalGAN:
    """This process's generator and critic, counted with the rest of its work."""
    gan = _one_gan(classes, settings.generator_width, str(workspace.device), settings.generator_lr)
    gan.meter = workspace.meter
    return gan


@lru_cache(maxsize=1)
def _one_gan(classes: int, width: int, device: str, lr: float) -> ConditionalGAN:
    return ConditionalGAN(classes, width, device, lr)


def codec(gan: ConditionalGAN, wire: str) -> Codec:
    """Of a generator on the wire."""
    return Codec(wire, {G: gan.sizes[G]}, "generators")


def count_codec(classes: int) -> Codec:
    """Of a device's class counts, which are what its labels tell."""
    return Codec("float32", {"values": (classes,)}, "labels")
