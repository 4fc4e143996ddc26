"""The sections of a configuration that every method shares, and what each key means."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

Count = Annotated[int, Field(ge=1, le=10**9)]
Fraction = Annotated[float, Field(gt=0, le=1)]
ModelName = Literal["lsgan", "dcgan28", "dcgan32", "dcgan64", "vgg16", "cnn5"]
PartitionName = Literal["iid", "fegan", "classes", "dirichlet"]
PARTITION_FILE = "file:"
IMAGE_FOLDER = "imagefolder:"
ARRAYS = "npz:"


class Section(BaseModel):
    """A frozen, strict section: no unknown keys, no silent conversions, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Devices(Section):
    """The simulated devices and their capabilities, relative to the strongest."""

    count: Annotated[int, Field(ge=1, le=10**6)] = 10
    """How many clients there are; with most methods each has one device."""
    weak_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The fraction of the devices that are weak; the seed chooses which."""
    weak_memory: Fraction = 0.5
    """A weak device's memory over that of the others, for `method.load` = `linear`."""
    weak_compute: Fraction = 0.5
    """A weak device's speed over that of the others, for `method.load` = `linear` and on the twin."""


def _partition(name: str) -> str:
    is_file = name.startswith(PARTITION_FILE) and name != PARTITION_FILE
    if name not in get_args(PartitionName) and not is_file:
        raise ValueError(f"must be one of {', '.join(get_args(PartitionName))}, or {PARTITION_FILE}PATH")
    return name


class Data(Section):
    """The data set and how it is spread over the devices."""

    name: str = "fashion-mnist-6k"
    """A data set that `rayfed datasets` lists, `imagefolder:PATH` for a folder of images of your own,
    `npz:FILE` for a file of arrays of your own, or `package.module:FUNCTION` for a function that reads them."""
    root: str | None = None
    """The folder where the whole data sets lie in torchvision's layout, or are downloaded to. None means the system's
    copy if there is one, else rayfed's cache folder."""
    partition: Annotated[str, AfterValidator(_partition)] = "fegan"
    """How the data is spread: evenly (`iid`), by the engine of FeGAN's section 4 (`fegan`), so many classes on each
    device (`classes`), by a Dirichlet distribution (`dirichlet`), or as a CSV of samples and devices says
    (`file:PATH`)."""
    max_class: Count = 5
    """For partition `fegan`: the most classes that a device can hold."""
    max_samples: Count = 3000
    """For partition `fegan`: the most samples of a class that a device can hold."""
    classes_per_device: Count = 2
    """For partition `classes`: how many classes each device holds."""
    alpha: Annotated[float, Field(gt=0)] = 0.5
    """For partition `dirichlet`: its parameter; smaller is more skewed."""

    @property
    def partition_file(self) -> Path | None:
        """The file that says which device holds which samples, if one does."""
        path = self.partition.removeprefix(PARTITION_FILE)
        return Path(path).expanduser() if path != self.partition else None


def _networks(name: str) -> str:
    if name not in get_args(ModelName) and ":" not in name:
        raise ValueError(f"must be one of {', '.join(get_args(ModelName))}, or package.module:ARCHITECTURE")
    return name


class Model(Section):
    """The networks, their loss, optimizer and arithmetic."""

    name: Annotated[str, AfterValidator(_networks)] = "lsgan"
    """`lsgan` (32x32), `dcgan28`, `dcgan32`, `dcgan64`; for a classifier `vgg16` or `cnn5`; or
    `package.module:ARCHITECTURE` for one of your own."""
    width: Count | None = None
    """Channels of the layers next to the image (of a DCGAN ngf = ndf). None means 64, as published; 16 for cnn5."""
    loss: Literal["mse", "bce"] | None = None
    """The loss of both networks. None means the one they were published with: `mse` for lsgan, `bce` (with logits) for
    a DCGAN."""
    precision: Literal["float32", "bf16"] = "float32"
    """The arithmetic of the networks; `bf16` is torch's autocast."""
    lr: Annotated[float, Field(gt=0)] = 2e-4
    """Adam's learning rate."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Adam's decay of the first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Adam's decay of the second moment."""

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
    """CPUs that Ray counts for the actor: a multiple of 0.0001, and whole above 1."""
    num_gpus: Share = 0
    """GPUs, in the same way. An actor with a share of a GPU computes on it."""
    memory: Annotated[int, Field(ge=0, le=10**15)] = 0
    """Bytes of memory that Ray counts for the actor. 0 means that none are asked for."""


class DeviceHostRole(Role):
    """A device host runs the device halves, one device at a time, on one thread or a share of a GPU."""

    num_cpus: Share = 1
    """CPUs that Ray counts for the actor: a multiple of 0.0001, and whole above 1."""
    placement: Literal["pack", "spread"] = "pack"
    """Whether hosts share nodes, and GPUs where each asks for a fraction of one (`pack`), or are on as many nodes as
    there are (`spread`)."""


class HostRange(Section):
    """A number of device hosts that follows the cluster: they join and leave between rounds, and no weight changes."""

    min: Count = 1
    """How many there must be before the first round."""
    max: Count
    """How many are asked for, of an autoscaler too."""

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> "HostRange":
        if self.min > self.max:
            raise ValueError(f"resources.hosts.min = {self.min}: must be at most resources.hosts.max = {self.max}")
        return self


def _kind_of_hosts(value: Any) -> str:
    return "range" if isinstance(value, dict | HostRange) else "number"


Hosts = Annotated[
    Annotated[Count | Literal["auto"], Tag("number")] | Annotated[HostRange, Tag("range")],
    Discriminator(_kind_of_hosts),
]
"""A number of device hosts, or a range of it."""


class Resources(Section):
    """How many device hosts there are and what each actor asks of the cluster."""

    hosts: Hosts = "auto"
    """How many device hosts run: a number, or `{min: 1, max: 8}`, of which those that the cluster has room for run,
    between rounds more or fewer. `auto` means from 1 to one per participant, or one per device where devices have hosts
    of their own (FSL-GAN)."""
    server: Role = Role()
    """The generator server, which runs the method's server half."""
    scheduler: Role = Role()
    """The scheduler, which says who takes part."""
    evaluator: Role = Role()
    """The evaluator, which judges the generator beside the training."""
    device_host: DeviceHostRole = DeviceHostRole()
    """Each device host, which runs the device halves, one device at a time."""

    def host_range(self, useful: int) -> tuple[int, int]:
        """The fewest and the most device hosts of a run that has work for `useful`."""
        if isinstance(self.hosts, HostRange):
            return self.hosts.min, self.hosts.max
        return (1, max(1, useful)) if self.hosts == "auto" else (self.hosts, self.hosts)


class Ray(Section):
    """Where the cluster is."""

    address: str | None = None
    """The cluster's address, such as `HEAD:6379`. None means RAY_ADDRESS if it is set, else a private Ray on the
    loopback interface of this machine."""
    wait_s: Annotated[float, Field(gt=0)] = 1800
    """Seconds to wait for actors that the cluster can hold but that have not started: others may take all that it has,
    and a cloud's nodes start in minutes."""
    object_store_mb: Annotated[int, Field(ge=100, le=10**9)] = 1000
    """The size of a private Ray's object store, in units of 2^20 bytes."""


class Evaluation(Section):
    """How often the generator is evaluated, on how many images, and in which feature space its FID is taken."""

    every: Annotated[int, Field(ge=0, le=10**9)] = 5
    """Rounds between two evaluations; the last round is evaluated too, and the initial networks' samples are drawn. 0
    means that there are none."""
    samples: Annotated[int, Field(ge=2, le=10**7)] = 10_000
    """How many images are generated for an FID; the real side is the whole test split."""
    extractor: Literal["auto", "inception", "classifier", "both"] = "auto"
    """The feature space. `auto` means the classifier's, and Inception's too if its weights are on this machine;
    `inception` and `both` download them."""
    weights: str | None = None
    """The file of Inception's weights. None means RAYFED_FID_WEIGHTS if it is set, else where pytorch-fid keeps its
    download."""


class Tracking(Section):
    """What is recorded in MLflow."""

    enabled: bool = True
    """Whether the run is tracked at all."""
    uri: str | None = None
    """MLflow's tracking server or database. None means MLFLOW_TRACKING_URI if it is set, else SQLite in the runs
    folder."""
    experiment: str = "rayfed"
    """The name of the experiment that the run belongs to; it is made if it is not there."""
    register_model: bool = False
    """Whether a finished run's network becomes a version of the registered model `rayfed-TASK-DATA`, with the aliases
    `last` and `best`. Only what is judged alike is compared for `best`."""


def default_states() -> str | None:
    """The folder of the devices' states where nothing else is said. None means the run's own folder."""
    return os.environ.get("RAYFED_STORE_STATES") or None


class Store(Section):
    """The database of the learning state."""

    url: str | None = None
    """A SQLAlchemy URL, such as `postgresql+psycopg://user@host/database`. None means RAYFED_STORE_URL if it is set,
    else SQLite in the runs folder."""
    keep: Count = 2
    """From how many of its last rounds a run can be restored; the states of older ones are dropped."""
    states: Annotated[str | None, Field(default_factory=default_states, validate_default=True)]
    """A folder that driver and device hosts reach, for the states that devices keep between rounds: a path, or a URL
    that fsspec opens, such as `s3://bucket/states`. A run has a folder of its own in it. Unless it is set it is
    RAYFED_STORE_STATES. None means `states` in the run's folder; then hosts on other machines hand their devices'
    states to the driver, which writes them."""

    @field_validator("states")
    @classmethod
    def _wherever_the_command_is_run(cls, value: str | None) -> str | None:
        if value is None or "://" in value:
            return value
        if not value:
            raise ValueError("store.states = '': must be a folder or a URL; leave it out for the run's own folder")
        return str(Path(value).expanduser().absolute())


class Stop(Section):
    """When a run ends before its last round. It is then finished, and each of its evaluations is waited for."""

    metric: str | None = None
    """The metric that decides, such as `fid_classifier`. None means the run's primary metric."""
    patience: Count | None = None
    """The run ends when the metric has not got better in so many evaluations. None means that it goes on."""
    target: float | None = None
    """The run ends when the metric reaches this value. None means that there is none such."""

    @property
    def asked(self) -> bool:
        """Whether the run may end early at all."""
        return self.patience is not None or self.target is not None

    @model_validator(mode="after")
    def _a_metric_alone_decides_nothing(self) -> "Stop":
        if self.metric is not None and not self.asked:
            raise ValueError(f"stop.metric = {self.metric!r}: needs stop.patience or stop.target, which say when")
        return self
