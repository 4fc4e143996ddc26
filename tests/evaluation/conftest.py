"""Real images that scikit-learn carries: handwritten digits, and patches of two photographs."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images


@pytest.fixture(scope="session")
def digits():
    """uint8 [1797, 1, 32, 32] and labels [1797]."""
    bunch = load_digits()
    images = (bunch.images * 255 / 16).astype(np.uint8)[:, None]
    return images.repeat(4, axis=2).repeat(4, axis=3), bunch.target


@pytest.fixture(scope="session")
def patches():
    """uint8 [24, 3, 32, 32]."""
    rng = np.random.default_rng(0)
    photos = [photo.transpose(2, 0, 1) for photo in load_sample_images().images]
    corners = rng.integers(0, [[420 - 32, 640 - 32]] * 24)
    return np.stack([photos[i % 2][:, y : y + 32, x : x + 32] for i, (y, x) in enumerate(corners)])


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    """No Inception weights can be found on this machine."""
    monkeypatch.delenv("RAYFED_FID_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch/hub/checkpoints/pt_inception-2015-12-05-6726825d.pth"
