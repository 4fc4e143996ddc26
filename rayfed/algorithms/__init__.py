"""The methods by name. Adding one is adding its file, a line here and its section in `rayfed.config`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayfed.algorithms import asyn_dgan, centralized, fedavg_gan, fegan, fsl_device, fsl_gan, md_gan, ren
from rayfed.algorithms.site import Site
from rayfed.config import RunConfig
from rayfed.fleet.host import Host
from rayfed.models.gan import BOTH


@dataclass(frozen=True)
class Method:
    """The two halves of a method and what `rayfed methods` says of it."""

    server: type
    device: type
    about: str
    trains: tuple[str, ...] = ("discriminator",)
    """The networks that a device trains."""


METHODS = {
    "fegan": Method(
        fegan.Server, fegan.Device, "FeGAN: balanced sampling and KL weighting (Guerraoui et al. 2020)", BOTH
    ),
    "fl-vanilla": Method(fedavg_gan.Server, fegan.Device, "FedAvg of G and D, plain mean (FeGAN's baseline)", BOTH),
    "fedgan": Method(
        fedavg_gan.FedGanServer, fegan.Device, "FedAvg of G and D weighted by samples (Rasouli et al.)", BOTH
    ),
    "ren": Method(ren.Server, ren.Device, "one G, averaged Ds; serial or parallel (Ren, Liu, Yu, Guo 2021)"),
    "md-gan": Method(md_gan.Server, md_gan.Device, "one G on the server, a D per device (Hardy et al. 2019)"),
    "f2u": Method(md_gan.F2UServer, md_gan.ScoringDevice, "the most forgiving D updates G (Yonetani et al. 2019)"),
    "f2a": Method(md_gan.F2AServer, md_gan.ScoringDevice, "a mix favouring forgiving Ds updates G (Yonetani et al.)"),
    "asyn-dgan": Method(asyn_dgan.Server, asyn_dgan.Device, "a conditional G, a D per site (Chang et al. 2020)"),
    "fsl-gan": Method(fsl_gan.Server, fsl_device.Device, "a D per client, split over its devices (FSL-GAN 2022)"),
    "centralized": Method(centralized.Server, fegan.Device, "all data in one place: the reference", BOTH),
}


def device_host(
    config: RunConfig,
    classes: int,
    images: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[np.ndarray],
    processor: str = "cpu",
) -> Host:
    """A host of device halves on one workspace of this process; for the data see `Site`."""
    site = Site(config, images.shape[1], classes, images, labels, parts, processor)
    device = METHODS[config.method.name].device
    return Host(lambda number, state: device(number, site, state), site.gan.meter.take)
