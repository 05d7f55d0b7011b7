"""Fourth moments of features against the sum written out, in every way they are computed."""

import numpy as np
import pytest

from sgdsim.problems.parts.fourth_moments import FourthMoments

X = np.random.default_rng(0).normal(size=(40, 4)) * 10.0 ** np.arange(-2, 2)
HALVES = np.random.default_rng(1).normal(size=(3, 4, 4))
SIGMA = HALVES + HALVES.swapaxes(1, 2)
BASIS = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 3)))[0]


def written_out(x, sigma):
    return np.einsum("ni,nj,nk,nl,akl->aij", x, x, x, x, sigma) / len(x)


@pytest.mark.parametrize("n", [40, 5])  # the table is smaller than the data, or larger
def test_in_any_basis(n):
    moments = FourthMoments(X[:n])
    np.testing.assert_allclose(moments.of(SIGMA), written_out(X[:n], SIGMA), rtol=1e-11)
    inside, sigma = moments.restrict(BASIS), SIGMA[:, :3, :3]
    np.testing.assert_allclose(inside.of(sigma), written_out(X[:n] @ BASIS, sigma), rtol=1e-11)
    twice = inside.restrict(np.eye(3)[:, :2])
    np.testing.assert_allclose(twice.of(sigma[0, :2, :2]),
                               written_out(X[:n] @ BASIS[:, :2], sigma[:1, :2, :2])[0], rtol=1e-11)


def test_the_table_may_be_asked_for():
    i, j = np.triu_indices(4)
    pairs = X[:, i] * X[:, j]
    np.testing.assert_allclose(FourthMoments(X).table(), pairs.T @ pairs / 40, rtol=1e-12)
