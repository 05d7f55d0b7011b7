"""What does not depend on the gauge of a linear network: mean and covariance of the product of its layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim._specs import spec
from sgdsim._types import ArrayT
from sgdsim.statistics.base import Measurement
from sgdsim.statistics.moments import CentralMoments, Moments, PowerSums


class ProductTotals(NamedTuple):
    """Moments of the product; of a type of their own, for they say nothing about the parameters."""

    moments: CentralMoments


@spec
class ProductMoments:
    r"""Mean and covariance of the entries of P = W_L ... W_1, row by row.

    An invertible matrix may pass between two layers without any effect: the weights wander, the product settles.

    Args:
        problem: the linear network (`TwoLayerLinear`, `DeepLinear`) that is measured.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.TwoLayerLinear([[1.0]], [[1.0]], label_noise=0.3)
        >>> chosen = [ss.statistics.ProductMoments(problem)]
        >>> result = ss.simulate(problem, ss.SGD(0.05), batch_size=4, chains=500, steps=300, burn_in=200,
        ...                      statistics=chosen, initial=problem.minimum)
        >>> result.product_covariance.shape
        (1, 1)
    """

    problem: Any

    def _product(self, w: ArrayT) -> ArrayT:
        mapped = self.problem.end_to_end(w)
        return mapped.reshape(-1, *mapped.shape[2:])

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> PowerSums:
        """Zero sums."""
        shapes = self.problem.shapes
        return Moments().init(shapes[-1][0] * shapes[0][1], groups, dtype)

    def update(self, sums: PowerSums, at: Measurement) -> PowerSums:
        """Add one step."""
        moved = at._replace(params=self._product(at.params), centre=self._product(at.centre))
        return Moments().update(sums, moved)

    def collect(self, sums: PowerSums, centre: np.ndarray) -> ProductTotals:
        """Central moments of float64 sums about the product at `centre`."""
        host = ProductMoments(jax.tree.map(np.asarray, self.problem))
        return ProductTotals(Moments().collect(sums, host._product(np.asarray(centre).T).T))

    def merge(self, a: ProductTotals, b: ProductTotals) -> ProductTotals:
        """Join two stretches of steps."""
        return ProductTotals(Moments().merge(a.moments, b.moments))

    def finalize(self, totals: ProductTotals) -> dict[str, tuple[ArrayLike, ArrayLike]]:
        """`product_mean` and `product_covariance`."""
        found = Moments().finalize(totals.moments)
        return {f"product_{name}": found[name] for name in ("mean", "covariance")}
