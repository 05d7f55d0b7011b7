"""The interpolating weights of least l1 norm, by linear programming."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Vector


def basis_pursuit(features: ArrayLike, targets: ArrayLike) -> Vector:
    r"""Weights of least l1 norm that fit every example: basis pursuit.

    $$\min_w \|w\|_1 \quad \text{subject to} \quad X w = y .$$

    On the minima of a `DiagonalNetwork` with features of one size the trace of the Hessian is 4 sum(u^2 + v^2), whose
    least value is 4 times this one: it is what SGD with label noise and a small learning rate settles at.

    Args:
        features: X, shape (n, d).
        targets: y, shape (n,).

    Returns:
        w, shape (d,), a vertex: at most n weights are not 0. It is one of several where the least is not unique.

    Raises:
        ValueError: shapes do not match, or no weights fit every example.

    Examples:
        >>> import sgdsim as ss
        >>> ss.solver.manifold.basis_pursuit([[1.0, 1.0, 3.0]], [6.0]).tolist()
        [0.0, 0.0, 2.0]

    Source: lemma 5.1 of paper 004 ("Slow dynamics of Adam") with its exponent 1, SGD's.
    """
    x, y = check_examples(features, targets)
    unit = np.abs(y).max() or 1.0  # of the weights: the solver's tolerances are absolute
    cost, signed = np.ones(2 * x.shape[1]), np.hstack([x, -x])
    found = scipy.optimize.linprog(cost, A_eq=signed, b_eq=y / unit, bounds=(0, None), method="highs")
    if found.status != 0:
        raise _checks.error("targets", targets, f"fitted exactly by some weights ({found.message})",
                            "drop examples that contradict each other")
    positive, negative = np.split(found.x, 2)
    return unit * (positive - negative)


def check_examples(features: ArrayLike, targets: ArrayLike) -> tuple[Matrix, Vector]:
    """X (n, d) and y (n,), both over the largest feature of the example: an equation has no unit of its own.

    Raises:
        ValueError: shapes do not match.
    """
    x = _checks.finite_array("features", features)
    y = _checks.finite_array("targets", targets)
    if x.ndim != 2 or x.size == 0:
        raise _checks.error("features", features, f"an n x d array (got shape {x.shape})", "one row an example")
    if y.shape != x.shape[:1]:
        raise _checks.error("targets", targets, f"of shape ({len(x)},) (got shape {y.shape})", "one target an example")
    largest = np.abs(x).max(axis=1)
    rows = np.where(largest > 0, largest, 1.0)
    return x / rows[:, None], y / rows
