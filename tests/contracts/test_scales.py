"""Units are the user's choice: in others the answers are the same, transformed."""

import itertools

import jax
import numpy as np
import pytest

import sgdsim as ss
from sgdsim.optimizers.damped_newton import inverse_curvature

X = np.random.default_rng(0).normal(size=(12, 2))
Y = X @ [1.0, 2.0] + np.random.default_rng(1).normal(size=12)
POWERS = [-12, -6, -1, 1, 6, 12]


def answers(units, targets, offset=0.0):
    """What is asked of least squares, back in units of 1; `units` are those of the columns."""
    problem = ss.DatasetRegression(X * units, targets * (Y + offset))
    optimizer = ss.SGD(0.05, preconditioner=1 / units**2)
    limits = ss.solver.stability(problem, optimizer, batch_size=4)
    law = ss.predict(problem, optimizer, batch_size=4)
    return {
        "covariance": law.covariance * np.outer(units, units) / targets**2,
        "limit": limits.max_learning_rate,
        "descent": limits.deterministic,
        "noise scale": ss.estimators.simple_noise_scale(
            ss.DatasetRegression(X * units[0], targets * Y), [0.0, 0.0]).value,
    }


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("which", ["targets", "columns", "first column"])
def test_least_squares(which, power):
    scale = 10.0**power
    units = np.array([1.0 if which == "targets" else scale, scale if which == "columns" else 1.0])
    known, found = answers(np.ones(2), 1.0), answers(units, scale if which == "targets" else 1.0)
    for name, value in known.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("power", POWERS)
def test_variance_of_gradients(power):
    """Plain SGD in units of the inputs: the rate changes by their square, gradients by the unit."""
    scale = 10.0**power

    def of(x, rate):
        found = ss.solver.gradient_variance(ss.DatasetRegression(x, Y), ss.SGD(rate), batch_size=[2, 4], steps=4)
        return found.gradient

    np.testing.assert_allclose(of(scale * X, 0.05 / scale**2) / scale**2, of(X, 0.05), rtol=1e-9)


@pytest.mark.parametrize("power", POWERS)
def test_where_chains_stop_settling(power):
    """The limit by quadrature stood at the upper end of its search, 6% too high, for inputs of 1e6 and more."""
    scale = 10.0**power

    def limits(unit):
        gaussian = ss.solver.stability(ss.LinearRegression([unit**2] * 2), ss.SGD(0.1 / unit**2), batch_size=2)
        table = ss.solver.stability(ss.DatasetRegression(unit * X[:, :1], Y), ss.SGD(0.1 / unit**2), batch_size=2)
        high = ss.solver.stationary.high_dimension_law([unit**2, 0.5 * unit**2], 0.1 / unit**2, 2, 1.0, ratio=2.0)
        found = gaussian.almost_sure, table.almost_sure, table.max_learning_rate, high.max_learning_rate
        return np.array(found) * unit**2

    np.testing.assert_allclose(limits(scale), limits(1.0), rtol=1e-9)


@pytest.mark.parametrize("power", POWERS)
def test_tails(power):
    scale = 10.0**power
    draws = 1 + np.random.default_rng(0).pareto(2.0, 2000)
    known, found = ss.estimators.tail_index(draws), ss.estimators.tail_index(scale * draws)
    assert found.value == pytest.approx(known.value, rel=1e-9)

    def index(unit):
        problem = ss.LinearRegression([unit**2, unit**2], label_noise=1.0)
        return ss.predict(problem, ss.SGD(0.6 / unit**2), batch_size=4).tail_index.value

    assert index(scale) == pytest.approx(index(1.0), rel=1e-9)


@pytest.mark.parametrize("sigma", [1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-3])
def test_natural_gradient_keeps_its_digits_or_says_so(sigma):
    """For sigma^2 << rate the law tends to a limit."""
    problem = ss.LinearRegression([1.0, 0.5], label_noise=sigma)
    try:
        found = ss.predict(problem, ss.NaturalGradient(0.1), batch_size=4).covariance
    except ValueError as refused:
        assert sigma <= 1e-6 and "fisher" in str(refused)
    else:
        np.testing.assert_allclose(np.diag(found), [0.0875 / 3, 0.175 / 3], rtol=2e-5)


@pytest.mark.parametrize("power", POWERS)
def test_columns_of_other_units_move_alike(power):
    """What follows from a prediction, and optimizers that measure the curvature themselves."""
    def answers(units):
        back, steps = np.outer(units, units), ss.SGD(0.05, momentum=0.5, preconditioner=1 / units**2)
        table, covariance = ss.DatasetRegression(X * units, Y), X.T @ X / 12 * back
        law = ss.predict(table, steps, batch_size=4)
        decayed = ss.LinearRegression(covariance, [1.0, 2.0] / units, 0.5, weight_decay=np.diag(0.1 * units**2))
        newton = ss.predict(ss.LinearRegression(covariance, label_noise=0.5), ss.DampedNewton(0.1), batch_size=4)
        with jax.enable_x64(True):
            traced = np.asarray(ss.solver.stationary_law(table, steps, batch_size=4).covariance)
        return {
            "autocovariance": law.autocovariance(3)[0] * back,
            "average": law.averaged(20).covariance * back,
            "its limit": law.averaged(20).limit * back,
            "exponential average": law.ema(0.9).covariance * back,
            "Newton": newton.covariance * back,
            "traced": traced * back,
            "minimum under decay": decayed.minimum * units,
        }

    known, found = answers(np.ones(2)), answers(np.array([10.0**power, 1.0]))
    for name, value in known.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-8, err_msg=name)


def test_newton_leaves_out_what_has_no_curvature():
    hessian = [[1e20, 0.0, 5e9], [0.0, 0.0, 0.0], [5e9, 0.0, 1.0]]
    inverse = inverse_curvature(ss.Quadratic(hessian, np.zeros(3)))
    exact = np.array([[1e-20, 0.0, -5e-11], [0.0, 0.0, 0.0], [-5e-11, 0.0, 1.0]]) / 0.75
    np.testing.assert_allclose(inverse, exact, rtol=1e-13)
    with pytest.raises(ValueError, match="standardize the columns"):
        inverse_curvature(ss.Quadratic([[1e20, 1e10], [1e10, 1.0]], np.zeros(2)))


@pytest.mark.parametrize("power", [-6, -2, 2, 6])
def test_tails_in_units_of_single_columns(power):
    units = np.array([10.0**power, 1.0])

    def index(units):
        problem = ss.LinearRegression(np.array([[1.0, 0.3], [0.3, 0.5]]) * np.outer(units, units), label_noise=0.5)
        return ss.solver.tails.tail_index_by_particles(
            problem, ss.SGD(0.7, preconditioner=1 / units**2), batch_size=2)

    known, found = index(np.ones(2)), index(units)
    assert abs(found.value - known.value) < 4 * np.hypot(found.stderr, known.stderr)


def product(scale):
    return lambda w: (w[0] * w[1] / scale**2 - 1) ** 2


@pytest.mark.parametrize("power", POWERS)
def test_manifolds_of_minima(power):
    """Distances are measured against the parameters themselves: w = 1e-12 is not 0."""
    scale, manifold = 10.0**power, ss.solver.manifold

    def answers(unit):
        start = unit * np.array([1.0, 2.0])
        w = manifold.flow_to_minimum(product(unit), start)
        ellipse = ss.Ellipse(a=2.0 * unit, b=unit)
        sparse = np.array([[1.0, -0.3, 0.4, 0.9], [0.2, 0.8, -0.5, 0.1]])
        network = ss.DiagonalNetwork(sparse, unit**2 * np.array([1.0, 0.5]))
        late = manifold.flow_to_minimum(network, unit * np.linspace(0.5, 0.9, 8))
        return {
            "flow": w / unit,
            "preconditioned": manifold.flow_to_minimum(ellipse, start, [1.0, 0.5]) / unit,
            "projection": manifold.tangent_projection(product(unit), w),
            "fixed point": manifold.slow_fixed_point(ellipse, ss.SGD(0.01), ellipse.point(1.0)) / unit,
            "vertex": manifold.slow_fixed_point(network, ss.SGD(0.01), late, label_noise=0.1) / unit,
            "basis pursuit": manifold.basis_pursuit(sparse, unit * np.array([1.0, 0.5])) / unit,
            "in units of the features": manifold.basis_pursuit(unit * sparse, [1.0, 0.5]) * unit,
        }

    known, found = answers(1.0), answers(scale)
    for name, value in known.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-7, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("power", POWERS)
def test_a_point_off_the_manifold_is_refused_at_any_scale(power):
    scale = 10.0**power
    with pytest.raises(ValueError, match="on the manifold of minima"):
        ss.solver.manifold.tangent_projection(ss.Ellipse(2.0 * scale, scale), [2.0 * scale, 0.1 * scale])


@pytest.mark.parametrize("power", [-8, 8])
def test_slow_motion_in_other_units(power):
    """A valley whose two directions are measured in units: slow time goes with the fourth power of the unit."""
    manifold = ss.solver.manifold

    def answers(unit):
        def valley(w):
            return 0.5 * (1 + (w[1] / unit) ** 2) * (w[0] / unit) ** 2

        def tube(w):
            x = w / unit
            return 0.5 * (x[0] ** 2 + x[1] ** 2 - 1) ** 2 + 0.5 * (2 + x[0]) * x[2] ** 2

        def ring(phase):
            return unit * jax.numpy.stack([jax.numpy.cos(phase), jax.numpy.sin(phase), 0 * phase])

        path = manifold.label_noise_flow(valley, [0.0, unit], [2.0 * unit**4], learning_rate=1e-9 * unit**2,
                                         label_noise=1.0)[-1]
        drift = manifold.phase_drift(tube, ring, learning_rate=0.01 * unit**2, points=8,
                                     noise_covariance=lambda w: np.diag([0.0, 0.0, 1.0]) / unit**2)
        with pytest.raises(ValueError, match="made of minima"):
            manifold.phase_drift(tube, lambda phase: 1.01 * ring(phase), learning_rate=0.01 * unit**2, points=8,
                                 noise_covariance=lambda w: np.eye(3))
        return path / unit, drift.speed

    for known, found in zip(answers(1.0), answers(10.0**power), strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-6, atol=1e-12)


def test_slow_motion_ends_where_it_settles_however_long_the_time():
    """Of the ellipse (w1/2)^2 + w2^2 = 1 with the noise of labels: equal sizes of both."""
    manifold, ellipse = ss.solver.manifold, ss.Ellipse(a=2.0, b=1.0)
    for time in (1e4, 1e12, 1e20):
        ends = [manifold.slow_ode(ellipse, ss.SGD(0.02), ellipse.point(1.0), [time]).positions[-1],
                manifold.label_noise_flow(ellipse, ellipse.point(1.0), [time], learning_rate=1e-3, label_noise=1.0)[-1]]
        np.testing.assert_allclose(ends, np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize("h", [1e-12, 1.0, 1e12])
def test_one_direction_is_exact_up_to_the_limit(h):
    """docs/which-prediction.md: "exactly, at every learning rate below the limit", in closed form for D = 1."""
    for b, share, sigma in itertools.product((1, 2, 1000), (1e-6, 0.5, 1 - 1e-6), (1e-8, 1e8)):
        rate, turn = share * 2 / (1 + 2 / b) / h, 1 + 2 / b
        found = ss.predict(ss.LinearRegression([h], label_noise=sigma), ss.SGD(rate), batch_size=b).covariance
        # So near the limit 2 - rate h turn is 2e-6, and has lost six digits.
        np.testing.assert_allclose(found, rate * sigma**2 / (b * (2 - rate * h * turn)), rtol=1e-8)
    for x, beta in itertools.product((1e-6, 0.25, 1.0), (0.0, 0.25, 0.999, 1 - 1e-10)):  # critical: .25 beside .25
        found = ss.predict(ss.Quadratic([h], [[1.0]]), ss.SGD(x / h, momentum=beta), batch_size=1).covariance
        exact = (x / h) ** 2 * (1 + beta) / ((1 - beta) * x * (2 * (1 + beta) - x))
        np.testing.assert_allclose(found, exact, rtol=1e-10)
