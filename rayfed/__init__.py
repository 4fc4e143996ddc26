"""rayfed: GANs trained on data that stays on its devices, on a Ray cluster."""

from importlib.metadata import version

__version__ = version("rayfed-gan")
