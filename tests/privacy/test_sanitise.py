"""The sanitised gradient against its definition, and its noise against the normal distribution."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from rayfed.privacy.sanitise import sanitise


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(count: int = 64) -> Tensor:
    """[count, 1, 28, 28], of norms from 1e-6 to 1e6."""
    directions = torch.randn(count, 1, 28, 28, generator=draws(1))
    return directions * torch.logspace(-6, 6, count).view(-1, 1, 1, 1) / 28


def norms(x: Tensor) -> np.ndarray:
    return np.linalg.norm(x.double().flatten(1).numpy(), axis=1)


@pytest.mark.parametrize("clip", [0.01, 1.0, 100.0])
def test_no_samples_norm_is_over_its_bound_before_the_noise(clip: float) -> None:
    raw = gradients()
    clean = sanitise(raw, clip, 0.0, draws())
    bound = clip / len(raw)
    assert norms(clean).max() <= bound * (1 + 1e-6)
    large = norms(raw) > bound
    assert 0 < large.sum() < len(raw)
    np.testing.assert_allclose(norms(clean)[large], bound, rtol=1e-6)
    assert torch.equal(clean[~large], raw[~large])
    cosines = (raw.double() * clean.double()).flatten(1).sum(dim=1).numpy() / norms(raw) / norms(clean)
    np.testing.assert_allclose(cosines, 1, rtol=1e-6)


def test_a_sample_by_hand() -> None:
    """Two samples of a mean, C = 1: each is clipped to 1/2. (3, 4) has norm 5, (0.3, 0) has 0.3."""
    clean = sanitise(torch.tensor([[3.0, 4.0], [0.3, 0.0]]), 1.0, 0.0, draws())
    np.testing.assert_allclose(clean, [[0.3, 0.4], [0.3, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("clip", "sigma"), [(1.0, 1.07), (0.5, 10.0)])
def test_the_noise_is_normal_with_standard_deviation_sigma_times_c(clip: float, sigma: float, seed: int) -> None:
    raw = gradients()
    noise = sanitise(raw, clip, sigma, draws(seed)).double() - sanitise(raw, clip, 0.0, draws()).double()
    values = noise.numpy().ravel() / (sigma * clip / len(raw))
    squares = np.square(values).sum()
    assert 0.001 < stats.chi2.cdf(squares, values.size) < 0.999
    assert stats.kstest(values, "norm").pvalue > 0.001


def test_the_noise_follows_from_its_generator_alone() -> None:
    raw = gradients(4)
    torch.manual_seed(1)
    first = sanitise(raw, 1.0, 1.0, draws(7))
    torch.manual_seed(2)
    assert torch.equal(first, sanitise(raw, 1.0, 1.0, draws(7)))
    assert not torch.equal(first, sanitise(raw, 1.0, 1.0, draws(8)))


def test_an_infinite_bound_without_noise_changes_no_bit() -> None:
    raw = gradients()
    assert torch.equal(sanitise(raw, float("inf"), 0.0, draws()), raw)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_a_sample_that_overflowed_stays_within_its_bound(value: float) -> None:
    raw = torch.tensor([[value, value, 1.0], [0.0, 0.1, 0.0]])
    clean = sanitise(raw, 1.0, 0.0, draws())
    assert norms(clean).max() <= 0.5 * (1 + 1e-6)
    assert torch.equal(clean[1], raw[1])


def test_of_a_mean_loss_the_batch_size_does_not_change_what_a_sample_may_say() -> None:
    """A generator z -> w z of a batch of equal samples: its gradient is clip * z for whatever batch."""
    for batch in (1, 2, 8):
        w = nn.Parameter(torch.tensor([[1.0, 1.0]]))
        fakes = torch.full((batch, 1), 2.0) @ w
        raw = torch.tensor([[300.0, 400.0]]).repeat(batch, 1) / batch
        fakes.backward(sanitise(raw, 1.0, 0.0, draws()))
        np.testing.assert_allclose(w.grad, [[1.2, 1.6]], rtol=1e-6)
