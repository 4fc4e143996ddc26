"""Split learning (Gupta and Raskar 2018; Vepakomma et al. 2018); see `rayfed.methods.split_learning.algorithm`."""

from typing import Literal

from rayfed.methods.local_epochs import scheduler
from rayfed.methods.spec import MethodSpec
from rayfed.tasks.classification.settings import SplitTraining


class Settings(SplitTraining):
    """Split learning: the devices in turn, each with f_a, the server with f_b."""

    hand_over: Literal["peers", "server"] = "peers"
    """Whether f_a goes from device to device (`peers`), or by way of the server, which doubles its bytes (`server`)."""

    @property
    def sends_to_peers(self) -> bool:
        """f_a goes from device to device."""
        return self.hand_over == "peers"

    @property
    def without_peers(self) -> str:
        """By way of the server."""
        return "method.hand_over = 'server'"


METHOD = MethodSpec(
    name="split-learning",
    about="a classifier cut in two, the devices in turn (IoTSL's baseline)",
    settings=Settings,
    server="rayfed.methods.split_learning.algorithm:Server",
    device="rayfed.methods.split_learning.algorithm:Device",
    trains=("device_part",),
    task_name="classification",
    scheduler=scheduler,
)
