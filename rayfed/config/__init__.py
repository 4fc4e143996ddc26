"""The configuration of a run: frozen pydantic models, read from YAML with dotted overrides.

Unknown keys, wrong types and impossible values raise `UserError` with one line that names the key, the value
and what would be right. Values that only the data can refute (more classes than it has, a batch larger than a
device's data) are checked in `rayfed.data.setup`, in the same words.
"""

from rayfed.config.clients import Client, Device
from rayfed.config.comparison import Comparison, load_comparison
from rayfed.config.reading import flatten, load, parse, with_overrides
from rayfed.config.run import RunConfig
from rayfed.config.sections import (
    Data,
    DeviceHostRole,
    Devices,
    Evaluation,
    Model,
    Ray,
    Resources,
    Role,
    Store,
    Tracking,
)
from rayfed.config.simulation import Cell, Lan, Profile, Twin, Wired
from rayfed.config.training import DistributedTraining, FederatedTraining, Training

__all__ = [
    "Cell",
    "Client",
    "Comparison",
    "Data",
    "Device",
    "DeviceHostRole",
    "Devices",
    "DistributedTraining",
    "Evaluation",
    "FederatedTraining",
    "Lan",
    "Model",
    "Profile",
    "Ray",
    "Resources",
    "Role",
    "RunConfig",
    "Store",
    "Tracking",
    "Training",
    "Twin",
    "Wired",
    "flatten",
    "load",
    "load_comparison",
    "parse",
    "with_overrides",
]
