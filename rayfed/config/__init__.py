"""The configuration of a run: frozen pydantic models, read from YAML with dotted overrides.

Unknown keys, wrong types and impossible values raise `UserError` with one line that names the key, the value
and what would be right. Values that only the data can refute (more classes than it has, a batch larger than a
device's data) are checked in `rayfed.data.setup`, in the same words.
"""

from rayfed.config.reading import flatten, load, parse, with_overrides
from rayfed.config.sections import (
    Centralized,
    Data,
    Devices,
    Evaluation,
    FederatedTraining,
    FedGan,
    Fegan,
    FlVanilla,
    Model,
    Ray,
    Resources,
    Role,
    RunConfig,
    Store,
    Tracking,
)

__all__ = [
    "Centralized",
    "Data",
    "Devices",
    "Evaluation",
    "FedGan",
    "FederatedTraining",
    "Fegan",
    "FlVanilla",
    "Model",
    "Ray",
    "Resources",
    "Role",
    "RunConfig",
    "Store",
    "Tracking",
    "flatten",
    "load",
    "parse",
    "with_overrides",
]
