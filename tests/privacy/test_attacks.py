"""Attacks on the shipped images, where what leaks is known: all, nothing, or what numpy says."""

import numpy as np
import pytest
from torch import nn

from rayfed.data.shipped import fashion_mnist_6k
from rayfed.models.gan import seeded
from rayfed.privacy.attacks import membership_by_discriminator, membership_by_distance, reconstruct


def images(start: int, count: int) -> np.ndarray:
    """Of all classes; no two draws that do not overlap share one."""
    found = fashion_mnist_6k().train_images
    return found[np.random.default_rng(0).permutation(len(found))[start : start + count]]


KNOWN, VICTIMS = images(0, 160), images(160, 60)


def test_the_identity_leaks_the_image() -> None:
    found = reconstruct(nn.Identity(), KNOWN, VICTIMS, seed=1, epochs=8)
    mean = KNOWN.astype(float).mean(axis=0) / 255
    baseline = np.square(VICTIMS / 255 - mean).mean()
    assert found.mean_mse == pytest.approx(baseline, rel=1e-5)
    assert found.mean_psnr == pytest.approx(-10 * np.log10(baseline), rel=1e-5)
    assert found.psnr > found.mean_psnr + 8


def test_a_convolution_and_a_pooling_leak_most_of_it() -> None:
    """Smashed data [B, 8, 14, 14], as of a split network whose device half pools once."""
    with seeded(1):
        smash = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    before = [each.detach().clone() for each in smash.parameters()]
    found = reconstruct(smash, KNOWN, VICTIMS, seed=1, epochs=5)
    assert found.psnr > found.mean_psnr + 3
    assert all((mine == theirs).all() for mine, theirs in zip(smash.parameters(), before, strict=True))


def test_a_module_that_says_nothing_leaks_no_more_than_the_mean() -> None:
    silent = nn.Conv2d(1, 4, 1)
    nn.init.zeros_(silent.weight)
    found = reconstruct(silent, KNOWN, VICTIMS, seed=1, epochs=2)
    assert found.mse > 0.9 * found.mean_mse


def test_an_attack_follows_from_its_seed_alone() -> None:
    first, again, other = (reconstruct(nn.Identity(), KNOWN[:64], VICTIMS, seed, epochs=1) for seed in (1, 1, 2))
    assert first == again != other


MEMBERS, OTHERS, FRESH, REFERENCE = images(0, 80), images(80, 240), images(320, 80), images(400, 240)


def test_an_overfitted_generator_gives_its_members_away() -> None:
    """One that returns its training images."""
    assert membership_by_distance(MEMBERS, MEMBERS, OTHERS) > 0.999
    assert membership_by_discriminator(MEMBERS, REFERENCE, MEMBERS, OTHERS, seed=1) > 0.9


def test_fresh_samples_of_the_same_distribution_give_nobody_away() -> None:
    """The AUC of 80 against 240 random scores has a standard deviation of 0.037."""
    assert membership_by_distance(FRESH, MEMBERS, OTHERS) == pytest.approx(0.5, abs=0.12)
    assert membership_by_discriminator(FRESH, REFERENCE, MEMBERS, OTHERS, seed=1) == pytest.approx(0.5, abs=0.12)


def test_an_auc_by_hand() -> None:
    """One pixel: generated 0; members at 0 and 51, others at 51 and 255. Of 4 pairs 3 are in order, 1 is a tie."""

    def pixels(*values: int) -> np.ndarray:
        return np.array(values, np.uint8).reshape(-1, 1, 1, 1)

    assert membership_by_distance(pixels(0), pixels(0, 51), pixels(51, 255)) == pytest.approx(3.5 / 4)
