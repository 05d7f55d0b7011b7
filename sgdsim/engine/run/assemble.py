"""Turn merged totals into a `Result`."""

from __future__ import annotations

import numpy as np
from jaxtyping import PyTree

from sgdsim.engine.plan.request import Request
from sgdsim.engine.run.collector import Measured, Totals
from sgdsim.engine.run.kept_groups import kept_groups
from sgdsim.engine.run.loop import Ensemble
from sgdsim.engine.run.provenance import provenance
from sgdsim.engine.run.quantities import Numbers, quantities
from sgdsim.results import Quantity, Result
from sgdsim.statistics import rank_normalised_rhat, streaming_rhat
from sgdsim.statistics.largest import LargestDeviationsSummary, TailSums, joint_tail
from sgdsim.statistics.moments import CentralMoments
from sgdsim.statistics.product import ProductTotals


def assemble(ensemble: Ensemble, point: int, keep_groups: bool | None = None) -> Result:
    """Statistics of one point over both halves, diagnostics, and where it all came from."""
    request, measured = ensemble.plan.request, ensemble.measured[point]
    totals = both_halves(request, measured.halves) or []
    numbers = quantities(request.statistics, totals) if totals else {}
    tail = _tail(totals)
    diverged = int((~measured.alive).sum())
    interrupted = ensemble.stopped == "interrupted"
    looks = sum(s.rounds for s in ensemble.plan.segments if s.measure and s.counts and s.stop <= ensemble.steps_done)
    return Result(
        quantities={name: Quantity(value, numbers[f"{name}_stderr"]) for name, value in numbers.items()
                    if not name.endswith("_stderr")},
        tail=tail and tail.deviations,
        tail_group=tail and tail.group,
        tail_seen=tail and tail.seen,
        groups=kept_groups(ensemble.plan, totals, keep_groups),
        ess=_effective_sample_size(numbers, request.chains * max(1, looks)),
        rhat=_rhat(measured),
        chains=request.chains,
        diverged=diverged,
        status="diverged" if diverged else "interrupted" if interrupted else _status_of_losses(numbers),
        record=_record(request, measured),
        final=measured.final,
        snapshots=measured.snapshots,
        provenance=_provenance(ensemble, point),
        state=ensemble.state,
    )


def _status_of_losses(numbers: Numbers) -> str:
    """Weights may stay within bounds where the loss does not exist, as the logarithm of what has become negative."""
    losses = [numbers[name] for name in ("train_loss", "test_loss") if name in numbers]
    return "ok" if np.isfinite(losses).all() else "loss is not finite"


def _provenance(ensemble: Ensemble, point: int) -> dict[str, object]:
    """That of every run, and how this one went."""
    plan, resumed = ensemble.plan, ensemble.resumed_from
    longest = plan.passes[0].stop - plan.passes[0].first
    return provenance(plan, plan.points[point], ensemble.seconds) | {
        "steps_done": ensemble.steps_done,
        "stopped": ensemble.stopped,
        "target_stderr": plan.target,
        "relative_stderr": ensemble.relative_stderr,
        "resumed_from_step": resumed and resumed[1],
        "resumed_from_pass": resumed[0] if resumed and len(plan.passes) > 1 else None,
        "passes": len(plan.passes),
        "passes_done": ensemble.passes_done,
        "memory_estimate": plan.need and plan.need.of(longest),
        "steps_per_launch": "many" if plan.launch and plan.launch.fused else "one",
        "program": "loop of XLA operations" if plan.launch is None else plan.launch.program,
        "control_variate": plan.companion is not None,
    }


def both_halves(request: Request, halves: list[Totals | None]) -> Totals | None:
    """Totals over both halves; None if nothing was measured."""
    first, second = halves
    if first is None or second is None:
        return first or second
    with np.errstate(over="ignore", invalid="ignore"):
        return [s.merge(x, y) for s, x, y in zip(request.statistics, first, second, strict=True)]


def _effective_sample_size(numbers: Numbers, samples: int) -> np.ndarray | None:
    covariance = numbers.get("covariance", numbers.get("variance"))
    if covariance is None:
        return None
    variance = np.diagonal(covariance) if np.ndim(covariance) == 2 else covariance
    error = np.square(numbers["mean_stderr"])
    independent = np.divide(variance, error, out=np.full_like(error, np.nan), where=error > 0)
    return np.minimum(independent, samples)  # never more than there are


def _rhat(measured: Measured) -> np.ndarray | None:
    ranked = rank_normalised_rhat(measured.snapshots)
    product = [x.moments for half in measured.halves if half for x in half if isinstance(x, ProductTotals)]
    if len(product) == 2:  # the weights of a linear network wander along their gauge: its product settles
        return streaming_rhat(product)
    halves = [x for half in measured.halves if half for x in half if isinstance(x, CentralMoments)]
    if len(halves) < 2:
        return ranked if len(measured.snapshots) else None
    with np.errstate(over="ignore", invalid="ignore"):
        return np.fmax(ranked, streaming_rhat(halves))


def _tail(totals: list[PyTree]) -> LargestDeviationsSummary | None:
    return next((joint_tail(total) for total in totals if isinstance(total, TailSums)), None)


def _record(request: Request, measured: Measured) -> dict[str, np.ndarray] | None:
    if not request.record:
        return None
    rows = measured.record
    series = {"step": np.array(request.record[: len(rows)])}
    for name in rows[0] if rows else ():
        series[name] = np.stack([row[name] for row in rows])
    return series
