"""Moments of a batch's second moment, against identities, one-dimensional moments and sums over which examples meet."""

import itertools

import numpy as np
import pytest

from sgdsim.solver.variance import wishart_moment

RNG = np.random.default_rng(1)
A, B, C = RNG.normal(size=(3, 3, 3))
ONE = np.eye(3)


def test_identities():
    np.testing.assert_allclose(wishart_moment([A, B]), [A @ B], rtol=1e-13)
    second = wishart_moment([ONE, A, ONE])
    np.testing.assert_allclose(second, [A, A.T + np.trace(A) * ONE], rtol=1e-13)
    np.testing.assert_allclose(wishart_moment([ONE, A, ONE], samples=[5, 5]), A + A.T + np.trace(A) * ONE, rtol=1e-13)
    np.testing.assert_allclose(wishart_moment([ONE, A, ONE], samples=[1, 2]), A, rtol=1e-13)
    with_trace = wishart_moment([ONE, ONE], [[A]])  # E tr(A S) S
    np.testing.assert_allclose(with_trace, [np.trace(A) * ONE, A + A.T], rtol=1e-13)
    row, column = RNG.normal(size=(1, 3)), RNG.normal(size=(3, 2))
    np.testing.assert_allclose(wishart_moment([row, A, column]), row @ second @ column, rtol=1e-12)


@pytest.mark.parametrize("k", [3, 4, 5])
def test_one_dimension(k):
    """E (chi^2_b / b)^k = (1 + 2/b) (1 + 4/b) ... (1 + 2(k-1)/b), as a word, and split into a word and a trace."""
    truth = np.array([1.0])
    for j in range(1, k):
        truth = np.convolve(truth, [1.0, 2.0 * j])
    np.testing.assert_allclose(wishart_moment([[[1.0]]] * (k + 1))[:, 0, 0], truth, rtol=1e-12)
    np.testing.assert_allclose(wishart_moment([[[1.0]]] * k, [[[[1.0]]]])[:, 0, 0], truth, rtol=1e-12)
    assert wishart_moment([[[1.0]]] * (k + 1), batch_size=2.5)[0, 0] == pytest.approx(np.polyval(truth[::-1], 0.4))


@pytest.mark.parametrize("b", [1, 2, 3])
def test_a_batch_is_the_sum_over_its_examples(b):
    word, trace = [A, B, C], [ONE + A]
    examples = sum(wishart_moment(word, [trace], samples=which) for which in itertools.product(range(b), repeat=3))
    np.testing.assert_allclose(wishart_moment(word, [trace], batch_size=b), examples / b**3, rtol=1e-11)


def test_drawn_batches(assert_within_sigma):
    runs, b = 200_000, 2
    x = RNG.normal(size=(runs, b, 3))
    s = np.einsum("rbi,rbj->rij", x, x) / b
    drawn = np.einsum("rij,jk,rkl->ril", s, A, s) * np.einsum("ij,rji->r", B, s)[:, None, None]
    truth = wishart_moment([ONE, A, ONE], [[B]], batch_size=b)
    error = drawn.std(axis=0) / np.sqrt(runs)
    assert_within_sigma(drawn.mean(axis=0).ravel(), truth.ravel(), error.ravel(), comparisons=9)
    with pytest.raises(AssertionError):
        assert_within_sigma(drawn.mean(axis=0).ravel(), 1.06 * truth.ravel(), error.ravel(), comparisons=9)
