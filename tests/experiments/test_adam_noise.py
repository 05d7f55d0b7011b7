"""What the experiments on Adam's bias rest on: comparison at equal loss, and the lines that are drawn."""

from __future__ import annotations

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.experiments.adam_noise.adam_bias import LOOKS, theory
from sgdsim.experiments.adam_noise.adam_digits import at_equal_loss, kendall_taus


def test_runs_are_compared_at_equal_loss(rng):
    """On a 1-D quadratic every metric is a power of the loss: all runs must give the same."""
    problem = ss.Quadratic([2.0], [0.0])
    pace = rng.uniform(0.5, 0.9, size=(2, 3, 1))
    path = (rng.uniform(1, 2, size=(2, 3, 1)) * pace ** np.arange(8))[..., None]
    metrics, target, after = at_equal_loss(problem, path.astype(np.float32))
    reached = (path[..., 0] ** 2).min(axis=-1).max()
    assert target == pytest.approx(reached, rel=1e-5)
    np.testing.assert_allclose(metrics["gradient"], 2 * np.sqrt(target), rtol=1e-4)
    np.testing.assert_allclose(metrics["validation"], target, rtol=1e-4)
    assert after.shape == (2, 3, 1) and (after[..., 0] ** 2 <= target * (1 + 1e-5)).all()


def test_tau_of_each_seed():
    betas = [(0.9, 0.9), (0.9, 0.95), (0.9, 0.99), (0.9, 0.999)]
    rising = np.arange(4.0)
    assert kendall_taus(np.stack([rising, rising], axis=1), betas, "b2") == (1.0, 0.0)
    mean, error = kendall_taus(np.stack([rising, -rising], axis=1), betas, "b2")
    assert (mean, error) == (0.0, 1.0)


def test_the_figure_draws_the_second_order_without_a_warning():
    c = ss.solver.adam_bias.adam_noise_coefficients(0.9, 0.99)
    values = [theory(order, 0.9, 0.99, 1.0) for order in LOOKS.values()]
    assert values[0] == pytest.approx(9 - 99 + c.c1 + c.c2, rel=1e-12)
    assert values[1] == pytest.approx(9 / 2 - 99 / 4, rel=1e-12)
