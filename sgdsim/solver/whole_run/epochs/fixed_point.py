"""The second moment at the boundary of passes: M = E[P M P'] + Q."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

_DENSE = 16  # numbers of a state up to which the equation is solved as a matrix
_ENOUGH = 1e-12


class EpochMoments(NamedTuple):
    """Mean of w - w* and its second moment at each position of a pass, and whether they settle."""

    mean: np.ndarray
    second: np.ndarray
    settles: bool


def second_moment(passes: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, bool]:
    """M for passes P (many, size, size) and Q, and whether it exists: iff Q = I leads to a positive definite one."""
    # In units in which one pass adds noise of size 1 to every number of the state, whatever the user's units are.
    units = np.sqrt(np.diag(source))
    units[units == 0] = 1.0
    passes, source = np.asarray(passes) / units[:, None] * units, np.asarray(source) / np.outer(units, units)
    size = len(source)
    i, j = np.triu_indices(size)
    norm = np.where(i == j, 1.0, np.sqrt(2.0))

    def matrix(flat: np.ndarray) -> np.ndarray:
        out = np.zeros((size, size))
        out[i, j] = out[j, i] = flat / norm
        return out

    def through(flat: np.ndarray) -> np.ndarray:
        return (passes @ matrix(flat) @ passes.mT).mean(axis=0)[i, j] * norm

    right = [q[i, j] * norm for q in (source, np.eye(size))]
    if size <= _DENSE:
        whole = np.eye(len(i)) - np.stack([through(e) for e in np.eye(len(i))], axis=1)
        found = [np.linalg.solve(whole, y) for y in right]
    else:
        sparse = scipy.sparse.linalg
        operator = sparse.LinearOperator((len(i), len(i)), matvec=lambda x: x - through(x), dtype=np.float64)
        found = [sparse.gmres(operator, y, rtol=_ENOUGH, restart=60, maxiter=10)[0] for y in right]
    return matrix(found[0]) * np.outer(units, units), bool(np.linalg.eigvalsh(matrix(found[1]))[0] > 0)
