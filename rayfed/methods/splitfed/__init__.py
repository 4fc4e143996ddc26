"""SplitFed (Thapa et al., AAAI 2022), its second variant; the algorithm is in `rayfed.methods.splitfed.algorithm`."""

from rayfed.methods.local_epochs import scheduler
from rayfed.methods.spec import MethodSpec
from rayfed.tasks.classification.settings import SplitTraining


class Settings(SplitTraining):
    """SplitFed: all devices at once, each with its f_a; the server steps one f_b for each, and averages the f_a."""


METHOD = MethodSpec(
    name="splitfed",
    about="split learning with all devices at once, f_a averaged (Thapa et al. 2022)",
    settings=Settings,
    server="rayfed.methods.splitfed.algorithm:Server",
    device="rayfed.methods.splitfed.algorithm:Device",
    trains=("device_part",),
    task_name="classification",
    scheduler=scheduler,
)
