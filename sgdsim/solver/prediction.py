"""What theory says about a problem and an optimizer: the same names as a simulation's result."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from sgdsim import _checks, _html, _labels
from sgdsim._tail_index import TailIndex
from sgdsim._types import Matrix, Vector
from sgdsim.references import cite
from sgdsim.solver.correlations import Correlated, Process

QUANTITIES = (
    "mean",
    "covariance",
    "noise_covariance",
    "train_loss",
    "test_loss",
    "product_mean",
    "product_covariance",
)
LIMITS = ("max_learning_rate", "spectral_radius", "tail_index")

T = TypeVar("T")


class Lazy(Generic[T]):
    """A field given as a value, or as a function that is called when the value is first read."""

    def __init__(self, default: T | None = None):
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> T:
        if instance is None:
            if self.default is None:
                raise AttributeError(self.name)  # so that the field has no default
            return self.default
        value = vars(instance)[self.name]
        if callable(value):
            value = vars(instance)[self.name] = value()
        return value

    def __set__(self, instance: object, value: T | Callable[[], T]) -> None:
        vars(instance)[self.name] = value


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Correlated):
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
        tail_index: kappa in P(|w| > t) ~ t^-kappa, a `TailIndex`. By quadrature for isotropic step matrices, else by
            `tails.tail_index_by_particles`; where neither knows, only its bounds. Computed when first read.
        theory_error: estimate of the relative error of an approximate theory (Adam); 0 where it is exact. `compare`
            counts only what a difference exceeds it by.
        out_of_regime: why the theory does not hold here; empty where it does.
        product_mean: of a linear network, the mean of its product row by row; its weights have no law of their own.
        product_covariance: the covariance of those entries.
        process: computes what correlations in time follow from; None where the optimizer is not linear.
        positions: under shuffled epochs, mean and covariance before each batch of a pass.
        variances: of each parameter, where nothing else is computed for their number.
    """

    mean: Any  # None for a linear network, whose product alone has a law
    covariance: Lazy[Any] = Lazy()
    noise_covariance: Lazy[Any] = Lazy()
    train_loss: float
    test_loss: float
    max_learning_rate: Lazy[float] = Lazy()
    spectral_radius: Lazy[float] = Lazy()
    approximation: str
    regime: str
    reference: str
    configuration: dict[str, str | int]
    tail_index: Lazy[TailIndex] = Lazy(TailIndex.between(0.0, np.inf))
    theory_error: float = 0.0
    out_of_regime: str = ""
    product_mean: Any = None
    product_covariance: Any = None
    process: Callable[[], Process] | None = None
    positions: Sequence[tuple[Vector, Matrix]] | None = None
    variances: Vector | None = None

    def __repr__(self) -> str:
        return (
            f"Prediction({self.configuration.get('problem')}, {self.configuration.get('optimizer')}, "
            f"approximation={self.approximation!r}, test_loss={self.test_loss:.6g})"
        )

    def _repr_html_(self) -> str:
        """The quantities; the limits only where they have been computed already."""
        rows = []
        for name, value in self._quantities().items():
            rows.append((name, _labels.brief(value), _labels.LABELS[name].description))
        for name in LIMITS:
            known = vars(self)[name]
            text = "computed when first read" if callable(known) else _shown(known)
            rows.append((name, text, _labels.LABELS[name].description))
        if self.theory_error:
            rows.append(("theory_error", f"{self.theory_error:.2g}", _labels.LABELS["theory_error"].description))
        notes = (f"regime: {self.regime}", self.out_of_regime, f"reference: {self.reference}")
        return _html.table(repr(self), ("quantity", "predicted", ""), rows, notes=notes)

    def _quantities(self) -> dict[str, object]:
        return {name: value for name in QUANTITIES if (value := getattr(self, name, None)) is not None}

    @property
    def variance(self) -> Vector:
        """The stationary variance of each parameter, shape (D,)."""
        return np.diag(self.covariance) if self.variances is None else self.variances

    def at_position(self, position: int) -> tuple[Vector, Matrix]:
        """Mean and covariance before a batch of a shuffled pass; 0 is the boundary between passes.

        Args:
            position: how many batches of the pass have been seen.

        Raises:
            ValueError: this is no prediction for shuffled epochs, or there are fewer batches.
        """
        if self.positions is None:
            raise _checks.error("sampling", self.configuration.get("sampling"), "'epochs' for positions in a pass",
                                "predict with sampling='epochs'")
        return self.positions[_checks.integer("position", position, low=0, high=len(self.positions) - 1)]

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
        xr = _checks.need("xarray", "results")
        values = self._quantities()
        if limits:
            index = self.tail_index
            values |= {"max_learning_rate": self.max_learning_rate, "spectral_radius": self.spectral_radius}
            values |= {"tail_index": index.value, "tail_index_stderr": index.stderr}
        values["theory_error"] = self.theory_error
        variables = {
            name: (_labels.dimensions(name, np.asarray(value).ndim), value, _labels.attributes(name))
            for name, value in values.items()
        }
        coordinates: dict[str, object] = {"batch_size": self.configuration["batch_size"]}
        if self.mean is not None:
            coordinates["parameter"] = np.arange(len(self.mean))
        attributes = {name: getattr(self, name) for name in ("approximation", "regime", "reference", "out_of_regime")}
        attributes |= {"kind": "Prediction", "equations": _labels.EQUATIONS}
        attributes["configuration"] = json.dumps(self.configuration)
        return xr.Dataset(variables, coordinates, attributes)


def _shown(value: float | TailIndex) -> str:
    return str(value) if isinstance(value, TailIndex) else _labels.brief(value)
