"""Judges a classifier on the test images."""

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rayfed.config import RunConfig
from rayfed.data.population import EvaluationData
from rayfed.fleet.protocol import Arrays
from rayfed.models.gan import to_images
from rayfed.tasks.base import EvaluationResult, Pictures
from rayfed.tasks.classification import CLASSIFIER
from rayfed.tasks.classification.workspace import ClassifierWorkspace

BATCH = 500


class ClassifierEvaluator:
    """Accuracy of all and of each class, mean cross-entropy, and the confusion matrix."""

    def __init__(self, config: RunConfig, data: EvaluationData, processor: str = "cpu") -> None:
        self.data = data
        self.workspace = ClassifierWorkspace(config, data.test_images.shape[1], data.classes, processor)

    def about(self) -> dict[str, str]:
        """How many images judge."""
        return {"test_images": str(len(self.data.test_images))}

    def evaluate(self, round: int, arrays: Arrays) -> EvaluationResult:
        """`accuracy`, `loss`, and `accuracy_class_c` of each class c that has test images."""
        scores = self._scores(arrays)
        confusion = self._confusion(scores)
        sizes, right = confusion.sum(axis=1), confusion.diagonal()
        metrics = {"accuracy": float(right.sum() / sizes.sum())}
        metrics["loss"] = float(self.workspace.loss(scores, self.data.test_labels.copy()))
        metrics |= {f"accuracy_class_{c}": float(right[c] / sizes[c]) for c in range(len(sizes)) if sizes[c]}
        return EvaluationResult(round, metrics, {"confusion": drawn(confusion)})

    def pictures(self, arrays: Arrays) -> Pictures:
        """The confusion matrix."""
        return {"confusion": drawn(self._confusion(self._scores(arrays)))}

    def _confusion(self, scores: torch.Tensor) -> npt.NDArray[np.int64]:
        """Test images [true class, predicted class]."""
        counts = np.zeros((self.data.classes, self.data.classes), np.int64)
        np.add.at(counts, (self.data.test_labels, scores.argmax(dim=1).cpu().numpy()), 1)
        return counts

    @torch.inference_mode()
    def _scores(self, arrays: Arrays) -> torch.Tensor:
        workspace, images = self.workspace, self.data.test_images
        workspace.load_whole(arrays[CLASSIFIER])
        workspace.network.eval()
        parts = (images[at : at + BATCH].copy() for at in range(0, len(images), BATCH))  # Ray's are read-only
        chunks = [to_images(part, workspace.device) for part in parts]
        with workspace.arithmetic():
            return torch.cat([workspace.network(chunk).float() for chunk in chunks])


def drawn(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """A confusion matrix [true, predicted] as a picture, RGB: the share of each true class, in percent."""
    shares = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(5, 5), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set(xlabel="predicted class", ylabel="true class", title="test images, % of the true class")
    axes.set_xticks(range(len(shares)))
    axes.set_yticks(range(len(shares)))
    if len(shares) <= 20:
        for row, column in np.argwhere(shares >= 0.5):
            colour = "white" if shares[row, column] > 50 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
