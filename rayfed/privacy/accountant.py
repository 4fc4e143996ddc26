"""The privacy budget of a generator that learns through sanitised gradients, as (epsilon, delta).

A step of the generator releases B sanitised gradients, each of norm at most C and noised with standard deviation
sigma C. All of them come from one critic that has seen the whole local data set, so another example can change each by
2C, and the B together by 2C sqrt(B): a Gaussian mechanism of noise multiplier sigma / (2 sqrt(B)), without
subsampling (docs/privacy.md has the argument). Opacus composes the steps.
"""

import math
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rayfed.errors import UserError

SECTION = "method.privacy"
"""Where the configuration has these keys."""
SAMPLING_RATE = 1.0
"""Every step reads the whole local data set."""
PRV_MOST = 500.0
"""The largest epsilon that the PRV accountant is asked for: e**epsilon must be a number."""
MOST_STEPS = 2**60

Spent = list[list[float]]
"""A spent budget as JSON keeps it: [noise multiplier, sampling rate, steps] each, in the order of the steps."""


@dataclass(frozen=True)
class Mechanism:
    """One step of a generator: its noise, the bound on each sample's gradient, and its samples."""

    sigma: float
    clip: float
    batch: int

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise over the joint L2 sensitivity; raises UserError where there is none."""
        if self.batch < 1:
            raise UserError(f"method.generator_batch = {self.batch}: must be at least 1")
        multiplier = self.sigma / (2 * math.sqrt(self.batch))
        if not _is_noise(multiplier):
            raise UserError(
                f"{SECTION}.sigma = {self.sigma}: no epsilon holds for such noise; it must be positive and finite, and "
                "its square must be as well"
            )
        if not 0 < self.clip < math.inf:
            raise UserError(
                f"{SECTION}.clip = {self.clip}: without a bound on the gradients no epsilon holds; it must be positive "
                "and finite"
            )
        return multiplier


def spend(spent: Spent, mechanism: Mechanism, steps: int) -> Spent:
    """What is spent after `steps` more of the mechanism. Raises UserError for a mechanism that has no epsilon."""
    multiplier = mechanism.noise_multiplier
    if steps == 0:
        return spent
    if spent and spent[-1][:2] == [multiplier, SAMPLING_RATE]:
        return [*spent[:-1], [multiplier, SAMPLING_RATE, spent[-1][2] + steps]]
    return [*spent, [multiplier, SAMPLING_RATE, steps]]


def _is_noise(multiplier: float) -> bool:
    """Whether the accountant, which squares it, can work with a noise multiplier."""
    return multiplier > 0 and 0 < multiplier * multiplier < math.inf


def epsilon(spent: Spent, delta: float) -> float:
    """Epsilon at `delta` by Opacus' RDP accountant; 0 if nothing is spent."""
    from opacus.accountants import RDPAccountant

    _check_delta(delta)
    accountant = RDPAccountant()
    accountant.history = [tuple(entry) for entry in spent]
    with _without_warnings():
        return max(0.0, float(accountant.get_epsilon(delta)))


def epsilon_prv(spent: Spent, delta: float) -> float | None:
    """A tighter epsilon at `delta`, by Opacus' PRV accountant to 0.01; None above 500, where it has no figure.

    It is asked for one Gaussian mechanism that is exactly as private as all the steps together (Dong et al. 2022,
    corollary 3.3), since its own composition takes memory that grows with epsilon and the steps.
    """
    if not spent or epsilon(spent, delta) > PRV_MOST:
        return None if spent else 0.0
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    together = sum(steps / multiplier**2 for multiplier, _, steps in spent) ** -0.5
    accountant.history = [(together, SAMPLING_RATE, 1)]
    with _without_warnings():
        return float(accountant.get_epsilon(delta))


def steps_within(target: float, delta: float, mechanism: Mechanism, spent: Sequence[list[float]] = ()) -> int:
    """How many more steps of the mechanism `epsilon` allows before it passes `target`.

    Raises UserError for a mechanism without epsilon, and for a target that is spent or that no step fits in.
    """
    if not 0 < target < math.inf:
        raise UserError(f"{SECTION}.epsilon = {target}: must be positive and finite")
    before = list(spent)
    used, next_one = epsilon(before, delta), epsilon(spend(before, mechanism, 1), delta)
    if used >= target:
        raise UserError(f"{SECTION}.epsilon = {target}: {used:.4g} of it is spent already; it must be larger")
    if next_one > target:
        raise UserError(
            f"{SECTION}.epsilon = {target}: the next step brings it to {next_one:.4g}; raise it, raise {SECTION}.sigma "
            f"above {mechanism.sigma}, or take a smaller method.generator_batch than {mechanism.batch}"
        )
    return bisect_right(range(1, MOST_STEPS), target, key=lambda steps: epsilon(spend(before, mechanism, steps), delta))


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Optimal order is")  # the bound holds at whatever order
        warnings.filterwarnings("ignore", "divide by zero", RuntimeWarning)  # log(1 - sampling rate)
        yield


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise UserError(f"{SECTION}.delta = {delta}: must be between 0 and 1; take less than 1 / a device's examples")
