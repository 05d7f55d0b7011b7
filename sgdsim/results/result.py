"""What a simulation returns: measured numbers, each with its standard error and its provenance."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim.results.show import result_html
from sgdsim.statistics.tail_index import TailEstimate, tail_index

QUANTITIES = ("mean", "covariance", "noise_covariance", "train_loss", "test_loss", "kurtosis")


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Stationary statistics of an ensemble of chains; every array is float64 NumPy.

    Standard errors come from independent groups of chains, never from treating correlated steps as
    independent. A quantity that was not measured is None.

    Attributes:
        mean: average parameters, shape (D,).
        covariance: stationary covariance Sigma of the parameters, shape (D, D).
        noise_covariance: averaged covariance C of the minibatch-mean gradient, shape (D, D).
        train_loss: averaged training loss, label noise and penalty included.
        test_loss: averaged excess loss.
        kurtosis: E d^4 / (E d^2)^2 of each parameter (3 for a Gaussian), shape (D,).
        tail: largest deviations |w - minimum| over all chains and measured steps, descending: none above the
            last was dropped.
        ess: effective sample size of the mean of each parameter, shape (D,).
        rhat: nested split R-hat of each parameter, shape (D,); above 1.01 the run had not settled.
        chains: number of chains.
        diverged: how many chains left every bound (non-finite or beyond 1e18).
        status: "ok", "diverged" (at least one chain did) or "interrupted".
        record: time series of ensemble statistics at the recorded steps, by name, or None.
        final: parameters of every chain after the last step, shape (chains, D); where a run was interrupted, chains of
            passes that had not begun are at their start.
        provenance: versions, configuration, seed, device, timing; `steps_done` and why the run `stopped`, the step it
            was `resumed_from_step`, `passes`, `hosts`, and the `memory_estimate` in bytes.
        tail_group: independent group of chains that each of `tail` came from.
        tail_seen: how many (chain, measured step) pairs `tail` holds the largest of.
    """

    mean: Any
    mean_stderr: Any
    covariance: Any
    covariance_stderr: Any
    noise_covariance: Any
    noise_covariance_stderr: Any
    train_loss: Any
    train_loss_stderr: Any
    test_loss: Any
    test_loss_stderr: Any
    kurtosis: Any
    kurtosis_stderr: Any
    tail: Any
    ess: Any
    rhat: Any
    chains: int
    diverged: int
    status: str
    record: dict[str, np.ndarray] | None
    final: Any
    snapshots: Any
    provenance: dict[str, Any]
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    tail_group: Any = None
    tail_seen: float | None = None

    def __getattr__(self, name: str) -> Any:
        """What further statistics measured, `result.product_covariance` say, is an attribute like the rest."""
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"this result has no {name!r}; a further statistic may measure it")

    def __repr__(self) -> str:
        how = self.provenance
        return (
            f"Result({how.get('problem')}, {how.get('optimizer')}, batch_size={how.get('batch_size')}, "
            f"chains={self.chains}, steps={how.get('steps')}, status={self.status!r})"
        )

    def _repr_html_(self) -> str:
        return result_html(self)

    def tail_index(self, **options: Any) -> TailEstimate:
        """Exponent of P(|w - minimum| > x), from `tail`; its interval rests on independent groups of chains.

        Args:
            options: `method`, `level` and `decay` of `statistics.tail_index`.

        Raises:
            ValueError: no `LargestDeviations` were measured, chains diverged, or fewer than 200 were kept.
        """
        if self.tail is None or self.tail_group is None:
            raise _checks.error("statistics", "without LargestDeviations", "such that the tail is kept",
                                "measure ss.statistics.LargestDeviations(), which is among the defaults")
        if self.diverged:
            raise _checks.error("diverged", self.diverged, "0: a chain cut off at 1e18 is no tail",
                                "use a smaller learning rate, or ss.statistics.tail_index(result.tail) all the same")
        return tail_index(self.tail, groups=self.tail_group, total=int(self.tail_seen or 0), **options)

    def save(self, path: str | Path) -> Path:
        """Write NetCDF (needs `pip install 'sgdsim[results]'`); a round trip through `ss.load` is exact."""
        from sgdsim.results.files import save

        return save(self, path)

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` with named dimensions (needs `pip install 'sgdsim[results]'`)."""
        from sgdsim.results.export import to_xarray

        return to_xarray(self)

    def to_inferencedata(self, source: str = "snapshots") -> Any:
        """ArviZ's `InferenceData` with chains as draws of `w` (needs `pip install 'sgdsim[diagnostics]'`).

        Args:
            source: "snapshots" (some chains at several measured steps) or "final" (every chain after the last step,
                one draw a chain). Chains that diverged are left out.

        Raises:
            ValueError: there are no such draws.
        """
        from sgdsim.results.export import to_inferencedata

        return to_inferencedata(self, source)
