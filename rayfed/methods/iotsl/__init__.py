"""IoTSL (Feng et al., IEEE IoT-J 2023); the algorithms are in `rayfed.methods.iotsl.algorithm`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from rayfed.config import RunConfig
from rayfed.config.sections import Count, Section
from rayfed.data.population import Population
from rayfed.errors import UserError, counted
from rayfed.events import Event
from rayfed.methods import split_learning, splitfed
from rayfed.methods.local_epochs import scheduler
from rayfed.methods.spec import MethodSpec, Stage, check_memory
from rayfed.methods.state import State
from rayfed.privacy.accountant import Mechanism, epsilon, spend, steps_within
from rayfed.tasks.classification.settings import SplitTraining

WEAK = 10
"""The epsilon above which a promise is next to none; see docs/privacy.md."""
Phase = Literal["generators", "pretraining", "imputation", "fine-tuning"]


class Privacy(Section):
    """The sanitised gradient of the generators (formulas 4 and 5)."""

    sigma: Annotated[float, Field(ge=0, le=1e6)] = 1.07
    """Sigma, the noise's standard deviation over C. 0 adds none, and then no epsilon holds."""
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """C, the largest norm of a sample's gradient. None clips nothing, and then there is no noise either."""
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    """The delta at which epsilon is told."""
    epsilon: Annotated[float, Field(gt=0)] | None = None
    """The epsilon that a device's generator may spend; its training ends before it would pass that. None means that
    epsilon is only told."""


class Settings(split_learning.Settings):
    """IoTSL: split learning after pretraining on, and imputation by, what the devices' generators draw."""

    generator_rounds: Count = 2
    """The rounds in which the devices train their generators (step 1)."""
    generator_steps: Count = 500
    """Steps of a generator in each of them."""
    critic_steps: Count = 5
    """Steps of its critic for each of these; 5 as WGAN-GP has them (Gulrajani et al. 2017)."""
    generator_lr: Annotated[float, Field(gt=0)] = 1e-4
    """Adam's learning rate for generator and critic."""
    generator_batch: Count = 32
    """The images of a batch of a generator or critic."""
    generator_width: Count = 64
    """Channels of the critic's first convolution; 64 as published."""
    pretraining_rounds: Annotated[int, Field(ge=0)] = 5
    """The rounds, an epoch of the generated data each, in which the server trains the whole network (step 2). 0 leaves
    the step out."""
    impute: bool = True
    """Whether defective devices get what other devices' generators draw (step 3)."""
    scarce: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """A class of which a device has fewer than this share of its own mean class counts as missing."""
    fine_tuning: Literal["split-learning", "splitfed"] = "split-learning"
    """Whether step 4 has the devices in turn, as published (`split-learning`), or all at once, their f_a averaged
    (`splitfed`; Thapa et al. 2022)."""
    privacy: Privacy = Privacy()
    """What protects the generators."""

    @property
    def sends_to_peers(self) -> bool:
        """f_a goes from device to device, in fine-tuning by turns."""
        return self.fine_tuning == "split-learning" and super().sends_to_peers

    def phase(self, round: int) -> Phase:
        """What happens in a round."""
        if round <= self.generator_rounds:
            return "generators"
        if round <= self.generator_rounds + self.pretraining_rounds:
            return "pretraining"
        return "imputation" if self.impute and round == self.before_tuning else "fine-tuning"

    @property
    def before_tuning(self) -> int:
        """The rounds before fine-tuning (step 4)."""
        return self.generator_rounds + self.pretraining_rounds + self.impute

    @property
    def mechanism(self) -> Mechanism | None:
        """A generator's step as a mechanism; None without noise, where no epsilon holds."""
        privacy = self.privacy
        if not privacy.sigma or privacy.clip is None:
            return None
        return Mechanism(privacy.sigma, privacy.clip, self.generator_batch)


@dataclass(frozen=True)
class IotslState(State):
    """What the server remembers beside f_a, f_b and the generators."""

    log: list[list[int]] = field(default_factory=list)
    """The generation log: how many samples of each class each device's generator draws, [K][classes]."""
    spent: dict[str, list[list[float]]] = field(default_factory=dict)
    """Device -> the privacy budget that its generator has spent."""
    imputed: dict[str, int] = field(default_factory=dict)
    """Device -> the samples that were drawn for it."""


@dataclass(frozen=True)
class Paired(Event):
    """A defective device gets the missing classes from other devices' generators."""

    kind: ClassVar[str] = "paired"
    device: int
    classes: tuple[int, ...]
    partners: tuple[int, ...]
    samples: int

    def sentence(self) -> str:
        """See `Event.sentence`."""
        drawn_by = "generator" if len(self.partners) == 1 else "generators"
        return (
            f"device {self.device} lacks {_numbers('class', self.classes, 'classes')}: {self.samples} samples are "
            f"drawn by the {drawn_by} of {_numbers('device', self.partners)}"
        )


@dataclass(frozen=True)
class BudgetSpent(Event):
    """The privacy budgets after a round of step 1."""

    kind: ClassVar[str] = "budget-spent"
    epsilons: tuple[float, ...]
    """Of each device, in their order."""
    delta: float
    ended: tuple[int, ...] = ()
    """The devices that privacy.epsilon allows no further step."""

    def sentence(self) -> str:
        """See `Event.sentence`."""
        least, most = f"{min(self.epsilons):.4g}", f"{max(self.epsilons):.4g}"
        worst = "" if least == most else f" to {most} (device {int(np.argmax(self.epsilons))})"
        ended = f"; it allows {_numbers('device', self.ended)} no further step" if self.ended else ""
        return f"the generators have spent epsilon {least}{worst} at delta {self.delta:g}{ended}"


@dataclass(frozen=True)
class WithoutGenerator(Event):
    """Devices whose generators did not come in the last round of step 1."""

    kind: ClassVar[str] = "without-generator"
    devices: tuple[int, ...]

    def sentence(self) -> str:
        """See `Event.sentence`."""
        one = len(self.devices) == 1
        return (
            f"no generator has come from {_numbers('device', self.devices)}: nothing is drawn by "
            f"{'it, and it gets' if one else 'them, and they get'} no missing classes"
        )


def _numbers(what: str, numbers: Iterable[int], plural: str = "") -> str:
    found = list(map(str, numbers))
    return f"{what if len(found) == 1 else plural or what + 's'} {', '.join(found)}"


def validate(config: RunConfig) -> None:
    """There must be rounds of fine-tuning, and noise needs a bound."""
    method = settings_of(config)
    if config.rounds <= method.before_tuning:
        raise ValueError(
            f"rounds = {config.rounds}: {method.before_tuning} of them come before fine-tuning (generator_rounds + "
            f"pretraining_rounds, and 1 of imputation); it must be at least {method.before_tuning + 1}"
        )
    judged = method.generator_rounds // config.evaluation.every if config.evaluation.every else 0
    if config.stop.patience is not None and config.stop.patience <= judged:
        raise ValueError(
            f"stop.patience = {config.stop.patience}: the classifier does not change in the first "
            f"{counted(method.generator_rounds, 'round')}, which train generators; take at least {judged + 1}"
        )
    if method.fine_tuning == "splitfed" and method.hand_over == "server":
        raise ValueError(
            "method.hand_over = 'server': is for devices in turn; with method.fine_tuning = splitfed f_a goes by way "
            "of the server anyway, so leave it out"
        )
    if method.privacy.sigma and method.privacy.clip is None:
        raise ValueError(
            f"method.privacy.sigma = {method.privacy.sigma}: the noise is sigma * clip, and method.privacy.clip = null "
            "is no bound; set it, or sigma = 0"
        )
    if method.privacy.epsilon is not None and method.mechanism is None:
        raise ValueError(
            f"method.privacy.epsilon = {method.privacy.epsilon}: without noise no epsilon holds; set "
            "method.privacy.sigma above 0"
        )
    if config.init_from and method.mechanism:
        raise ValueError(
            f"init_from = {config.init_from!r}: what that run has spent of the devices' privacy is not known here, so "
            "no epsilon would hold; begin afresh, or set method.privacy.sigma = 0"
        )


def preflight(config: RunConfig, population: Population) -> list[str]:
    """Tell what protects nothing; raise UserError for data that nobody can generate, and a budget without a step."""
    method, told = settings_of(config), check_memory(config, population)
    if population.channels != 1:
        raise UserError(
            f"data.name = {config.data.name!r}: iotsl's generators draw grey images of 28x28; this data has "
            f"{counted(population.channels, 'channel')}"
        )
    if empty := np.flatnonzero(population.counts.sum(axis=1) == 0).tolist():
        raise UserError(
            f"data.partition = {config.data.partition!r}: device {empty[0]} holds no samples, so it has nothing to "
            "train a generator on; take fewer devices, or another partition"
        )
    held = population.counts.sum(axis=0)
    if method.impute and (nobodys := np.flatnonzero((held == 0) & (population.whole > 0)).tolist()):
        raise UserError(
            f"data.partition = {config.data.partition!r}: no device holds {_numbers('class', nobodys, 'classes')}, so "
            "no generator can draw them for the others; give them to a device, or set method.impute = false"
        )
    return told + _told_of_privacy(method, int(population.counts.sum(axis=1).max()))


def _told_of_privacy(method: Settings, images: int) -> list[str]:
    """What protects little or nothing, and the epsilon that the run comes to. `images`: the most on a device."""
    if method.mechanism is None:
        return ["method.privacy.sigma = 0: the generators are trained without noise, and no epsilon holds"]
    privacy, steps, told = method.privacy, method.generator_rounds * method.generator_steps, []
    if privacy.epsilon is not None:
        steps = min(steps, steps_within(privacy.epsilon, privacy.delta, method.mechanism))
    if (spent := epsilon(spend([], method.mechanism, steps), privacy.delta)) > WEAK:
        told.append(
            f"method.privacy.sigma = {privacy.sigma}: {counted(steps, 'step')} of a generator spend epsilon "
            f"{spent:.4g} at delta {privacy.delta:g}; above about {WEAK} it promises next to nothing"
        )
    if privacy.delta >= 1 / images:
        told.append(
            f"method.privacy.delta = {privacy.delta}: a device holds {images} images; delta should be well below "
            f"1/{images}"
        )
    return told


def stages(config: RunConfig) -> tuple[Stage, ...]:
    """Step 1, and step 4 without imputed samples, which cost what the method that it is by itself costs.

    Steps 2 and 3 cost the devices next to nothing.
    """
    method = settings_of(config)
    settings: type[SplitTraining] = split_learning.Settings
    if method.fine_tuning == "splitfed":
        settings = splitfed.Settings
    shared = method.model_dump(include=set(settings.model_fields) - {"name"})
    tuning = config.model_copy(update={"method": settings(name=method.fine_tuning, **shared)})
    return (
        Stage("generators", method.generator_rounds, config),
        Stage("fine-tuning", config.rounds - method.before_tuning, tuning),
    )


def settings_of(config: RunConfig) -> Settings:
    """The method's own section."""
    assert isinstance(config.method, Settings)
    return config.method


METHOD = MethodSpec(
    name="iotsl",
    about="split learning made cheap and stable by private generators (Feng et al. 2023)",
    settings=Settings,
    server="rayfed.methods.iotsl.algorithm:Server",
    device="rayfed.methods.iotsl.device:Device",
    trains=("device_part",),
    task_name="classification",
    state=IotslState,
    validate=validate,
    closing=("epsilon",),
    stages=stages,
    preflight=preflight,
    scheduler=scheduler,
)
