"""A run's whole configuration, and what must hold between its sections."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidatorFunctionWrapHandler, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rayfed import plugins, rayjob
from rayfed.config.sections import (
    Count,
    Data,
    Devices,
    Evaluation,
    Model,
    Ray,
    Resources,
    Section,
    Stop,
    Store,
    Tracking,
)
from rayfed.config.simulation import Twin
from rayfed.config.training import Training
from rayfed.errors import UserError

RUNS_DIR = "rayfed-runs"


def default_runs_dir() -> str:
    """The folder of the runs where nothing else is said; that of a Ray job outlives the job's working directory."""
    return os.environ.get("RAYFED_RUNS_DIR") or (str(Path.home() / RUNS_DIR) if rayjob.is_driver() else RUNS_DIR)


def default_store_url() -> str | None:
    """The URL of the store where nothing else is said. None means SQLite in the runs folder.

    It may hold a password, so it is read when a store is opened, and is part of no configuration.
    """
    return os.environ.get("RAYFED_STORE_URL") or None


class RunConfig(Section):
    """One run."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The seed of every random number in the run."""
    rounds: Count = 100
    """Rounds of training, after which the run is finished."""
    runs_dir: Annotated[str, Field(default_factory=default_runs_dir)]
    """The folder of the runs: their store, MLflow's database and files, and a folder of pictures for each. Unless it is
    set it is RAYFED_RUNS_DIR, or `rayfed-runs` where that is not set either; in a Ray job `~/rayfed-runs`."""
    init_from: str | None = None
    """A run of the same store with whose last committed networks this one begins. None means fresh ones."""
    wire: Literal["float32", "float16", "int8"] = "float32"
    """How numbers are encoded between server and devices; `float32` is exact."""
    method: SerializeAsAny[Training]
    """The method's name and its own section."""
    devices: Devices = Devices()
    data: Data = Data()
    model: Model = Model()
    resources: Resources = Resources()
    ray: Ray = Ray()
    evaluation: Evaluation = Evaluation()
    tracking: Tracking = Tracking()
    store: Annotated[Store, Field(default_factory=Store)]
    stop: Stop = Stop()
    twin: Twin = Twin()

    @property
    def participants(self) -> int:
        """Devices in a round; 1 for the centralised reference."""
        return self.method.participants(self.devices.count)

    def is_evaluated(self, round: int) -> bool:
        """Whether there is an evaluation after this round: after every so many, and after the last."""
        every = self.evaluation.every
        return bool(every) and round > 0 and (round % every == 0 or round == self.rounds)

    @field_validator("method", mode="wrap")
    @classmethod
    def _of_the_methods_own_section(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Training:
        if not isinstance(value, dict):
            made: Training = handler(value)
            return made
        try:
            section: type[Training] = plugins.method(value.get("name")).settings
        except UserError as error:
            raise PydanticCustomError("unknown_method", "{message}", {"message": str(error)}) from None
        return section.model_validate(value)

    @model_validator(mode="after")
    def _someone_takes_part(self) -> "RunConfig":
        if self.participants < 1:
            raise ValueError(self.method.too_few(self.devices.count))
        return self

    @model_validator(mode="after")
    def _stopping_needs_evaluations(self) -> "RunConfig":
        if self.stop.asked and not self.evaluation.every:
            raise ValueError("evaluation.every = 0: stop needs evaluations; set the rounds between two of them")
        return self

    @model_validator(mode="after")
    def _as_the_method_needs_it(self) -> "RunConfig":
        """What only the method knows: its own checks across sections raise ValueError."""
        plugins.method(self.method.name).validate(self)
        return self
