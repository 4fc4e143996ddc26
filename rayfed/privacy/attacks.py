"""Attacks, as measurements of what leaks: inputs from smashed data, and who was a member of a generator's data.

Images are uint8 [n, C, H, W]. Each attack knows what an honest but curious server could: the module that smashes, its
own images, and what was released.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn import functional as F

from rayfed.models.adam import Adam
from rayfed.models.gan import seeded, to_images

BATCH = 32
EPOCHS = 20
CHUNK = 500
"""Images that are smashed or scored at once."""
CHANNELS = 32
"""Of the decoder's hidden layers, and of the discriminator's second convolution."""
UNITS = 128
"""Of the discriminator's hidden dense layer."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Reconstruction:
    """How near the reconstructed images come to the victims', beside the mean image, which knows no smashed data.

    Mean squared errors of pixels in [0, 1] over all images; PSNR is 10 log10(1 / MSE), in dB.
    """

    mse: float
    mean_mse: float

    @property
    def psnr(self) -> float:
        """Of the reconstructed images."""
        return _psnr(self.mse)

    @property
    def mean_psnr(self) -> float:
        """Of the mean image."""
        return _psnr(self.mean_mse)


def reconstruct(
    smash: nn.Module, known: np.ndarray, victims: np.ndarray, seed: int, epochs: int = EPOCHS
) -> Reconstruction:
    """Train a decoder on the attacker's images and their smashed data; how well it inverts the victims'.

    `smash`, in evaluation mode, takes images in [-1, 1] and gives smashed data [B, c, h, w]. The decoder is three 3x3
    convolutions at the side of the images, with Adam on the squared error. The mean image is that of the `known` ones.
    """
    smashed, targets = _smashed(smash, known), _unit(known)
    with seeded(seed):
        decoder = _decoder(smashed.shape[1], targets.shape[1:])
        _fit(decoder, smashed, targets, F.mse_loss, epochs)
    wanted = _unit(victims)
    return Reconstruction(
        mse=F.mse_loss(_apply(decoder, _smashed(smash, victims)), wanted).item(),
        mean_mse=F.mse_loss(targets.mean(dim=0).expand_as(wanted), wanted).item(),
    )


def membership_by_discriminator(
    generated: np.ndarray,
    reference: np.ndarray,
    members: np.ndarray,
    others: np.ndarray,
    seed: int,
    epochs: int = EPOCHS,
) -> float:
    """The AUC of LOGAN's attack on a released generator (Hayes et al. 2019, black box with auxiliary data).

    A discriminator (two convolutions of stride 2, two dense layers) learns to tell the generator's images from
    `reference` ones, which are real and of nobody's training data, without any noise on either; it scores how generated
    an image looks. An overfitted generator makes its members look so. `members` and `others` are the images whose
    membership is guessed; none of them is among the `reference`.
    """
    inputs = torch.cat((to_images(generated, CPU), to_images(reference, CPU)))
    targets = torch.cat((torch.ones(len(generated), 1), torch.zeros(len(reference), 1)))
    with seeded(seed):
        discriminator = _discriminator(inputs.shape[1:])
        _fit(discriminator, inputs, targets, F.binary_cross_entropy_with_logits, epochs)
    return _auc(*(_apply(discriminator, to_images(images, CPU)).flatten().numpy() for images in (members, others)))


def membership_by_distance(generated: np.ndarray, members: np.ndarray, others: np.ndarray) -> float:
    """The AUC of guessing that who is nearer to a generated image was a member (GAN-Leaks: Chen et al. 2020).

    The distance is Euclidean over pixels, to the nearest of the `generated` images.
    """
    neighbours = NearestNeighbors(n_neighbors=1).fit(_flat(generated))
    return _auc(*(-neighbours.kneighbors(_flat(images))[0].ravel() for images in (members, others)))


def _auc(members: np.ndarray, others: np.ndarray) -> float:
    """0.5 if the scores tell nothing, 1 if every member's is above everybody else's."""
    truth = np.repeat((1, 0), (len(members), len(others)))
    return float(roc_auc_score(truth, np.concatenate((members, others))))


def _decoder(inputs: int, shape: torch.Size) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(tuple(shape[1:])),
        nn.Conv2d(inputs, CHANNELS, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(CHANNELS, shape[0], 3, padding=1),
        nn.Sigmoid(),
    )


def _discriminator(shape: torch.Size) -> nn.Sequential:
    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, CHANNELS // 2, 5, 2, 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(CHANNELS // 2, CHANNELS, 5, 2, 2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(CHANNELS * math.ceil(height / 4) * math.ceil(width / 4), UNITS),
        nn.ReLU(inplace=True),
        nn.Linear(UNITS, 1),
    )


def _fit(
    network: nn.Module, inputs: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor], epochs: int
) -> None:
    adam = Adam(network.parameters(), 1e-3, (0.9, 0.999))
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(BATCH):
            adam.zero_grad()
            loss(network(inputs[batch]), targets[batch]).backward()
            adam.step()


@torch.no_grad()
def _apply(network: nn.Module, inputs: Tensor) -> Tensor:
    return torch.cat([network(chunk) for chunk in inputs.split(CHUNK)])


def _smashed(smash: nn.Module, images: np.ndarray) -> Tensor:
    return _apply(smash, to_images(images, CPU))


def _unit(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).float().div_(255)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def _psnr(mse: float) -> float:
    return math.inf if mse == 0 else 10 * math.log10(1 / mse)
