"""Budgets against Opacus called directly, against GS-WGAN's theorem, and against the exact Gaussian mechanism."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from math import inf, nan, sqrt
from pathlib import Path

import numpy as np
import pytest
from opacus.accountants import RDPAccountant
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from rayfed.errors import UserError
from rayfed.privacy.accountant import Mechanism, Spent, epsilon, epsilon_prv, spend, steps_within

DELTA = 1e-5


def spent(sigma: float, steps: int, batch: int = 32) -> Spent:
    return spend([], Mechanism(sigma, 1.0, batch), steps)


def exact(sensitivity_over_noise: float) -> float:
    """Epsilon of a Gaussian mechanism at DELTA (Balle and Wang 2018, theorem 8)."""
    mu = sensitivity_over_noise

    def delta(eps: float) -> float:
        return float(ndtr(mu / 2 - eps / mu) - np.exp(eps + log_ndtr(-mu / 2 - eps / mu)))

    return brentq(lambda eps: delta(eps) - DELTA, 0, 10 * mu**2 + 10 * mu)


def test_epsilon_is_that_of_opacus_taking_each_step_by_itself() -> None:
    accountant = RDPAccountant()
    for _ in range(40):
        accountant.step(noise_multiplier=100 / (2 * sqrt(32)), sample_rate=1.0)
    for _ in range(7):
        accountant.step(noise_multiplier=50 / (2 * sqrt(16)), sample_rate=1.0)
    budget = spend(spent(100, 40), Mechanism(50, 1.0, 16), 7)
    assert budget == [[100 / (2 * sqrt(32)), 1.0, 40], [6.25, 1.0, 7]]
    assert epsilon(budget, DELTA) == accountant.get_epsilon(DELTA)


@pytest.mark.parametrize("sigma", [1.07, 10.0, 100.0])
def test_epsilon_follows_from_gs_wgans_theorem(sigma: float) -> None:
    """A step is (alpha, 2 B alpha / sigma^2)-RDP (Chen et al. 2020), which turns into (epsilon, delta) by
    Balle et al. 2020, theorem 21, at the best order."""
    orders = np.array([1 + tenth / 10 for tenth in range(1, 100)] + list(range(12, 64)))
    rdp = 2000 * 2 * 32 * orders / sigma**2
    converted = rdp + np.log((orders - 1) / orders) - (np.log(DELTA) + np.log(orders)) / (orders - 1)
    assert epsilon(spent(sigma, 2000), DELTA) == pytest.approx(converted.min(), rel=1e-9)


@pytest.mark.parametrize(("sigma", "steps"), [(1000, 2000), (100, 2000), (10, 1), (10, 200), (100, 50_000)])
def test_both_epsilons_bound_the_exact_one(sigma: float, steps: int) -> None:
    """The steps together are one Gaussian mechanism, whose epsilon is known: RDP's is above, PRV's up to 0.02."""
    truth = exact(sqrt(steps) * 2 * sqrt(32) / sigma)
    budget = spent(sigma, steps)
    assert truth <= epsilon(budget, DELTA) < 1.1 * truth
    found = epsilon_prv(budget, DELTA)
    assert found is not None
    assert truth <= found < truth + 0.02


def test_the_second_figure_of_several_mechanisms() -> None:
    budget = spend(spent(100, 40), Mechanism(50, 1.0, 16), 7)
    found = epsilon_prv(budget, DELTA)
    assert found == pytest.approx(exact(sqrt(40 * 4 * 32 / 100**2 + 7 * 4 * 16 / 50**2)), abs=0.02)


def test_where_the_second_figure_ends() -> None:
    assert epsilon_prv(spent(1.07, 2000), DELTA) is None
    assert epsilon_prv([], DELTA) == epsilon([], DELTA) == 0


def test_a_resumption_goes_on_spending() -> None:
    """Saved as JSON and resumed in parts, the budget is that of the whole, and epsilon only grows."""
    mechanism = Mechanism(10.0, 1.0, 32)
    budget: Spent = []
    figures = []
    for steps in (3, 1, 0, 6):
        budget = json.loads(json.dumps(spend(budget, mechanism, steps)))
        figures.append(epsilon(budget, DELTA))
    assert budget == spend([], mechanism, 10)
    assert figures[0] < figures[1] == figures[2] < figures[3]
    other = spend(budget, Mechanism(20.0, 1.0, 32), 1)
    assert epsilon(other, DELTA) > figures[3]


@pytest.mark.parametrize(("target", "before"), [(1.0, 0), (10.0, 0), (10.0, 100), (300.0, 7)])
def test_steps_within_a_target(target: float, before: int) -> None:
    mechanism = Mechanism(100.0, 1.0, 32)
    budget = spend([], mechanism, before)
    allowed = steps_within(target, DELTA, mechanism, budget)
    assert epsilon(spend(budget, mechanism, allowed), DELTA) <= target
    assert epsilon(spend(budget, mechanism, allowed + 1), DELTA) > target


GOOD = Mechanism(10.0, 1.0, 32)
SIGMA = (
    "method.privacy.sigma = {}: no epsilon holds for such noise; it must be positive and finite, and its square must "
    "be as well"
)
CLIP = "method.privacy.clip = {}: without a bound on the gradients no epsilon holds; it must be positive and finite"


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: spend([], Mechanism(0.0, 1.0, 32), 1), SIGMA.format(0.0)),
        (lambda: steps_within(1, DELTA, Mechanism(nan, 1.0, 32)), SIGMA.format("nan")),
        (lambda: spend([], Mechanism(-1.0, 1.0, 32), 1), SIGMA.format(-1.0)),
        (lambda: spend([], Mechanism(1e-200, 1.0, 32), 1), SIGMA.format(1e-200)),
        (lambda: spend([], Mechanism(1.0, inf, 32), 1), CLIP.format("inf")),
        (lambda: spend([], Mechanism(1.0, 0.0, 32), 0), CLIP.format(0.0)),
        (lambda: spend([], Mechanism(1.0, 1.0, 0), 1), "method.generator_batch = 0: must be at least 1"),
        (
            lambda: steps_within(5.0, DELTA, GOOD, spend([], GOOD, 1)),
            "method.privacy.epsilon = 5.0: 5.452 of it is spent already; it must be larger",
        ),
        (
            lambda: steps_within(5.0, DELTA, GOOD),
            "method.privacy.epsilon = 5.0: the next step brings it to 5.452; raise it, raise method.privacy.sigma "
            "above 10.0, or take a smaller method.generator_batch than 32",
        ),
        (lambda: steps_within(inf, DELTA, GOOD), "method.privacy.epsilon = inf: must be positive and finite"),
        (
            lambda: epsilon(spend([], GOOD, 1), 1.0),
            "method.privacy.delta = 1.0: must be between 0 and 1; take less than 1 / a device's examples",
        ),
    ],
)
def test_where_the_assumptions_fail_one_line_says_so(work: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        work()
    assert str(caught.value) == message


def test_importing_the_accountant_imports_neither_torch_nor_opacus() -> None:
    code = "import sys, rayfed.privacy.accountant; print([name for name in ('torch', 'opacus') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_table_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text()
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.,]+) \| ([\d.,]+) \|$", text, re.MULTILINE)
    assert [row[0] for row in rows] == ["0.5", "1.07", "10", "100", "1000"]
    for sigma, *cells in rows:
        figures = [epsilon(spent(float(sigma), steps), DELTA) for steps in (2000, 20_000)]
        assert cells == [f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" for figure in figures]
