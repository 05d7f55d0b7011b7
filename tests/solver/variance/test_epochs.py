"""Passes over tiny data sets against every order of the examples, written out."""

import itertools

import numpy as np
import pytest

import sgdsim as ss
from sgdsim.solver import gradient_variance
from sgdsim.solver.variance import epoch_gradient_variance


def every_order(problem, rates, w0, b, reshuffle):
    """Var g_t, Var of the full gradient and E L: run every (sequence of) permutations, one by one."""
    x, y, n = problem.features, problem.targets, problem.n_examples
    gamma = float(problem.weight_decay)
    per_epoch = -(-n // b)
    epochs = -(-len(rates) // per_epoch)
    orders = list(itertools.permutations(range(n)))
    plans = itertools.product(orders, repeat=epochs) if reshuffle else ((order,) * epochs for order in orders)
    runs = []
    for plan in plans:
        batches = [order[at : at + b] for order in plan for at in range(0, n, b)]
        w, rows = np.array(w0, float), []
        for rate, batch in zip(rates, batches, strict=False):
            xs, ys = x[list(batch)], y[list(batch)]
            g = xs.T @ (xs @ w - ys) / len(batch) + gamma * w
            full = x.T @ (x @ w - y) / n + gamma * w
            rows.append(np.concatenate([g, full, [np.mean((x @ w - y) ** 2) / 2 + gamma * w @ w / 2]]))
            w = w - rate * g
        runs.append(rows)
    runs, p = np.array(runs), x.shape[1]
    return np.stack([runs[..., :p].var(axis=0).sum(axis=1), runs[..., p : 2 * p].var(axis=0).sum(axis=1),
                     runs[..., -1].mean(axis=0)], axis=1)  # fmt: skip


@pytest.mark.parametrize("reshuffle", [True, False])
@pytest.mark.parametrize("b", [1, 2, 3, 4])
def test_every_order_of_four_examples(b, reshuffle, rng):
    """b = 3 leaves a last batch of one."""
    problem = ss.DatasetRegression(rng.normal(size=(4, 2)), rng.normal(size=4), 0.1)
    steps = 2 * -(-4 // b)
    rates = [0.4 / (t + 1) for t in range(steps)]
    how = {"batch_size": b, "steps": steps, "initial": [1.0, -0.5], "reshuffle": reshuffle}
    exact = epoch_gradient_variance(problem, ss.SGD(lambda t: rates[t]), **how)
    counted = every_order(problem, rates, [1.0, -0.5], b, reshuffle)
    for index, name in enumerate(("gradient", "full_gradient", "loss")):
        np.testing.assert_allclose(getattr(exact, name)[:, 0], counted[:, index], rtol=1e-11, atol=1e-14)


def test_the_two_ways_of_passing_and_fresh_subsets_differ(rng):
    problem = ss.DatasetRegression(rng.normal(size=(4, 2)), rng.normal(size=4))
    setting = {"batch_size": [2], "steps": 4, "initial": [1.0, -0.5]}
    optimizer = ss.SGD(0.4)
    new, old = (epoch_gradient_variance(problem, optimizer, reshuffle=r, **setting).gradient for r in (True, False))
    fresh = gradient_variance(problem, optimizer, sampling="without_replacement", **setting).gradient
    np.testing.assert_allclose(new[0], fresh[0], rtol=1e-12)
    np.testing.assert_allclose(new[:2], old[:2], rtol=1e-12)  # the first pass is the same
    assert abs(new[2, 0] / old[2, 0] - 1) > 0.01 and abs(new[1, 0] / fresh[1, 0] - 1) > 0.01


def test_fresh_label_noise(rng, assert_within_sigma):
    problem = ss.DatasetRegression(rng.normal(size=(5, 2)), rng.normal(size=5), label_noise=0.8)
    exact = epoch_gradient_variance(problem, ss.SGD(0.3), batch_size=[2], steps=4, initial=[1.0, -0.5])
    w, order = np.tile([1.0, -0.5], (200_000, 1)), np.tile(np.arange(5), (200_000, 1))
    for t, batch in enumerate((slice(0, 2), slice(2, 4), slice(4, 5), slice(0, 2))):
        if t in (0, 3):
            order = rng.permuted(order, axis=1)
        x, y = problem.features[order[:, batch]], problem.targets[order[:, batch]]
        y = y + 0.8 * rng.normal(size=y.shape)
        g = np.einsum("rbi,rb->ri", x, np.einsum("rbi,ri->rb", x, w) - y) / x.shape[1]
        each = g.reshape(100, -1, 2).var(axis=1, ddof=1).sum(axis=1)
        stderr = each.std(ddof=1) / 10
        assert_within_sigma(each.mean(), exact.gradient[t, 0], stderr, comparisons=4)
        with pytest.raises(AssertionError):
            assert_within_sigma(each.mean(), 1.05 * exact.gradient[t, 0], stderr, comparisons=4)
        w = w - 0.3 * g


def test_the_whole_data_set_has_no_variance(toy):
    exact = epoch_gradient_variance(toy, ss.SGD(0.1), batch_size=[6], steps=3, initial=[1.0, 1.0])
    np.testing.assert_allclose(exact.gradient, 0.0, atol=1e-12)


def test_what_is_too_large_is_refused_with_a_way_out(rng):
    large = ss.DatasetRegression(rng.normal(size=(13, 1)), rng.normal(size=13))
    with pytest.raises(ValueError, match=r"12 examples.*13.*simulate"):
        epoch_gradient_variance(large, ss.SGD(0.1), batch_size=[2], steps=2)
    twelve = ss.DatasetRegression(rng.normal(size=(12, 1)), rng.normal(size=12))
    with pytest.raises(ValueError, match=r"batch_size is 2.*ordered partitions.*7484400"):
        epoch_gradient_variance(twelve, ss.SGD(0.1), batch_size=[2], steps=2, reshuffle=False)
    with pytest.raises(NotImplementedError, match="LinearRegression"):
        epoch_gradient_variance(ss.LinearRegression([1.0]), ss.SGD(0.1), batch_size=[2], steps=2)
    noisy = ss.DatasetRegression([[1.0], [2.0]], [1.0, 0.0], label_noise=0.1)
    with pytest.raises(NotImplementedError, match="label noise"):
        epoch_gradient_variance(noisy, ss.SGD(0.1), batch_size=[1], steps=2, reshuffle=False)
