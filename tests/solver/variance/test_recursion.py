"""Variances step by step against every sequence of batches, moments entry by entry, sampling, and known numbers."""

import time

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver import gradient_variance
from sgdsim.solver.laws import law_of
from sgdsim.solver.variance.recursion import propagate

GAMMA = np.array([[0.3, 0.1], [0.1, -0.05]])
RATES = [0.4, 0.25, 0.1]
tables = pytest.mark.parametrize("streaming", [False, True])


def schedule(t):
    return RATES[t]


def data(rng, n, p):
    return rng.normal(size=(n, p)) + 0.3, rng.normal(size=n)


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
@pytest.mark.parametrize("gamma", [0.0, 0.2, GAMMA], ids=["none", "scalar", "matrix"])
def test_regression_against_every_sequence_of_batches(sampling, gamma, rng, sequences):
    problem = ss.DatasetRegression(*data(rng, 4, 2), gamma)
    w0 = [1.0, -0.5]
    sizes = [1, 2] if sampling == "with_replacement" else [1, 2, 4]
    exact = gradient_variance(problem, ss.SGD(schedule), batch_size=sizes, steps=3, initial=w0, sampling=sampling)
    for column, b in enumerate(exact.batch_sizes):
        counted = sequences(problem, RATES, w0, b, sampling)
        for index, name in enumerate(("gradient", "full_gradient", "loss")):
            np.testing.assert_allclose(getattr(exact, name)[:, column], counted[:, index], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sampling", ["with_replacement", "without_replacement"])
def test_fresh_label_noise_against_every_sequence_of_batches_and_signs(sampling, rng, sequences):
    problem = ss.DatasetRegression(*data(rng, 3, 2), GAMMA, 0.7)
    how = {"batch_size": [1, 2], "steps": 2, "initial": [1.0, -0.5], "sampling": sampling}
    exact = gradient_variance(problem, ss.SGD(schedule), **how)
    for column, b in enumerate(exact.batch_sizes):
        counted = sequences(problem, RATES[:2], [1.0, -0.5], b, sampling, 0.7)
        for index, name in enumerate(("gradient", "full_gradient", "loss")):
            np.testing.assert_allclose(getattr(exact, name)[:, column], counted[:, index], rtol=1e-12)
    noiseless = ss.DatasetRegression(problem.features, problem.targets, GAMMA)
    less = gradient_variance(noiseless, ss.SGD(schedule), **how)
    assert (less.gradient < 0.97 * exact.gradient).all()  # the comparison sees the noise


def test_enumeration_notices_the_wrong_noise_factor(rng, sequences):
    problem = ss.DatasetRegression(*data(rng, 4, 2))
    counted = sequences(problem, RATES, [1.0, 0.0], 2, "without_replacement")
    wrong = gradient_variance(problem, ss.SGD(schedule), batch_size=[2], steps=3, initial=[1.0, 0.0])
    assert (np.abs(wrong.gradient[:, 0] / counted[:, 0] - 1) > 0.05).all()


@tables
def test_one_operator_and_a_pass_over_the_examples_are_the_same(streaming, rng):
    """Both against the p x p recursion of lemma 1 written out, with rank-deficient features too."""
    x, y = data(rng, 9, 4)
    x[:, 3] = x[:, 0] - x[:, 1]
    problem = ss.DatasetRegression(x, y, 0.1, 0.3)
    moments = law_of(problem).moments(streaming=streaming)
    x_factor, w0 = np.array([[0.7], [0.1]]), rng.normal(size=4)
    rates = np.array([0.1, 0.05, 0.2, 0.1])
    gradient, full, _ = propagate(problem, moments, rates, w0, x_factor, 2 * x_factor)
    gram = x.T @ x / 9
    for column, c in enumerate(x_factor[:, 0]):
        mean, v = w0, np.zeros((4, 4))
        for t, rate in enumerate(rates):
            each = x * (x @ mean - y)[:, None]
            noise = c * (np.cov(each.T, ddof=0) + sum(
                (np.outer(a, a) - gram) @ v @ (np.outer(a, a) - gram) for a in x) / 9) + 2 * c * 0.09 * gram
            hessian = gram + 0.1 * np.eye(4)
            assert full[t, column] == pytest.approx(np.trace(hessian @ v @ hessian), rel=1e-11, abs=1e-15)
            assert gradient[t, column] == pytest.approx(np.trace(hessian @ v @ hessian + noise), rel=1e-11)
            step = np.eye(4) - rate * hessian
            mean, v = mean - rate * (each.mean(axis=0) + 0.1 * mean), step @ v @ step + rate**2 * noise


REFERENCE = {  # theory sheet, section 1: b = 2, 40, 440
    0: (159.626635746, 7.2920349511, 0.00329807098648),
    1: (1035.30893597, 21.6620558646, 0.00924269969984),
    10: (141.290625575, 0.401045412879, 0.000150490868505),
    20: (70.0922739148, 0.272214872431, 0.000106686271041),
    30: (49.1108109243, 0.229518828595, 9.20687668336e-05),
    40: (38.8835060655, 0.207730683181, 8.45963678668e-05),
    1000: (6.73153478429, 0.132388244947, 5.86655030817e-05),
}


def test_the_diabetes_table(diabetes):
    exact = gradient_variance(diabetes, ss.SGD(lambda t: 1 / (2 * (t + 1))), batch_size=[2, 40, 440, 442], steps=1001,
                              initial=np.ones(11), sampling="without_replacement")
    for t, values in REFERENCE.items():
        np.testing.assert_allclose(exact.gradient[t, :3], values, rtol=1e-11)
    assert (exact.gradient[:, 3] == 0).all() and (exact.full_gradient[:, 3] == 0).all()


def test_a_thousand_steps_of_twelve_batch_sizes_take_less_than_a_second(diabetes):
    def once():
        begin = time.perf_counter()
        sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 400, 442]
        gradient_variance(diabetes, ss.SGD(lambda t: 1 / (2 * (t + 1))), batch_size=sizes, steps=1000,
                          initial=np.ones(11), sampling="without_replacement")  # fmt: skip
        return time.perf_counter() - begin

    assert min(once() for _ in range(3)) < 1.0


def test_the_online_reference():
    problem = ss.LinearRegression([2.0, 1.0, 0.5], label_noise=0.5)
    exact = gradient_variance(problem, ss.SGD(0.1), batch_size=[1, 7], steps=3, initial=[1.0, -1.0, 2.0])
    s = 1 / np.array([1.0, 7.0])
    expected = [24.375 * s, 19.4315625 * s + 1.94875 * s**2,
                15.7700914063 * s + 2.8476859375 * s**2 + 0.168715625 * s**3]  # fmt: skip
    np.testing.assert_allclose(exact.gradient, expected, rtol=1e-10)


@pytest.mark.parametrize("case", ["diagonal", "matrix", "decay", "input-noise", "all"])
def test_online_regression_against_isserlis_entry_by_entry(case, rng, oracles):
    root = rng.normal(size=(3, 3))
    a, gamma, u = root @ root.T / 3, np.array([[0.2, 0.1, 0], [0.1, 0, 0.05], [0, 0.05, 0.1]]), np.array([1.0, -1, 0.5])
    problem = {
        "diagonal": ss.LinearRegression([1.0, 0.5, 0.2], u, 0.4, weight_decay=[0.1, 0.0, 0.2]),
        "matrix": ss.LinearRegression(a, u, 0.4, weight_decay=0.1),
        "decay": ss.LinearRegression(a, u, 0.4, weight_decay=gamma),
        "input-noise": ss.LinearRegression(a, u, 0.4, input_noise=[0.3, 0.0, 0.1]),
        "all": ss.LinearRegression([1.0, 0.5, 0.2], u, 0.4, a / 3, gamma),
    }[case]
    w0 = np.array([0.5, 1.0, -1.0])
    exact = gradient_variance(problem, ss.SGD(schedule), batch_size=[2], steps=3, initial=w0)
    # the data law again, from the definition: x~ = x + noise, y = u.x + noise
    seen = np.diag(problem.covariance) if problem.covariance.ndim == 1 else problem.covariance
    k, decay = seen.copy(), problem.hessian() * 0
    if problem.input_noise is not None:
        k = k + (np.diag(problem.input_noise) if problem.input_noise.ndim == 1 else problem.input_noise)
    decay = {0: np.eye(3) * problem.weight_decay, 1: np.diag(np.atleast_1d(problem.weight_decay))}.get(
        problem.weight_decay.ndim, problem.weight_decay)  # fmt: skip
    teacher = np.linalg.solve(k, seen @ u)
    residual = 0.16 + u @ seen @ u - teacher @ k @ teacher
    mean, v = w0, np.zeros((3, 3))
    for t, rate in enumerate(RATES):
        away = mean - teacher
        noise = oracles.gaussian_gradient_covariance(k, v + np.outer(away, away), residual, 2)
        hessian = k + decay
        assert exact.gradient[t, 0] == pytest.approx(np.trace(noise + hessian @ v @ hessian), rel=1e-12)
        assert exact.full_gradient[t, 0] == pytest.approx(np.trace(hessian @ v @ hessian), rel=1e-12, abs=1e-15)
        expected = (np.sum(k * (v + np.outer(away, away))) + residual + np.sum(decay * (v + np.outer(mean, mean)))) / 2
        assert exact.loss[t, 0] == pytest.approx(expected, rel=1e-12)
        step = np.eye(3) - rate * hessian
        mean, v = mean - rate * (k @ away + decay @ mean), step @ v @ step + rate**2 * noise


def test_online_regression_against_sampling(rng, assert_within_sigma):
    """Input noise and a decay that does not commute, drawn example by example."""
    a, b_in, gamma = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[0.2, -0.1], [-0.1, 0.4]]), GAMMA
    u, sigma, b, groups, runs = np.array([1.0, -1.0]), 0.3, 3, 100, 2000
    problem = ss.LinearRegression(a, u, sigma, b_in, gamma)
    exact = gradient_variance(problem, ss.SGD(schedule), batch_size=[b], steps=3, initial=[0.5, 1.0])
    w = np.tile([0.5, 1.0], (groups * runs, 1))
    for t, rate in enumerate(RATES):
        clean = rng.normal(size=(len(w), b, 2)) @ np.linalg.cholesky(a).T
        x = clean + rng.normal(size=clean.shape) @ np.linalg.cholesky(b_in).T
        y = clean @ u + sigma * rng.normal(size=clean.shape[:2])
        errors = np.einsum("rbi,ri->rb", x, w) - y
        g = np.einsum("rbi,rb->ri", x, errors) / b + w @ gamma
        each = g.reshape(groups, runs, 2).var(axis=1, ddof=1).sum(axis=1)
        stderr = each.std(ddof=1) / np.sqrt(groups)
        assert_within_sigma(each.mean(), exact.gradient[t, 0], stderr, comparisons=3)
        with pytest.raises(AssertionError):  # a variance that is 6 % off is noticed
            assert_within_sigma(each.mean(), 1.06 * exact.gradient[t, 0], stderr, comparisons=3)
        w = w - rate * g


def test_a_quadratic_forgets_like_a_geometric_series():
    """V_t = (lambda^2 c / b) sum_{k<t} (1 - lambda h)^{2k} in every eigendirection."""
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    h, c = np.array([1.0, 0.25]), np.array([0.5, 2.0])
    problem = ss.Quadratic(turn @ np.diag(h) @ turn.T, turn @ np.diag(c) @ turn.T, minimum=[1.0, 2.0])
    exact = gradient_variance(problem, ss.SGD(0.3), batch_size=[1, 5], steps=6, initial=[0.0, 0.0])
    away = turn.T @ -np.array([1.0, 2.0])
    for t in range(6):
        for column, b in enumerate((1, 5)):
            v = 0.09 * c / b * sum((1 - 0.3 * h) ** (2 * k) for k in range(t))
            assert exact.gradient[t, column] == pytest.approx(np.sum(c / b + h**2 * v), rel=1e-13)
            assert exact.full_gradient[t, column] == pytest.approx(np.sum(h**2 * v), rel=1e-13, abs=1e-16)
            loss = np.sum(h * (v + ((1 - 0.3 * h) ** t * away) ** 2)) / 2
            assert exact.loss[t, column] == pytest.approx(loss, rel=1e-13)


def test_default_start_mode_and_shape(toy):
    exact = gradient_variance(toy, ss.SGD(0.1), batch_size=3, steps=4)
    how = {"initial": [0.0, 0.0], "sampling": "with_replacement"}
    again = gradient_variance(toy, ss.SGD(0.1), batch_size=[3], steps=4, **how)
    assert exact.gradient.shape == exact.full_gradient.shape == exact.loss.shape == (4, 1)
    np.testing.assert_array_equal(exact.gradient, again.gradient)
    assert exact.loss[0, 0] == pytest.approx(float(toy.loss(np.zeros(2))))


def test_learning_rates_are_asked_for_with_whole_numbers_from_zero(toy):
    asked = []
    gradient_variance(toy, ss.SGD(lambda t: asked.append(t) or 0.1), batch_size=[1], steps=3)
    assert asked == [0, 1, 2] and all(type(t) is int for t in asked)


def test_what_grows_beyond_double_precision_is_infinite(diabetes):
    exact = gradient_variance(diabetes, ss.SGD(1.0), batch_size=[1, 442], steps=600, sampling="without_replacement")
    assert np.isinf(exact.gradient[-1, 0]) and not np.isnan(exact.gradient).any()


def test_other_problems_and_modes_are_refused_by_name(toy, networks):
    with pytest.raises(NotImplementedError, match=r"TwoLayerLinear.*gradient_variance_polynomial"):
        gradient_variance(networks.scalar[0], ss.SGD(0.1), batch_size=[1], steps=2)
    with pytest.raises(NotImplementedError, match="epoch_gradient_variance"):
        gradient_variance(toy, ss.SGD(0.1), batch_size=[1], steps=2, sampling="epochs")


@pytest.mark.parametrize("kind", ["data", "wide data", "gaussian", "quadratic"])
def test_linear_combinations_and_the_law_of_the_weights(kind, rng):
    """Of B g_t, against the mean and the covariance of w_t from the noise of each example written out."""
    if kind == "wide data":
        x, y = rng.normal(size=(3, 4)), rng.normal(size=3)
    else:
        x, y = rng.normal(size=(7, 3)), rng.normal(size=7)
    d, b, combination = x.shape[1], 2, rng.normal(size=(2, x.shape[1]))
    root = rng.normal(size=(d, d))
    problem = {"data": lambda: ss.DatasetRegression(x, y, weight_decay=0.1),
               "wide data": lambda: ss.DatasetRegression(x, y),
               "gaussian": lambda: ss.LinearRegression([1.0, 0.5, 0.2], np.ones(3), 0.4),
               "quadratic": lambda: ss.Quadratic(root @ root.T, x.T @ x)}[kind]()
    start = np.linspace(-1.0, 1.0, d)
    found = gradient_variance(problem, ss.SGD(0.1), batch_size=[b], steps=4, initial=start, projection=combination)
    mean, v, hessian = start, np.zeros((d, d)), problem.hessian()

    def noise():
        second = v + np.outer(mean, mean)
        if kind == "quadratic":
            return x.T @ x / b
        if kind == "gaussian":
            away = mean - 1.0
            spread = v + np.outer(away, away)
            a = np.diag([1.0, 0.5, 0.2])
            return (a @ spread @ a + (np.trace(a @ spread) + 0.16) * a) / b
        each = np.zeros((d, d))
        full = x.T @ x / len(x)
        for xi, yi in zip(x, y, strict=True):  # the noise is (D_i w - c_i), affine in w
            turn, shift = np.outer(xi, xi) - full, yi * xi - x.T @ y / len(x)
            cross = np.outer(turn @ mean, shift)
            each += turn @ second @ turn.T - cross - cross.T + np.outer(shift, shift)
        return each / len(x) / b

    for t in range(4):
        n = noise()
        spread = combination @ (hessian @ v @ hessian + n) @ combination.T
        assert found.gradient[t, 0] == pytest.approx(np.trace(spread), rel=1e-10)
        full = np.trace(combination @ hessian @ v @ hessian @ combination.T)
        assert found.full_gradient[t, 0] == pytest.approx(full, rel=1e-10, abs=1e-15)
        np.testing.assert_allclose(found.mean[t], mean, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(found.covariance[t, 0], v, rtol=1e-9, atol=1e-13)
        mean, v = mean - 0.1 * problem.gradient(mean), (np.eye(d) - 0.1 * hessian) @ v @ (np.eye(d) - 0.1 * hessian)
        v = v + 0.01 * n
    polynomial = ss.solver.gradient_variance_polynomial(problem, ss.SGD(0.1), step=3, initial=start,
                                                        projection=combination)
    assert float(polynomial(b)) == pytest.approx(found.gradient[3, 0], rel=1e-10)
    assert np.all(polynomial.coefficients >= 0)
    row = gradient_variance(problem, ss.SGD(0.1), batch_size=b, steps=2, initial=start, projection=combination[0])
    other = gradient_variance(problem, ss.SGD(0.1), batch_size=b, steps=2, initial=start, projection=combination[1])
    np.testing.assert_allclose(row.gradient + other.gradient, found.gradient[:2], rtol=1e-12)
