"""Expectations of products of a batch's second moment and constant matrices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix
from sgdsim.solver.variance.wick import sum_over_pairings

_MOST = 6  # factors Sigma: 10,395 pairings


def wishart_moment(
    word: Sequence[ArrayLike],
    traces: Sequence[Sequence[ArrayLike]] = (),
    *,
    batch_size: float | None = None,
    samples: Sequence[int] | None = None,
) -> np.ndarray:
    r"""The exact expectation of a word in the second moment of a batch of Gaussian inputs, times traces of words.

    $$E\Big[A_0 \hat\Sigma A_1 \hat\Sigma \cdots \hat\Sigma A_k \;\textstyle\prod_m
      \mathrm{tr}(B^m_1 \hat\Sigma B^m_2 \hat\Sigma \cdots)\Big], \qquad
      \hat\Sigma = \tfrac1b \sum_{i \le b} x_i x_i^\top, \quad x_i \sim N(0, I),$$

    by Isserlis' theorem, a sum over the pairings of 2k Gaussian factors: a polynomial in 1/b of degree k - 1 at most,
    k the number of factors in all. What a step of a linear network does to any product of its weights is a sum of such.

    Args:
        word: A_0, ..., A_k; p x p but for the rows of the first and the columns of the last.
        traces: for each trace B_1, B_2, ..., p x p, a factor after each.
        batch_size: b, which need not be whole; None gives the coefficients.
        samples: for each factor, those of the word first, a number that says which example it is: x_i x_i' in place of
            the batch's second moment. Factors of one number share the example. Then there is no b.

    Returns:
        Coefficients of b^0, b^-1, ..., shape (k, rows, columns); at a batch size, or for given samples, the matrix.

    Raises:
        ValueError: shapes do not fit, or there are more than 6 factors.

    Examples:
        >>> import numpy as np
        >>> from sgdsim.solver.variance import wishart_moment
        >>> one, a = np.eye(2), np.array([[1.0, 2.0], [0.0, 3.0]])
        >>> wishart_moment([one, a, one]).tolist()  # A + (A' + tr(A) I) / b
        [[[1.0, 2.0], [0.0, 3.0]], [[5.0, 0.0], [2.0, 7.0]]]

    Source: lemmas 3 to 8, theorem 3, corollary 2 of "The Impact of the Mini-batch Size on the Variance of Gradients".
    """
    between, sizes = _read(word, traces)
    k = sum(sizes)
    if k > _MOST:
        raise _checks.error("word", k, f"of {_MOST} factors at most, traces included",
                            "each more multiplies the pairings")
    labels = None if samples is None else np.asarray(samples)
    if labels is not None and labels.shape != (k,):
        raise _checks.error("samples", samples, f"{k} numbers, one for each factor", "see the order of the factors")

    def keep(places: np.ndarray) -> np.ndarray:
        assert labels is not None
        return (labels[places[:, :, 0]] == labels[places[:, :, 1]]).all(axis=1)

    first, last = between[0]
    found = np.zeros((k, len(first), last.shape[1]))
    for i, j in itertools.product(range(len(first)), range(last.shape[1])):
        closing = np.outer(last[:, j], first[i])  # E M_ij is the mean of a trace
        segments = [*between[1], closing, *(m for inside in between[2:] for m in inside)]
        powers = sum_over_pairings(segments, sizes, None if labels is None else keep)
        found[: len(powers), i, j] = powers
    if labels is not None:
        return found.sum(axis=0)
    if batch_size is None:
        return found
    b = _checks.positive("batch_size", batch_size)
    return np.tensordot(b ** -np.arange(float(k)), found, 1)


def _read(
    word: Sequence[ArrayLike], traces: Sequence[Sequence[ArrayLike]]
) -> tuple[list[tuple[Matrix, ...]], tuple[int, ...]]:
    """(A_0, A_k), the matrices between the word's factors, those after the factors of each trace; how many factors."""
    matrices = [_checks.finite_array(f"word[{i}]", a) for i, a in enumerate(word)]
    if len(matrices) < 2 or any(a.ndim != 2 for a in matrices):
        raise _checks.error("word", word, "two matrices or more, a factor between them", "try [np.eye(2), np.eye(2)]")
    p = matrices[0].shape[1]
    shapes = [(len(matrices[0]), p), *((p, p) for _ in matrices[1:-1]), (p, matrices[-1].shape[1])]
    if [a.shape for a in matrices] != shapes:
        raise _checks.error("word", [a.shape for a in matrices], f"of shapes {shapes}", "they are multiplied")
    rest = [[_checks.finite_array(f"traces[{m}]", b) for b in trace] for m, trace in enumerate(traces)]
    if any(not trace or any(b.shape != (p, p) for b in trace) for trace in rest):
        raise _checks.error("traces", traces, f"lists of {p} x {p} matrices", "a factor stands after each")
    # In a trace the matrix after the last factor is the first one.
    after = [tuple([*trace[1:], trace[0]]) for trace in rest]
    sizes = (len(matrices) - 1, *(len(trace) for trace in rest))
    return [(matrices[0], matrices[-1]), tuple(matrices[1:-1]), *after], sizes
