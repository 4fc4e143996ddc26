"""A run's whole configuration, and what must hold between its sections."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, ValidatorFunctionWrapHandler, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rayfed import plugins
from rayfed.config.sections import (
    Count,
    Data,
    Devices,
    Evaluation,
    Model,
    Ray,
    Resources,
    Section,
    Store,
    Tracking,
)
from rayfed.config.simulation import Twin
from rayfed.config.training import Training
from rayfed.errors import UserError


class RunConfig(Section):
    """One run."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The seed of every random number in the run."""
    rounds: Count = 100
    """Rounds of training, after which the run is finished."""
    runs_dir: str = "rayfed-runs"
    """The folder of the runs: their store, MLflow's database and files, and a folder of pictures for each."""
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
    store: Store = Store()
    twin: Twin = Twin()

    @property
    def participants(self) -> int:
        """Devices in a round; 1 for the centralised reference."""
        return self.method.participants(self.devices.count)

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
    def _as_the_method_needs_it(self) -> "RunConfig":
        """What only the method knows: its own checks across sections raise ValueError."""
        plugins.method(self.method.name).validate(self)
        return self
