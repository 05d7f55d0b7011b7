"""Fourth moments of the features of a finite data set, as a map of covariances."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from sgdsim._types import Matrix

_BLOCK = 2**20  # numbers that are made of the rows at a time


@dataclasses.dataclass(frozen=True, eq=False)
class FourthMoments:
    r"""The map $\Sigma \mapsto \frac1n \sum_i (x_i^\top \Sigma x_i)\, x_i x_i^\top$.

    Where the D(D+1)/2 by D(D+1)/2 moments take no more memory than the data they are computed once, in O(n D^4), and
    every answer then takes O(D^4), in whatever basis it is asked for; else it takes O(n D^2).

    Attributes:
        features: x, shape (n, D).
        origin: that of all coordinates, where these are coordinates V'w.
        basis: V, shape (coordinates of the origin, D).
    """

    features: Matrix
    origin: FourthMoments | None = None
    basis: Matrix | None = None

    def restrict(self, basis: Matrix) -> FourthMoments:
        """Of X V."""
        inside = basis if self.basis is None else self.basis @ basis
        return FourthMoments(self.features @ basis, self.origin or self, inside)

    def of(self, sigma: np.ndarray) -> np.ndarray:
        """The answer to symmetric matrices, shape (..., D, D)."""
        if self.origin is not None and self.origin._table is not None:
            assert self.basis is not None
            return self.basis.T @ self.origin.of(self.basis @ sigma @ self.basis.T) @ self.basis
        if self._table is not None:
            i, j, twice = self._pairs
            answer, out = (sigma[..., i, j] * twice) @ self._table, np.empty(np.shape(sigma))
            out[..., i, j] = out[..., j, i] = answer
            return out
        x, flat = self.features, np.reshape(sigma, (-1, *np.shape(sigma)[-2:]))
        found = np.stack([(x * np.sum((x @ s) * x, axis=1)[:, None]).T @ x for s in flat]) / len(x)
        return np.reshape(found, np.shape(sigma))

    @cached_property
    def gram(self) -> Matrix:
        """The second moments, X'X / n."""
        return self.features.T @ self.features / len(self.features)

    @cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        i, j = np.triu_indices(self.features.shape[1])
        return i, j, np.where(i == j, 1.0, 2.0)

    @cached_property
    def _table(self) -> Matrix | None:
        """None where it would be larger than the data."""
        small = self.origin is None and len(self._pairs[0]) ** 2 <= self.features.size
        return self.table() if small else None

    def table(self) -> Matrix:
        """The mean of x_i x_j x_k x_l, rows and columns by pairs i <= j, k <= l."""
        i, j, _ = self._pairs
        table = np.zeros((len(i), len(i)))
        for block in np.array_split(self.features, -(-len(self.features) * len(i) // _BLOCK)):
            products = block[:, i] * block[:, j]
            table += products.T @ products
        return table / len(self.features)
