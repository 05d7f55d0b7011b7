"""Label-noise SGD against theory: fluctuations, what resampling adds to them, the way to flatter minima, cycling."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import sgdsim as ss
from sgdsim.experiments.label_noise.cycling import early_variances
from sgdsim.experiments.label_noise.label_noise_network import SMOKE, compute_path, sharp_minimum
from sgdsim.solver.manifold import label_noise_covariance, label_noise_flow
from sgdsim.statistics import Moments

RNG = np.random.default_rng(4)
X = RNG.normal(size=(6, 3))
FITTED = ss.DatasetRegression(X, X @ [1.0, -2.0, 0.5], label_noise=0.4)  # a linear model that fits every example
TOP = float(np.linalg.eigvalsh(FITTED.hessian())[-1])
UPPER = np.triu_indices(3)


@pytest.mark.parametrize("beta", [0.0, 0.6])
def test_the_ornstein_uhlenbeck_covariance(beta, assert_within_sigma):
    """All examples in every batch: the noise of the labels is all there is, and the loss is quadratic."""
    rate = 1.3 * (1 + beta) / TOP
    result = ss.simulate(FITTED, ss.SGD(rate, beta), batch_size=6, sampling="without_replacement", chains=8000,
                         steps=300, burn_in=100, seed=3, initial=FITTED.minimum, statistics=[Moments()], progress=False)
    law = label_noise_covariance(FITTED.hessian(), rate, label_noise=0.4, batch_size=6, momentum=beta)
    assert_within_sigma(result.covariance[UPPER], law[UPPER], result.covariance_stderr[UPPER], comparisons=12)
    for wrong in (1.03 * law, law @ np.linalg.inv(np.eye(3) + 0.05 * rate * FITTED.hessian())):
        with pytest.raises(AssertionError):
            assert_within_sigma(result.covariance[UPPER], wrong[UPPER], result.covariance_stderr[UPPER], comparisons=12)


def test_resampling_adds_to_it_by_eta_over_b_whatever_the_size_of_the_noise(assert_within_sigma):
    """Algorithm 1 draws its batches: the residuals that the fluctuations leave make noise too (errata, B1)."""

    def share(rate, batch, sigma=0.4):
        problem = ss.DatasetRegression(X, X @ [1.0, -2.0, 0.5], label_noise=sigma)
        exact = ss.predict(problem, ss.SGD(rate), batch_size=batch).covariance
        law = label_noise_covariance(problem.hessian(), rate, label_noise=sigma, batch_size=batch)
        return float(np.trace(exact) / np.trace(law)) - 1

    rate = 0.2 / TOP
    base = share(rate, 4)
    assert 0.01 < base < 0.1
    assert share(rate, 4, sigma=0.01) == pytest.approx(base, rel=1e-9)
    assert share(rate / 100, 4) / share(rate / 200, 4) == pytest.approx(2, rel=0.01)
    assert share(rate / 100, 4) / share(rate / 100, 8) == pytest.approx(2, rel=0.01)
    result = ss.simulate(FITTED, ss.SGD(rate), batch_size=4, chains=8000, steps=900, burn_in=400, seed=5,
                         initial=FITTED.minimum, statistics=[Moments()], progress=False)
    truth = ss.predict(FITTED, ss.SGD(rate), batch_size=4).covariance
    assert_within_sigma(result.covariance[UPPER], truth[UPPER], result.covariance_stderr[UPPER])
    with pytest.raises(AssertionError):
        law = label_noise_covariance(FITTED.hessian(), rate, label_noise=0.4, batch_size=4)
        assert_within_sigma(result.covariance[UPPER], law[UPPER], result.covariance_stderr[UPPER])


def test_erratum_f_2_more_than_z_1_fluctuates(assert_within_sigma):
    """Variances (eta/2)(1, 1/3, 0, 8/9) at (1, 0), and a least loss of 4/13."""
    toy = ss.CyclingToy()
    assert 13 * float(toy.loss(toy.minimum)) == pytest.approx(4.0, rel=1e-6)
    value, stderr = early_variances(1024)
    seen = [0, 1, 3]
    truth = np.array([1.0, 1 / 3, 8 / 9])
    assert_within_sigma(value[seen], truth, stderr[seen])
    assert abs(value[2]) < 0.01  # beyond first order in eta
    for wrong in (1.25 * truth, np.array([1.0, 0.0, 0.0])):
        with pytest.raises(AssertionError):
            assert_within_sigma(value[seen], wrong, stderr[seen])


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_a_network_follows_the_flow_of_the_regularizer(beta, assert_within_sigma):
    """Extrapolated to lambda = 0, at a learning rate where the flow of tr H / 4 is another."""
    setting = SMOKE._replace(chains=1024)
    problem, w = sharp_minimum(setting)
    path = compute_path(problem, w, 0.1, beta, setting)
    value, stderr = path.extrapolated
    law = np.interp(setting.times, path.times, path.flow)
    assert_within_sigma(value, law, stderr, comparisons=6)
    for wrong in (1.05 * law, np.interp(setting.times, path.times, path.small_rate)):
        with pytest.raises(AssertionError):
            assert_within_sigma(value, wrong, stderr, comparisons=6)


class Product(nn.Module):
    """The prediction x w_1 w_2."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", lambda _: jnp.array([2.5, 0.6]))
        return x * w[0] * w[1]


@pytest.mark.slow
def test_drawn_batches_have_a_flow_of_their_own(assert_within_sigma):
    """What a batch draws of the residuals counts, however small the noise: extrapolated to lambda = 0."""
    x, rate, start = np.array([[2**0.5], [0.0], [1.0]]), 0.08, [2.5, 0.6]
    strengths, seen = (8e-3, 4e-3), []
    for k, strength in enumerate(strengths):
        problem = ss.FlaxNetwork(Product(), x, 1.5 * x, label_noise=np.sqrt(strength / rate))
        steps = round(0.5 / (rate * strength))
        final = ss.simulate(problem, ss.SGD(rate), batch_size=1, chains=16384, steps=steps,
                            initial=start, seed=k, progress=False).final
        sharpness = np.sum(np.asarray(final, np.float64) ** 2, axis=1)
        seen.append((sharpness.mean(), sharpness.std() / np.sqrt(len(sharpness))))
    (whole, error), (half, half_error) = seen
    value, stderr = 2 * half - whole, np.hypot(2 * half_error, error)
    how = {"learning_rate": rate, "label_noise": 1.0, "batch_size": 1}
    law = np.sum(label_noise_flow(problem, start, [0.5], **how)[-1] ** 2)
    assert_within_sigma(value, law, stderr)
    wrong = np.sum(label_noise_flow(problem.loss, start, [0.5], **how)[-1] ** 2)
    assert abs(wrong / law - 1) > 0.03
    for other in (wrong, 1.03 * law):
        with pytest.raises(AssertionError):
            assert_within_sigma(value, other, stderr)
