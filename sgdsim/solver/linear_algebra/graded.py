"""Eigenvalues of matrices whose rows and columns are of very different scale."""

from __future__ import annotations

import numpy as np
import scipy

from sgdsim import _checks
from sgdsim._types import Matrix, Vector

_ALIKE = 1e3  # scales of parameters that differ less cost `eigh` no more than three digits


def graded_eigh(h: Matrix) -> tuple[Vector, Matrix]:
    r"""Eigenvalues, ascending, and orthonormal eigenvectors of a symmetric matrix, each to its own precision.

    `numpy.linalg.eigh` is accurate to rounding of the largest eigenvalue: of h = diag(1e14, 1) with an off-diagonal
    entry of 1e6 the small eigenvalue is lost. Here, where the scales $s_i = \sqrt{h_{ii}}$ of the parameters differ by
    more than 1,000, h is factorised as $h = L L^\top$, which keeps the digits of every row, and one-sided Jacobi
    rotations of L' find singular values whose relative error depends on the condition of $h_{ij} / (s_i s_j)$ alone.

    Args:
        h: symmetric, shape (D, D).

    Raises:
        ValueError: scales differ by more than 1e5 and h is singular or indefinite: then digits are lost.

    Source: Demmel and Veselic, "Jacobi's method is more accurate than QR" (1992); LAPACK's dgejsv.
    """
    if not np.any(h - np.diag(np.diag(h))):
        order = np.argsort(np.diag(h), kind="stable")
        return np.diag(h)[order], np.eye(len(h))[:, order]
    scales = np.sqrt(np.clip(np.diag(h), 0, None))
    if scales.min() == 0 or scales.max() <= _ALIKE * scales.min():
        values, vectors = np.linalg.eigh(h)
        return values, vectors
    factor = _cholesky(h / np.outer(scales, scales))
    if factor is None:
        _checks.scales_of_singular("hessian", scales)
        values, vectors = np.linalg.eigh(h)
        return values, vectors
    # joba=0 is 'C': columns of any scale, none of them taken for noise
    singular, _, vectors, work, _, info = scipy.linalg.lapack.dgejsv((scales[:, None] * factor).T, joba=0)
    if info != 0:
        raise _checks.NotConverged("the Jacobi rotations of a graded Hessian did not converge", vectors)
    order = np.argsort(singular)
    return (singular[order] * (work[0] / work[1])) ** 2, vectors[:, order]


def own_scales(h: Matrix, values: Vector, vectors: Matrix) -> Vector:
    """What each eigenvalue of h is small against: the curvature of the parameters it mixes, or the largest of all.

    The largest where h has an eigenvalue of 0 or below: then digits of it are lost in every direction.
    """
    if values[0] > 0:
        own: Vector = np.square(vectors).T @ np.abs(np.diag(h))
        return own
    return np.full(len(values), np.abs(values).max())


def _cholesky(matrix: Matrix) -> Matrix | None:
    """The lower factor of a matrix with unit diagonal; None where it is singular to rounding, or indefinite."""
    try:
        factor = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return None
    return factor if np.diag(factor).min() ** 2 > 8 * len(matrix) * np.finfo(float).eps else None
