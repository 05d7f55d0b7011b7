"""Variances over runs against exact values of the theory sheet, enumeration-free recursions, and each other."""

import dataclasses
import sys
from itertools import permutations, product

import flax.linen as nn
import numpy as np
import optax
import pytest

import sgdsim as ss
from sgdsim.engine.plan import plan_variance
from sgdsim.engine.run.variance_steps import measure_and_step

S = 1 / np.array([2.0, 4.0, 16.0])
# Theory sheet, section 2: lambda = (2, 1, .5), m_0 = (1, -1, 2), sigma^2 = .25, alpha = .1.
ONLINE = np.array([24.375 * S, 19.4315625 * S + 1.94875 * S**2,
                   15.7700914063 * S + 2.8476859375 * S**2 + 0.168715625 * S**3])
# Section 3, t = 1, coefficients of s..s^6 of both layers.
N2 = np.array([[8.81578832817, 6.53566801739, -4.62441891289, 4.84765428448, -4.66371536064, 3.75412245941],
               [10.0566330547, 4.97441090679, -2.97737038994, 2.80720643902, -2.67715340996, 2.50257094574]])
N3 = np.array([[12.6118881664, 9.63318269278, -7.1836333905, 8.34432162781, -8.2147479668, 6.43791234375],
               [11.5527748601, 5.57278127838, -3.08309616638, 3.58096739502, -3.45776168457, 3.18677145996]])
N2_AT_2 = (0.499282809392, 0.632170830775)  # both layers at t = 2, b = 10


SIZES = [4, 8, 15, 22, 30, 40]


def online(**rest):
    problem = ss.LinearRegression([2.0, 1.0, 0.5], label_noise=0.5)
    settings = {"batch_size": [2, 4, 16], "steps": 3, "chains": 2000, "initial": [1.0, -1.0, 2.0], **rest}
    return ss.gradient_variance(problem, ss.SGD(0.1), **settings)


def draw_the_gradients(monkeypatch):
    """From here on no conditional variance is known."""
    monkeypatch.setattr(plan_variance, "conditional_moments", lambda *problem: None)


def network_n2(**rest):
    problem = ss.TwoLayerLinear(np.eye(2), [[1.0, 0.0], [0.0, -1.0]])
    start = problem.flatten([[1, 0.5], [-0.5, 1]], [[0.5, -1], [1, 0.5]])
    return ss.gradient_variance(problem, ss.SGD(0.1), initial=start, **{"steps": 3, "chains": 6000, **rest})


def data(n=40, label_noise=0.0):
    rng = np.random.default_rng(2)
    x = np.column_stack([rng.standard_normal((n, 2)) * [1.5, 0.6], np.ones(n)])
    return ss.DatasetRegression(x, x @ [1.0, -2.0, 0.5] + rng.standard_normal(n), label_noise=label_noise)


def rate(t):
    return 0.3 / (t + 1)


@pytest.fixture(scope="module")
def networks():
    """One run of the network N2 for several tests."""
    return network_n2(batch_size=[2, 3, 4, 10, 20], steps=4)


@pytest.fixture(scope="module")
def subsets():
    """One run on a data set, without replacement, for several tests."""
    return ss.gradient_variance(data(), ss.SGD(rate), batch_size=SIZES, steps=6, chains=3000, seed=1,
                                sampling="without_replacement", initial=[2.0, 1.0, -1.0])


def exact_dataset(problem, sizes, steps, factor, start):
    """Var(g_t), Var(grad L) and E L by the recursion for mean and covariance of w_t, with outer products."""
    x, y, n = problem.features, problem.targets, problem.n_examples
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    each = x[:, :, None] * x[:, None, :]
    hessian, residual = each.mean(axis=0), y - x @ best
    rows = []
    for b in sizes:
        m, v, row = start - best, np.zeros((3, 3)), []
        for t in range(steps):
            z = (each - hessian) @ m - residual[:, None] * x
            noise = np.mean([(d - hessian) @ v @ (d - hessian) for d in each], axis=0) + z.T @ z / n
            full = np.trace(hessian @ v @ hessian)
            labels = problem.label_noise**2 * np.trace(hessian) / b
            loss = 0.5 * np.mean(residual**2) + 0.5 * m @ hessian @ m + 0.5 * np.trace(hessian @ v)
            row.append([factor(b) * np.trace(noise) + labels + full, full, loss + 0.5 * problem.label_noise**2])
            move = np.eye(3) - rate(t) * hessian
            carried = factor(b) * noise + problem.label_noise**2 * hessian / b
            v, m = move @ v @ move + rate(t) ** 2 * carried, move @ m
        rows.append(row)
    return np.moveaxis(np.array(rows), (0, 1, 2), (2, 1, 0))  # quantity, step, batch size


def test_online_regression_has_its_exact_variance(assert_within_sigma):
    result = online()
    assert result.gradient.shape == (3, 3) and result.estimator == "rao-blackwell" and result.status == "ok"
    np.testing.assert_allclose(result.gradient[0], ONLINE[0], rtol=1e-6)
    np.testing.assert_array_equal(result.gradient_stderr[0], 0)
    np.testing.assert_array_equal(result.full_gradient[0], 0)
    assert_within_sigma(result.gradient[1:], ONLINE[1:], result.gradient_stderr[1:], 12)
    with pytest.raises(AssertionError):
        assert_within_sigma(result.gradient[1:], 1.05 * ONLINE[1:], result.gradient_stderr[1:], 12)


def test_subsets_of_a_data_set_have_theirs(subsets, assert_within_sigma):
    exact = exact_dataset(data(), SIZES, 6, lambda b: (40 - b) / (b * 39), [2.0, 1.0, -1.0])
    for name, truth in zip(("gradient", "full_gradient", "loss"), exact, strict=True):
        value, error = getattr(subsets, name), getattr(subsets, f"{name}_stderr")
        np.testing.assert_allclose(value[0], truth[0], rtol=3e-6, atol=1e-9)
        np.testing.assert_allclose(value[:, -1], truth[:, -1], rtol=3e-6, atol=1e-9)  # b = n: no noise at all
        assert_within_sigma(value[1:, :-1], truth[1:, :-1], error[1:, :-1], 75)
    with pytest.raises(AssertionError):
        assert_within_sigma(subsets.gradient[1:, :-1], 1.05 * exact[0, 1:, :-1], subsets.gradient_stderr[1:, :-1], 75)


@pytest.mark.parametrize("sampling", ["with_replacement", pytest.param("without_replacement", marks=pytest.mark.slow)])
def test_so_they_have_with_label_noise(sampling, assert_within_sigma):
    problem, sizes = data(label_noise=0.7), [4, 30]
    result = ss.gradient_variance(problem, ss.SGD(rate), batch_size=sizes, steps=6, chains=3000, sampling=sampling,
                                  initial=[2.0, 1.0, -1.0], seed=1)
    with_all = sampling == "without_replacement"
    exact = exact_dataset(problem, sizes, 6, lambda b: (40 - b) / (b * 39) if with_all else 1 / b, [2.0, 1.0, -1.0])
    for name, truth in zip(("gradient", "full_gradient", "loss"), exact, strict=True):
        value, error = getattr(result, name), getattr(result, f"{name}_stderr")
        np.testing.assert_allclose(value[0], truth[0], rtol=3e-6, atol=1e-12)
        assert_within_sigma(value[1:], truth[1:], error[1:], 60)
    with pytest.raises(AssertionError):
        assert_within_sigma(result.gradient[1:], 1.07 * exact[0, 1:], result.gradient_stderr[1:], 60)
    if with_all:
        with pytest.raises(ValueError, match="fresh label noise has variance 1/b and subsets have c_b"):
            result.fit(3)


def test_both_layers_of_a_network_have_theirs(networks, assert_within_sigma):
    result, s = networks, 1 / networks.batch_sizes
    assert [layer.name for layer in result.by_layer] == ["W1", "W2"]
    for i, layer in enumerate(result.by_layer):
        np.testing.assert_allclose(layer.gradient[0], 19.21875 * s, rtol=1e-6)
        exact = (N2[i] * s[:, None] ** np.arange(1, 7)).sum(axis=1)
        assert_within_sigma(layer.gradient[1], exact, layer.gradient_stderr[1], 12)
        with pytest.raises(AssertionError):
            assert_within_sigma(layer.gradient[1], 1.06 * exact, layer.gradient_stderr[1], 12)
        assert_within_sigma(layer.gradient[2, 3], N2_AT_2[i], layer.gradient_stderr[2, 3], 12)
    together = sum(layer.gradient for layer in result.by_layer)
    np.testing.assert_allclose(result.gradient, together, rtol=1e-5)


@pytest.mark.slow
def test_so_has_a_network_of_other_shape(assert_within_sigma):
    problem = ss.TwoLayerLinear([[0.5, 1.0, -1.0], [0.0, 0.0, 0.0]], [[1.0, 0.0]])
    start = problem.flatten([[1, 0, 0.5], [0, -1, 0.5]], [[1, 0.5]])
    result = ss.gradient_variance(problem, ss.SGD(0.1), initial=start, batch_size=[4, 20], steps=2, chains=6000)
    s = np.array([0.25, 0.05])
    np.testing.assert_allclose(result.by_layer[0].gradient[0], 27.8125 * s, rtol=1e-6)
    np.testing.assert_allclose(result.by_layer[1].gradient[0], 21.4375 * s, rtol=1e-6)
    for layer, coefficients in zip(result.by_layer, N3, strict=True):
        exact = (coefficients * s[:, None] ** np.arange(1, 7)).sum(axis=1)
        assert_within_sigma(layer.gradient[1], exact, layer.gradient_stderr[1], 4)


@pytest.mark.parametrize("sampling", ["rao-blackwell", pytest.param("plain", marks=pytest.mark.slow)])
def test_the_error_is_right(sampling, monkeypatch):
    """The scatter of 40 independent estimates against the errors they state, for both estimators."""
    if sampling == "plain":
        draw_the_gradients(monkeypatch)
    results = [online(chains=600, steps=2, batch_size=[16], seed=seed) for seed in range(40)]
    assert results[0].estimator == sampling
    estimates = np.array([r.gradient[1, 0] for r in results])
    stated = np.array([r.gradient_stderr[1, 0] for r in results])
    z = (estimates - ONLINE[1, 2]) / stated
    # sqrt(mean z^2) of 40 normals has a relative error of 1 / sqrt(80).
    assert abs(np.sqrt(np.mean(z**2)) - 1) < 4 / np.sqrt(80)


def test_conditioning_saves_runs(monkeypatch):
    conditioned = online()
    draw_the_gradients(monkeypatch)
    plain = online()
    assert plain.estimator == "plain"
    assert (plain.gradient_stderr[1:] > 1.4 * conditioned.gradient_stderr[1:]).all()
    z = (plain.gradient - ONLINE) / plain.gradient_stderr
    assert np.abs(z).max() < 4.5


@pytest.mark.parametrize("optimizer", [ss.Adam(0.05), pytest.param(optax.lion(0.02), marks=pytest.mark.slow)])
def test_other_optimizers_agree_with_drawing_the_gradients(optimizer, monkeypatch, assert_within_sigma):
    how = {"batch_size": [4, 20], "steps": 4, "chains": 2000, "initial": [2.0, 1.0, -1.0]}
    conditioned = ss.gradient_variance(data(), optimizer, **how)
    draw_the_gradients(monkeypatch)
    plain = ss.gradient_variance(data(), optimizer, **{**how, "seed": 1})
    error = np.hypot(plain.gradient_stderr, conditioned.gradient_stderr)
    assert_within_sigma(plain.gradient, conditioned.gradient, error, 24)


def test_epochs_against_every_order(assert_within_sigma):
    """n = 4, b = 2, three steps: a second pass begins. All 24^2 orders, enumerated."""
    x, y = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, -1.0], [2.0, 0.0]]), np.array([1.0, 0.0, 2.0, -1.0])
    gradients = [[], [], []]
    for first, second in product(permutations(range(4)), repeat=2):
        w = np.array([1.0, -1.0])
        for t, rows in enumerate((first[:2], first[2:], second[:2])):
            g = x[list(rows)].T @ (x[list(rows)] @ w - y[list(rows)]) / 2
            gradients[t].append(g)
            w = w - 0.2 * g
    exact = [np.var(g, axis=0).sum() for g in gradients]
    result = ss.gradient_variance(ss.DatasetRegression(x, y), ss.SGD(0.2), batch_size=[2], steps=3, chains=4000,
                                  sampling="epochs", initial=[1.0, -1.0])
    assert result.estimator == "plain"
    assert_within_sigma(result.gradient[:, 0], exact, result.gradient_stderr[:, 0])
    with pytest.raises(AssertionError):
        assert_within_sigma(result.gradient[:, 0], 1.1 * np.array(exact), result.gradient_stderr[:, 0])


@pytest.mark.parametrize(("record", "steps"), [([5, 0, 2, 2], [0, 2, 5]), (5, [0, 5])])
def test_recorded_steps_are_rows_of_the_whole(record, steps, subsets):
    how = {"batch_size": SIZES, "steps": 6, "chains": 3000, "seed": 1, "sampling": "without_replacement",
           "initial": [2.0, 1.0, -1.0]}
    some = ss.gradient_variance(data(), ss.SGD(rate), record=record, **how)
    assert some.step.tolist() == steps and [some.row(t) for t in steps] == list(range(len(steps)))
    assert subsets.step.tolist() == list(range(6)) and subsets.row(4) == 4
    for name in ("gradient", "full_gradient_stderr", "loss", "runs_left"):
        np.testing.assert_allclose(getattr(some, name), getattr(subsets, name)[steps], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(some.fit(5)(10.0), subsets.fit(5)(10.0), rtol=1e-4)
    for call in (lambda: some.fit(3), lambda: some.row(3)):
        with pytest.raises(ValueError, match=f"one of {', '.join(map(str, steps))}"):
            call()
    with pytest.raises(ValueError, match="from 0 to 5"):
        subsets.row(6)
    exact = ss.solver.gradient_variance(data(), ss.SGD(rate), batch_size=SIZES, steps=6, sampling="without_replacement",
                                        initial=[2.0, 1.0, -1.0])
    assert ss.compare(some, exact).agrees
    shifted = dataclasses.replace(exact, gradient=np.roll(exact.gradient, 1, axis=0))
    assert not ss.compare(some, shifted).agrees
    polynomial = ss.solver.gradient_variance_polynomial(
        data(), ss.SGD(rate), step=steps[1], sampling="without_replacement", initial=[2.0, 1.0, -1.0])
    assert f"[t={steps[1]},b=" in ss.compare(some, polynomial, step=steps[1]).table()
    assert f"step {steps[1]}</th>" in some._repr_html_()


def test_wide_layers_are_measured_like_narrow_ones(assert_within_sigma):
    """Hidden units without weights change nothing; 17 of them are computed chain by chain, and only t = 1 measured."""
    start_inner, start_outer = np.zeros((17, 2)), np.zeros((2, 17))
    teacher_inner, teacher_outer = start_inner.copy(), start_outer.copy()
    teacher_inner[:2], teacher_outer[:, :2] = np.eye(2), [[1.0, 0.0], [0.0, -1.0]]
    start_inner[:2], start_outer[:, :2] = [[1, 0.5], [-0.5, 1]], [[0.5, -1], [1, 0.5]]
    problem = ss.TwoLayerLinear(teacher_inner, teacher_outer)
    result = ss.gradient_variance(problem, ss.SGD(0.1), initial=problem.flatten(start_inner, start_outer),
                                  batch_size=[10, 20], steps=3, chains=40_000, record=[1])
    s = 1 / result.batch_sizes
    for coefficients, layer in zip(N2, result.by_layer, strict=True):
        exact = (coefficients * s[:, None] ** np.arange(1, 7)).sum(axis=1)
        assert_within_sigma(layer.gradient[0], exact, layer.gradient_stderr[0], 4)
        with pytest.raises(AssertionError):
            assert_within_sigma(layer.gradient[0], 1.03 * exact, layer.gradient_stderr[0], 4)


@pytest.mark.cpu
def test_the_same_on_one_device_and_on_two():
    """The same random numbers; sums are fused differently, so the last bit of a float32 may differ."""
    one, two = online(devices=1), online(devices=2)
    np.testing.assert_allclose(one.gradient, two.gradient, rtol=3e-6)
    np.testing.assert_allclose(one.gradient_stderr, two.gradient_stderr, rtol=3e-5)


def test_a_batch_size_does_not_depend_on_its_company():
    alone, among = online(batch_size=[16]), online()
    np.testing.assert_allclose(alone.gradient[:, 0], among.gradient[:, 2], rtol=1e-6)
    assert not np.allclose(online(seed=1).gradient[1], among.gradient[1], rtol=1e-4)


def test_batch_sizes_of_one_shape_are_one_compilation():
    online(batch_size=[16, 24, 32, 48], chains=100)
    before = measure_and_step._cache_size()
    online(batch_size=[12, 20, 50, 400], chains=100)
    assert measure_and_step._cache_size() == before
    online(batch_size=[12], chains=101)
    assert measure_and_step._cache_size() > before


@pytest.mark.slow
def test_common_random_numbers_sharpen_differences_and_change_no_variance(assert_within_sigma):
    problem = data()
    how = {"batch_size": [24, 28, 32], "steps": 5, "chains": 2000, "initial": [2.0, 1.0, -1.0],
           "sampling": "without_replacement"}
    common = ss.gradient_variance(problem, ss.SGD(rate), common_random_numbers=True, **how)
    assert common.gradient_covariance.shape == (5, 3, 3)
    exact = exact_dataset(problem, [24, 28, 32], 5, lambda b: (40 - b) / (b * 39), [2.0, 1.0, -1.0])[0]
    assert_within_sigma(common.gradient[1:], exact[1:], common.gradient_stderr[1:], 12)
    covariance = common.gradient_covariance[4]
    np.testing.assert_allclose(np.sqrt(np.diagonal(covariance)), common.gradient_stderr[4], rtol=0.3)
    difference = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert difference < 0.6 * (common.gradient_stderr[4, :2] ** 2).sum()
    assert common.fit(4, degree=2, non_negative=False).degree == 2


def test_diverged_runs_are_counted_and_left_out():
    problem = ss.TwoLayerLinear([[1.0]], [[2.0]])
    result = ss.gradient_variance(problem, ss.SGD(0.5), batch_size=[1, 8], steps=40, chains=200)
    assert result.status == "diverged" and 0 <= result.diverged[1] < result.diverged[0] < 200
    assert np.isfinite(result.gradient).all() and np.isfinite(result.loss).all()
    assert (np.diff(result.runs_left, axis=0) <= 0).all()
    assert result.runs_left[-1, 0] == 200 - result.diverged[0]
    assert "diverged" in result.warning and "{1: " in result.warning
    gone = ss.gradient_variance(ss.LinearRegression([1.0], label_noise=1.0), ss.SGD(50.0), batch_size=[1], steps=40,
                                chains=20)
    assert gone.diverged[0] == 20 and np.isnan(gone.gradient[-1, 0]) and np.isinf(gone.gradient_stderr[-1, 0])


def test_typical_run_variances_are_marked(networks, subsets):
    t, f = True, False
    marked = sys.modules["sgdsim.engine.gradient_variance"]._typical
    np.testing.assert_array_equal(marked(2, np.arange(5), [1, 2, 4, 8]),
                                  [[f] * 4, [t, f, f, f], [t, t, f, f], [t, t, t, f], [t] * 4])
    np.testing.assert_array_equal(marked(3, np.arange(3), [2, 4, 8]), [[f] * 3, [t, f, f], [t, t, f]])
    np.testing.assert_array_equal(networks.typical_run, marked(2, np.arange(4), [2, 3, 4, 10, 20]))
    assert "typical-run variance from step 2 on" in networks.warning
    # at a large rate more batch sizes are: the exact value at b = 8 is a hundred times what is simulated
    problem, start = ss.TwoLayerLinear([[2.0]], [[1.0]]), ([[2.0]], [[1.5]])
    steep = ss.gradient_variance(problem, ss.SGD(0.5), batch_size=[8, 64], steps=3, chains=4000, initial=[2.0, 1.5])
    exact = ss.solver.gradient_variance_polynomial(problem, ss.SGD(0.5), step=2, initial=start)
    assert float(exact.inner(8) + exact.outer(8)) > 50 * steep.gradient[2, 0]
    assert steep.gradient[2, 1] == pytest.approx(float(exact.inner(64) + exact.outer(64)), rel=0.2)
    np.testing.assert_array_equal(steep.typical_run, [[f, f], [f, f], [t, f]])
    calm = ss.gradient_variance(problem, ss.SGD(0.05), batch_size=[8, 64], steps=3, chains=64, initial=[2.0, 1.5])
    assert not calm.typical_run.any()
    assert not subsets.typical_run.any() and subsets.warning == ""


def test_the_danger_is_real(networks):
    """t = 2, b = 2: the exact variance of layer 1 is 5.743 (nested quadrature); six thousand runs see far less."""
    layer = networks.by_layer[0]
    assert layer.gradient[2, 0] + 10 * layer.gradient_stderr[2, 0] < 5.74293687288


def test_a_row_is_fitted_in_its_own_basis(networks, subsets):
    fit = subsets.fit(3)
    assert fit.basis == "c_b" and fit.non_negative and fit.batch_sizes.max() == 30  # b = n has no variance
    exact = exact_dataset(data(), SIZES, 4, lambda b: (40 - b) / (b * 39), [2.0, 1.0, -1.0])[0, 3]
    low, high = fit.band(np.array(SIZES[:-1]), level=0.9999)
    assert (low < exact[:-1]).all() and (exact[:-1] < high).all()
    assert subsets.fit(3, quantity="full_gradient", non_negative=False).basis == "c_b"
    assert networks.fit(1, layer=0).basis == "1/b" and not networks.fit(1).non_negative
    for call, says in ((lambda: subsets.fit(0), "the variance is exact"), (lambda: subsets.fit(6), "from 0 to 5"),
                       (lambda: subsets.fit(1, layer=0), "without layers"), (lambda: networks.fit(1, layer=2), "layer"),
                       (lambda: subsets.fit(1, quantity="loss"), "quantity")):
        with pytest.raises(ValueError, match=says):
            call()


def test_xarray_names_everything(networks):
    pytest.importorskip("xarray")
    dataset = networks.to_xarray()
    assert dataset["gradient"].dims == ("step", "batch_size")
    assert dataset["layer_gradient_stderr"].sel(layer="W2", step=1, batch_size=3) > 0
    assert dataset.attrs["estimator"] == "rao-blackwell"


@pytest.mark.slow
def test_networks_draw_their_gradients_and_different_starts_have_no_polynomial(assert_within_sigma):
    x = np.linspace(-1.0, 1.0, 8)[:, None]
    problem = ss.FlaxNetwork(nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(1)]), x, x[:, 0] ** 2, "mse")
    how = {"batch_size": [2, 4], "steps": 2, "chains": 1000, "sampling": "without_replacement"}
    result = ss.gradient_variance(problem, ss.SGD(0.1), **how)
    assert result.estimator == "plain" and result.by_layer == ()
    start = problem.default_start
    examples = [(x[i], problem.targets[i]) for i in range(8)]
    each = np.array([np.asarray(problem.example_gradient(start, example)) for example in examples])
    exact = np.array([6 / 14, 4 / 28]) * each.var(axis=0).sum()  # c_b of subsets of 8
    assert_within_sigma(result.gradient[0], exact, result.gradient_stderr[0])
    starts = ss.gradient_variance(problem, ss.SGD(0.1), **how, initial=problem.random_start(seed=1, chains=1000))
    assert (starts.full_gradient[0] > 0).all()
    with pytest.raises(ValueError, match="start at different weights"):
        starts.fit(1)
