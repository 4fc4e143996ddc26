"""FSL-GAN: "Federated Split GANs" (2022), a discriminator per client, split over the client's own devices.

The server's algorithm is in `rayfed.methods.fsl_gan.algorithm`, a device's half in `device`; `scheduler` decides who
holds which portions (section 4), `planner` makes a round's chains of them, `settings` says what can be configured,
`events` what a run tells.
"""

from collections.abc import Mapping
from dataclasses import replace

from rayfed.config import Device, RunConfig
from rayfed.data.population import Population
from rayfed.errors import UserError, counted
from rayfed.events import Event
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.fsl_gan.events import DeviceDrifted
from rayfed.methods.fsl_gan.scheduler import ClientScheduler
from rayfed.methods.fsl_gan.settings import FslState, Settings, hardware, settings_of
from rayfed.methods.spec import MethodSpec, Topology
from rayfed.scheduling.drift import drifted

TOLD = 3
"""Clients that take no part of whom the user reads at once."""


def validate(config: RunConfig) -> None:
    """A client for every part of the data, images for every micro-batch, nobody late."""
    method = settings_of(config)
    clients, count, batch = len(method.clients), config.devices.count, method.batch
    if clients != count:
        raise ValueError(
            f"devices.count = {count}: fsl-gan spreads the data over its clients, and the table has {clients}; "
            f"set it to {clients}"
        )
    if method.micro_batches > batch:
        raise ValueError(
            f"method.micro_batches = {method.micro_batches}: more than the {counted(batch, 'image')} of a batch"
        )
    if config.twin.drop_late:
        raise ValueError(
            "twin.drop_late = true: fsl-gan waits for every client's reply; method.drop_slowest = true leaves the "
            "slowest client out"
        )


def scheduler(config: RunConfig, population: Population) -> ClientScheduler:
    """The scheduler with what the discriminator's blocks need."""
    from rayfed.models.portions import described

    return ClientScheduler(config, population.counts, described(config.model, population.channels))


def preflight(config: RunConfig, population: Population) -> list[str]:
    """Tell of the clients that can take no part; raise UserError when that is all of them, or for a discriminator that
    micro-batches cannot pass through.

    Devices have capacities of their own, which plans heed: the twin's memory is not looked at.
    """
    _check_micro_batches(config, population)
    misfits = scheduler(config, population).misfits()
    told = [f"client {name}: {reason}" for name, reason in misfits.items()]
    if len(told) == config.devices.count:
        raise UserError(f"method.table: no client fits; {told[0]}")
    notices = [f"takes no part: {text}" for text in told[:TOLD]]
    if len(told) > TOLD:
        notices.append(f"{counted(len(told) - TOLD, 'more client')} without a part; see rayfed plan")
    return notices


def _check_micro_batches(config: RunConfig, population: Population) -> None:
    from rayfed.models.networks import has_batch_norm
    from rayfed.models.portions import splittable

    count = settings_of(config).micro_batches
    if count > 1 and has_batch_norm(splittable(config.model, population.channels)):
        raise UserError(
            f"method.micro_batches = {count}: {config.model.name}'s discriminator has BatchNorm, whose gradients need "
            "the whole batch; use 1, or dcgan28"
        )


def topology(config: RunConfig) -> Topology:
    """Every device of every client, on a host of its own where the cluster has room."""
    method = settings_of(config)
    clients = [ClientId(number) for number, client in enumerate(method.clients) for _ in client.devices]
    pinned = tuple(tuple(map(_asks, client.devices)) for client in method.clients)
    return Topology(tuple(method.device_names), tuple(clients), hardware(config), pinned)


def _asks(device: Device) -> dict[str, float]:
    """What the table says of a device's host in the Ray cluster."""
    own = {"CPU": device.ray_cpus, "GPU": device.ray_gpus, "memory": device.ray_memory}
    return {name: amount for name, amount in own.items() if amount is not None}


def after_round(
    state: FslState, scheduler: ClientScheduler, slowness: Mapping[DeviceId, float]
) -> tuple[FslState, list[Event]]:
    """Have devices that are no longer what their profile says planned as they are."""
    assumed = {DeviceId(int(device)): factor for device, factor in state.slowness.items()}
    found = drifted(assumed, slowness)
    if not found:
        return state, []
    scheduler.assume(found)
    known = {str(device): factor for device, factor in (assumed | found).items()}
    names = settings_of(scheduler.config).device_names
    return replace(state, slowness=known), [DeviceDrifted(names[k], factor) for k, factor in found.items()]


def resumed(state: FslState, scheduler: ClientScheduler) -> None:
    """The plans of a resumed run go by what was measured before."""
    if state.slowness:
        scheduler.assume({DeviceId(int(device)): factor for device, factor in state.slowness.items()})


METHOD = MethodSpec(
    name="fsl-gan",
    about="a D per client, split over its devices (FSL-GAN 2022)",
    settings=Settings,
    server="rayfed.methods.fsl_gan.algorithm:Server",
    device="rayfed.methods.fsl_gan.device:Device",
    state=FslState,
    validate=validate,
    preflight=preflight,
    topology=topology,
    scheduler=scheduler,
    after_round=after_round,
    resumed=resumed,
)
