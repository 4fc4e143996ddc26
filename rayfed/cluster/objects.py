"""What Ray's references stand for, when some of it may be lost."""

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from rayfed.errors import UserError

LOST = (RayActorError, ObjectLostError, OutOfMemoryError, NodeDiedError, WorkerCrashedError)
"""How Ray says that the host, or what it computed, is gone for good."""

DEAD_S = 2.0
"""In which Ray tells of a dead actor; one that works answers when it is done, later perhaps."""


class HostLostError(Exception):
    """A round cannot be finished, since a host, or what it computed, is gone."""


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


def got(references: Any) -> Any:
    """What references stand for. Raises an actor's UserError, and HostLostError, as themselves."""
    try:
        return ray.get(references)
    except RayTaskError as error:
        if cause := _told(error):
            raise cause from None
        raise


def _told(error: BaseException | None) -> BaseException | None:
    """The error that lies under Ray's: one of a host comes to the server, and from there here."""
    while isinstance(error, RayTaskError):
        error = error.cause
    return error if isinstance(error, (UserError, HostLostError, *LOST)) else None


def is_lost(answer: Any) -> bool:
    """Whether an answer will never come, as far as Ray knows within DEAD_S."""
    ready, _ = ray.wait([answer], timeout=DEAD_S)
    return bool(ready and fetch(ready)[1])


def reason(error: Exception) -> str:
    """The first line of one of Ray's errors."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
