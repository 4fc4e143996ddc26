"""What IoTSL can be told, and what its server remembers."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from rayfed.config import RunConfig
from rayfed.config.sections import Count, Section
from rayfed.methods import split_learning
from rayfed.methods.state import State
from rayfed.privacy.accountant import Mechanism

Step = Literal["generators", "pretraining", "imputation", "fine-tuning"]


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

    def step(self, round: int) -> Step:
        """Which of the four steps a round belongs to."""
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


def settings_of(config: RunConfig) -> Settings:
    """The method's own section."""
    assert isinstance(config.method, Settings)
    return config.method
