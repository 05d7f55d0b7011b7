"""The two parts of a Hessian, from their definitions; and the sharpness of an optimizer against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import sgdsim as ss
from sgdsim.solver.manifold import gauss_newton, sharpness, slow_fixed_point

RNG = np.random.default_rng(2)
X = RNG.normal(size=(5, 2))
MODULE = nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(2)])


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_a_network(loss):
    """E is the mean of l'(f_i) against the second derivatives of the outputs; H is their sum."""
    targets = RNG.normal(size=(5, 2)) if loss == "mse" else RNG.integers(0, 2, 5)
    problem = ss.FlaxNetwork(MODULE, X, targets, loss, weight_decay=0.1)
    with jax.enable_x64(True):
        w = jnp.asarray(problem.random_start(seed=1, chains=1)[0])
        outputs = [problem.network.predict(w, X[i : i + 1])[0] for i in range(5)]
        bends = jax.jit(jax.hessian(lambda v: problem.network.predict(v, jnp.asarray(X))))(w)
        prob = [jax.nn.softmax(f) for f in outputs]
        slope = [f - t for f, t in zip(outputs, targets, strict=True)] if loss == "mse" else [
            p - jnp.eye(2)[t] for p, t in zip(prob, targets, strict=True)]
        rest = sum(np.einsum("k,kij->ij", s, b) for s, b in zip(slope, bends, strict=True)) / 5 + 0.1 * np.eye(len(w))
        g, e = gauss_newton(problem, w)
        np.testing.assert_allclose(e, rest, atol=1e-12)
        np.testing.assert_allclose(g + e, np.asarray(problem.hessian(w)), atol=1e-12)
    assert np.linalg.eigvalsh(g)[0] > -1e-12 < np.abs(e - 0.1 * np.eye(len(w))).max()


def test_residuals_and_data():
    problem = ss.DiagonalNetwork(X, teacher=[1.0, 0.0])
    w = np.array([0.5, 1.0, -0.3, 0.2])
    g, e = gauss_newton(problem, w)
    slopes = np.hstack([2 * X * w[:2], -2 * X * w[2:]])
    np.testing.assert_allclose(g, slopes.T @ slopes / 5, rtol=1e-12)
    np.testing.assert_allclose(g + e, problem.hessian(w), rtol=1e-12)
    data = ss.DatasetRegression(X, X[:, 0], weight_decay=0.2)
    g, e = gauss_newton(data, [1.0, 2.0])
    np.testing.assert_allclose(g, X.T @ X / 5, rtol=1e-12)
    np.testing.assert_allclose(e, 0.2 * np.eye(2), atol=1e-14)


def test_sharpness_in_closed_form():
    problem, alpha = ss.Ellipse(a=2.0, b=1.0), 0.25
    w = problem.point(0.7)
    h = np.diag(problem.hessian(w))
    root, eps = np.sqrt(alpha * h), 0.3
    cases = [
        (ss.SGD(0.1), h.sum()),
        (ss.SGD(0.1, preconditioner=[1.0, 3.0]), h @ [1.0, 3.0]),
        (ss.Adam(0.1, eps=0.0), 2 / np.sqrt(alpha) * np.sqrt(h).sum()),
        (ss.Adam(0.1, eps=eps), 2 / alpha * np.sum(root - eps * np.log1p(root / eps))),
        (ss.AdamE(0.1, exponent=0.75, eps=0.0), alpha**-0.75 / 0.25 * np.sum(h**0.25)),
    ]
    for optimizer, value in cases:
        assert sharpness(problem, w, optimizer) == pytest.approx(value, rel=1e-6)
    v = np.array([0.4, 0.1])
    assert sharpness(problem, w, ss.Adam(0.1, eps=0.1), second_moment=v) == pytest.approx(h @ (1 / (np.sqrt(v) + 0.1)))
    # the end of the slow dynamics is a minimum of it along the ellipse
    adam = ss.Adam(0.1, eps=0.1)
    end = problem.angle(slow_fixed_point(problem, adam, problem.point(1.0)))
    least = sharpness(problem, problem.point(end), adam)
    assert all(sharpness(problem, problem.point(end + s), adam) > least for s in (-0.05, 0.05))
    with pytest.raises(NotImplementedError, match="second_moment"):
        sharpness(problem, w, ss.AdamMini(0.1, blocks=[[0, 1]]))


def test_erratum_proposition_1():
    """The rest E of a quadratic prediction is rho_f |r|, above the printed root."""
    problem = ss.FlaxNetwork(Parabola(), [[1.0]], [[1.5]], start=[1.0])  # f = 2 w^2 = 2
    with jax.enable_x64(True):
        _, e = gauss_newton(problem, [1.0])
        loss = float(problem.loss(jnp.asarray([1.0])))
    assert loss == pytest.approx(0.125)
    assert abs(e[0, 0]) == pytest.approx(4 * np.sqrt(2 * loss), rel=1e-6)
    assert abs(e[0, 0]) > 1.9 * np.sqrt(2 * 4 * loss)


class Parabola(nn.Module):
    """The prediction 2 w^2 x."""

    @nn.compact
    def __call__(self, x):
        return 2 * self.param("w", lambda _: jnp.ones(1)) ** 2 * x


def test_erratum_equation_33():
    """The square of the noise of a batch of one example twice, against n eta lambda G."""
    slopes, rate, sigma, b = np.array([[1.0, 0.0], [0.0, 1.0]]), 0.1, 0.5, 2
    bound = 2 * rate * (rate * sigma**2 / b) * slopes.T @ slopes / 2
    twice, different = (rate / b * sigma * slopes[list(rows)].sum(axis=0) for rows in ((0, 0), (0, 1)))
    assert np.linalg.eigvalsh(bound - np.outer(twice, twice))[0] < -0.9 * rate**2 * sigma**2 / b
    assert np.linalg.eigvalsh(b * bound - np.outer(twice, twice))[0] > -1e-15
    assert np.linalg.eigvalsh(bound - np.outer(different, different))[0] > -1e-15


def test_erratum_assumption_c_5():
    """The slope of Adam's S at the smallest v, by automatic differentiation."""
    with jax.enable_x64(True):
        slope = jax.grad(lambda v: ss.Adam(0.1, eps=0.1).S(v[None])[0])
        found = [float(slope(jnp.asarray(v))) for v in (1e-8, 1e-12)]
    assert found[1] == pytest.approx(-5.0e7, rel=1e-3)
    assert found[1] / found[0] == pytest.approx(100, rel=0.01)  # like v^-1/2, without a bound


@pytest.mark.parametrize("d", [4, 100])
def test_erratum_frobenius_norm(d):
    away = np.random.default_rng(d).normal(size=d)
    ratio = np.linalg.norm(away @ away * np.eye(d)) / np.linalg.norm(np.outer(away, away))
    assert ratio == pytest.approx(np.sqrt(d))
