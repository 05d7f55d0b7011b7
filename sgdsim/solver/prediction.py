"""What theory says about a problem and an optimizer: the same names as a simulation's result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from sgdsim.solver.export import prediction_html, prediction_to_xarray
from sgdsim.solver.references import cite


class Lazy:
    """A field given as a number, or as a function that is called when the number is first read."""

    def __init__(self, default: float | None = None):
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> float:
        if instance is None:
            if self.default is None:
                raise AttributeError(self.name)  # so that the field has no default
            return self.default
        value = instance.__dict__[self.name]
        if callable(value):
            value = instance.__dict__[self.name] = value()
        return value

    def __set__(self, instance: Any, value: float | Callable[[], float]) -> None:
        instance.__dict__[self.name] = value


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """Stationary law of the parameters, as float64 NumPy arrays.

    Attributes:
        mean: E w, shape (D,).
        covariance: stationary covariance Sigma, shape (D, D).
        noise_covariance: averaged covariance C of the minibatch-mean gradient, shape (D, D).
        train_loss: E of the loss being minimised, label noise and penalty included.
        test_loss: E of the excess loss.
        max_learning_rate: the exact mean-square limit; at or above it the covariance is infinite. Computed when
            first read.
        spectral_radius: of the second-moment recursion; below 1 by construction. Computed when first read.
        approximation: "exact", "hessian" or "continuous".
        regime: where the numbers hold, in words.
        reference: the equation they come from.
        configuration: problem, optimizer, batch size and sampling.
        tail_index: kappa, P(|w| > t) ~ t^-kappa; infinite where every moment exists, NaN if not known. By quadrature
            for isotropic step matrices, else estimated by `solver.tail_index_growth`. Computed when first read.
        tail_index_stderr: 0 for the quadrature; infinite where the estimate is not to be trusted.
        theory_error: estimate of the relative error of an approximate theory (Adam); 0 where it is exact. `compare`
            counts only what a difference exceeds it by.
        out_of_regime: why the theory does not hold here; empty where it does.
        product_mean: of a linear network, the mean of its product row by row; its weights have no law of their own.
        product_covariance: the covariance of those entries.
    """

    mean: Any
    covariance: Any
    noise_covariance: Any
    train_loss: float
    test_loss: float
    max_learning_rate: Lazy = Lazy()
    spectral_radius: Lazy = Lazy()
    approximation: str
    regime: str
    reference: str
    configuration: dict[str, Any]
    tail_index: Lazy = Lazy(np.nan)
    tail_index_stderr: Lazy = Lazy(np.nan)
    theory_error: float = 0.0
    out_of_regime: str = ""
    product_mean: Any = None
    product_covariance: Any = None

    def __repr__(self) -> str:
        return (
            f"Prediction({self.configuration.get('problem')}, {self.configuration.get('optimizer')}, "
            f"approximation={self.approximation!r}, test_loss={self.test_loss:.6g})"
        )

    def _repr_html_(self) -> str:
        return prediction_html(self)

    def cite(self) -> str:
        """BibTeX of the paper that `reference` is about.

        Examples:
            >>> import sgdsim as ss
            >>> law = ss.predict(ss.LinearRegression([1.0], label_noise=1.0), ss.SGD(0.3), batch_size=4)
            >>> law.cite().splitlines()[0]
            '@inproceedings{ziyin2022strength,'
        """
        return cite(self.reference)

    def to_xarray(self, limits: bool = False) -> Any:
        """An `xarray.Dataset` with the names of a simulation's (needs `pip install 'sgdsim[results]'`).

        Args:
            limits: add max_learning_rate, spectral_radius and tail_index, which are computed for it and may take long.
        """
        return prediction_to_xarray(self, limits)
