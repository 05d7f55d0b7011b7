"""Slow dynamics along the minima: projections, paths against a one-dimensional reduction, fixed points, any noise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.integrate import solve_ivp

import sgdsim as ss
from sgdsim.solver.manifold import (
    flow_to_minimum,
    slow_coefficients,
    slow_fixed_point,
    slow_ode,
    slow_sde,
    tangent_projection,
)
from sgdsim.solver.manifold.slow_charts import Ambient, LogSizes
from sgdsim.solver.manifold.slow_setting import slow_setting

ELLIPSE = ss.Ellipse(a=2.0, b=1.0)
ALPHA, START = 0.25, 1.0
SENSING = ss.MatrixFactorization.random(size=2, rank=1, examples=3, seed=3)
ON_SENSING = SENSING.minimum + 0.0
SCALES = {2: [1.0, 3.0], 8: [1.0, 3.0, 0.5, 2.0, 1.0, 0.7, 1.5, 0.2]}
MATRIX = [[1.0, 0.3], [0.3, 2.0]]


def norms(f):
    """h_1, h_2 of the ellipse at an angle: the squares of the gradient of f, written out by hand."""
    u, v = 2.0 * np.cos(f), 1.0 * np.sin(f)  # along and across the diagonal
    along, across = u * np.sqrt(2) / 4.0, v * np.sqrt(2) / 1.0
    return np.array([(along + across) ** 2, (along - across) ** 2])


def tangent(f):
    """The derivative of the point with respect to the angle."""
    du, dv = -2.0 * np.sin(f), np.cos(f)
    return np.array([du + dv, du - dv]) / np.sqrt(2)


def reduced(S, V, c, v0, times, corrected=False):
    """(angle, v) of the ellipse: with one tangent direction tau the drift is -alpha/4 sum S_i h_i' / tau' S^-1 tau."""

    def velocity(t, state):
        f, v = state[0], state[1:]
        s = S(v / -np.expm1(-c * t) if corrected else v)
        slope = (norms(f + 1e-5) - norms(f - 1e-5)) / 2e-5
        return [-ALPHA / 4 * (s @ slope) / (tangent(f) ** 2 / s).sum(), *(c * (V(ALPHA * norms(f)) - v))]

    start = 1e-8 if corrected else 0.0
    v = -np.expm1(-c * start) * np.asarray(v0) if corrected else v0
    return solve_ivp(velocity, (start, times[-1]), [START, *v], t_eval=times, rtol=1e-10, atol=1e-16).y


# name: (optimizer, S, V, v at 0 or None)
PATHS = {
    "sgd": (ss.SGD(0.05), lambda v: np.ones(2), lambda h: h, None),
    "sgd-diagonal": (ss.SGD(0.05, preconditioner=[1.0, 2.0]), lambda v: np.array([1.0, 2.0]), lambda h: h, None),
    "adam": (ss.Adam(0.01, b2=0.999, bias_correction=False), lambda v: 1 / (np.sqrt(v) + 1e-8), lambda h: h, None),
    "adam-own-v": (ss.Adam(0.01, b2=0.998, eps=0.1), lambda v: 1 / (np.sqrt(v) + 0.1), lambda h: h, [0.5, 0.3]),
    "adam-corrected": (ss.Adam(0.01, b2=0.999), lambda v: 1 / (np.sqrt(v) + 1e-8), lambda h: h, None),
    "rmsprop": (ss.RMSProp(0.02, b2=0.998), lambda v: 1 / (np.sqrt(v) + 1e-8), lambda h: h, None),
    "adam-e": (ss.AdamE(0.01, exponent=0.25, bias_correction=False), lambda v: 1 / (v**0.25 + 1e-8), lambda h: h, None),
    "adam-mini": (ss.AdamMini(0.01, blocks=[[0, 1]], bias_correction=False), lambda v: 1 / (np.sqrt(v) + 1e-8),
                  lambda h: np.full(2, h.mean()), None),
    "ada-sgd": (ss.AdaSGD(0.01, bias_correction=False), lambda v: 1 / (np.sqrt(v) + 1e-8),
                lambda h: np.full(2, h.mean()), None),
    "adalayer": (ss.Adalayer(0.01, layers=[1, 1], bias_correction=False), lambda v: 1 / (np.sqrt(v) + 1e-8),
                 lambda h: h, None),
    "own": (ss.AdaptiveGradient(0.01, S=lambda v: 1 / (v + 0.01) ** 0.5), lambda v: 1 / (v + 0.01) ** 0.5,
            lambda h: h, None),
}  # fmt: skip


# --- projections


@pytest.mark.parametrize(("problem", "w"), [(ELLIPSE, ELLIPSE.point(0.7)), (SENSING, ON_SENSING)])
def test_the_projection_is_one_on_the_tangent_space_and_orthogonal_in_its_metric(problem, w):
    s = np.array(SCALES[problem.dimension])
    with jax.enable_x64(True):
        jacobian = np.asarray(problem.jacobian(jnp.asarray(w)))
    p = tangent_projection(problem, w, s)
    assert np.linalg.matrix_rank(p, tol=1e-8) == problem.dimension - len(jacobian)
    np.testing.assert_allclose(jacobian @ p, 0.0, atol=1e-10)
    np.testing.assert_allclose(p @ p, p, atol=1e-10)
    np.testing.assert_allclose(p @ (s[:, None] * jacobian.T), 0.0, atol=1e-10)
    np.testing.assert_allclose((p / s[:, None]).T, p / s[:, None], atol=1e-10)
    formula = np.eye(len(w)) - s[:, None] * jacobian.T @ np.linalg.inv(jacobian * s @ jacobian.T) @ jacobian
    np.testing.assert_allclose(p, formula, atol=1e-10)


@pytest.mark.parametrize("s", [None, [1.0, 3.0], MATRIX])
def test_it_is_the_derivative_of_the_flow(s):
    w = ELLIPSE.point(0.7)
    ends = [(flow_to_minimum(ELLIPSE, w + e, s) - flow_to_minimum(ELLIPSE, w - e, s)) / 2e-4 for e in 1e-4 * np.eye(2)]
    np.testing.assert_allclose(np.transpose(ends), tangent_projection(ELLIPSE, w, s), atol=1e-6)
    assert np.abs(np.transpose(ends) - tangent_projection(ELLIPSE, w, [1.0, 5.0])).max() > 0.03  # another metric


def test_the_flow_of_a_circle_is_straight():
    circle = ss.Ellipse(a=1.5, b=1.5)
    np.testing.assert_allclose(flow_to_minimum(circle, [0.3, 0.4]), [0.9, 1.2], atol=1e-9)


def test_the_flow_reaches_interpolation_from_afar():
    w = flow_to_minimum(SENSING, ON_SENSING + 0.3 * np.cos(np.arange(8.0)))
    assert np.abs(SENSING.residuals(w)).max() < 1e-10


# --- paths


@pytest.mark.parametrize("name", PATHS)
def test_paths_agree_with_the_one_dimensional_reduction(name):
    optimizer, S, V, v0 = PATHS[name]
    times = np.array([0.1, 0.4, 0.8])
    c = (1 - float(optimizer.b2)) / float(optimizer.learning_rate) ** 2 if hasattr(optimizer, "b2") else 1.0
    path = slow_ode(ELLIPSE, optimizer, ELLIPSE.point(START), times, second_moment=v0)
    start = V(ALPHA * norms(START)) if v0 is None else v0
    found = reduced(S, V, c, start, times, corrected=name == "adam-corrected")
    np.testing.assert_allclose([ELLIPSE.angle(w) for w in path.positions], found[0], atol=1e-7)
    if path.second_moment is not None and name != "adam-corrected":
        np.testing.assert_allclose(path.second_moment, found[1:].T, atol=1e-7)
    assert np.abs(path.loss).max() < 1e-12
    np.testing.assert_allclose(path.steps * path.times[0] / path.steps[0], path.times)
    if "sgd" not in name:  # v moves: freezing it shows
        frozen = reduced(S, V, 1e-6, start, times)
        assert np.abs(frozen[0] - found[0]).max() > 1e-4


def test_units_batches_and_momentum():
    start = ELLIPSE.point(START)
    path = slow_ode(ELLIPSE, ss.SGD(0.05), start, [0.0, 100.0, 400.0], unit="steps")
    np.testing.assert_allclose(path.times, [0.0, 0.25, 1.0])
    np.testing.assert_allclose(path.positions[0], start, atol=1e-12)
    heavy = slow_ode(ELLIPSE, ss.SGD(0.02, momentum=0.6), start, [100.0, 400.0], unit="steps")
    np.testing.assert_allclose(heavy.positions, path.positions[1:], atol=1e-9)
    larger = slow_ode(ELLIPSE, ss.SGD(0.05), start, [1.0, 4.0], batch_size=4)  # alpha is a quarter
    np.testing.assert_allclose(larger.positions, path.positions[1:], atol=1e-9)
    weaker = slow_ode(ELLIPSE, ss.SGD(0.05), start, [1.0, 4.0], label_noise=0.25)
    np.testing.assert_allclose(weaker.positions, path.positions[1:], atol=1e-9)
    plain, averaged = (slow_ode(ELLIPSE, ss.Adam(0.01, b1=b1), start, [0.5]) for b1 in (0.0, 0.9))
    np.testing.assert_array_equal(plain.positions, averaged.positions)


def test_a_matrix_learning_rate_moves_its_own_trace():
    """With S = P the dynamics is that of tr(P H) in the metric of P^-1."""
    p = np.array(MATRIX)
    path = slow_ode(ELLIPSE, ss.SGD(0.05, preconditioner=p), ELLIPSE.point(START), [1e-4])
    moved = (ELLIPSE.angle(path.positions[0]) - START) / 1e-4

    def trace(f):
        n = ELLIPSE.vjp(ELLIPSE.point(f), np.ones(1))
        return n @ p @ n

    expected = -ALPHA / 4 * (trace(START + 1e-5) - trace(START - 1e-5)) / 2e-5
    expected /= tangent(START) @ np.linalg.solve(p, tangent(START))
    np.testing.assert_allclose(moved, expected, rtol=1e-3)


def test_without_label_noise_in_the_problem_it_can_be_given():
    silent = ss.Ellipse(a=2.0, b=1.0, label_noise=0.0)
    path = slow_ode(silent, ss.SGD(0.05), silent.point(START), [1.0], label_noise=0.5)
    with_noise = slow_ode(ELLIPSE, ss.SGD(0.05), ELLIPSE.point(START), [1.0])
    np.testing.assert_allclose(path.positions, with_noise.positions, atol=1e-9)


# --- fixed points: section C3 of the sheet

FIXED = {
    "sgd": (ss.SGD(0.05), [1.41421, 1.41421]),
    "adam": (ss.Adam(0.01), [1.58114, 0.94868]),
    "adam eps .1": (ss.Adam(0.01, eps=0.1), [1.5193, 1.2619]),
    "adam eps 1": (ss.Adam(0.01, eps=1.0), [1.41421, 1.41421]),
    "adam-e .1": (ss.AdamE(0.01, exponent=0.1), [1.41421, 1.41421]),
    "adam-e .25": (ss.AdamE(0.01, exponent=0.25), [1.41421, 1.41421]),
    "adam-e .4": (ss.AdamE(0.01, exponent=0.4), [1.5704, 1.0897]),
    "adam-e .75": (ss.AdamE(0.01, exponent=0.75), [1.58114, 0.94868]),
    "adam-mini": (ss.AdamMini(0.01, blocks=[[0, 1]]), [1.41421, 1.41421]),
}


@pytest.mark.parametrize("name", FIXED)
def test_fixed_points_of_the_sheet(name):
    optimizer, expected = FIXED[name]
    for start in (1.0, 0.1):
        found = slow_fixed_point(ELLIPSE, optimizer, ELLIPSE.point(start))
        np.testing.assert_allclose(found, expected, atol=6e-5)


def test_logarithms_may_begin_at_zero():
    """Weights of size 1 and a teacher of 0: each decays by itself, like exp(-x^2 t / 2) at alpha = 1/4."""
    x = np.array([1.0, 2.0, -1.0])
    network = ss.DiagonalNetwork(x[None], teacher=[0.0, 0.0, 0.0])
    path = slow_ode(network, ss.SGD(0.01), np.ones(6), [0.5, 5.0], label_noise=0.5)
    np.testing.assert_allclose(path.positions, np.exp(-np.outer([0.5, 5.0], np.tile(x, 2) ** 2) / 2), rtol=1e-6)


def test_without_epsilon_the_end_is_the_limit_of_small_ones():
    """At a kink, where a second moment vanishes."""
    found = slow_fixed_point(ELLIPSE, ss.Adam(0.01, eps=0.0), ELLIPSE.point(1.0))
    np.testing.assert_allclose(found, np.sqrt([2.5, 0.9]), rtol=1e-9)


@pytest.mark.parametrize("eps", [0.03, 0.1, 0.3])
def test_they_are_the_minima_of_psi_by_brute_force(eps):
    angles = np.linspace(0.0, 1.2, 120_001)
    w = np.sqrt(ALPHA * norms(angles))
    best = angles[np.argmin((w - eps * np.log1p(w / eps)).sum(axis=0))]
    found = slow_fixed_point(ELLIPSE, ss.Adam(0.01, eps=eps), ELLIPSE.point(START))
    np.testing.assert_allclose(ELLIPSE.angle(found), best, atol=2e-5)
    assert abs(angles[np.argmin(w.sum(axis=0))] - best) > 0.01  # not the one of epsilon 0


@pytest.mark.parametrize("name", ["sgd", "adam eps .1", "adam-e .4", "adam"])
def test_paths_end_in_them(name):
    optimizer, _ = FIXED[name]
    time = 5.0 if name == "adam" else 150.0
    late = slow_ode(ELLIPSE, optimizer, ELLIPSE.point(START), [time]).positions[-1]
    found = slow_fixed_point(ELLIPSE, optimizer, late)
    np.testing.assert_allclose(late, found, atol=1e-4)
    assert np.abs(late - ELLIPSE.point(START)).max() > 0.05


def test_only_the_projected_gradient_vanishes():
    """Theorem 5.1 prints the gradient of the trace; at SGD's limit that is not 0, but normal to the manifold."""
    w = slow_fixed_point(ELLIPSE, ss.SGD(0.05), ELLIPSE.point(START))
    trace = lambda x: np.trace(ELLIPSE.hessian(x))  # noqa: E731
    slope = [(trace(w + e) - trace(w - e)) / 2e-4 for e in 1e-4 * np.eye(2)]
    assert np.linalg.norm(slope) > 0.4
    np.testing.assert_allclose(tangent_projection(ELLIPSE, w).T @ slope, 0.0, atol=1e-7)


def test_adam_ends_in_a_kink():
    """tr Diag(H)^{1/2} has one-sided slopes of opposite sign at Adam's limit: no gradient vanishes there."""
    angle = float(ELLIPSE.angle(np.array([1.5811388, 0.9486833])))
    psi = lambda f: np.sqrt(norms(f)).sum()  # noqa: E731
    left, right = (psi(angle) - psi(angle - 1e-5)) / 1e-5, (psi(angle + 1e-5) - psi(angle)) / 1e-5
    assert left < -0.1 < 0.1 < right
    np.testing.assert_allclose(norms(angle)[1], 0.0, atol=1e-12)


def test_a_flat_sensing_problem_is_flattened():
    start = flow_to_minimum(SENSING, ON_SENSING + 0.4 * np.sin(3.0 * np.arange(8.0)))
    end = slow_fixed_point(SENSING, ss.SGD(0.01), start)
    path = slow_ode(SENSING, ss.SGD(0.01), start, [0.0, 1.0, 5.0, 400.0])
    traces = [np.trace(SENSING.hessian(w)) for w in path.positions]
    assert np.all(np.diff(traces) < 0)
    np.testing.assert_allclose(traces[-1], np.trace(SENSING.hessian(end)), rtol=1e-6)
    assert np.abs(SENSING.residuals(end)).max() < 1e-10


def test_a_linear_network_goes_to_its_flattest_minimum():
    """Its tr H is known in closed form, and reached whatever the gauge of its layers."""
    problem = ss.TwoLayerLinear([[1.0, 0.5], [0.0, 1.0]], [[1.0, -1.0]], label_noise=0.3)
    start = flow_to_minimum(problem, problem.minimum + 0.3 * np.cos(np.arange(6.0)))
    path = slow_ode(problem, ss.SGD(0.05), start, [0.0, 1000.0])
    first, last = (np.trace(problem.hessian(w)) for w in path.positions)
    least = np.trace(problem.hessian(ss.solver.stationary.flattest_minimum(problem)))
    assert first > 1.5 * least
    np.testing.assert_allclose(last, least, rtol=1e-8)


@pytest.mark.slow
def test_a_neural_network_is_flattened():
    x = np.linspace(-1.0, 1.0, 3)[:, None]
    module = nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(1)])
    problem = ss.FlaxNetwork(module, x, np.array([0.5, -0.3, 0.4]), "mse", seed=1)
    start = flow_to_minimum(problem, problem.default_start)
    path = slow_ode(problem, ss.SGD(0.05), start, [0.0, 1.0, 5.0, 20.0], label_noise=0.5)
    traces = [np.trace(np.asarray(problem.hessian(w))) for w in path.positions]
    assert np.all(np.diff(traces) < -0.01)
    assert path.loss.max() < 1e-12


@pytest.mark.parametrize("examples", [4, 6])
def test_sensing_has_singular_minima(examples):
    """The 3 x 3 matrices of rank 1 have 5 dimensions: with more measurements the rank of H drops at the teacher."""
    problem = ss.MatrixFactorization.random(size=3, rank=1, examples=examples, seed=1)
    left, values, right = np.linalg.svd(np.reshape(problem.teacher, (3, 3)))
    inner, outer = np.sqrt(values)[:, None] * right, left * np.sqrt(values)
    generic = flow_to_minimum(problem, problem.default_start)
    ranks = [np.linalg.matrix_rank(problem.hessian(w), tol=1e-9) for w in (generic, problem.flatten(inner, outer))]
    assert ranks == [examples, min(examples, 5)]


# --- any noise


def label(w):
    return ALPHA * jax.hessian(ELLIPSE.loss)(w)


@pytest.mark.parametrize("s", [pytest.param(None, marks=pytest.mark.slow),
                               pytest.param([1.0, 2.0], marks=pytest.mark.slow), MATRIX])
def test_label_noise_has_the_drift_of_the_differential_equation_and_no_diffusion(s):
    w = ELLIPSE.point(START)
    law = slow_coefficients(ELLIPSE, w, label, preconditioner=s)
    path = slow_ode(ELLIPSE, ss.SGD(0.01, preconditioner=s), w, [1e-5])
    np.testing.assert_allclose(law.drift, (path.positions[0] - w) / 1e-5, rtol=1e-4)
    np.testing.assert_allclose(law.diffusion, 0.0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("angle", "speed"), [(0.0, 10 / 117), (np.pi / 4, 0.0702494)])
def test_the_cycling_toy_turns(angle, speed):
    """Section B5 of the sheet: noise of drawing examples, no interpolation."""
    toy = ss.CyclingToy()

    def noise(w):
        g = toy.residuals(w)[:, None] * toy.jacobian(w)
        return g.T @ g / 13 - jnp.outer(g.mean(axis=0), g.mean(axis=0))

    law = slow_coefficients(toy, np.array([np.cos(angle), np.sin(angle), 0, 0, 0, 0]), noise)
    np.testing.assert_allclose(law.drift[:2] @ [-np.sin(angle), np.cos(angle)], speed, rtol=1e-6)
    np.testing.assert_allclose(law.diffusion, 0.0, atol=1e-12)


def unequal(v):
    return jnp.ones_like(v) * jnp.array([1.0, 3.0], v.dtype).reshape(2, *[1] * (v.ndim - 1))


@pytest.mark.slow
def test_decoupled_decay_is_a_drift_along_the_minima():
    """Without noise, at the preconditioner diag(1, 3): the angle that steps of the optimizer itself move by."""
    eta, gamma, steps = 0.01, 2e-3, 4000
    problem = ss.Ellipse(a=2.0, b=1.0, label_noise=0.0)
    optimizer = ss.AdaptiveGradient(eta, S=unequal, b2=0.5, weight_decay=gamma)
    w = problem.point(START)
    law = slow_coefficients(problem, w, lambda w: jnp.zeros((2, 2)), preconditioner=[1.0, 3.0],
                            drift=lambda w: -gamma / eta * w)
    ends = [ss.simulate(problem, optimizer, batch_size=1, chains=1, steps=n, initial=w, dtype="float64", statistics=(),
                        progress=False).final[0] for n in (steps // 2, steps)]
    moved = (ends[1] - ends[0]) / (steps / 2 * eta**2)
    middle = slow_coefficients(problem, flow_to_minimum(problem, (ends[0] + ends[1]) / 2, [1.0, 3.0]),
                               lambda w: jnp.zeros((2, 2)), preconditioner=[1.0, 3.0], drift=lambda w: -gamma / eta * w)
    np.testing.assert_allclose(moved, middle.drift, rtol=0.01)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(moved, 1.03 * middle.drift, rtol=0.01)
    whole = -gamma / eta * w
    assert np.linalg.norm(law.drift - whole) > 0.3 * np.linalg.norm(whole)  # only a part is along the minima
    path = slow_sde(problem, ss.SGD(eta, preconditioner=[1.0, 3.0]), w, [0.1], lambda w: jnp.zeros((2, 2)), chains=1,
                    drift=lambda w: -gamma / eta * w)
    np.testing.assert_allclose(path.positions[0, 0] - w, 0.1 * law.drift, rtol=0.02)


def test_large_beta_1_is_warned_of():
    with pytest.warns(UserWarning, match=r"b1 = 0.95 is above 0.9"):
        slow_setting(ELLIPSE, ss.Adam(0.01, b1=0.95))


def test_isotropic_noise_walks_round_a_circle(assert_within_sigma):
    """By symmetry the angle is a Brownian motion of variance s^2 t / r^2, and the drift keeps the radius."""
    circle, strength, chains = ss.Ellipse(a=2.0, b=2.0), 0.8, 4000

    def noise(w):
        return strength**2 * jnp.eye(2)

    law = slow_coefficients(circle, circle.point(0.3), noise)
    np.testing.assert_allclose(law.drift, -(strength**2) / 2 / 4 * circle.point(0.3), atol=1e-10)
    np.testing.assert_allclose(np.trace(law.diffusion), strength**2, rtol=1e-10)
    path = slow_sde(circle, ss.SGD(0.1), circle.point(0.3), [1.0], noise, chains=chains, step=0.05, seed=4)
    angle = circle.angle(path.positions[0].T) - 0.3
    variance = strength**2 / 4
    error = variance * np.sqrt(2 / chains)
    assert_within_sigma([angle.mean(), angle.var()], [0.0, variance], [np.sqrt(variance / chains), error])
    with pytest.raises(AssertionError):  # seven per cent more noise
        assert_within_sigma(angle.var(), 1.15 * variance, error)
    np.testing.assert_allclose(np.linalg.norm(path.positions, axis=-1), 2.0, atol=1e-3)  # Newton, twice a step


# --- refusals


def test_off_the_manifold_says_the_loss():
    with pytest.raises(ValueError, match=r"a loss of 0\.00439 is left.*flow_to_minimum"):
        slow_ode(ELLIPSE, ss.SGD(0.05), [1.0, 1.5], [1.0])


def test_a_flow_without_an_end_says_where_it_got():
    with pytest.raises(ss.NotConverged, match="a gradient of norm 1: start closer") as stopped:
        flow_to_minimum(lambda w: w[0], [3.0, 2.0])
    assert stopped.value.reached[0] < -1e6 and stopped.value.reached[1] == 2.0


def test_past_the_limit():
    stiff = float(np.linalg.eigvalsh(ELLIPSE.hessian(ELLIPSE.point(START)))[-1])
    slow_ode(ELLIPSE, ss.SGD(1.99 / stiff), ELLIPSE.point(START), [1e-3])
    with pytest.raises(ValueError, match=f"learning_rate is .* below {2 / stiff:.5g}"):
        slow_ode(ELLIPSE, ss.SGD(2.01 / stiff), ELLIPSE.point(START), [1e-3])
    with pytest.raises(ValueError, match="learning_rate"):  # heavy ball: 2 (1 + mu)
        slow_ode(ELLIPSE, ss.SGD(3.01 / stiff, momentum=0.5), ELLIPSE.point(START), [1e-3])


def test_without_interpolation():
    toy = ss.CyclingToy()
    with pytest.raises(ValueError, match=r"problem is .*a loss of 0\.308 is left"):
        slow_ode(toy, ss.SGD(0.05), toy.minimum, [1.0], label_noise=0.1)


def test_optimizers_without_slow_dynamics_are_named():
    for optimizer, name in ((ss.DampedNewton(0.1), "DampedNewton"), (ss.SGD(lambda k: 0.1), "schedule"),
                            (ss.SGD(0.1, 0.5, nesterov=True), "Nesterov"), (ss.AdamW(0.1), "weight_decay")):
        with pytest.raises(NotImplementedError, match=name):
            slow_ode(ELLIPSE, optimizer, ELLIPSE.minimum, [1.0])


# The sparse problem of section 5.2: d = 6, n = 3, from a minimum without a zero
FEATURES = np.array([[1, 1, 1, -1, 1, 1], [1, -1, 1, 1, 1, -1], [-1, 1, 1, 1, 1, 1]], dtype=float)
SPARSE = ss.DiagonalNetwork(FEATURES, teacher=[1.3, 0.0, 0.0, 0.0, 0.0, -0.7], label_noise=1.0)


def beside(problem, size=0.4):
    """A minimum without a zero: u^2 - v^2 the weights of least norm, u v = size^2 times numbers near 1."""
    weights = np.linalg.lstsq(problem.features, problem.targets, rcond=None)[0]
    product = size**2 * np.linspace(0.8, 1.2, len(weights))
    u = np.sqrt((weights + np.sqrt(weights**2 + 4 * product**2)) / 2)
    return np.concatenate([u, product / u])


def by_definition(problem, optimizer, start, time, alpha=1.0):
    """The slow equation of a diagonal network in u, v and the second moment, by an explicit method."""
    x, eps = problem.features, float(optimizer.eps)
    c = np.tile(np.mean(x**2, axis=0), 2)
    decay = (1 - float(optimizer.b2)) / float(optimizer.learning_rate) ** 2
    signed = np.hstack([x, -x])

    def velocity(t, state):
        w, v = np.split(state, 2)
        s, j = 1 / (np.sqrt(v) + eps), 2 * signed * w  # J_ki = +-2 x_ki w_i
        drift = s * 8 * c * w * s
        inside = j.T @ np.linalg.solve(j @ (s[:, None] * j.T), j @ drift)
        return np.concatenate([-alpha / 4 * (drift - s * inside), decay * (4 * alpha * c * w**2 - v)])

    return solve_ivp(velocity, (0.0, time), np.concatenate([start, 4 * alpha * c * start**2]), method="DOP853",
                     rtol=1e-11, atol=1e-14).y[: len(start), -1]


@pytest.mark.parametrize("eps", [0.1, 1e-3])
def test_logarithms_of_weights_follow_the_same_equation(eps):
    adam, start = ss.Adam(0.03, eps=eps, bias_correction=False), beside(SPARSE)
    truth = by_definition(SPARSE, adam, start, 0.1)
    found = slow_ode(SPARSE, adam, start, [0.1]).positions[0]
    np.testing.assert_allclose(found, truth, rtol=1e-6)
    assert np.abs(truth / start - 1).max() > 0.1
    other = slow_ode(SPARSE, adam, start, [0.103]).positions[0]
    assert np.abs(other / truth - 1).max() > 1e-3


def test_corrected_averages_and_sgd_in_logarithms_are_those_in_the_parameters():
    start = beside(SPARSE)
    for optimizer in (ss.Adam(0.03, eps=0.1), ss.SGD(0.01, preconditioner=np.linspace(1.0, 2.0, 12))):
        setting = slow_setting(SPARSE, optimizer)
        logs, plain = LogSizes.at(SPARSE, start, np.diag(setting.directions) ** 2), Ambient.at(SPARSE, start)
        scale = np.linspace(1.0, 3.0, 12) if setting.adaptive else np.ones(12)
        diagonal, move = logs.look(setting, logs.start, 0.5, 0.0)
        other, moved = plain.look(setting, plain.start, 0.5, 0.0)
        np.testing.assert_allclose(diagonal, other, rtol=1e-10)
        np.testing.assert_allclose(start * move(scale), moved(scale), rtol=1e-7, atol=1e-10)
        assert logs.steepest(setting, scale) == pytest.approx(plain.steepest(setting, scale), rel=1e-10)
    fixed = np.where(np.arange(12) == 3, 0.0, start)  # a weight of 0 does not move
    fixed = flow_to_minimum(SPARSE, fixed)
    assert slow_ode(SPARSE, ss.SGD(0.01), fixed, [1.0]).positions[0, 3] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("eps", [0.1, 1e-8, *(pytest.param(x, marks=pytest.mark.slow) for x in (1.0, 1e-2, 1e-4, 0.0))])
def test_the_sparse_problem_ends_in_a_fixed_point_for_every_epsilon(eps):
    """Adam(.01) to t = 5, weights dead to any depth; then the vertex nearby, whose conditions are checked."""
    adam = ss.Adam(0.01, eps=eps)
    path = slow_ode(SPARSE, adam, beside(SPARSE), [5.0, 50.0] if eps == 1.0 else [5.0])
    late = path.positions[-1]
    np.testing.assert_allclose(SPARSE.residuals(late), 0, atol=1e-9)
    end = slow_fixed_point(SPARSE, adam, late)
    np.testing.assert_allclose(SPARSE.effective(end), SPARSE.effective(late), atol=1e-4)
    cost = 1 / (np.sqrt(4 * end**2) + max(eps, 1e-30))
    signed, kept = np.hstack([FEATURES, -FEATURES]), end > 0
    price = np.linalg.lstsq(signed[:, kept].T, cost[kept], rcond=None)[0]
    np.testing.assert_allclose(signed[:, kept].T @ price, cost[kept], rtol=1e-6)  # no weight gains by moving
    assert np.all(signed.T @ price <= cost * (1 + 1e-6))


@pytest.mark.slow
def test_a_thousand_weights():
    problem = ss.DiagonalNetwork.random(1000, 200, 10, seed=0)
    path = slow_ode(problem, ss.Adam(0.01, eps=0.1), beside(problem, 0.1), [0.5, 1.0], tolerance=1e-6)
    assert np.all(path.loss < 1e-12)
    errors = problem.test_loss(path.positions.T)
    assert errors[1] < errors[0] < 0.1 < float(problem.test_loss(beside(problem, 0.1)))
