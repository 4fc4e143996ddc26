"""What every feature extractor offers, and how a network is run over many images."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class Extractor(Protocol):
    """Maps images to the feature space in which a Frechet distance is taken."""

    name: str
    metric: str
    """The name under which the distance is reported."""
    path: Path
    """Where the weights lie."""
    sha256: str
    """Of the weights."""

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features [N, F] of images [N, C, H, W]."""
        ...


@torch.inference_mode()
def extract(
    network: Callable[[torch.Tensor], torch.Tensor], images: NDArray[np.uint8], batch: int, device: torch.device
) -> NDArray[np.float32]:
    """Run `network` (uint8 [B, C, H, W] on `device` -> [B, F]) over images [N, C, H, W]; gives [N, F]."""
    # torch.tensor copies: the images may be a read-only view of the object store.
    parts = [torch.tensor(images[i : i + batch], device=device) for i in range(0, len(images), batch)]
    return np.concatenate([network(part).cpu().numpy() for part in parts])
