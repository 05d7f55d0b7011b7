"""Linear regression on a finite data set of any distribution."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import derived, set_field, spec, static
from sgdsim._types import AnyArray, ArrayT, Matrix, apply, as_matrix, inner, matmul
from sgdsim.problems.parts.fourth_moments import FourthMoments
from sgdsim.problems.parts.least_squares import least_squares, solve_symmetric
from sgdsim.problems.parts.residuals import check_label_noise
from sgdsim.problems.parts.weight_decay import check_decay, is_zero, penalty
from sgdsim.problems.tables import split_table, standardize


@spec
class DatasetRegression:
    r"""Least squares on n given examples.

    $$L(w) = \frac1{2n} \sum_i (x_i^\top w - y_i)^2 + \tfrac12 \sigma^2 + \tfrac12 w^\top \Gamma w.$$

    Args:
        features: X, shape (n, D).
        targets: y, shape (n,).
        weight_decay: Gamma, a scalar, a length-D diagonal or a symmetric matrix; may be negative.
        label_noise: STANDARD DEVIATION sigma of noise drawn afresh for every label at every step.
        noise: its law: "gaussian", or "sign" for +-sigma with equal chances.

    Raises:
        ValueError: shapes do not match, or a value is not finite.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DatasetRegression(features=[[1.0], [2.0]], targets=[1.0, 2.0])
        >>> round(float(problem.minimum[0]), 12)
        1.0
    """

    features: np.ndarray
    targets: np.ndarray
    weight_decay: np.ndarray
    label_noise: float
    noise: str = static()

    def __init__(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        weight_decay: ArrayLike = 0.0,
        label_noise: float = 0.0,
        noise: str = "gaussian",
    ):
        x = _checks.finite_array("features", features)
        y = _checks.finite_array("targets", targets)
        if x.ndim != 2 or x.size == 0:
            raise _checks.error("features", features, f"an n x D array (got shape {x.shape})",
                                "one row an example, one column a feature")
        if y.shape != x.shape[:1]:
            raise _checks.error("targets", targets, f"of shape ({x.shape[0]},) (got shape {y.shape})",
                                "one target for each row of features")
        gamma = check_decay(weight_decay, x.shape[1])
        sigma, law = check_label_noise(label_noise, noise)
        set_field(self, features=x, targets=y, weight_decay=gamma, label_noise=sigma, noise=law)

    @derived
    def gram(self) -> np.ndarray:
        """X'X/n, shape (D, D)."""
        return matmul(self.features.T, self.features) / self.n_examples

    @cached_property
    def fourth_moments(self) -> FourthMoments:
        """Those of the features; no simulation needs them."""
        return FourthMoments(self.features)

    @derived
    def least_squares(self) -> np.ndarray:
        """Weights of least norm among those that fit the data best, shape (D,)."""
        return least_squares(self.features, self.targets)

    @derived
    def least_loss(self) -> float:
        """The loss of the data there, label noise and penalty left out."""
        return 0.5 * ((matmul(self.features, self.least_squares) - self.targets) ** 2).mean()

    @derived
    def minimum(self) -> np.ndarray:
        """The minimiser of the training loss, shape (D,)."""
        if is_zero(self.weight_decay):
            return self.least_squares
        return solve_symmetric(self.hessian(), matmul(self.features.T, self.targets) / self.n_examples)

    @classmethod
    def from_table(
        cls,
        table: Any,
        *,
        target: str,
        standardize_columns: bool = False,
        intercept: bool = False,
        weight_decay: Any = 0.0,
        label_noise: float = 0.0,
    ) -> Self:
        """Read a CSV path, a pandas DataFrame or an xarray object.

        Args:
            table: where the rows are.
            target: the column to predict; every other column is a feature.
            standardize_columns: give features and target mean 0 and population standard deviation 1.
            intercept: append a column of ones.
            weight_decay: as for the class.
            label_noise: as for the class.

        Raises:
            ValueError: the table is empty, a column is missing or constant, or a cell is no finite number.
        """
        features, targets, names = split_table(table, target)
        if standardize_columns:
            features, targets = standardize(features, targets, names)
        if intercept:
            features = np.column_stack([features, np.ones(len(targets))])
        return cls(features, targets, weight_decay, label_noise)

    @property
    def dimension(self) -> int:
        """Number of parameters D."""
        return self.features.shape[-1]

    @property
    def n_examples(self) -> int:
        """Number of examples n."""
        return self.features.shape[-2]

    @property
    def default_start(self) -> np.ndarray:
        """The origin."""
        return np.zeros(self.dimension)

    def test_loss(self, w: ArrayT) -> ArrayT:
        """Excess of the full-data loss (no penalty, no label noise) over its minimum."""
        d = w - self.least_squares.reshape((-1,) + (1,) * (w.ndim - 1))
        return 0.5 * inner(d, apply(self.gram, d))

    def loss(self, w: ArrayT) -> ArrayT:
        """Expected training loss, shape of `w` without its first axis."""
        floor = self.least_loss + 0.5 * self.label_noise**2
        return self.test_loss(w) + floor + penalty(self.weight_decay, w)

    def gradient(self, w: ArrayT) -> ArrayT:
        """Full-data gradient X'(Xw - y)/n + Gamma w."""
        d = w - self.least_squares.reshape((-1,) + (1,) * (w.ndim - 1))
        return apply(self.gram, d) + apply(self.weight_decay, w)

    def hessian(self, w: AnyArray | None = None) -> Matrix:
        """X'X/n + Gamma, shape (D, D)."""
        return self.gram + as_matrix(self.weight_decay, self.dimension)

    def example_gradient(self, w: ArrayT, example: PyTree) -> ArrayT:
        """X_i (x_i'w - y_i) + Gamma w for one example (x_i, y_i)."""
        x, y = example
        return x * (x @ w - y) + apply(self.weight_decay, w)
