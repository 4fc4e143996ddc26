"""Where the Inception weights are. Nothing here imports torchvision, which takes seconds and 150 MB."""

import os
from http.client import HTTPException
from pathlib import Path

import torch

from rayfed.errors import UserError

ENV = "RAYFED_FID_WEIGHTS"

FILE = "pt_inception-2015-12-05-6726825d.pth"
"""The name that pytorch-fid's download has."""


def find_weights(configured: str | None) -> Path | None:
    """The weights on this machine: `configured`, else RAYFED_FID_WEIGHTS, else pytorch-fid's download, else none.

    Raises UserError when one of the first two is given and is not a file.
    """
    for setting, given in (("evaluation.weights", configured), (ENV, os.environ.get(ENV))):
        if given:
            path = Path(given).expanduser()
            if not path.is_file():
                raise UserError(f"{setting} = {given}: no such file; it must be pytorch-fid's {hub_path().name}")
            return path
    return hub_path() if hub_path().is_file() else None


def hub_path() -> Path:
    """Where torch hub, and so pytorch-fid, keeps its download."""
    return Path(torch.hub.get_dir(), "checkpoints", FILE)


def download_weights() -> Path:
    """Fetch pytorch-fid's weights to where it keeps them itself; raises UserError when they cannot be had."""
    from pytorch_fid.inception import FID_WEIGHTS_URL

    path = hub_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(FID_WEIGHTS_URL, str(path), progress=False)
    except (OSError, HTTPException) as error:
        raise UserError(
            f"no Inception weights: evaluation.weights and {ENV} are not set, {path} does not exist, "
            f"and {FID_WEIGHTS_URL} cannot be downloaded ({error})"
        ) from None
    return path
