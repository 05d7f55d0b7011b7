"""The self-consistent preconditioner against equations written out here, and its correction against enumeration."""

import itertools

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import brentq

import sgdsim as ss
from sgdsim.solver import predict
from sgdsim.solver.laws import law_of
from sgdsim.solver.noise.factor import NoiseFactor, factor_of
from sgdsim.solver.stationary import adaptive_law

A = np.array([[1.0, 0.3, 0.1], [0.3, 0.5, -0.2], [0.1, -0.2, 0.7]])
C = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, 0.3], [0.0, 0.3, 0.4]])
RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(6, 2)), RNG.normal(size=6)
GAUSSIAN = ss.LinearRegression(A, [1.0, -1.0, 0.5], label_noise=0.5)


def whole_state(h, c, rate, b1, d):
    """Sigma from the Lyapunov equation of (w, m), written from the update rule."""
    n = len(h)
    new_m = np.hstack([(1 - b1) * h, b1 * np.eye(n)])
    step = np.vstack([np.hstack([np.eye(n), np.zeros((n, n))]) - rate * d[:, None] * new_m, new_m])
    enter = (1 - b1) * np.vstack([-rate * np.diag(d), np.eye(n)])
    return solve_discrete_lyapunov(step, enter @ c @ enter.T)[:n, :n]


@pytest.mark.parametrize("b1", [0.0, 0.9])
@pytest.mark.parametrize(("eps", "root"), [(1e-8, 0.0), (0.0, 0.04), (0.3, 0.0)])
def test_mean_field_of_additive_noise(b1, eps, root):
    law = adaptive_law(ss.Quadratic(A, C), ss.Adam(0.1, b1, 0.99, eps, root), batch_size=4, corrected=False)
    v = np.diag(A @ law.covariance @ A + C / 4)
    np.testing.assert_allclose(law.second_moment, v, rtol=1e-11)
    np.testing.assert_allclose(law.preconditioner, 1 / (np.sqrt(v + root) + eps), rtol=1e-11)
    np.testing.assert_allclose(law.covariance, whole_state(A, C / 4, 0.1, b1, law.preconditioner), rtol=1e-10)
    other = adaptive_law(ss.Quadratic(A, C), ss.Adam(0.103, b1, 0.99, eps, root), batch_size=4, corrected=False)
    assert np.abs(np.diag(other.covariance) / np.diag(law.covariance) - 1).min() > 0.01


@pytest.mark.parametrize("b1", [0.0, 0.9])
def test_mean_field_of_regression(b1):
    """Multiplicative noise: Sigma(S) = (sigma^2 C + C S C + tr(C S) C) / b."""
    law = adaptive_law(GAUSSIAN, ss.Adam(0.05, b1), batch_size=2, corrected=False)
    s = law.covariance
    c = (0.25 * A + A @ s @ A + np.trace(A @ s) * A) / 2
    np.testing.assert_allclose(law.noise_covariance, c, rtol=1e-11)
    d = 1 / (np.sqrt(np.diag(A @ s @ A + c)) + 1e-8)
    np.testing.assert_allclose(s, whole_state(A, c, 0.05, b1, d), rtol=1e-9)


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9])
def test_closed_form_of_label_noise(b1):
    """C6 of the theory sheet, noise alpha H: S = D^1/2 eta alpha (2 - eta (1-b1)/(1+b1) D^1/2 H D^1/2)^-1 D^1/2."""
    alpha, rate = 0.25, 0.2
    law = adaptive_law(ss.Quadratic(A, alpha * A), ss.Adam(rate, b1), batch_size=1, corrected=False)
    root = np.diag(np.sqrt(law.preconditioner))
    middle = 2 * np.eye(3) - rate * (1 - b1) / (1 + b1) * root @ A @ root
    np.testing.assert_allclose(law.covariance, root @ np.linalg.inv(middle) @ root * rate * alpha, rtol=1e-10)


def test_one_dimension_by_hand():
    """S = eta D C / (h (2 - eta D h)), v = h^2 S + C, D = 1/sqrt(v): one unknown."""
    h, c, rate = 2.0, 3.0, 0.4

    def sigma(v):
        return rate * c / (np.sqrt(v) * h * (2 - rate * h / np.sqrt(v)))

    v = brentq(lambda v: v - h**2 * sigma(v) - c, 1.0, 100.0, xtol=1e-14)
    law = adaptive_law(ss.Quadratic([h], [c]), ss.RMSProp(rate, eps=0), batch_size=1, corrected=False)
    assert law.covariance[0, 0] == pytest.approx(sigma(v), rel=1e-11)


@pytest.mark.parametrize(("rate", "b1", "slope"), [(1e-4, 0.0, 5 / 8 - 1), (1e-3, 0.9, None)])
def test_first_correction_of_slow_weights_is_that_of_the_sheet(rate, b1, slope):
    """S / S_MF = 1 + tau (5/8 - k1), k1 = (1-b1)/(1-b1 b2), as tau -> 0 with eta h / sqrt(v) << tau << 1 - b1."""
    tau = 1e-2
    law, flat = (adaptive_law(ss.Quadratic([1.0], [1.0]), ss.Adam(rate * 0.1, b1, 1 - tau), batch_size=1, corrected=c)
                 for c in (True, False))  # fmt: skip
    found = (law.covariance[0, 0] / flat.covariance[0, 0] - 1) / tau
    k1 = (1 - b1) / (1 - b1 * (1 - tau))
    assert found == pytest.approx(5 / 8 - k1 if slope is None else slope, abs=0.02)


def test_the_correction_is_of_first_order():
    def change(b2):
        laws = [adaptive_law(GAUSSIAN, ss.Adam(0.05, 0.0, b2), batch_size=4, corrected=c) for c in (True, False)]
        return np.trace(laws[0].covariance) / np.trace(laws[1].covariance) - 1

    assert change(0.999) / change(0.9995) == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("b1", [0.0, 0.9])
def test_exponent_zero_is_exactly_sgd(b1):
    adam_e = predict(GAUSSIAN, ss.AdamE(0.2, b1, 0.9, 0.0, exponent=0.0), batch_size=4)
    sgd = predict(GAUSSIAN, ss.SGD(0.2 * (1 - b1), b1), batch_size=4)
    assert adam_e.theory_error == 0 and not adam_e.out_of_regime
    for name in ("mean", "covariance", "noise_covariance", "train_loss", "test_loss"):
        np.testing.assert_allclose(getattr(adam_e, name), getattr(sgd, name), rtol=1e-9, atol=1e-14)
    assert adam_e.max_learning_rate * (1 - b1) == pytest.approx(sgd.max_learning_rate, rel=1e-10)


def test_relatives_of_adam_coincide_where_they_should():
    reference = predict(GAUSSIAN, ss.Adam(0.05), batch_size=4)
    same = [ss.Adam(0.05, bias_correction=False), ss.AdamE(0.05), ss.AdamMini(0.05, [[2], [0], [1]]),
            ss.Adalayer(0.05, [1, 1, 1]),
            ss.AdaptiveGradient(0.05, b1=0.9, S=lambda v: 1 / (v**0.5 + 1e-8))]  # fmt: skip
    for optimizer in same:
        law = predict(GAUSSIAN, optimizer, batch_size=4)
        np.testing.assert_allclose(law.covariance, reference.covariance, rtol=1e-9)
        assert law.theory_error == pytest.approx(reference.theory_error, rel=1e-6)
    one = adaptive_law(GAUSSIAN, ss.AdamMini(0.05, [[0, 2], [1]]), batch_size=4)
    assert one.second_moment[0] == pytest.approx(one.second_moment[2], rel=1e-12)


@pytest.mark.parametrize("mode", ["with_replacement", "without_replacement"])
@pytest.mark.parametrize("b", [1, 3, 5])
def test_cumulants_of_a_data_set_against_every_batch(oracles, mode, b):
    if mode == "with_replacement" and b == 5:
        b = 2
    problem = ss.DatasetRegression(X, Y)
    batches = oracles.batches(len(X), b, mode)

    def by_enumeration(w):
        g = np.array([X[list(i)].T @ (X[list(i)] @ w - Y[list(i)]) / b for i in batches])
        g = g - g.mean(axis=0)
        c = g.T @ g / len(g)
        pairs = np.diag(c)[:, None, None] * c + 2 * c[:, :, None] * c[:, None, :]
        third = np.einsum("ni,na->ia", g**2, g) / len(g)
        return np.diag(c), third, np.einsum("ni,na,nb->iab", g**2, g, g) / len(g) - pairs

    w, step = problem.minimum, 1e-4
    known = law_of(problem).averaged_noise(w, b, factor_of(problem, mode)).cumulants(np.zeros((2, 2)))
    _, third, fourth = by_enumeration(w)
    sides = [(by_enumeration(w + step * e), by_enumeration(w - step * e)) for e in np.eye(2)]
    np.testing.assert_allclose(known.third, third, atol=1e-15)
    np.testing.assert_allclose(known.fourth, fourth, atol=1e-15)
    np.testing.assert_allclose(known.variance_slope,
                               np.stack([(u[0] - l[0]) / 2 / step for u, l in sides], -1), atol=1e-9)
    np.testing.assert_allclose(known.third_slope,
                               np.stack([(u[1] - l[1]) / 2 / step for u, l in sides], -1), atol=1e-7)
    bend = np.stack([(u[0] - 2 * known_ + l[0]) / 2 / step**2
                     for (u, l), known_ in zip(sides, [by_enumeration(w)[0]] * 2, strict=True)], -1)  # fmt: skip
    np.testing.assert_allclose(np.einsum("icc->ic", known.variance_curvature), bend, atol=1e-6)


def test_cumulants_of_gaussian_inputs_by_quadrature():
    """Gauss-Hermite in two inputs and the label noise is exact for the eighth moments."""
    k, d, s = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([0.4, -0.7]), 0.5
    problem = ss.LinearRegression(k, np.zeros(2), label_noise=s)
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    grid = np.array(list(itertools.product(nodes, repeat=3)))
    weight = np.prod(list(itertools.product(weights, repeat=3)), axis=1) / np.sqrt(2 * np.pi) ** 3

    def by_quadrature(d, b):
        x = grid[:, :2] @ np.linalg.cholesky(k).T
        g = x * (x @ d + s * grid[:, 2])[:, None]
        g = g - weight @ g
        c = (weight[:, None] * g).T @ g
        pairs = np.diag(c)[:, None, None] * c + 2 * c[:, :, None] * c[:, None, :]
        third = np.einsum("n,ni,na->ia", weight, g**2, g) / b**2
        return np.diag(c) / b, third, (np.einsum("n,ni,na,nb->iab", weight, g**2, g, g) - pairs) / b**3

    for b in (1, 3):
        known = law_of(problem).averaged_noise(d, b, NoiseFactor()).cumulants(np.zeros((2, 2)))
        _, third, fourth = by_quadrature(d, b)
        np.testing.assert_allclose(known.third, third, rtol=1e-10)
        np.testing.assert_allclose(known.fourth, fourth, rtol=1e-10)
        sides = [(by_quadrature(d + 1e-4 * e, b), by_quadrature(d - 1e-4 * e, b)) for e in np.eye(2)]
        for found, i in ((known.variance_slope, 0), (known.third_slope, 1)):
            np.testing.assert_allclose(found, np.stack([(u[i] - l[i]) / 2e-4 for u, l in sides], -1), atol=1e-6)


def test_no_limit_and_out_of_regime():
    law = predict(GAUSSIAN, ss.Adam(0.05), batch_size=4)
    assert law.max_learning_rate == np.inf and 0.999 <= law.spectral_radius < 1
    assert law.approximation == "first correction" and not law.out_of_regime and law.theory_error < 1e-3
    assert "relative variance" in law.regime
    for optimizer in (ss.Adam(0.05, b2=0.5), ss.Adam(3.0)):
        beyond = predict(GAUSSIAN, optimizer, batch_size=4)
        assert "regime" in beyond.out_of_regime and np.isfinite(beyond.covariance).all()


def test_mean_field_states_its_larger_error():
    best, flat = (predict(GAUSSIAN, ss.Adam(0.05, 0.0, 0.99), batch_size=4, approximation=name)
                  for name in ("exact", "mean_field"))  # fmt: skip
    assert flat.approximation == "mean field" and 0.005 < flat.theory_error < 0.05
    change = np.abs(np.diag(flat.covariance) / np.diag(best.covariance) - 1).max()
    assert best.theory_error < change < flat.theory_error


def test_losses_are_those_of_the_moments():
    problem = ss.DatasetRegression(X, Y, weight_decay=0.1)
    law = predict(problem, ss.Adam(0.05, b2=0.99), batch_size=2)
    pull = law.mean - problem.minimum
    assert np.abs(pull).max() > 1e-5  # skewed noise moves the mean
    expected = problem.loss(law.mean) + np.sum(problem.hessian() * law.covariance) / 2
    assert law.train_loss == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("problem", "optimizer", "options", "message"),
    [
        (GAUSSIAN, ss.Adam(lambda step: 0.1), {}, "constant rate"),
        (ss.DatasetRegression(X, Y), ss.Adam(0.1), {"sampling": "epochs"}, "epochs"),
    ],
)
def test_refusals(problem, optimizer, options, message):
    with pytest.raises(NotImplementedError, match=message):
        predict(problem, optimizer, batch_size=1, **options)
    with pytest.raises(NotImplementedError, match="SGD"):
        adaptive_law(GAUSSIAN, ss.SGD(0.1), batch_size=1)


@ss.spec
class CubeRoot:
    """A user's own adaptive method: v^(-1/3), the second moment common to all parameters."""

    learning_rate: float
    b2: float = 0.99
    b1 = None
    bias_correction = False

    def V(self, squares):
        return 0 * squares + squares.mean(axis=0)

    def S(self, v):
        return (v + 1e-3) ** (-1 / 3)

    def as_optax(self, problem=None):
        return ss.AdaptiveGradient(self.learning_rate, self.V, self.S, b2=self.b2).as_optax()


def test_an_adaptive_method_of_the_user_has_theory_too():
    """In mean field: E v from the moments it leads to, written out here."""
    own, b = CubeRoot(0.02), 4
    law = adaptive_law(GAUSSIAN, own, batch_size=b, corrected=False)
    v = law.second_moment
    assert np.ptp(v) == 0
    sigma = whole_state(A, law.noise_covariance, 0.02, 0.0, own.S(v))
    np.testing.assert_allclose(law.covariance, sigma, rtol=1e-6)
    np.testing.assert_allclose(v, np.mean(np.diag(A @ sigma @ A + law.noise_covariance)), rtol=1e-6)
    assert np.isfinite(predict(GAUSSIAN, own, batch_size=b).test_loss)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(v, 1.03 * np.mean(np.diag(A @ sigma @ A + law.noise_covariance)), rtol=1e-6)
