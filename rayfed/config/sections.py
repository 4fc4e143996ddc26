"""The sections of a configuration that every method shares, and what each key means."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
ModelName = Literal["lsgan", "dcgan28", "dcgan32", "dcgan64"]


class Section(BaseModel):
    """A frozen, strict section: no unknown keys, no silent conversions, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Devices(Section):
    """The simulated devices and their capabilities, relative to the strongest."""

    count: Count = 10
    weak_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    weak_memory: Fraction = 0.5
    weak_compute: Fraction = 0.5


class Data(Section):
    """The data set and how it is spread over the devices."""

    name: str = "fashion-mnist-6k"
    root: str | None = None
    """Where the whole data sets lie (torchvision's layout) or are downloaded to."""
    partition: Literal["iid", "fegan", "classes", "dirichlet"] = "fegan"
    max_class: Count = 5
    max_samples: Count = 3000
    """max_class, max_samples: the FeGAN engine (section 4)."""
    classes_per_device: Count = 2
    """For partition `classes`."""
    alpha: Annotated[float, Field(gt=0)] = 0.5
    """For partition `dirichlet`: smaller is more skewed."""


class Model(Section):
    """The networks, their loss, optimizer and arithmetic."""

    name: ModelName = "lsgan"
    width: Count | None = None
    """Channels of a DCGAN's widest-image layer (ngf = ndf); none: 64, as published."""
    loss: Literal["mse", "bce"] | None = None
    """none: mse for lsgan, bce (with logits) for dcgan."""
    precision: Literal["float32", "bf16"] = "float32"
    lr: Annotated[float, Field(gt=0)] = 2e-4
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999

    @model_validator(mode="after")
    def _width_is_for_dcgan(self) -> "Model":
        if self.width is not None and self.name == "lsgan":
            raise ValueError(f"model.width = {self.width}: lsgan has fixed widths; leave it out or use a dcgan")
        return self


def _ray_can_share(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError(f"must be whole above 1 (Ray has no fraction of several), e.g. {int(value)} or 0.5")
    if abs(value * 10_000 - round(value * 10_000)) > 1e-6:
        raise ValueError("must be a multiple of 0.0001, Ray's smallest share")
    return value


Share = Annotated[float, Field(ge=0), AfterValidator(_ray_can_share)]
"""Of CPUs or GPUs."""


class Role(Section):
    """Resources of one kind of actor, as Ray's annotations: bookkeeping, not limits."""

    num_cpus: Share = 0
    num_gpus: Share = 0
    memory: Annotated[int, Field(ge=0)] = 0
    """Bytes."""


class DeviceHostRole(Role):
    """A device host runs the device halves, one device at a time, on one thread or a share of a GPU."""

    num_cpus: Share = 1


class Resources(Section):
    """How many device hosts there are and what each actor asks of the cluster."""

    hosts: Count | Literal["auto"] = "auto"
    """auto: as many as the cluster's free cores (or GPU shares) allow, at most one per participant (one per device of a
    client with fsl-gan)."""
    server: Role = Role()
    scheduler: Role = Role()
    evaluator: Role = Role()
    device_host: DeviceHostRole = DeviceHostRole()


class Ray(Section):
    """Where the cluster is."""

    address: str | None = None
    """none: RAY_ADDRESS if set, else a private Ray on the loopback interface of this machine."""
    wait_s: Annotated[float, Field(gt=0)] = 300
    """How long to wait for actors that the cluster can hold but that have not started."""
    object_store_mb: Annotated[int, Field(ge=100)] = 1000
    """Of a private Ray."""


class Evaluation(Section):
    """FID: how often, on how many images, in which feature space."""

    every: Annotated[int, Field(ge=0)] = 5
    """Rounds between evaluations; 0: never."""
    samples: Annotated[int, Field(ge=2)] = 10_000
    """Generated images; the real side is the whole test split."""
    extractor: Literal["auto", "inception", "classifier", "both"] = "auto"
    """auto: Inception where its weights are, beside the classifier; see `rayfed.evaluation`."""
    weights: str | None = None
    """Inception's weights; none: RAYFED_FID_WEIGHTS, else pytorch-fid's own download."""


class Tracking(Section):
    """MLflow."""

    enabled: bool = True
    uri: str | None = None
    """none: MLFLOW_TRACKING_URI if set, else SQLite in the runs folder."""
    experiment: str = "rayfed"


class Store(Section):
    """The learning state's database."""

    url: str | None = None
    """A SQLAlchemy URL; none: SQLite in the runs folder."""
    keep: Count = 2
    """How many last commits of a run are kept."""
