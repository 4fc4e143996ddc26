"""What the evaluator's actor gave."""

from typing import Any

import ray
from ray.exceptions import RayError

from rayfed.engine.session import Evaluated
from rayfed.tasks.base import EvaluationFailure, EvaluationResult


def evaluated(ref: Any) -> Evaluated:
    """What an evaluation gave; one that failed must not end the training beside it."""
    try:
        result: EvaluationResult = ray.get(ref)
        return result
    except RayError as error:
        return EvaluationFailure(str(getattr(error, "cause", None) or error).strip().splitlines()[-1])
