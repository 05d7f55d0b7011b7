"""A recorded run against the theory of the whole run, step by step."""

from __future__ import annotations

import numpy as np

from sgdsim import _checks
from sgdsim.comparisons.comparison import (
    AGREE,
    DEFAULT_GROUPS,
    DISAGREE,
    OUT,
    POWER,
    ROUNDING,
    UNDERPOWERED,
    Comparison,
    Row,
    sidak_threshold,
)
from sgdsim.comparisons.regime import difference
from sgdsim.estimators.jackknife import MIN_GROUPS
from sgdsim.results.result import Result
from sgdsim.solver.whole_run import RunPrediction

_NAMES = ("mean", "covariance", "variance", "train_loss", "test_loss")


def compare_run(result: Result, prediction: RunPrediction, error_rate: float) -> Comparison:
    """One row a quantity, judged over all entries at all steps that were both recorded and predicted.

    The rules are those of `compare`: Student's t, a level corrected for all entries, steps and rows, rounding errors of
    the chains added in quadrature. Each row shows the entry with the largest |z|, its step first.

    Raises:
        ValueError: nothing was recorded, or no step of it is predicted.
    """
    record = result.record
    if not record:
        raise _checks.error("result.record", None, "a recorded run", "simulate with record=[...] or record=10")
    steps, here, there = np.intersect1d(record["step"], prediction.step, return_indices=True)
    if not steps.size:
        raise _checks.error("prediction.step", prediction.step, "steps that were recorded",
                            "predict_run with the same record")
    names = [name for name in _NAMES if name in record and _predicted(prediction, name) is not None]
    level = 1 - (1 - error_rate) ** (1 / max(len(names), 1))
    groups = int(result.provenance.get("groups", DEFAULT_GROUPS))
    regime = _out_of_regime(result, prediction)
    rows, entries = [], {}
    for name in names:
        simulated, stderr = record[name][here], record[f"{name}_stderr"][here]
        predicted = np.asarray(_predicted(prediction, name))[there]
        variance = prediction.variance[there]
        row, entries[name] = _row(name, steps, (simulated, stderr, predicted), variance, level, groups,
                                  _epsilon(result), float(np.abs(prediction.mean).max()), regime,
                                  prediction.theory_error)
        rows.append(row)
    return Comparison(rows, entries, error_rate, regime, prediction.reference, "exact")


def _predicted(prediction: RunPrediction, name: str) -> np.ndarray | None:
    return prediction.covariances if name == "covariance" else getattr(prediction, name)


def _epsilon(result: Result) -> float:
    dtype = str(result.provenance.get("dtype", "float32"))
    return float(np.finfo(np.float64 if "64" in dtype else np.float32).eps)


def _row(
    name: str, steps: np.ndarray, values: tuple[np.ndarray, np.ndarray, np.ndarray], variance: np.ndarray,
    level: float, groups: int, epsilon: float, largest: float, regime: str, theory_error: float,
) -> tuple[Row, np.ndarray]:
    simulated, stderr, predicted = values
    scale = _scale(name, variance, predicted)
    arithmetic = ROUNDING * epsilon * max(largest, 1e-12)
    small = np.full(scale.shape, arithmetic) if name == "mean" else arithmetic**2 + ROUNDING / 4 * epsilon * scale
    difference = simulated - predicted
    beyond = np.sign(difference) * np.maximum(np.abs(difference) - theory_error * scale, 0)
    z = beyond / np.hypot(stderr, small)
    upper = np.ones(z.shape, bool)
    if z.ndim == 3:
        upper = np.broadcast_to(np.triu(np.ones(z.shape[1:], bool)), z.shape)
    varies = upper & (scale > small)
    distinct = int(upper.sum())
    threshold = sidak_threshold(level, distinct, groups - 1)
    shown = np.where(upper, np.abs(np.nan_to_num(z, nan=np.inf)), -1.0)
    where = np.unravel_index(int(shown.argmax()), z.shape)
    if regime:
        verdict = OUT
    elif groups < MIN_GROUPS or np.any(varies & ~(stderr <= POWER * scale)):
        verdict = UNDERPOWERED
    else:
        verdict = AGREE if shown.max() <= threshold else DISAGREE
    index = ",".join(["step " + str(int(steps[where[0]])), *(str(int(i)) for i in where[1:])])
    size = float(scale[where])
    relative = float(difference[where]) / size if size > 0 else (0.0 if difference[where] == 0 else np.inf)
    row = Row(f"{name}[{index}]", float(simulated[where]), float(stderr[where]), float(predicted[where]),
              float(z[where]), relative, verdict, threshold, distinct, regime)
    return row, z


def _scale(name: str, variance: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    spread = np.sqrt(np.clip(variance, 0, None))
    if name == "covariance":
        return spread[:, :, None] * spread[:, None, :]
    return spread if name == "mean" else variance if name == "variance" else np.abs(predicted)


def _out_of_regime(result: Result, prediction: RunPrediction) -> str:
    if result.diverged > 0:
        return f"{result.diverged} of {result.chains} chains diverged"
    if result.status != "ok":
        return f"the run ended with status {result.status!r}"
    for key in ("problem", "optimizer", "sampling"):
        if key in result.provenance and result.provenance[key] != prediction.configuration[key]:
            return difference(key, result.provenance[key], prediction.configuration[key])
    drawn = result.provenance.get("batch_size")
    if drawn is not None and not np.all(prediction.batch_size == _at(drawn, prediction.step)):
        return "the result and the prediction differ in batch_size"
    return ""


def _at(batch_size: int | list[int], steps: np.ndarray) -> np.ndarray:
    sizes = np.atleast_1d(batch_size)
    return sizes[np.minimum(steps, len(sizes) - 1)]
