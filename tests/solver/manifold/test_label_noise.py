"""Label noise: regulariser, fluctuations and slow motion against Lyapunov equations, finite differences, references."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import integrate, linalg

import sgdsim as ss
from sgdsim.solver.manifold import (
    label_flip_constants,
    label_noise_covariance,
    label_noise_flow,
    label_noise_gradient,
    label_noise_regularizer,
    label_noise_strength,
    normalized_covariance,
    phase_drift,
    potential_gradient,
    regularized_loss,
    slow_ode,
)

data = np.random.default_rng(5)
FACTOR = data.normal(size=(5, 3))
SINGULAR = FACTOR @ FACTOR.T / 5  # rank 3 of 5
TOP = float(np.linalg.eigvalsh(SINGULAR)[-1])
X = data.normal(size=(3, 2))
NET = ss.FlaxNetwork(nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(1)]), X, np.sin(X[:, 0]))


def valley(w):
    """Minima w[0] = 0, of curvature 1 + w[1]^2."""
    return 0.5 * (1 + w[1] ** 2) * w[0] ** 2


def heavy_ball_covariance(h, noise, rate, beta):
    """Stationary covariance of w on the range of h, by the block Lyapunov equation (233) of (w_k, w_{k-1})."""
    values, vectors = np.linalg.eigh(h)
    q = vectors[:, values > 1e-12 * values[-1]]
    d = q.shape[1]
    step = np.block([[(1 + beta) * np.eye(d) - rate * q.T @ h @ q, -beta * np.eye(d)], [np.eye(d), np.zeros((d, d))]])
    entering = linalg.block_diag(rate**2 * q.T @ noise @ q, np.zeros((d, d)))
    return q @ linalg.solve_discrete_lyapunov(step, entering)[:d, :d] @ q.T


@pytest.mark.parametrize(
    ("sharpness", "value"),
    [(0.5, 0.1438410362), (1.0, 0.3465735903), (1.5, 0.6931471806), (1.9, 1.4978661368), (1.99, 2.6491586833)],
)
def test_figure_1(sharpness, value):
    assert label_noise_regularizer([sharpness], 1.0) == pytest.approx(value, abs=5e-11)
    assert value > sharpness / 4


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_the_regularizer_is_the_trace_of_a_matrix_logarithm(beta):
    rate = 0.9 * 2 * (1 + beta) / TOP
    trace = np.trace(linalg.logm(np.eye(5) - rate / (2 * (1 + beta)) * SINGULAR)).real
    found = label_noise_regularizer(SINGULAR, rate, beta)
    assert found == pytest.approx(-(1 + beta) / (2 * rate) * trace, rel=1e-12)
    assert label_noise_regularizer(SINGULAR, 1e-9, beta) == pytest.approx(np.trace(SINGULAR) / 4, rel=1e-8)
    assert label_noise_regularizer(np.linalg.eigvalsh(SINGULAR), rate, beta) == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_the_fluctuations_solve_the_block_lyapunov_equation(beta):
    rate, sigma, batch = 0.8 * 2 * (1 + beta) / TOP, 0.3, 4
    exact = heavy_ball_covariance(SINGULAR, sigma**2 / batch * SINGULAR, rate, beta)
    found = label_noise_covariance(SINGULAR, rate, label_noise=sigma, batch_size=batch, momentum=beta)
    np.testing.assert_allclose(found, exact, rtol=1e-11, atol=1e-13)
    assert np.abs(1.03 * found - exact).max() > 0.02 * np.abs(exact).max()


@pytest.mark.parametrize("beta", [0.0, 0.6])
def test_arbitrary_noise_against_the_block_lyapunov_equation(beta, rng):
    a = rng.normal(size=(5, 5))
    noise, rate = a @ a.T, 0.7 * 2 * (1 + beta) / TOP
    strength = 0.01
    exact = heavy_ball_covariance(SINGULAR, strength * (1 - beta) / rate * noise, rate, beta)
    found = strength * normalized_covariance(SINGULAR, noise, rate, beta)
    np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-14)
    values, vectors = np.linalg.eigh(SINGULAR)
    law = vectors[:, 2:] @ np.diag(1 / (2 - rate / (1 + beta) * values[2:])) @ vectors[:, 2:].T
    np.testing.assert_allclose(normalized_covariance(SINGULAR, SINGULAR, rate, beta), law, rtol=1e-10, atol=1e-13)


def differences(function, w, step=1e-5):
    return np.array([(function(w + e) - function(w - e)) / (2 * step) for e in step * np.eye(len(w))])


@pytest.mark.parametrize("beta", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_gradients_are_those_of_finite_differences(beta):
    with jax.enable_x64(True):
        w = NET.random_start(seed=3, chains=1)[0]
        hessian = jax.jit(NET.hessian)  # of a general point: not semi-definite
        rate = 1.5 * (1 + beta) / float(np.linalg.eigvalsh(hessian(w))[-1])

        def r(v):
            h = np.linalg.eigvalsh(np.asarray(hessian(v)))
            return -(1 + beta) / (2 * rate) * np.log1p(-rate * h / (2 * (1 + beta))).sum()

        found = label_noise_gradient(NET, w, rate, beta)
        np.testing.assert_allclose(found, differences(r, w), rtol=1e-6, atol=1e-8)
        tilted = regularized_loss(NET, rate, label_noise=0.7, batch_size=2, momentum=beta)
        assert tilted.strength == label_noise_strength(rate, label_noise=0.7, batch_size=2, momentum=beta)
        assert tilted.value(w) == pytest.approx(float(NET.loss(w)) + tilted.strength * r(w), rel=1e-12)
        sum_of_both = np.asarray(NET.gradient(w)) + tilted.strength * found
        np.testing.assert_allclose(tilted.gradient(w), sum_of_both, atol=1e-12)
        covariance = np.linalg.inv(2 * np.eye(len(w)) - rate / (1 + beta) * np.asarray(hessian(w)))
        np.testing.assert_allclose(potential_gradient(NET, w, (covariance + covariance.T) / 2), found, rtol=1e-10,
                                   atol=1e-13)


def test_a_quadratic_has_nothing_to_regularize():
    bowl = ss.Quadratic([[1.0, 0.3], [0.3, 0.5]], [1.0, 1.0])
    np.testing.assert_array_equal(label_noise_gradient(bowl, [1.0, 2.0], 0.5), 0.0)


@pytest.mark.parametrize(
    ("loss", "constants"),
    [("logistic", (1.3862943611, 0.16, 0.16)), ("exponential", (0.6931471806, 1.0, 0.8)), ("square", (0.6, 0.64, 1.0))],
)
def test_label_flips_from_their_definition(loss, constants):
    np.testing.assert_allclose(label_flip_constants(loss, 0.2), constants, atol=5e-11)
    plain = {"logistic": lambda x: jnp.log1p(jnp.exp(-x)), "exponential": lambda x: jnp.exp(-x),
             "square": lambda x: 0.5 * (x - 1) ** 2}[loss]
    with jax.enable_x64(True):
        slope = jax.grad(plain)
        smoothed = jax.grad(lambda x, p: p * plain(-x) + (1 - p) * plain(x))
        derivatives = jax.jit(lambda c, p: (smoothed(c, p), jax.grad(smoothed)(c, p), slope(c) + slope(-c)))
        for p in (0.03, 0.2, 0.45, 0.5, 0.8):
            c, variance, alpha = label_flip_constants(loss, p)
            np.testing.assert_allclose(label_flip_constants(plain, p), (c, variance, alpha), rtol=1e-9, atol=1e-12)
            first, second, both = (float(x) for x in derivatives(c, p))
            assert first == pytest.approx(0.0, abs=1e-13) and alpha == pytest.approx(second, rel=1e-12)
            assert variance == pytest.approx(p * (1 - p) * both**2, rel=1e-12)


def test_a_loss_without_a_minimum_is_refused():
    with pytest.raises(ValueError, match=r"^loss is .*convex"):
        label_flip_constants(lambda x: -x, 0.2)


def test_label_flips_regularize_by_what_their_noise_does():
    """Noise of covariance sigma^2 G / B on a Hessian alpha G: half the third derivative along its fluctuations."""
    _, variance, alpha = label_flip_constants("logistic", 0.2)
    rate, batch, w = 0.5, 8, np.array([0.0, 1.3])

    def r(v):
        return label_noise_regularizer([1 + v[1] ** 2, 0.0], rate, curvature=alpha)

    fluctuation = heavy_ball_covariance(np.diag([1 + w[1] ** 2, 0.0]),
                                        variance / batch * np.diag([1 + w[1] ** 2, 0.0]) / alpha, rate, 0.0)
    np.testing.assert_allclose(potential_gradient(valley, w, fluctuation), rate * variance / batch * differences(r, w),
                               rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_the_flow_in_a_valley_by_quadrature(beta):
    """Dw/dtau = -w / (2 - eta (1 + w^2) / (1 + beta)), so tau = int (2 - eta (1+w^2)/(1+beta)) / w dw."""
    rate, times = 0.6 * (1 + beta), np.array([0.0, 0.5, 2.0])
    found = label_noise_flow(valley, [0.0, 1.2], times, learning_rate=rate, label_noise=1.0, momentum=beta)
    np.testing.assert_array_equal(found[:, 0], 0.0)
    for tau, w in zip(times, found[:, 1], strict=True):
        passed = integrate.quad(lambda u: (2 - rate / (1 + beta) * (1 + u**2)) / u, w, 1.2, epsabs=1e-12)[0]
        assert passed == pytest.approx(tau, abs=1e-7)


class Product(nn.Module):
    """The prediction x w_1 w_2."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", lambda _: jnp.array([2.5, 0.6]))
        return x * w[0] * w[1]


@pytest.mark.parametrize(("sampling", "batch"), [
    pytest.param("with_replacement", 1, marks=pytest.mark.slow), ("without_replacement", 2)])
def test_drawn_batches_on_a_hyperbola_by_quadrature(sampling, batch):
    """One example that is not 0 among three: 2 - eta h becomes 2 - eta h (1 + 2 f), f the factor of the sampling."""
    x, rate = np.sqrt([[3.0], [0.0], [0.0]]), 0.1
    problem = ss.FlaxNetwork(Product(), x, 1.5 * x)
    share = {"with_replacement": 1 / batch, "without_replacement": (3 - batch) / (2 * batch)}[sampling]
    times = np.array([0.0, 0.2, 0.6])
    found = label_noise_flow(problem, [2.5, 0.6], batch * times, learning_rate=rate, label_noise=1.0, batch_size=batch,
                             sampling=sampling)
    np.testing.assert_allclose(found[:, 0] * found[:, 1], 1.5, rtol=1e-6)

    def pace(s, share=share):
        """1 / |dw_1 / dtau| at w = (s, 1.5 / s): down h/2 along the curve, over 2 - eta h (1 + 2 f)."""
        tangent = np.array([1.0, -1.5 / s**2])
        downhill = 0.5 * (2 * s * tangent[0] + 2 * 1.5 / s * tangent[1]) / (tangent @ tangent)
        return (2 - rate * (s**2 + (1.5 / s) ** 2) * (1 + 2 * share)) / downhill

    for tau, w in zip(times[1:], found[1:, 0], strict=True):
        assert integrate.quad(pace, w, 2.5)[0] == pytest.approx(tau, rel=1e-6)
        assert abs(integrate.quad(pace, w, 2.5, args=(1.06 * share,))[0] / tau - 1) > 2e-3


def test_curvature_is_a_change_of_units():
    """A loss alpha/2 r^2 with slopes' noise sigma is 1/2 r^2 with sigma / alpha at alpha times the learning rate."""
    alpha, rate, sigma = 0.3, 0.2, 0.5
    x = np.array([[2**0.5], [0.3], [1.0]])
    plain = ss.FlaxNetwork(Product(), x, 1.5 * x)
    scaled = ss.FlaxNetwork(Product(), x, 1.5 * x, lambda f, y: 0.5 * alpha * jnp.sum((f - y) ** 2))
    w, how = [2.5, 0.6], {"batch_size": 2, "momentum": 0.4}
    here = {"label_noise": sigma, "curvature": alpha, **how}
    there = {"label_noise": sigma / alpha, **how}
    paths = [label_noise_flow(p, w, [40.0, 160.0], learning_rate=r, unit="steps", **settings)
             for p, r, settings in ((scaled, rate, here), (plain, alpha * rate, there))]
    np.testing.assert_allclose(*paths, rtol=1e-6)
    assert np.abs(paths[0][1] - w).max() > 0.03
    with jax.enable_x64(True):
        h = np.asarray(plain.hessian(jnp.asarray(w)))
    np.testing.assert_allclose(label_noise_covariance(alpha * h, rate, **here),
                               label_noise_covariance(h, alpha * rate, **there), rtol=1e-8, atol=1e-12)
    tilted, other = regularized_loss(scaled, rate, **here), regularized_loss(plain, alpha * rate, **there)
    v = np.array([2.4, 0.7])
    np.testing.assert_allclose(rate * tilted.gradient(v), alpha * rate * other.gradient(v), rtol=1e-6)
    assert rate * tilted.value(v) == pytest.approx(alpha * rate * other.value(v), rel=1e-6)
    slopes = [label_noise_gradient(scaled, v, rate, curvature=alpha), label_noise_gradient(plain, v, alpha * rate)]
    np.testing.assert_allclose(*slopes, rtol=1e-6)


@pytest.mark.parametrize("start", [(0.0, 0.0), (0.0, 0.3)])
def test_the_flow_does_not_ask_where_the_origin_is(start):
    """A valley along w1 = w2^2, and the same one moved by (5, 5)."""
    def valley(w):
        return 0.5 * (1 + w[1]) * (w[0] - w[1] ** 2) ** 2

    first = np.array([start[1] ** 2, start[1]])
    here, there = (label_noise_flow(lambda w, by=by: valley(w - by), first + by, [0.5, 1.0], learning_rate=1e-3,
                                    label_noise=1.0) - by for by in (0.0, 5.0))
    np.testing.assert_allclose(here, there, atol=1e-6)
    np.testing.assert_allclose(here[:, 0], here[:, 1] ** 2, atol=1e-6)
    assert np.abs(here[1] - first).max() > 0.05


@pytest.mark.parametrize("beta", [0.0, 0.6])
def test_the_flow_and_the_slow_equation_share_their_time(beta):
    """At a small learning rate both follow tr H / 4, with momentum, for any noise and batch, in time and in steps."""
    problem = ss.Ellipse(a=2.0, b=1.0, label_noise=0.5)
    start, rate, times = problem.point(1.0), 1e-5, [1.0, 8.0]
    path = slow_ode(problem, ss.SGD(rate, beta), start, times, batch_size=2)
    how = {"learning_rate": rate, "batch_size": 2, "momentum": beta}
    flow = label_noise_flow(problem, start, times, **how)
    np.testing.assert_allclose(problem.angle(flow.T), problem.angle(path.positions.T), atol=2e-5)
    assert np.ptp(problem.angle(flow.T)) > 0.1  # 3% more time would move it by far more than the tolerance
    np.testing.assert_allclose(label_noise_flow(problem, start, path.steps, unit="steps", **how), flow, atol=1e-9)
    louder = label_noise_flow(problem, start, times, label_noise=1.0, learning_rate=rate, momentum=beta, batch_size=8)
    np.testing.assert_allclose(louder, flow, atol=1e-9)


def test_descent_on_the_regularized_loss_tends_to_the_flow():
    """On a ring of minima the trajectory is off it by O(lambda), and so is its phase; with momentum too."""

    def ring(w):
        return 0.5 * (w[0] ** 2 + w[1] ** 2 - 1) ** 2 * (1 + 0.3 * w[0])

    def angle(path):
        return np.arctan2(path[:, 1], path[:, 0])

    start, rate, beta, tau = np.array([np.cos(0.4), np.sin(0.4)]), 0.15, 0.5, 0.4
    limit = angle(label_noise_flow(ring, start, [0.0, tau], learning_rate=rate, label_noise=1.0, momentum=beta))[-1]
    off = []
    for strength in (4e-3, 2e-3):
        sigma = math.sqrt(strength * (1 - beta) / rate)
        tilted = regularized_loss(ring, rate, label_noise=sigma, batch_size=1, momentum=beta)
        steps = round(tau * (1 - beta) / (rate * tilted.strength))
        path = tilted.descend(start, steps, every=steps)
        off.append(angle(path)[-1] - limit)
        assert abs(np.linalg.norm(path[-1]) - 1) < 2 * strength
    assert abs(limit - 0.4) > 0.05
    assert off[1] / off[0] == pytest.approx(0.5, abs=0.06) and abs(off[1]) < 0.01


def test_cycling_reference_numbers():
    toy = ss.CyclingToy()
    slow = phase_drift(toy, learning_rate=1e-5)
    assert slow.speed[0] / 1e-10 == pytest.approx(10 / 117, rel=1e-5)
    assert slow.speed[16] / 1e-10 == pytest.approx(0.0702494, rel=1e-5)
    assert slow.period * 1e-10 == pytest.approx(79.5243451, rel=3e-6)  # in the limit; 79.5124 at a rate of 0.001
    for rate, period in ((0.1, 7832), (0.05, 31570), (0.02, 198213)):
        law = phase_drift(toy, learning_rate=rate)
        assert round(law.period) == period
        quarter = law.phase([0.0, law.period / 4, law.period])
        np.testing.assert_allclose(quarter, [0.0, np.pi / 2, 2 * np.pi], atol=1e-6)
        np.testing.assert_allclose(np.diag(law.covariance[0])[2:], rate / 2 * np.array([1, 1 / 3, 0, 8 / 9]), rtol=0.05)


def test_the_speed_from_its_own_formula():
    """-eta/2 sum_i S_i dH_i/dphi, with H_i and Sigma_i written out (sheet B5), for a batch of 3 and momentum."""
    rate, beta, batch = 0.05, 0.5, 3
    law = phase_drift(ss.CyclingToy(), learning_rate=rate, momentum=beta, batch_size=batch)
    for k in (0, 5, 40, 100):
        p = law.phases[k]
        x, y = np.cos(p), np.sin(p)
        h = np.array([2 * (1 - y) ** 2 + (1 - x) ** 2, 2 * (1 + y) ** 2 + (1 + x) ** 2,
                      2 * (1 - x) ** 2 + (1 + y) ** 2, 2 * (1 + x) ** 2 + (1 - y) ** 2]) / 13
        noise = 2 / 13 / batch * np.array([(1 - y) ** 2, (1 + y) ** 2, (1 - x) ** 2, (1 + x) ** 2])
        s = rate * noise / ((1 - beta) * h * (2 - rate * h / (1 + beta)))
        slope = np.array([-4 * (1 - y) * x + 2 * (1 - x) * y, 4 * (1 + y) * x - 2 * (1 + x) * y,
                          4 * (1 - x) * y + 2 * (1 + y) * x, -4 * (1 + x) * y - 2 * (1 - y) * x]) / 13
        assert law.speed[k] == pytest.approx(-rate / (1 - beta) * 0.5 * s @ slope, rel=1e-10)


@pytest.mark.parametrize(
    ("call", "argument", "says"),
    [
        (lambda: regularized_loss(valley, 1.5, label_noise=1.0, batch_size=1).gradient([0.0, 1.0]), "learning_rate",
         "= 1.33333"),
        (lambda: regularized_loss(valley, 1.5, label_noise=1, batch_size=1).value([0.0, 1.0]), "learning_rate", "1.33"),
        (lambda: label_noise_gradient(valley, [0.0, 1.0], 1.5, 0.4), "learning_rate", "= 1.86667"),
        (lambda: label_noise_flow(valley, [0.0, 1.0], [1.0], learning_rate=1.0, label_noise=1.0), "learning_rate",
         "= 2;"),
        (lambda: label_noise_flow(valley, [0.5, 1.0], [1.0], learning_rate=0.1, label_noise=1.0), "initial",
         "manifold of minima"),
        (lambda: phase_drift(ss.CyclingToy(), lambda p: 1 + jnp.zeros(6) * p, learning_rate=0.1), "curve", "minima"),
        (lambda: phase_drift(ss.CyclingToy(), learning_rate=0.1, noise_covariance=lambda w: np.eye(6)),
         "noise_covariance", "normal"),
    ],
)  # fmt: skip
def test_what_only_a_computation_can_refuse(call, argument, says):
    with pytest.raises(ValueError, match=f"^{argument} is .*must be") as refused:
        call()
    assert says in str(refused.value)


# What the paper prints, and what is so.


def test_erratum_equation_13_has_the_wrong_sign():
    """As printed R would be negative and fall with the sharpness; the drift of the fluctuations is that of +R."""
    rate, beta, w = 0.5, 0.5, np.array([0.0, 1.0])

    def printed(v):
        return -label_noise_regularizer([1 + v[1] ** 2, 0.0], rate, beta)

    fluctuation = heavy_ball_covariance(np.diag([2.0, 0.0]), np.diag([2.0, 0.0]), rate, beta)
    drift = potential_gradient(valley, w, fluctuation)
    np.testing.assert_allclose(drift, -rate / (1 - beta) * differences(printed, w), rtol=1e-8, atol=1e-12)
    assert printed(w) < 0 and printed(np.array([0.0, 1.5])) < printed(w) and drift[1] > 0


def test_erratum_section_5_3_counts_lambda_twice_and_misses_a_half():
    """The mean slope w_1 E w_0^2 of the valley is known without any expansion; S of (174) is its lambda S."""
    rate, strength, w = 0.5, 0.01, np.array([0.0, 1.0])
    curvature = 1 + w[1] ** 2
    variance = rate * strength * 3.0 / (1 - (1 - rate * curvature) ** 2)  # of w_0 under noise N(0, eta lambda 3)
    s = normalized_covariance([curvature, 0.0], [3.0, 0.0], rate)
    assert strength * s[0, 0] == pytest.approx(variance, rel=1e-13)
    truth = w[1] * variance
    np.testing.assert_allclose(strength * potential_gradient(valley, w, s), [0, truth], rtol=1e-13)
    published = strength * 2 * potential_gradient(valley, w, strength * s)[1]  # lambda grad <S_paper, Hessian>
    assert published == pytest.approx(2 * strength * truth, rel=1e-12)


def test_erratum_section_6_1_is_off_by_four():
    """R / log(2/nu) tends to a quarter of the spectral norm."""
    ratios = []
    for nu in (1e-4, 1e-8, 1e-14):
        h = np.array([1.0, 0.4, 0.1])
        ratios.append(label_noise_regularizer(h, 2 - nu) / math.log(2 / nu))
    assert label_noise_regularizer([1.0], 2 - 1e-8) / math.log(2e8) == pytest.approx(0.25, rel=1e-6)
    assert ratios == sorted(ratios, reverse=True) and 0.25 < ratios[-1] < 0.27
    for rate in (1e-3, 1.0, 1.9):  # at a global minimum tr H is the mean square of the Jacobian
        assert 4 * label_noise_regularizer([1.0, 0.4, 0.1], rate) > 1.5
    assert label_noise_regularizer([1.0, 0.4, 0.1], 1.0) < 1.5


def test_erratum_equations_248_and_272():
    """A block covariance with the factor lambda of (248) does not solve (249): S-bar has that factor already."""
    rate, beta, strength, g = 0.3, 0.5, 0.01, 1.7
    a = np.array([[1 + beta - rate * g, -beta], [1.0, 0.0]])
    entering = np.diag([(1 - beta) * rate * strength * g, 0.0])
    s = strength / (2 - rate * g / (1 + beta))  # S-bar of Proposition 2 has the lambda
    off = (1 - rate * g / (1 + beta)) * s
    block = np.array([[s, off], [off, s]])
    np.testing.assert_allclose(a @ block @ a.T + entering, block, rtol=1e-12)
    assert np.abs(a @ (strength * block) @ a.T + entering - strength * block).max() > 0.1 * s
    # (272): the sum of A^j J lambda_i J' A'^j is lambda_i times that of s_j s_k, and (274) is what it comes to
    total = linalg.solve_discrete_lyapunov(a, np.diag([g, 0.0]))
    np.testing.assert_allclose(total[0, 0], 1 / (rate * (1 - beta) * (2 - rate * g / (1 + beta))), rtol=1e-12)


def test_regularizer_of_any_symmetric_hessian():
    """Asymmetry of float32's size is rounding; the formula stands for negative eigenvalues."""
    rough = np.array([[1.0, 6e-8], [0.0, 0.5]], np.float32)
    assert label_noise_regularizer(rough, 0.1) == pytest.approx(label_noise_regularizer([1.0, 0.5], 0.1), rel=1e-7)
    known = -(math.log(1 - 0.05) + math.log(1 + 0.005)) / 0.2
    assert label_noise_regularizer(np.diag([1.0, -0.1]), 0.1) == pytest.approx(known, rel=1e-12)
    with pytest.raises(ValueError, match="symmetric"):
        label_noise_regularizer(np.array([[1.0, 1e-3], [0.0, 0.5]]), 0.1)
