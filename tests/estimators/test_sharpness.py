"""Sharpness in the maximum norm against every corner of the cube."""

from __future__ import annotations

import itertools

import flax.linen as nn
import numpy as np
import pytest

import sgdsim as ss

sharpness = ss.estimators.linf_sharpness


@pytest.mark.parametrize("seed", range(6))
def test_a_convex_loss_has_its_maximum_in_a_corner(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6))
    problem = ss.Quadratic(root @ root.T / 6, np.zeros((6, 6)))
    w, rho = rng.normal(size=6), 0.5
    corners = rho * np.array(list(itertools.product([-1, 1], repeat=6))).T
    truth = (problem.loss(w[:, None] + corners) - problem.loss(w)).max()
    found = float(sharpness(problem, w, rho))
    assert found <= truth * (1 + 1e-5)
    assert found >= 0.97 * truth
    assert found >= float(sharpness(problem, w, rho, steps=0))


def test_small_cubes_see_the_l1_norm_of_the_gradient():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 2))
    problem = ss.FlaxNetwork(nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(1)]), x, np.sin(x[:, 0]), "mse")
    w = problem.random_start(seed=2, chains=3).T
    found = sharpness(problem, w, 1e-3)
    assert found.shape == (3,)
    np.testing.assert_allclose(found, 1e-3 * np.abs(np.asarray(problem.gradient(w))).sum(axis=0), rtol=0.02)
    alone = [float(sharpness(problem, w[:, k], 1e-3)) for k in range(3)]
    np.testing.assert_allclose(alone, found, rtol=1e-3)


@pytest.mark.parametrize("radius", [1e-2, 1e-5, 1e-8, 1e-12])
def test_digits_stay_where_a_difference_of_losses_would_lose_them(radius):
    problem = ss.Quadratic([2.0, 1.0, 0.5], [1.0, 1.0, 1.0])  # the rise of a corner is rho |H w|_1 + rho^2 tr H / 2
    w = np.array([3.0, -1.0, 2.0])
    for point in (w, w.astype(np.float32)):
        found = float(sharpness(problem, point, radius))
        np.testing.assert_allclose(found, radius * 8.0 + radius**2 * 1.75, rtol=1e-9)
