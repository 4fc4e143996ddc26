"""rayfed: GANs trained on data that stays on its devices, on a Ray cluster."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayfed.api import compare, load, resume, run
    from rayfed.config import Comparison
    from rayfed.engine.callbacks import Callback
    from rayfed.engine.stopping import EarlyStopping

__version__ = version("rayfed-gan")
__all__ = ["Callback", "Comparison", "EarlyStopping", "__version__", "compare", "load", "resume", "run"]
_WHERE = {
    "Callback": "rayfed.engine.callbacks",
    "Comparison": "rayfed.config",
    "EarlyStopping": "rayfed.engine.stopping",
    **dict.fromkeys(("compare", "load", "resume", "run"), "rayfed.api"),
}


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is asked for."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'rayfed' has no attribute {name!r}")
