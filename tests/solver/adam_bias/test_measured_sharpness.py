"""Measured pulls: the exact one-dimensional average where there is one, the definition by hand on a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import sgdsim as ss
from sgdsim.solver.adam_bias import adam_sharpness_coefficient, measured_sharpness_coefficient, memoryless

RNG = np.random.default_rng(0)
Z = RNG.normal(size=2000)
Z = (Z - Z.mean()) / Z.std()


def test_one_dimension(assert_within_sigma):
    """|g| = 1, Hessian 1, nearly Gaussian batches at a noise ratio of 1/2: the average that a recursion has."""
    b1, b2, ratio, b = 0.5, 0.9, 0.5, 16
    line = ss.DatasetRegression(np.ones((2000, 1)), Z * np.sqrt(ratio * b))
    found = measured_sharpness_coefficient(line, [1.0], ss.Adam(0.1, b1=b1, b2=b2), b, orders=24_000, steps=80)
    exact = adam_sharpness_coefficient(b1, b2, ratio, "monte_carlo", chains=2048)
    error = np.hypot(found.stderr, exact.stderr)
    assert error < 0.004 * abs(exact)
    assert_within_sigma(found.coefficient, exact, error)
    with pytest.raises(AssertionError):
        assert_within_sigma(found.coefficient, 1.03 * exact, error)
    np.testing.assert_allclose(found.noise_ratio, ratio, rtol=1e-12)
    assert found.correlation < -0.999


@pytest.mark.slow
def test_the_regression_by_hand():
    """Two points of a network, a batch of all examples drawn once: x, y and the slope from their definitions."""
    x = RNG.normal(size=(5, 2))
    problem = ss.FlaxNetwork(nn.Sequential([nn.Dense(2), nn.tanh, nn.Dense(1)]), x, np.sin(x[:, 0]))
    points = problem.random_start(seed=1, chains=2)
    adam = ss.Adam(0.1, b1=0.5, b2=0.8)
    found = measured_sharpness_coefficient(problem, points, adam, 3, orders=1, steps=6, seed=4)
    rng, products = np.random.default_rng(4), []
    for w in points:
        rows = rng.integers(5, size=(1, 6, 3))
        pull = np.mean([memoryless(problem, adam, order).correction(w, 5) for order in rows], axis=0)
        with jax.enable_x64(True):
            g = np.asarray(jax.grad(problem.loss)(jnp.asarray(w)))
            slope = np.asarray(problem.hessian(w)) @ np.sign(g)
        products.append([slope @ (np.abs(g) * pull), slope @ slope])
    one, two = np.array(products)
    assert found.coefficient == pytest.approx((one + two)[0] / (one + two)[1], rel=1e-9)
    # the jackknife over two points: half the difference of what each of them says
    assert found.stderr == pytest.approx(abs(one[0] / one[1] - two[0] / two[1]) / 2, rel=1e-9)


@pytest.mark.parametrize(("change", "says"), [
    ({"w": [1.0, 2.0]}, "w is"),
    ({"optimizer": ss.SGD(0.1)}, "optimizer is"),
    ({"batch_size": 0}, "batch_size"),
    ({"orders": 3}, "orders"),
    ({"steps": 1}, "steps"),
    ({"problem": ss.Quadratic([1.0], [1.0])}, "batches"),
])
def test_bad_input(change, says):
    line = ss.DatasetRegression(np.ones((9, 1)), Z[:9])
    settings = {"problem": line, "w": [1.0], "optimizer": ss.Adam(0.1), "batch_size": 2} | change
    with pytest.raises(ValueError, match=says):
        measured_sharpness_coefficient(**settings)
