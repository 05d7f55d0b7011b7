"""The slow equations against simulated training along the minima, as the learning rate goes to 0."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import sgdsim as ss
from sgdsim.solver.manifold import slow_coefficients, slow_ode, slow_sde

ELLIPSE = ss.Ellipse(a=2.0, b=1.0)
START, CHAINS = 1.0, 8192
MEMORY = 10.0  # c = (1 - beta_2) / eta^2


def angles(optimizer, steps, seed):
    """Mean angle of the chains after so many steps, and its standard error."""
    result = ss.simulate(ELLIPSE, optimizer, batch_size=1, chains=CHAINS, steps=steps, seed=seed,
                         initial=ELLIPSE.point(START), statistics=(), progress=False)
    angle = ELLIPSE.angle(np.asarray(result.final, np.float64).T)
    return angle.mean(), angle.std() / np.sqrt(CHAINS)


def extrapolated(make, time, rates):
    """The mean angle at eta = 0 from three learning rates, each half the one before: its error is O(eta^3)."""
    means, errors = np.transpose([angles(make(rate), round(time / rate**2), k) for k, rate in enumerate(rates)])
    weights = np.array([1.0, -6.0, 8.0]) / 3
    return weights @ means, np.sqrt(weights**2 @ errors**2), means


# name: (optimizer of an effective rate, slow time, rates)
SETTINGS = {
    "sgd": (ss.SGD, 2.0, (0.12, 0.06, 0.03)),
    "sgd-momentum": (lambda eta: ss.SGD(eta / 2, momentum=0.5), 2.0, (0.12, 0.06, 0.03)),
    "adam": (lambda eta: ss.Adam(eta, b1=0.0, b2=1 - MEMORY * eta**2), 0.5, (0.06, 0.03, 0.015)),
    "adam-momentum": (lambda eta: ss.Adam(eta, b1=0.5, b2=1 - MEMORY * eta**2), 0.5, (0.06, 0.03, 0.015)),
    "adam-e": (lambda eta: ss.AdamE(eta, b1=0.0, b2=1 - MEMORY * eta**2, exponent=0.25), 0.8, (0.06, 0.03, 0.015)),
}
FAST = ("sgd", "adam")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in SETTINGS])
def test_mean_angles_extrapolate_to_the_slow_equation(name, assert_within_sigma):
    make, time, rates = SETTINGS[name]
    found, error, means = extrapolated(make, time, rates)
    path = slow_ode(ELLIPSE, make(rates[-1]), ELLIPSE.point(START), [0.95 * time, time, 1.05 * time])
    before, theory, after = (ELLIPSE.angle(w) for w in path.positions)
    assert_within_sigma(found, theory, error)
    for wrong in (before, after):  # alpha/4 wrong by five per cent is a time wrong by as much
        with pytest.raises(AssertionError):
            assert_within_sigma(found, wrong, error)
    gaps = np.abs(means - theory)  # the bias is of the first order: it halves with the learning rate
    assert gaps[0] > 1.4 * gaps[1] > 1.4**2 * gaps[2]


TILT = np.array([[0.12, -0.06], [-0.06, 0.06]])


def tilted(eta, time, chains, rng):
    """SGD on the ellipse with label noise and Gaussian noise of covariance TILT, by NumPy alone."""
    w = np.tile(ELLIPSE.point(START)[:, None], chains)
    root = np.linalg.cholesky(TILT)
    for _ in range(round(time / eta**2)):
        f = (w[0] + w[1]) ** 2 / 8 + (w[0] - w[1]) ** 2 / 2 - 1
        along, across = (w[0] + w[1]) / 4, w[0] - w[1]
        delta = 0.5 * (2 * rng.integers(0, 2, chains) - 1)
        g = (f - delta) * np.stack([along + across, along - across])
        w = w - eta * (g + root @ rng.standard_normal((2, chains)))
    return ELLIPSE.angle(w)


def noise(w):
    """The same covariance of a gradient on the ellipse, for the theory."""
    across, along = w[0] - w[1], (w[0] + w[1]) / 4
    n = jnp.stack([along + across, along - across])
    return 0.25 * jnp.outer(n, n) + TILT


def exact_moments(time):
    """Mean and variance of the angle under the slow equation, from its generator on a grid: no sampling."""
    grid = np.linspace(-0.1, 2.1, 221)
    drift, spread = np.empty_like(grid), np.empty_like(grid)
    e, h = 1e-3 * np.eye(2), 1e-3
    for k, f in enumerate(grid):
        w, angle = ELLIPSE.point(f), ELLIPSE.angle
        law = slow_coefficients(ELLIPSE, w, noise)
        slope = np.array([angle(w + x) - angle(w - x) for x in e]) / (2 * h)
        bend = [[(angle(w + x + y) - angle(w + x - y) - angle(w - x + y) + angle(w - x - y)) / (4 * h**2) for y in e]
                for x in e]
        drift[k] = slope @ law.drift + 0.5 * np.sum(bend * law.diffusion)
        spread[k] = slope @ law.diffusion @ slope
    d = grid[1] - grid[0]
    up, down = spread / (2 * d**2) + drift / (2 * d), spread / (2 * d**2) - drift / (2 * d)
    up[-1] = down[0] = 0.0  # the ends are far away
    generator = np.diag(up[:-1], 1) + np.diag(down[1:], -1) - np.diag(up + down)
    moments = expm(time * generator) @ np.stack([grid, grid**2], axis=1)
    mean, square = (np.interp(START, grid, column) for column in moments.T)
    return np.array([mean, square - mean**2])


@pytest.mark.slow
def test_any_noise_drifts_and_spreads_as_the_slow_stochastic_equation_says(assert_within_sigma, rng):
    """Mean and variance of the angle at t = 1; the first order of SGD's bias is extrapolated away."""

    def moments(samples):
        d = samples - samples.mean()
        return np.array([samples.mean(), d.var()]), np.array([d.std(), (d**2).std()]) / np.sqrt(samples.size)

    coarse, fine = (moments(tilted(eta, 1.0, 20_000, rng)) for eta in (0.06, 0.03))
    found, error = 2 * fine[0] - coarse[0], np.hypot(2 * fine[1], coarse[1])
    theory = exact_moments(1.0)
    assert_within_sigma(found, theory, error)
    label_noise_alone = ELLIPSE.angle(slow_ode(ELLIPSE, ss.SGD(0.1), ELLIPSE.point(START), [1.0]).positions[0])
    with pytest.raises(AssertionError):
        assert_within_sigma(found[0], label_noise_alone, error[0])
    with pytest.raises(AssertionError):
        assert_within_sigma(found[1], 0.85 * theory[1], error[1])
    paths = slow_sde(ELLIPSE, ss.SGD(0.1), ELLIPSE.point(START), [1.0], noise, chains=3000, step=0.05, seed=1)
    sampled, doubt = moments(ELLIPSE.angle(paths.positions[0].T))
    assert_within_sigma(sampled, theory, doubt)
