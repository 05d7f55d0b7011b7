"""What `gradient_variance` returns: variances over runs, by step and batch size, with standard errors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim import _checks, _html
from sgdsim.estimators import PolynomialFit, fit_polynomial
from sgdsim.results import netcdf
from sgdsim.results.dataset import arrays_of, variable
from sgdsim.results.html import origin

if TYPE_CHECKING:
    import xarray as xr

_BY_LAYER = ("gradient", "full_gradient")
_TABLES = (*_BY_LAYER, "loss")
_WITH_ERRORS = tuple(name + end for name in _TABLES for end in ("", "_stderr"))
_ARRAYS = (*_WITH_ERRORS, "runs_left", "typical_run", "diverged", "gradient_covariance")
_GRID = ("step", "batch_size")
# What is no array: text as it is, the rest as JSON.
_TEXT, _JSON = ("status", "estimator", "basis", "no_polynomial"), ("chains", "n_examples", "non_negative", "provenance")


@dataclasses.dataclass(frozen=True, eq=False)
class LayerVariance:
    """The variances of one layer's gradient, each of shape (rows, batch sizes).

    Attributes:
        name: "W1", "W2", ... from the input on.
        gradient: Var(g_t) of this layer.
        full_gradient: Var(grad L(w_t)) of this layer.
    """

    name: str
    gradient: np.ndarray
    gradient_stderr: np.ndarray
    full_gradient: np.ndarray
    full_gradient_stderr: np.ndarray

    def __repr__(self) -> str:
        rows, sizes = self.gradient.shape
        return f"LayerVariance({self.name!r}, {rows} steps, {sizes} batch sizes)"


@dataclasses.dataclass(frozen=True, eq=False)
class GradientVarianceResult:
    """Variances of the gradient over runs; arrays have shape (rows, batch sizes), each row one measured step.

    A variance of a vector is the trace of its covariance, E|g|^2 - |E g|^2. Where every step was measured row t is
    step t, the state after t updates; else `step` says which steps the rows are, and `row(t)` where step t is.

    Attributes:
        step: t of each row, ascending.
        batch_sizes: b of each column.
        gradient: Var(g_t) of the minibatch-mean gradient.
        full_gradient: Var(grad L(w_t)).
        loss: E L(w_t).
        by_layer: the same two variances of every layer of a linear network of several layers, else ().
        gradient_covariance: covariance of the errors of `gradient` between batch sizes, (rows, batch sizes,
            batch sizes), with common random numbers; else None, the errors being independent.
        chains: independent runs of each batch size.
        runs_left: how many had not diverged; only they count.
        effective_runs: how many runs carry the error of a quantity, (sum d^2)^2 / sum d^4 over the deviations d of
            runs: the squared error is itself uncertain by one over its root. By name ("gradient", "full_gradient",
            "loss", "gradient W1", ...), each (rows, batch sizes).
        diverged: how many had diverged by the last row, for each batch size.
        status: "ok" or "diverged".
        estimator: "rao-blackwell" or "plain".
        typical_run: where the exact variance is carried by runs too rare to be seen: the number is the variance of a
            typical run, and its error says nothing about the rest. See `warning`.
        basis: of the polynomials, "1/b" or "c_b".
        n_examples: n of a data set.
        non_negative: whether theory guarantees non-negative coefficients.
        no_polynomial: why there is no polynomial without constant term; "" where there is one.
        provenance: versions, configuration, seed, device, timing.
    """

    step: np.ndarray
    batch_sizes: np.ndarray
    gradient: np.ndarray
    gradient_stderr: np.ndarray
    full_gradient: np.ndarray
    full_gradient_stderr: np.ndarray
    loss: np.ndarray
    loss_stderr: np.ndarray
    by_layer: tuple[LayerVariance, ...]
    gradient_covariance: np.ndarray | None
    chains: int
    runs_left: np.ndarray
    effective_runs: dict[str, np.ndarray]
    diverged: np.ndarray
    status: str
    estimator: str
    typical_run: np.ndarray
    basis: str
    n_examples: int | None
    non_negative: bool
    no_polynomial: str
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        rows, sizes = self.gradient.shape
        return (f"GradientVarianceResult({self.provenance['problem']}, {rows} steps, {sizes} batch sizes, "
                f"chains={self.chains}, estimator={self.estimator!r}, status={self.status!r})")

    def _repr_html_(self) -> str:
        """The variance of the gradient at the first, the middle and the last measured step, by batch size."""
        last = len(self.step) - 1
        shown = sorted({0, last // 2, last})
        header = ("batch size", *(f"Var(g) at step {self.step[t]}" for t in shown), "runs left")
        rows = [
            (str(b), *(f"{self.gradient[t, i]:.5g} ± {self.gradient_stderr[t, i]:.2g}" for t in shown),
             str(self.runs_left[-1, i]))
            for i, b in enumerate(self.batch_sizes)
        ]  # fmt: skip
        return _html.table(repr(self), header, rows, notes=(self.warning, origin(self.provenance)))

    @property
    def warning(self) -> str:
        """What a reader of these numbers must know; "" if nothing."""
        said = []
        if self.typical_run.any():
            first = int(self.step[self.typical_run.any(axis=1)][0])
            said.append(
                f"typical-run variance from step {first} on: the exact variance is carried by runs so rare that no "
                "simulation meets them (scalar network, step 3, b = 2: exact 6.9e16, simulated .63), and the "
                "standard errors do not know; typical_run marks the entries not to hold against exact theory"
            )
        if self.status == "diverged":
            counts = {int(b): int(d) for b, d in zip(self.batch_sizes, self.diverged, strict=True) if d}
            said.append(f"of {self.chains} runs some diverged (batch size: runs): {counts}; later rows are "
                        "conditional on survival")
        return "; ".join(said)

    def row(self, step: int) -> int:
        """The row of step t.

        Raises:
            ValueError: step t was not measured.
        """
        step = _checks.integer("step", step, low=0)
        row = int(np.searchsorted(self.step, step))
        if row == len(self.step) or self.step[row] != step:
            every = len(self.step) == self.step[-1] + 1
            measured = f"from 0 to {self.step[-1]}" if every else f"one of {_shortened(self.step)}"
            raise _checks.error("step", step, measured, "measure more of them: steps= and record= of gradient_variance")
        return row

    def fit(
        self,
        step: int,
        *,
        quantity: str = "gradient",
        layer: int | None = None,
        degree: int | None = None,
        non_negative: bool | None = None,
    ) -> PolynomialFit:
        """`fit_polynomial` of one row, in the basis that belongs to the sampling mode.

        Batch sizes whose variance is known to be 0 (b = n), and those where a run has diverged, are left out.

        Args:
            step: t, one of the measured steps.
            quantity: "gradient" or "full_gradient".
            layer: 0, 1, ... for one layer of a network; None is the whole gradient.
            degree: as in `fit_polynomial`.
            non_negative: None is what theory guarantees: True for SGD on least squares and quadratics.

        Raises:
            ValueError: there is no such step or layer, no polynomial without constant term, or nothing to fit.
        """
        row = self.row(step)
        quantity = _checks.choice("quantity", quantity, _BY_LAYER)
        if self.no_polynomial:
            raise _checks.error("step", step, "of a run whose variance is a polynomial without constant term",
                                f"here it is not: {self.no_polynomial}")
        source: GradientVarianceResult | LayerVariance = self
        if layer is not None:
            remedy = "layers are counted from 0; None is the whole gradient"
            if not self.by_layer:
                raise _checks.error("layer", layer, "None for a problem without layers", remedy)
            layer = _checks.integer("layer", layer, low=0, high=len(self.by_layer) - 1, remedy=remedy)
            source = self.by_layer[layer]
        y, error = (getattr(source, quantity + end)[row] for end in ("", "_stderr"))
        kept = (error > 0) & np.isfinite(error) & (self.runs_left[row] == self.chains)
        if not kept.any():
            raise _checks.error("step", step, "a row with statistical errors",
                                "at step 0 every run is at the same weights: the variance is exact, a single power")
        common = self.gradient_covariance
        joint = common is not None and quantity == "gradient" and layer is None
        return fit_polynomial(
            self.batch_sizes[kept], y[kept], None if joint else error[kept], degree, self.basis,
            n_examples=self.n_examples, non_negative=self.non_negative if non_negative is None else non_negative,
            covariance=common[row][np.ix_(kept, kept)] if joint and common is not None else None,
        )

    def save(self, path: str | Path) -> Path:
        """Write NetCDF (needs `pip install 'sgdsim[results]'`); a round trip through `ss.load` is exact.

        Raises:
            ImportError: xarray or h5netcdf is not installed.
            ValueError: the folder does not exist, or the path is a folder.
        """
        return netcdf.write(path, self.to_xarray())

    def to_xarray(self) -> xr.Dataset:
        """An `xarray.Dataset` with dimensions step, batch_size and, for a network, layer.

        Raises:
            ImportError: xarray is not installed.
        """
        xr = _checks.need("xarray", "results")
        kept = {name: getattr(self, name) for name in _ARRAYS}
        variables = {name: variable(name, value) for name, value in kept.items() if value is not None}
        variables |= {f"{name}_effective_runs": (_GRID, self.effective_runs[name], {}) for name in _TABLES}
        coordinates: dict[str, object] = {"step": self.step, "batch_size": self.batch_sizes}
        if self.by_layer:
            coordinates["layer"] = [layer.name for layer in self.by_layer]
            for name in _WITH_ERRORS[:4]:
                values = np.stack([getattr(layer, name) for layer in self.by_layer])
                variables[f"layer_{name}"] = variable(name, values, ("layer",))
            for name in _BY_LAYER:
                values = np.stack([self.effective_runs[f"{name} {layer.name}"] for layer in self.by_layer])
                variables[f"layer_{name}_effective_runs"] = ("layer", *_GRID), values, {}
        attributes = {"kind": "GradientVarianceResult", "warning": self.warning}
        attributes |= {name: getattr(self, name) for name in _TEXT}
        return xr.Dataset(variables, coordinates, attributes | {n: json.dumps(getattr(self, n)) for n in _JSON})

    @classmethod
    def from_xarray(cls, dataset: xr.Dataset) -> GradientVarianceResult:
        """The result that `to_xarray` described, exact in every field."""
        read, said = arrays_of(dataset), dataset.attrs
        layers = dataset["layer"].to_numpy().tolist() if "layer" in dataset.coords else []
        effective = {name: read[f"{name}_effective_runs"] for name in _TABLES}
        for i, layer in enumerate(layers):
            effective |= {f"{name} {layer}": read[f"layer_{name}_effective_runs"][i] for name in _BY_LAYER}
        by_layer = tuple(
            LayerVariance(layer, *(read[f"layer_{name}"][i] for name in _WITH_ERRORS[:4]))
            for i, layer in enumerate(layers)
        )
        fields: dict[str, Any] = {name: read.get(name) for name in _ARRAYS}
        fields |= {name: str(said[name]) for name in _TEXT} | {name: json.loads(str(said[name])) for name in _JSON}
        return cls(step=dataset["step"].to_numpy(), batch_sizes=dataset["batch_size"].to_numpy(), by_layer=by_layer,
                   effective_runs=effective, **fields)


def _shortened(steps: np.ndarray) -> str:
    """Steps as a complaint lists them: of many the first and the last few."""
    shown = [str(t) for t in steps]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:8], "...", *shown[-3:]])
