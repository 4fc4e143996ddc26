"""F2U and F2A (Yonetani, Takahashi, Hashimoto, Ushiku: "Decentralized Learning of Generative Adversarial Networks from
Non-iid Data", 2019): MD-GAN's layout without swaps and with one batch for all.

Devices also say how real they find each image (`Device.feedback` of `rayfed.methods.md_gan.algorithm`, whose settings'
`sends_scores` is set), and image by image the forgiving ones count more.
"""

import numpy as np

from rayfed.fleet.codec import Vector
from rayfed.methods.md_gan import F2A
from rayfed.methods.md_gan.algorithm import Server
from rayfed.methods.md_gan.layout import Feedback


class F2UServer(Server):
    """Forgiver-first update: per image, only the discriminator that finds it most real counts."""

    def weights(self, replies: list[Feedback]) -> Vector:
        """One-hot over devices, float32 [N, b]; the lowest device wins a tie."""
        scores = np.stack([reply.scores for reply in replies])
        chosen: Vector = (np.arange(len(replies))[:, None] == scores.argmax(axis=0)).astype(np.float32)
        return chosen


class F2AServer(Server):
    """Forgiver-first aggregation: the more real a discriminator finds an image, the more it counts."""

    def weights(self, replies: list[Feedback]) -> Vector:
        """softmax over devices of lambda D_n(x), float32 [N, b]; lambda 0 is the mean."""
        assert isinstance(self.method, F2A)
        scores = self.method.forgiveness * np.stack([reply.scores for reply in replies])
        weights = np.exp(scores - scores.max(axis=0))
        mixed: Vector = (weights / weights.sum(axis=0)).astype(np.float32)
        return mixed
