"""rayfed: GANs trained on data that stays on its devices, on a Ray cluster."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayfed.api import compare, load, resume, run
    from rayfed.engine.callbacks import Callback
    from rayfed.engine.stopping import EarlyStopping

__version__ = version("rayfed-gan")
__all__ = ["Callback", "EarlyStopping", "__version__", "compare", "load", "resume", "run"]


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is asked for."""
    if name == "Callback":
        from rayfed.engine.callbacks import Callback

        return Callback
    if name == "EarlyStopping":
        from rayfed.engine.stopping import EarlyStopping

        return EarlyStopping
    if name in __all__:
        from rayfed import api

        return getattr(api, name)
    raise AttributeError(f"module 'rayfed' has no attribute {name!r}")
