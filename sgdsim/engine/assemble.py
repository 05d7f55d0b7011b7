"""Turn merged totals into a `Result`."""

from __future__ import annotations

import datetime
import platform
from typing import Any

import jax
import numpy as np
import optax

from sgdsim._version import __version__
from sgdsim.engine.collector import Measured
from sgdsim.engine.configure import Run
from sgdsim.engine.ensemble import Ensemble
from sgdsim.engine.quantities import quantities
from sgdsim.results import QUANTITIES, Result
from sgdsim.statistics import rank_normalised_rhat, streaming_rhat
from sgdsim.statistics.largest import Tail, TailSums, joint_tail
from sgdsim.statistics.moments import CentralMoments
from sgdsim.statistics.product import ProductTotals


def assemble(measured: Measured, run: Run, ensemble: Ensemble, provenance: dict[str, Any]) -> Result:
    """Statistics over both halves, diagnostics, and where it all came from."""
    totals = both_halves(run, measured.halves) or []
    numbers = quantities(run.statistics, totals) if totals else {}
    tail = _tail(totals)
    known = {f"{name}{end}" for name in QUANTITIES for end in ("", "_stderr")}
    fields = {name: numbers.get(name) for name in known}
    diverged = int((~measured.alive).sum())
    status = "diverged" if diverged else "interrupted" if ensemble.interrupted else "ok"
    return Result(
        **fields,
        tail=tail and tail.deviations,
        tail_group=tail and tail.group,
        tail_seen=tail and tail.seen,
        ess=_effective_sample_size(numbers),
        rhat=_rhat(measured),
        chains=run.chains,
        diverged=diverged,
        status=status,
        record=_record(run, measured),
        final=measured.final,
        snapshots=measured.snapshots,
        provenance=provenance,
        extra={name: value for name, value in numbers.items() if name not in known},
    )


def provenance(problem: Any, optimizer: Any, batch_size: int, sampling: str, kernel: Any, run: Run,
               ensemble: Ensemble) -> dict[str, Any]:
    """Configuration, versions, layout and timing, as plain JSON types."""
    return {
        "problem": repr(problem),
        "optimizer": "optax transformation" if run.transform is not None else repr(optimizer),
        "batch_size": batch_size,
        "sampling": sampling,
        "chains": run.chains,
        "steps": run.steps,
        "steps_done": ensemble.steps_done,
        "burn_in": run.burn_in,
        "thin": run.thin,
        "seed": run.seed,
        "dtype": run.dtype.name,
        "kernel": type(kernel).__name__,
        "blocks": ensemble.blocks.number,
        "block_size": ensemble.blocks.size,
        "groups": ensemble.blocks.number * ensemble.blocks.groups,
        **ensemble.how,
        "devices": [str(device) for device in ensemble.devices],
        "platform": ensemble.devices[0].device_kind,
        "seconds": round(ensemble.seconds, 3),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "sgdsim": __version__,
            "jax": jax.__version__,
            "optax": optax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def both_halves(run: Run, halves: list[Any]) -> list[Any] | None:
    """Totals over both halves; None if nothing was measured."""
    first, second = halves
    if first is None or second is None:
        return first or second
    with np.errstate(over="ignore", invalid="ignore"):
        return [s.merge(x, y) for s, x, y in zip(run.statistics, first, second, strict=True)]


def _effective_sample_size(numbers: dict[str, Any]) -> Any:
    covariance = numbers.get("covariance", numbers.get("variance"))
    if covariance is None:
        return None
    variance = np.diagonal(covariance) if np.ndim(covariance) == 2 else covariance
    error = np.square(numbers["mean_stderr"])
    return np.divide(variance, error, out=np.full_like(error, np.nan), where=error > 0)


def _rhat(measured: Measured) -> Any:
    ranked = rank_normalised_rhat(measured.snapshots)
    product = [x.moments for half in measured.halves if half for x in half if isinstance(x, ProductTotals)]
    if len(product) == 2:  # the weights of a linear network wander along their gauge: its product settles
        return streaming_rhat(product)
    halves = [x for half in measured.halves if half for x in half if isinstance(x, CentralMoments)]
    if len(halves) < 2:
        return ranked if len(measured.snapshots) else None
    with np.errstate(over="ignore", invalid="ignore"):
        return np.fmax(ranked, streaming_rhat(halves))


def _tail(totals: list[Any]) -> Tail | None:
    return next((joint_tail(total) for total in totals if isinstance(total, TailSums)), None)


def _record(run: Run, measured: Measured) -> dict[str, np.ndarray] | None:
    if not run.record:
        return None
    rows = measured.record
    series = {"step": np.array(run.record[: len(rows)])}
    for name in rows[0] if rows else ():
        series[name] = np.stack([row[name] for row in rows])
    return series
