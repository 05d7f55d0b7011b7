"""Interpolating weights of least l_p norm, by reweighted least squares; matrices of least nuclear norm."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.solver.manifold.basis_pursuit import basis_pursuit, check_examples

_ROUNDS = 20_000
_LOOK = 20  # rounds between two looks at the gap
_SETTLED = 1e-9  # change of a round, relative to the largest weight
_LEAST = 1e-9  # smoothing at the end, relative to the largest weight
_GAP = 1e-6  # between a norm and a bound below it
_MISFIT = 1e-8  # of the targets


def least_norm(features: ArrayLike, targets: ArrayLike, *, p: float = 1.0) -> Vector:
    r"""Weights of least l_p norm that fit every example, 0 < p <= 2.

    $$\min_w \sum_i |w_i|^p \quad \text{subject to} \quad X w = y .$$

    On the minima of a `DiagonalNetwork` with features +-1, $\mathrm{tr}\,\mathrm{Diag}(H)^p = 4^p \sum_i |w_i|^p$ where
    one of u_i, v_i is 0: p = 1 is what SGD with label noise flattens, 1/2 Adam, 1 - rho AdamE.
    At 1 it is `basis_pursuit`, else
    least squares with the weights $(w_i^2 + \epsilon^2)^{p/2 - 1}$ of the last round, epsilon falling with what is left
    to move: downhill in every round. For p < 1 there are many local minima, and this is one of them.

    Args:
        features: X, shape (n, d).
        targets: y, shape (n,).
        p: in (0, 2].

    Returns:
        w, shape (d,).

    Raises:
        ValueError: shapes do not match, p is out of range, or no weights fit every example.
        NotConverged: the rounds do not settle.

    Examples:
        >>> import sgdsim as ss
        >>> ss.solver.manifold.least_norm([[1.0, 2.0]], [5.0], p=2.0).round(6).tolist()
        [1.0, 2.0]
        >>> ss.solver.manifold.least_norm([[1.0, 2.0]], [5.0], p=0.5).round(6).tolist()
        [0.0, 2.5]

    Source: lemma 5.1 of paper 004 ("Slow dynamics of Adam"); Chartrand and Yin (2008) for the method.
    """
    exponent = _checks.positive("p", p)
    if exponent > 2:
        raise _checks.error("p", p, "in (0, 2]", "1 is what SGD flattens, 0.5 Adam")
    if exponent == 1:
        return basis_pursuit(features, targets)
    x, y = check_examples(features, targets)
    return _reweighted(x, y, _fit(x, y, targets), exponent)


def least_nuclear_norm(features: ArrayLike, targets: ArrayLike) -> Matrix:
    r"""The matrix of least nuclear norm that fits every measurement.

    $$\min_W \|W\|_* \quad \text{subject to} \quad \langle A_i, W \rangle = y_i .$$

    On the minima of a `MatrixFactorization` of two factors with isotropic measurements the least trace of the Hessian
    is nearly a multiple of it (Gatmiry et al.): what SGD with label noise settles at. By the splitting of Douglas and
    Rachford: singular values are lowered and measurements fitted in turn, until a bound from below is met.

    Args:
        features: A_i, shape (n, rows, columns).
        targets: y, shape (n,).

    Returns:
        W, shape (rows, columns), its norm within a millionth of the least.

    Raises:
        ValueError: shapes do not match, or no matrix fits every measurement.
        NotConverged: bound and norm do not meet.

    Examples:
        >>> import sgdsim as ss
        >>> ss.solver.manifold.least_nuclear_norm([[[1.0, 0.0], [0.0, 1.0]]], [2.0]).round(6).tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Source: section 6 of paper 004 ("Slow dynamics of Adam"), appendix B.
    """
    a = _checks.finite_array("features", features)
    if a.ndim != 3 or a.size == 0:
        raise _checks.error("features", features, f"of shape (n, rows, columns) (got shape {a.shape})", "one a target")
    n, rows, columns = a.shape
    x, y = check_examples(a.reshape(n, -1), targets)
    w, back = _fit(x, y, targets), np.linalg.pinv(x)
    pace = float(np.linalg.svd(w.reshape(rows, columns), compute_uv=False).max()) or 1.0
    z, matrix, size, bound = w, np.zeros((rows, columns)), 0.0, 0.0
    for step in range(_ROUNDS):
        left, sizes, right = np.linalg.svd(z.reshape(rows, columns), full_matrices=False)
        near = ((left * np.maximum(sizes - pace, 0.0)) @ right).ravel()
        if step % _LOOK == 0:
            matrix = (near + back @ (y - x @ near)).reshape(rows, columns)
            size = float(np.linalg.svd(matrix, compute_uv=False).sum())
            dual = back.T @ ((z - near) / pace)  # feasible once its matrix has spectral norm 1
            bound = float(y @ dual) / max(1.0, float(np.linalg.norm((dual @ x).reshape(rows, columns), 2)))
            if size - bound <= _GAP * size:
                return matrix
        z = near + back @ (y - x @ (2 * near - z))
    raise _checks.NotConverged(f"the nuclear norm {size:.8g} is above its bound {bound:.8g}", reached=matrix)


def _reweighted(x: Matrix, y: Vector, w: Vector, p: float) -> Vector:
    """W = M X' (X M X')^+ y until it settles, M = diag (w^2 + eps^2)^(1 - p/2) the inverse weights."""
    top = float(np.abs(w).max())
    eps = top
    for _ in range(_ROUNDS):
        if top == 0:
            return w
        weighted = x * (w**2 + eps**2) ** (1 - p / 2)
        new = weighted.T @ np.linalg.lstsq(weighted @ x.T, y, rcond=None)[0]
        moved = np.abs(new - w).max() / top
        w = new
        if moved < _SETTLED and eps <= _LEAST * top:
            return w
        if moved < max(0.01 * eps / top, _SETTLED):
            eps = max(eps / 2, _LEAST * top)
    raise _checks.NotConverged(f"not settled after {_ROUNDS} rounds", reached=w)


def _fit(x: Matrix, y: Vector, targets: ArrayLike) -> Vector:
    """The weights of least l_2 norm that fit every example."""
    w: Vector = np.linalg.lstsq(x, y, rcond=None)[0]
    if np.abs(x @ w - y).max() > _MISFIT * (np.abs(y).max() or 1.0):
        raise _checks.error("targets", targets, "fitted exactly by some weights",
                            "drop examples that contradict each other")
    return w
