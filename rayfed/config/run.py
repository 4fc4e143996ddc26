"""A run's whole configuration, and what must hold between its sections."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rayfed.config.methods import Centralized, FederatedTraining, FslGan, MdGan, Method
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


class RunConfig(Section):
    """One run."""

    seed: Annotated[int, Field(ge=0)] = 0
    rounds: Count = 100
    runs_dir: str = "rayfed-runs"
    wire: Literal["float32", "float16", "int8"] = "float32"
    """How models are encoded between server and devices."""
    method: Method
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

    @property
    def nodes(self) -> int:
        """Physical devices: with FSL-GAN all of its clients', else `devices.count`."""
        if isinstance(self.method, FslGan):
            return sum(len(client.devices) for client in self.method.clients)
        return self.devices.count

    @property
    def hardware(self) -> Twin:
        """The twin with one profile per physical device: FSL-GAN's have time factors and links of their own."""
        if not isinstance(self.method, FslGan):
            return self.twin
        devices = [device for client in self.method.clients for device in client.devices]
        profiles = [self.twin.devices[k % len(self.twin.devices)] for k in range(len(devices))]
        own = [
            profile.model_copy(
                update={
                    "time_factor": profile.time_factor * device.time_factor,
                    "up_mbps": device.up_mbps or profile.up_mbps,
                    "down_mbps": device.down_mbps or profile.down_mbps,
                }
            )
            for profile, device in zip(profiles, devices, strict=True)
        ]
        return self.twin.model_copy(update={"devices": own})

    @model_validator(mode="after")
    def _a_client_for_every_part_of_the_data(self) -> "RunConfig":
        if isinstance(self.method, FslGan) and len(self.method.clients) != self.devices.count:
            clients, count = len(self.method.clients), self.devices.count
            raise ValueError(
                f"devices.count = {count}: fsl-gan spreads the data over its clients, and the table has {clients}; "
                f"set it to {clients}"
            )
        return self

    @model_validator(mode="after")
    def _micro_batches_need_rows_alone(self) -> "RunConfig":
        if isinstance(self.method, FslGan) and self.method.micro_batches > 1 and self.model.name != "dcgan28":
            raise ValueError(
                f"method.micro_batches = {self.method.micro_batches}: {self.model.name}'s discriminator has BatchNorm, "
                "whose gradients need the whole batch; use 1, or dcgan28"
            )
        if isinstance(self.method, FslGan) and self.method.micro_batches > self.method.batch:
            parts, batch = self.method.micro_batches, self.method.batch
            raise ValueError(f"method.micro_batches = {parts}: more than the {batch} images of a batch")
        return self

    @model_validator(mode="after")
    def _someone_takes_part(self) -> "RunConfig":
        if self.participants < 1:
            assert isinstance(self.method, FederatedTraining)
            share, count = self.method.fraction, self.devices.count
            raise ValueError(
                f"method.fraction = {share}: C*K = {share} * {count} = {share * count:g} devices a round is less "
                f"than one; with devices.count = {count} it must be at least {1 / count:.4g}"
            )
        return self

    @model_validator(mode="after")
    def _batch_norm_needs_two(self) -> "RunConfig":
        if self.method.batch < 2 and self.model.name == "dcgan28":
            raise ValueError("method.batch = 1: dcgan28's BatchNorm over vectors needs at least 2 images in a batch")
        return self

    @model_validator(mode="after")
    def _no_wire_without_devices(self) -> "RunConfig":
        if self.wire != "float32" and isinstance(self.method, Centralized):
            raise ValueError(f"wire = '{self.wire}': centralized sends nothing over a wire; use float32")
        return self

    @model_validator(mode="after")
    def _a_batch_for_every_device(self) -> "RunConfig":
        if isinstance(self.method, MdGan) and self.method.distinct_batches(self.devices.count) > self.devices.count:
            k, count = self.method.batches, self.devices.count
            raise ValueError(f"method.batches = {k}: more batches than the {count} devices; use at most {count} or log")
        return self

    @model_validator(mode="after")
    def _nobody_is_late_in_a_chain(self) -> "RunConfig":
        if self.twin.drop_late and isinstance(self.method, FslGan):
            raise ValueError(
                "twin.drop_late = true: fsl-gan waits for every client's reply; method.drop_slowest = true leaves the "
                "slowest client out"
            )
        return self

    @model_validator(mode="after")
    def _a_swap_needs_a_partner(self) -> "RunConfig":
        if isinstance(self.method, MdGan) and self.method.swaps and self.devices.count == 1:
            epochs = self.method.swap_epochs
            raise ValueError(f"method.swap_epochs = {epochs:g}: one device has nobody to swap with; set it to 0")
        return self
