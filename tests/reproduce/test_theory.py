"""`minigan reproduce dirac` and `losses`: closed forms, and what a small case returns."""

import math

import numpy as np
import pytest

from minigan.reproduce.dirac import DIRAC, RADII
from minigan.reproduce.experiment import CaseResult
from minigan.reproduce.losses import (
    DISTANCES,
    GRID,
    LOSSES,
    ROWS,
    exact_values,
    js,
    kl,
    measure,
    probabilities,
    total_variation,
)


# ----------------------------------------------------------------------------------------- losses
@pytest.mark.parametrize("d", DISTANCES)
def test_the_grid_has_the_divergences_of_gaussians(d):
    p, q = probabilities(d)
    assert kl(p, q) == pytest.approx(d * d / 2, abs=1e-9)
    assert total_variation(p, q) == pytest.approx(math.erf(d / math.sqrt(8)), abs=2e-5)
    assert 0 <= js(p, q) <= math.log(2)


def test_js_is_at_its_ceiling_at_distance_8():
    assert js(*probabilities(8.0)) == pytest.approx(0.693054, abs=1e-6)
    assert math.log(2) - js(*probabilities(8.0)) == pytest.approx(9.3e-5, abs=1e-6)
    assert [exact_values(name)["d0"] for name in ROWS] == [0] * len(ROWS)
    assert exact_values("non-saturating, its logit: KL")["d2"] == pytest.approx(1.0166)


@pytest.mark.parametrize("name", ROWS)
def test_the_expected_loss_of_the_optimum_has_the_divergence(name):
    """And that of any other function has less."""
    row = ROWS[name]
    rng = np.random.default_rng(0)
    for d in (1.0, 1.4, 2.0):
        p, q = probabilities(d)
        best = row.optimum(d * d / 2 - d * GRID)
        exact = row.exact(p, q)
        assert row.divergence(row.expected(best, p, q)) == pytest.approx(exact, abs=1e-9)
        other = best + 0.1 * rng.standard_normal(len(GRID))
        assert row.divergence(row.expected(other, p, q)) < exact - 1e-4


@pytest.mark.slow
def test_a_discriminator_of_a_few_steps_is_below_the_closed_form(tmp_path):
    results = []
    for name in list(ROWS)[::2]:
        outcome = measure({"loss": name, "steps": 150, "batch": 256, "rate": 0.01}, 0)
        exact = exact_values(name)
        assert outcome.values.keys() == exact.keys()
        for key, value in outcome.values.items():
            assert value <= exact[key] + 1e-6
        assert outcome.values["d1"] > 0.8 * exact["d1"]
        values = {key: [value] for key, value in outcome.values.items()}
        results.append(CaseResult(name, {}, [0], values, [1.0], [outcome.arrays]))
    LOSSES.draw(results, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


# ------------------------------------------------------------------------------------------ dirac
@pytest.mark.slow
def test_every_goal_of_the_dirac_gan_is_met(tmp_path):
    results = []
    for name, case in DIRAC.cases.items():
        outcome = case.measure(case.config, 0)
        for key, goal in case.goals.items():
            assert goal.is_met(outcome.values[key]), (name, key, outcome.values[key])
        values = {key: [value] for key, value in outcome.values.items()}
        results.append(CaseResult(name, case.config, [0], values, [1.0], [outcome.arrays]))
    DIRAC.draw(results, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_the_dirac_gan_has_a_goal_for_every_known_number():
    assert len(DIRAC.cases) == 14
    for name, case in DIRAC.cases.items():
        goals = case.goals
        assert goals["radius"].high - max(goals["radius"].low, 0) < 1e-3
        assert ("modulus" in goals) == ("WGAN" not in name)
        assert f"{name}: known" in DIRAC.published
    assert set(RADII) < {name.split(", s")[0] for name in DIRAC.cases}
