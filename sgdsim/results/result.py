"""What a simulation returns: measured numbers, each with its standard error and its provenance."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sgdsim import _checks, _html, _labels
from sgdsim._checks import need
from sgdsim.estimators.jackknife import Estimate
from sgdsim.estimators.tail_index import TailEstimate, tail_index
from sgdsim.results import arviz, netcdf
from sgdsim.results.dataset import Variable, arrays_of, variable
from sgdsim.results.derive import Function, jackknifed
from sgdsim.results.groups import Groups
from sgdsim.results.html import origin, quantity_rows
from sgdsim.results.run_state import RunState

if TYPE_CHECKING:
    import xarray as xr

_ARRAYS = ("tail", "tail_group", "tail_seen", "ess", "rhat", "final", "snapshots")


class Quantity(NamedTuple):
    """A measured number or array, and its standard error (NaN where it is not known)."""

    value: np.ndarray | float
    stderr: np.ndarray | float


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """Stationary statistics of an ensemble of chains; every array is float64 NumPy.

    Standard errors come from independent groups of chains, never from treating correlated steps as
    independent. Every measured quantity is an attribute, its standard error another with `_stderr` at the end; those
    listed first are None where they were not measured.

    Attributes:
        mean: average parameters, shape (D,).
        covariance: stationary covariance Sigma of the parameters, shape (D, D).
        noise_covariance: averaged covariance C of the minibatch-mean gradient, shape (D, D).
        train_loss: averaged training loss, label noise and penalty included.
        test_loss: averaged excess loss.
        kurtosis: E d^4 / (E d^2)^2 of each parameter (3 for a Gaussian), shape (D,).
        quantities: all that was measured, by name: (value, stderr).
        tail: largest deviations |w - minimum| over all chains and measured steps, descending: none above the
            last was dropped.
        ess: effective sample size of the mean of each parameter, shape (D,).
        rhat: nested split R-hat of each parameter, shape (D,); above 1.01 the run had not settled.
        chains: number of chains.
        diverged: how many chains left every bound (non-finite or beyond 1e18).
        status: "ok", "diverged" (at least one chain did), "interrupted", or "loss is not finite" (no chain diverged).
        record: time series of ensemble statistics at the recorded steps, by name, or None.
        final: parameters of every chain after the last step, shape (chains, D); where a run was interrupted, chains of
            passes that had not begun are at their start.
        snapshots: parameters of some chains at equally spaced measured steps, shape (steps, chains, D).
        provenance: versions, configuration, seed, device, timing; `steps_done` and why the run `stopped`, the step it
            was `resumed_from_step`, `passes`, `hosts`, and the `memory_estimate` in bytes.
        tail_group: independent group of chains that each of `tail` came from.
        tail_seen: how many (chain, measured step) pairs `tail` holds the largest of.
        groups: every quantity without each of up to 64 independent groups of chains, for `derive`; None where they
            would take more than 64 MiB, or were dropped (`keep_groups` of `simulate`).
        state: a `RunState` to go on from, with `keep_state=True` of `simulate`; files do not hold it.
    """

    quantities: Mapping[str, Quantity]
    tail: np.ndarray | None
    ess: np.ndarray | None
    rhat: np.ndarray | None
    chains: int
    diverged: int
    status: str
    record: dict[str, np.ndarray] | None
    final: np.ndarray
    snapshots: np.ndarray
    provenance: dict[str, Any]
    tail_group: np.ndarray | None = None
    tail_seen: float | None = None
    groups: Groups | None = None
    state: RunState | None = None

    def __getattr__(self, name: str) -> Any:
        """What was measured, `result.covariance` say, and what a user's own statistic is called."""
        quantity = name.removesuffix("_stderr")
        found = self.__dict__.get("quantities", {}).get(quantity)
        if found is not None:
            return found[0] if name == quantity else found[1]
        if quantity == "covariance" and "variance" in self.__dict__.get("quantities", {}):
            d = np.size(self.quantities["variance"].value)
            raise AttributeError(f"covariance was not measured: of {d} parameters it has {d} x {d} entries; read "
                                 ".variance, or measure with statistics=[ss.statistics.Moments(full=True)]")
        if quantity in _labels.QUANTITIES:
            return None
        raise AttributeError(f"this result has no {name!r}; a further statistic may measure it")

    def __dir__(self) -> list[str]:
        measured = [name + end for name in self.quantities for end in ("", "_stderr")]
        return [*super().__dir__(), *measured]

    def __repr__(self) -> str:
        how = self.provenance
        return (
            f"Result({how.get('problem')}, {how.get('optimizer')}, batch_size={how.get('batch_size')}, "
            f"chains={self.chains}, steps={how.get('steps')}, status={self.status!r})"
        )

    def _repr_html_(self) -> str:
        rows = quantity_rows(self.quantities)
        if self.rhat is not None:
            rows.append(("largest R-hat", _labels.brief(self.rhat.max()), "", "above 1.01 the run had not settled"))
        if self.ess is not None:
            rows.append(("smallest ESS", _labels.brief(self.ess.min()), "", "effective sample size of the mean"))
        if self.tail is not None:
            rows.append(("tail", f"{self.tail.size} largest deviations", "", "result.tail_index() fits them"))
        rows.append(("diverged", f"{self.diverged} of {self.chains} chains", "", f"status: {self.status}"))
        return _html.table(repr(self), ("quantity", "value", "stderr", ""), rows, notes=(origin(self.provenance),))

    def tail_index(self, *, method: str = "hill", confidence: float = 0.95, decay: float = 2.0) -> TailEstimate:
        """Exponent of P(|w - minimum| > x), from `tail`; its interval rests on independent groups of chains.

        Args:
            method: as for `estimators.tail_index`.
            confidence: of the interval.
            decay: as for `estimators.tail_index`.

        Raises:
            ValueError: no `LargestDeviations` were measured, chains diverged, or fewer than 200 were kept.
        """
        if self.tail is None or self.tail_group is None:
            raise _checks.error("statistics", "without LargestDeviations", "such that the tail is kept",
                                "measure ss.statistics.LargestDeviations(), which is among the defaults")
        if self.diverged:
            raise _checks.error("diverged", self.diverged, "0: a chain cut off at 1e18 is no tail",
                                "use a smaller learning rate, or ss.estimators.tail_index(result.tail) all the same")
        return tail_index(self.tail, groups=self.tail_group, total=int(self.tail_seen or 0), method=method,
                          confidence=confidence, decay=decay)

    def derive(self, function: Function, *, confidence: float = 0.95) -> Estimate:
        """A number or array of your own, made of measured ones, with an honest error.

        The jackknife over independent groups of chains: the function is called once with everything and once without
        each group. Its value is corrected for bias; the correction counts as one error more, which matters where the
        function is not smooth (the larger of two equal eigenvalues; of three equal ones the interval covers 91 %).

        Args:
            function: its parameters are called as the measured quantities that it gets, arrays in float64:
                `lambda covariance, train_loss: np.trace(covariance) / train_loss`. It returns a number or an array.
            confidence: of the interval, between 0 and 1.

        Returns:
            An `Estimate`: value, stderr, interval, each of the shape that the function returns.

        Raises:
            ValueError: a parameter was not measured, a value is not finite, no groups were kept, or fewer than 8.

        Examples:
            >>> import numpy as np, sgdsim as ss
            >>> problem = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
            >>> result = ss.simulate(problem, ss.SGD(0.3), batch_size=8, chains=1000, steps=300, burn_in=100)
            >>> found = result.derive(lambda covariance: np.linalg.cond(covariance))
            >>> bool(found.interval[0] < found.value < found.interval[1])
            True
        """
        found = jackknifed(function, [self])
        one = found._replace(value=found.value[0], bias=found.bias[0], errors=found.errors[:, 0])
        return one.estimate(_checks.between_0_and_1("confidence", confidence, "0.95 is the default"))

    def save(self, path: str | Path) -> Path:
        """Write NetCDF (needs `pip install 'sgdsim[results]'`); a round trip through `ss.load` is exact.

        The file is complete or not there, and what was there before stays until then.

        Raises:
            ImportError: xarray or h5netcdf is not installed.
            ValueError: the folder does not exist, or the path is a folder.
        """
        return netcdf.write(path, self.to_xarray(groups=True))

    def to_xarray(self, *, groups: bool = False) -> xr.Dataset:
        """An `xarray.Dataset` with named dimensions (needs `pip install 'sgdsim[results]'`).

        One variable a quantity, with description, units and equation; provenance as JSON. Time series have the prefix
        `record_` and the dimension `step`.

        Args:
            groups: add what is kept of groups of chains, with the prefix `without_` and the dimension `group`.
        """
        xr = need("xarray", "results")
        variables: dict[str, Variable] = {}
        for name, (value, stderr) in self.quantities.items():
            variables |= {name: variable(name, value), f"{name}_stderr": variable(f"{name}_stderr", stderr)}
        for name in _ARRAYS:
            if (kept := getattr(self, name)) is not None:
                variables[name] = variable(name, kept)
        coordinates: dict[str, object] = {}
        for name, series in (self.record or {}).items():
            if name == "step":
                coordinates["step"] = ("step", series, {"description": "optimizer steps before the measurement"})
            else:
                variables[f"record_{name}"] = variable(name, series, ("step",))
        if groups and self.groups is not None:
            coordinates["group"] = ("group", self.groups.sizes, {"description": "chains of each group"})
            variables |= {f"without_{name}": variable(name, value, ("group",)) for name, value in self.groups.items()}
        if "mean" in self.quantities:
            coordinates["parameter"] = np.arange(np.size(self.mean))
        if isinstance(self.provenance.get("batch_size"), int):
            coordinates["batch_size"] = self.provenance["batch_size"]
        attributes = {"kind": "Result", "equations": _labels.EQUATIONS, "chains": self.chains,
                      "diverged": self.diverged, "status": self.status, "provenance": json.dumps(self.provenance)}
        return xr.Dataset(variables, coordinates, attributes)

    @classmethod
    def from_xarray(cls, dataset: xr.Dataset) -> Result:
        """The result that `to_xarray` described, exact in every field."""
        read, said = arrays_of(dataset), dataset.attrs
        record, without = (
            {name.removeprefix(prefix): read.pop(name) for name in [*read] if name.startswith(prefix)}
            for prefix in ("record_", "without_")
        )
        if "step" in dataset.coords:
            record = {"step": dataset["step"].to_numpy(), **record}
        alone = json.loads(said.get("extra", "[]"))  # before format 3 a further quantity might have no standard error
        quantities = {
            name: Quantity(value, read.get(f"{name}_stderr", np.nan))
            for name, value in read.items()
            if f"{name}_stderr" in read or (name in alone and not name.endswith("_stderr"))
        }
        arrays: dict[str, Any] = {name: read.get(name) for name in _ARRAYS}
        groups = Groups(dataset["group"].to_numpy(), without) if "group" in dataset.coords else None
        return cls(quantities=quantities, groups=groups, record=record or None, chains=int(said["chains"]),
                   status=str(said["status"]), diverged=int(said["diverged"]),
                   provenance=json.loads(said["provenance"]), **arrays)

    def to_arviz(self, source: str = "snapshots") -> Any:
        """Chains as draws of `w` for ArviZ (needs `pip install 'sgdsim[diagnostics]'`).

        Args:
            source: "snapshots" (some chains at several measured steps, far apart) or "final" (every chain after the
                last step, one draw a chain). Chains that diverged are left out.

        Returns:
            Of ArviZ below 1.0 an `InferenceData`, else the `xarray.DataTree` that took its place; in its group
            `posterior` the variable `w` (chain, draw, parameter).

        Raises:
            ImportError: ArviZ is not installed.
            ValueError: there are no such draws.
        """
        _checks.choice("source", source, ("snapshots", "final"))
        draws = self.snapshots.swapaxes(0, 1)
        if source == "final":
            draws = self.final[np.isfinite(self.final).all(axis=1)][:, None]
        if draws.size == 0:
            raise _checks.error("source", source, "with draws in it",
                                "simulate more than burn_in steps with statistics")
        return arviz.posterior(np.asarray(draws, np.float64), source, self.provenance)
