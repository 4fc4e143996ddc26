"""IoTSL (Feng et al., IEEE IoT-J 2023).

The server's algorithms are in `rayfed.methods.iotsl.algorithm`, a device's half in `device`; `pairing` decides whose
generator draws for whom, `budgets` keeps what the generators spend of their privacy, `settings` says what can be
configured, `events` what a run tells.
"""

import numpy as np

from rayfed.config import RunConfig
from rayfed.data.population import Population
from rayfed.errors import UserError, counted
from rayfed.methods import split_learning, splitfed
from rayfed.methods.iotsl.events import numbers
from rayfed.methods.iotsl.settings import IotslState, Settings, settings_of
from rayfed.methods.local_epochs import scheduler
from rayfed.methods.spec import MethodSpec, Phase, check_memory
from rayfed.privacy.accountant import epsilon, spend, steps_within
from rayfed.tasks.classification.settings import SplitTraining

WEAK = 10
"""The epsilon above which a promise is next to none; see docs/privacy.md."""


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
            f"data.partition = {config.data.partition!r}: no device holds {numbers('class', nobodys, 'classes')}, so "
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


def phases(config: RunConfig) -> tuple[Phase, ...]:
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
        Phase("generators", method.generator_rounds, config),
        Phase("fine-tuning", config.rounds - method.before_tuning, tuning),
    )


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
    phases=phases,
    preflight=preflight,
    scheduler=scheduler,
)
