"""rayfed: GANs trained on data that stays on its devices, on a Ray cluster."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayfed.api import compare, load, resume, run

__version__ = version("rayfed-gan")
__all__ = ["__version__", "compare", "load", "resume", "run"]


def __getattr__(name: str) -> Any:
    """The functions of `rayfed.api`, imported when one is asked for."""
    if name in __all__:
        from rayfed import api

        return getattr(api, name)
    raise AttributeError(f"module 'rayfed' has no attribute {name!r}")
