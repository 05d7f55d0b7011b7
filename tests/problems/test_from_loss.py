"""A loss of one's own, held against a problem that is known exactly."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim as ss
from sgdsim import solver

data = np.random.default_rng(3)
X, NOISE = data.normal(size=(30, 2)), data.normal(size=30)
Y = X @ [1.0, -2.0] + NOISE


def squared(w, x, y):
    return 0.5 * (x @ w - y) ** 2


def softmax(w, x, label):
    logits = x @ w.reshape(2, 3)
    return jax.nn.logsumexp(logits) - logits[label]


@pytest.fixture(scope="module")
def own():
    return ss.FromLoss(squared, X, Y, start=[0.0, 0.0], weight_decay=0.1)


def test_derivatives_are_those_of_the_same_problem_written_out(own, rng):
    known = ss.DatasetRegression(X, Y, weight_decay=0.1)
    w = rng.normal(size=(2, 5))
    with jax.enable_x64(True):
        np.testing.assert_allclose(own.loss(w), known.loss(w), rtol=1e-12)
        np.testing.assert_allclose(own.gradient(w), known.gradient(w), rtol=1e-11)
        np.testing.assert_allclose(own.hessian(w[:, 0]), known.hessian(), rtol=1e-12)
        for mode in ("with_replacement", "without_replacement"):
            np.testing.assert_allclose(solver.gradient_covariance(own, w[:, 0], 4, mode),
                                       solver.gradient_covariance(known, w[:, 0], 4, mode), rtol=1e-9)


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_chains_settle_where_theory_says(own, sampling, assert_within_sigma):
    result = ss.simulate(own, ss.SGD(0.2), batch_size=4, chains=2_048, steps=300, burn_in=60, sampling=sampling, seed=1)
    theory = ss.predict(ss.DatasetRegression(X, Y, weight_decay=0.1), ss.SGD(0.2), batch_size=4, sampling=sampling)
    assert_within_sigma(result.mean, theory.mean, result.mean_stderr)
    assert_within_sigma(result.covariance, theory.covariance, result.covariance_stderr)
    with pytest.raises(AssertionError, match="beyond"):
        assert_within_sigma(result.covariance, 1.05 * theory.covariance, result.covariance_stderr)


def test_labels_stay_whole_numbers_and_epochs_run():
    labels = np.arange(30) % 3
    problem = ss.FromLoss(softmax, X, labels, start=np.zeros(6), test_features=X[:4], test_targets=labels[:4])
    assert problem.targets.dtype == np.int32 and problem.loss_examples == 34
    np.testing.assert_allclose(problem.test_loss(problem.default_start), np.log(3), rtol=1e-6)
    result = ss.simulate(problem, ss.SGD(0.1), batch_size=7, chains=64, steps=40, sampling="epochs")
    assert result.status == "ok" and result.train_loss < np.log(3)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"example_loss": 3.0}, "example_loss"),
        ({"example_loss": lambda w, x, y: x * w}, "example_loss"),
        ({"example_loss": lambda w, x, y: jnp.argmax(x)}, "example_loss"),
        ({"example_loss": lambda w, x, y: (x[:1] @ w - y) ** 2}, "example_loss"),
        ({"features": [[np.nan, 1.0]] * 30}, "features"),
        ({"features": X[:3]}, "targets"),
        ({"start": [[0.0]]}, "start"),
        ({"weight_decay": "much"}, "weight_decay"),
        ({"test_features": X}, "test_targets"),
        ({"test_features": X[:, :1], "test_targets": Y}, "test_features"),
    ],
)
def test_bad_input_names_the_argument(change, word):
    good = {"example_loss": squared, "features": X, "targets": Y, "start": [0.0, 0.0]}
    with pytest.raises(ValueError, match=f"^{word}"):
        ss.FromLoss(**{**good, **change})


@ss.spec
class Shifted:
    shift: Any

    def init(self, key, chains):
        return ()

    def draw(self, key, params, state):
        return params - self.shift + jax.random.normal(key, params.shape, params.dtype), state


@ss.spec
class Bowl(ss.Quadratic):
    def __init__(self):
        super().__init__([1.0], [1.0])

    def make_kernel(self, batch_size, sampling, dtype):
        return Shifted(np.float64(batch_size))


def test_a_problem_may_bring_its_own_kernel(assert_within_sigma):
    result = ss.simulate(Bowl(), ss.SGD(0.5), batch_size=3, chains=512, steps=200, burn_in=20)
    assert_within_sigma(result.mean, 3.0, result.mean_stderr)
    assert ss.predict(Bowl(), ss.SGD(0.5), batch_size=3).covariance.shape == (1, 1)


def test_a_loss_that_stops_to_exist_is_not_ok():
    """Its gradient is that of a square, so the weights settle; beyond 1/2 its value is not a number."""

    def loss(w, x, y):
        return 0.5 * ((w - x) ** 2).sum() + jax.lax.stop_gradient(0 * jnp.log(0.5 - w[0]))

    problem = ss.FromLoss(loss, X + np.array([3.0, 0.0]), Y, start=[0.0, 0.0])
    how = {"batch_size": 4, "chains": 50, "steps": 60, "progress": False}
    result = ss.simulate(problem, ss.SGD(0.2), **how, burn_in=30)
    assert result.status == "loss is not finite" and result.diverged == 0 and np.isnan(result.train_loss)
    assert np.isfinite(result.covariance).all()
    report = ss.compare(result, {"train_loss": 1.0, "covariance": np.eye(2)})
    assert {row.verdict for row in report.rows} == {"out of regime"}
