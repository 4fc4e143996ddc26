"""Where a run came from, in MLflow's words: its data set, and the command and revision that it was run by."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rayfed import rayjob
from rayfed.errors import mask

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

    from rayfed.data import datasets

Input: TypeAlias = "DatasetInput"
"""A data set as runs have it in MLflow; see `input_of`."""


def input_of(dataset: "datasets.Dataset") -> Input:
    """A data set in MLflow's words: its name, the start of its hash, and its sizes."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    profile = {
        "training images": len(dataset.train_images),
        "test images": len(dataset.test_images),
        "image shape": dataset.train_images.shape[1:],
        "classes": len(dataset.classes),
    }
    source = {"tags": {"data.name": dataset.name}}
    entity = Dataset(dataset.name, dataset.sha256[:8], "code", json.dumps(source), profile=json.dumps(profile))
    return DatasetInput(entity, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])


def source_tags() -> dict[str, str]:
    """The tags of a run's source: the command, the Ray job if it is one, the commit if this folder is of a checkout."""
    from mlflow.entities import SourceType
    from mlflow.utils import mlflow_tags
    from mlflow.utils.git_utils import get_git_branch, get_git_commit

    job = rayjob.metadata().get("job_submission_id")
    command = shlex.join([Path(sys.argv[0]).name, *map(mask, sys.argv[1:])])
    tags = {
        mlflow_tags.MLFLOW_SOURCE_NAME: command,
        mlflow_tags.MLFLOW_SOURCE_TYPE: SourceType.to_string(SourceType.JOB if job else SourceType.LOCAL),
        mlflow_tags.MLFLOW_GIT_COMMIT: get_git_commit(str(Path.cwd())),
        mlflow_tags.MLFLOW_GIT_BRANCH: get_git_branch(str(Path.cwd())),
        "ray_job": job,
    }
    return {name: value for name, value in tags.items() if value}
