"""What Ray's references stand for, when some of it may be lost."""

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError

LOST = (RayActorError, ObjectLostError, OutOfMemoryError)
"""How Ray says that the host, or what it computed, is gone for good."""


def fetch(refs: Sequence[Any]) -> tuple[dict[Any, Any], dict[Any, Exception]]:
    """The values of references, and the errors of the lost: one get, or one by one when something was lost."""
    try:
        return dict(zip(refs, ray.get(list(refs)), strict=True)), {}
    except LOST:
        found: dict[Any, Any] = {}
        errors: dict[Any, Exception] = {}
        for ref in refs:
            try:
                found[ref] = ray.get(ref)
            except LOST as error:
                errors[ref] = error
        return found, errors
