"""What Ray tells the driver of a job by its environment."""

import json
import os

ENVIRONMENT = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The name of the variable (Ray's own): a job's runtime environment and metadata as JSON, for its driver alone."""
DRIVER_CPUS = "rayfed_driver_cpus"
"""The metadata in which `rayfed submit` says how many CPUs the driver holds."""


def is_driver() -> bool:
    """Whether this process is the driver of a Ray job: its working directory is a copy that Ray throws away."""
    return ENVIRONMENT in os.environ


def driver_cpus() -> float:
    """The CPUs that Ray counts for this driver on its node; 0 where `rayfed submit` did not start it."""
    return float(metadata().get(DRIVER_CPUS, 0))


def metadata() -> dict[str, str]:
    """What the job was submitted with; empty outside a job."""
    found: dict[str, str] = json.loads(os.environ.get(ENVIRONMENT, "{}")).get("metadata", {})
    return found
