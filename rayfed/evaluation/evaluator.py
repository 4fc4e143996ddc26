"""FID of generated images against a data set's test split, in the feature spaces that the configuration asks for."""

import io
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from rayfed.config import Evaluation
from rayfed.errors import UserError
from rayfed.evaluation import cache
from rayfed.evaluation.classifier import ClassifierExtractor
from rayfed.evaluation.extractor import Extractor
from rayfed.evaluation.fid import Statistics, frechet_distance, statistics
from rayfed.evaluation.limits import Limits, find_limits
from rayfed.evaluation.weights import ENV, download_weights, find_weights, hub_path


def check(config: Evaluation) -> str | None:
    """A line for the user when `auto` must do without Inception; raises UserError when its weights cannot be used.

    Asked for by name and not found, they are downloaded.
    """
    if config.extractor == "classifier":
        if config.weights:
            find_weights(config.weights)
        return None
    if path := find_weights(config.weights):
        from rayfed.evaluation.inception import load

        load(path)
    elif config.extractor != "auto":
        download_weights()
    else:
        return (
            f"no Inception weights in evaluation.weights, {ENV} or {hub_path()}: "
            "FID goes on in the classifier's feature space alone, as fid_classifier"
        )
    return None


def measured(config: Evaluation) -> tuple[str, ...]:
    """The metrics that an evaluation gives here."""
    inception = config.extractor in ("inception", "both") or bool(
        config.extractor == "auto" and find_weights(config.weights)
    )
    return ("fid",) * inception + ("fid_classifier",) * (config.extractor != "inception")


class Evaluator:
    """Holds the extractors and the real side's statistics; the images it is given are the only thing that changes."""

    metrics: tuple[str, ...]
    """What `evaluate` gives: "fid", "fid_classifier", or both."""
    extractors: dict[str, str]
    """Of each extractor, by name: the file of its weights and the start of their SHA-256."""
    limits: Limits | None = None
    """What `fid_classifier` can tell on this data. Inception's features are made for any images and its floor is dear
    (thousands of images at 8 to 20 a second on a CPU): `fid` has none."""

    def __init__(
        self,
        config: Evaluation,
        train_images: NDArray[np.uint8],
        train_labels: NDArray[np.integer],
        test_images: NDArray[np.uint8],
        test_labels: NDArray[np.integer],
        dataset_key: str,
        cache_dir: str | Path | None = None,
        device: str = "cpu",
    ) -> None:
        """Load or train the extractors and take the statistics of test_images [N, C, H, W] with test_labels [N].

        All is kept under `cache_dir` (none: the user's cache), by `dataset_key`, which must name the data for good;
        train_images [M, C, H, W] and train_labels [M] are read only for the classifier and its limits. Raises
        UserError when Inception is asked for by name and cannot be had, or the cache cannot be written.
        """
        self._shape = test_images.shape[1:]
        self._real: list[tuple[Extractor, Statistics]] = []
        kept = dataset_key, cache_dir
        if "fid" in measured(config):
            from rayfed.evaluation.inception import InceptionExtractor

            inception = InceptionExtractor(config.weights, device)
            self._real.append((inception, _real_statistics(inception, test_images, *kept)))
        if config.extractor != "inception":
            classifier = ClassifierExtractor.train_or_load(train_images, train_labels, *kept, device)
            real = _real_statistics(classifier, test_images, *kept)
            self._real.append((classifier, real))
            self.limits = find_limits(classifier, real, train_images, test_images, test_labels, config.samples, *kept)
        self.metrics = tuple(e.metric for e, _ in self._real)
        self.extractors = {e.name: f"{e.path} sha256:{e.sha256[:16]}" for e, _ in self._real}

    def evaluate(self, images: NDArray[np.uint8]) -> dict[str, float]:
        """The FID of images [N, C, H, W], N >= 2, by metric; lower is better.

        Raises UserError when they are not uint8 images of the data set's shape, or fewer than two.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self._shape or len(images) < 2:
            wanted = ", ".join(map(str, self._shape))
            raise UserError(f"images are {images.dtype} {list(images.shape)}: must be uint8 [N, {wanted}] with N >= 2")
        return {e.metric: frechet_distance(real, statistics(e.features(images))) for e, real in self._real}


def _real_statistics(
    extractor: Extractor, images: NDArray[np.uint8], dataset_key: str, cache_dir: str | Path | None
) -> Statistics:
    """The statistics of the test split, from the cache where it has them."""
    kind = f"statistics-{extractor.name}-{extractor.sha256[:16]}"
    path = cache.locate(cache_dir, kind, dataset_key, images.shape[1:], ".npz")
    try:
        with np.load(path) as stored:
            return Statistics(stored["mean"], stored["cov"], int(stored["count"]))
    except (OSError, EOFError, KeyError, ValueError, BadZipFile):
        real = statistics(extractor.features(images))
    buffer = io.BytesIO()
    np.savez(buffer, mean=real.mean, cov=real.cov, count=real.count)
    cache.write(path, buffer.getvalue())
    return real
