"""FID's own feature space: the pool3 layer of the Inception network that pytorch-fid carries over from TensorFlow."""

import hashlib
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_fid.inception import (
    FID_WEIGHTS_URL,
    FIDInceptionA,
    FIDInceptionC,
    FIDInceptionE_1,
    FIDInceptionE_2,
)
from torch import nn
from torch.nn import functional as F
from torchvision.models import inception_v3

from rayfed.errors import UserError
from rayfed.evaluation.extractor import extract
from rayfed.evaluation.weights import download_weights, find_weights

BATCH = 50


class InceptionExtractor:
    """Features [N, 2048] of pytorch-fid's InceptionV3, equal to its own up to float32 rounding."""

    name = "inception"
    metric = "fid"

    def __init__(self, weights: str | None = None, device: str | torch.device = "cpu") -> None:
        """Load from where `find_weights` finds them, else download as pytorch-fid does.

        Raises UserError when there are no weights to be had, or a file holds something else.
        """
        self.path = find_weights(weights) or download_weights()
        self.device = torch.device(device)
        self._network = load(self.path).to(self.device, torch.float32).to(memory_format=torch.channels_last)
        with self.path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features [N, 2048] of images [N, C, H, W], C = 1 (repeated to 3) or 3."""
        return extract(self._forward, images, BATCH, self.device)

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.expand(-1, 3, -1, -1).to(torch.float32, memory_format=torch.channels_last) / 255
        x = F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)
        features: torch.Tensor = self._network(2 * x - 1)
        return features


def load(path: Path) -> nn.Module:
    """pytorch-fid's network, [B, 3, 299, 299] in [-1, 1] -> [B, 2048], from its state dict.

    The same assembly as `pytorch_fid.inception.fid_inception_v3`, which can only download. On the meta device no
    random number is drawn and nothing initialised in vain. Raises UserError when the file is not that state dict.
    """
    with torch.device("meta"):
        network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
        network.Mixed_5b = FIDInceptionA(192, pool_features=32)
        network.Mixed_5c = FIDInceptionA(256, pool_features=64)
        network.Mixed_5d = FIDInceptionA(288, pool_features=64)
        network.Mixed_6b = FIDInceptionC(768, channels_7x7=128)
        network.Mixed_6c = FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6d = FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6e = FIDInceptionC(768, channels_7x7=192)
        network.Mixed_7b = FIDInceptionE_1(1280)
        network.Mixed_7c = FIDInceptionE_2(2048)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), assign=True)
    except (OSError, EOFError, RuntimeError, TypeError, UnpicklingError):
        raise UserError(f"{path}: not the Inception weights of pytorch-fid; they are at {FID_WEIGHTS_URL}") from None
    network.fc = nn.Identity()
    ready: nn.Module = network.eval()
    return ready
