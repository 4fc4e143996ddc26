"""AsynDGAN (Chang et al., CVPR 2020); the algorithm is in `rayfed.methods.asyn_dgan.algorithm`."""

from typing import ClassVar

from rayfed.methods.md_gan import CentralGenerator
from rayfed.methods.spec import MethodSpec


class Settings(CentralGenerator):
    """Chang et al. 2020: a conditional generator, sites weighted by their samples."""

    conditional: ClassVar[bool] = True


METHOD = MethodSpec(
    name="asyn-dgan",
    about="a conditional G, a D per site (Chang et al. 2020)",
    settings=Settings,
    server="rayfed.methods.asyn_dgan.algorithm:Server",
    device="rayfed.methods.asyn_dgan.algorithm:Device",
)
