"""A measured result against a prediction: z-scores, relative errors and verdicts."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from scipy import special

from sgdsim import _checks
from sgdsim.comparison import AGREE, DISAGREE, OUT, UNDERPOWERED, Comparison, Row
from sgdsim.results.result import Result
from sgdsim.solver.prediction import Prediction
from sgdsim.statistics.tail_index import MIN_SAMPLES

QUANTITIES = ("mean", "covariance", "noise_covariance", "train_loss", "test_loss", "product_mean", "product_covariance")

POWER = 0.1  # a standard error above this fraction of the scale cannot tell right from wrong
SUSPECT = 4.0  # a kurtosis above it asks for the tail index
FOURTH = 4.0  # moments of this order do not exist at or below this tail index
CLEARLY = 1.5  # times that index: then the measured one is enough
MIN_GROUPS = 8
DEFAULT_GROUPS = 64
MAX_RHAT = 1.05
ROUNDING = 64  # machine epsilons, relative to the largest parameter, that arithmetic alone may be off by


@functools.singledispatch
def compare(result: Any, prediction: Any, *, error_rate: float = 0.01) -> Comparison:
    """Hold every measured quantity against its prediction.

    The statistic of an entry is Student's t with (groups - 1) degrees of freedom; a row is judged by
    its largest |z| at a level corrected (Sidak) for its distinct entries, D or D(D+1)/2, and for the
    number of rows, so that a correct prediction meets any "disagree" with probability `error_rate`.

    An entry is *underpowered* where its standard error is not finite or above 10% of its scale (see
    `Row.relative_error`), where there are fewer than 8 groups, or (second moments) where the fourth moment, on
    which the standard error itself rests, was not measured to 10% or does not exist: a kurtosis above 4 asks for
    the tail index, which must be above 4 (see `heavy_tails`). A row with such an entry says so, whatever its z.
    A row is *out of regime*
    when chains diverged, the run was interrupted, R-hat is above 1.05 or the two configurations differ.

    Rounding errors of the chains count as one more standard error, added in quadrature: 64 machine
    epsilons of the largest parameter for the mean, its square for second moments, plus 16 epsilons of a
    second moment's own scale. So where theory says exactly zero and nothing varies (b = n without
    replacement), zero agrees with zero.

    Where the theory states an error of its own (`Prediction.theory_error`, as for Adam), z counts what the difference
    exceeds that share of the scale by; where it says that it does not hold (`out_of_regime`), so does every row.

    For what `gradient_variance` measured see `compare_gradient_variance`, which is called then.

    Args:
        result: a `Result`, what `simulate` measured.
        prediction: a `Prediction`, what `predict` says of the same problem, optimizer and batch size.
        error_rate: probability of any "disagree" for a correct prediction.

    Raises:
        ValueError: `error_rate` is not in (0, 1), or the dimensions differ.
    """
    rate = _checks.real("error_rate", error_rate, "in (0, 1)", "0.01 is the default")
    if not 0 < rate < 1:
        raise _checks.error("error_rate", error_rate, "in (0, 1)", "0.01 is the default")
    if not isinstance(result, Result):
        raise _checks.error("result", type(result).__name__, "a Result", "try ss.compare(result, prediction)")
    if not isinstance(prediction, Prediction):
        raise _checks.error("prediction", type(prediction).__name__, "a Prediction", "try ss.predict(...)")
    names = [name for name in QUANTITIES if getattr(result, name, None) is not None]
    names = [name for name in names if getattr(prediction, name, None) is not None]
    for name in names:
        here, there = np.shape(getattr(result, name)), np.shape(getattr(prediction, name))
        if here != there:
            raise _checks.error(
                f"prediction.{name}",
                f"of shape {there}",
                f"of shape {here}",
                "predict for the problem that was simulated",
            )
    groups = int(result.provenance.get("groups", DEFAULT_GROUPS))
    regime = _out_of_regime(result, prediction)
    heavy = "" if regime else heavy_tails(result, prediction)
    level = 1 - (1 - rate) ** (1 / max(len(names), 1))
    rows, entries = [], {}
    for name in names:
        row, entries[name] = _row(name, result, prediction, level=level, groups=groups, regime=regime, heavy=heavy)
        rows.append(row)
    return Comparison(rows, entries, rate, regime, prediction.reference, prediction.approximation)


def judge(
    quantity: str,
    simulated: float,
    stderr: float,
    predicted: float,
    *,
    error_rate: float = 0.01,
    groups: int = DEFAULT_GROUPS,
    note: str = "",
) -> Row:
    """Return the verdict on one number that is no field of a `Result`, by the rules of `compare`.

    Args:
        quantity: its name.
        simulated: measured value.
        stderr: its standard error.
        predicted: predicted value.
        error_rate: probability of "disagree" for a correct prediction.
        groups: number of independent groups behind the standard error.
        note: where given, the reason why the standard error is not known: the verdict is "underpowered".
    """
    difference = simulated - predicted
    relative = difference / abs(predicted) if predicted else (0.0 if difference == 0 else math.inf)
    z = 0.0 if difference == 0 else difference / stderr if stderr > 0 else math.inf
    threshold = sidak_threshold(error_rate, 1, groups - 1)
    if note or groups < MIN_GROUPS or not stderr <= POWER * abs(predicted):
        verdict = UNDERPOWERED
    else:
        verdict = AGREE if abs(z) <= threshold else DISAGREE
    return Row(quantity, simulated, stderr, predicted, z, relative, verdict, threshold, 1, note)


def _row(
    name: str, result: Result, prediction: Prediction, *, level: float, groups: int, regime: str, heavy: str
) -> tuple[Row, np.ndarray]:
    simulated = np.asarray(getattr(result, name), np.float64)
    stderr = np.broadcast_to(np.asarray(getattr(result, f"{name}_stderr"), np.float64), simulated.shape)
    predicted = np.asarray(getattr(prediction, name), np.float64)
    scale = _scale(name, prediction)
    difference = simulated - predicted
    beyond = np.sign(difference) * np.maximum(np.abs(difference) - prediction.theory_error * scale, 0)
    rounding = _rounding(name, scale, result, prediction)
    zero = scale <= rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        z = beyond / np.hypot(stderr, rounding)
        relative = np.where(scale > 0, difference / scale, np.where(difference == 0, 0.0, np.inf))
        weak = ~(stderr <= POWER * scale)
    z = np.where(beyond == 0, 0.0, z)
    upper = np.triu(np.ones(z.shape, bool)) if z.ndim == 2 else np.ones(z.shape, bool)
    distinct = int(upper.sum())
    threshold = sidak_threshold(level, distinct, groups - 1)
    shown = np.where(upper, np.abs(np.nan_to_num(z, nan=np.inf, posinf=np.inf, neginf=np.inf)), -1.0)
    where = np.unravel_index(int(shown.argmax()), z.shape)
    weak = weak & ~zero & upper
    if weak.any() and not weak[where]:  # show an entry that made the row underpowered
        masked = np.where(weak, stderr / np.where(scale > 0, scale, 1.0), -1.0)
        where = np.unravel_index(int(np.nan_to_num(masked, nan=np.inf).argmax()), z.shape)

    note = ""
    if regime:
        verdict, note = OUT, regime
    elif groups < MIN_GROUPS:
        verdict, note = UNDERPOWERED, f"{groups} groups of chains, fewer than {MIN_GROUPS}: run more chains"
    elif weak.any():
        verdict, note = UNDERPOWERED, f"standard error above {POWER:.0%} of scale: run more chains or steps"
    elif not name.endswith("mean") and not zero.all() and heavy:
        verdict, note = UNDERPOWERED, heavy
    else:
        verdict = AGREE if shown.max() <= threshold else DISAGREE
        note = "theory says exactly zero here; judged by rounding error" if zero.all() else ""
    index = "" if not where else f"[{','.join(str(int(i)) for i in where)}]"
    row = Row(
        name + index,
        float(simulated[where]),
        float(stderr[where]),
        float(predicted[where]),
        float(z[where]),
        float(relative[where]),
        verdict,
        threshold,
        distinct,
        note,
    )
    return row, z


def sidak_threshold(level: float, entries: int, dof: int) -> float:
    """Return the |t| that the largest of `entries` independent ones exceeds with probability `level`."""
    if dof < 1:
        return math.inf
    tail = -math.expm1(math.log1p(-level) / entries) / 2
    return float(-special.stdtrit(dof, tail))


def _scale(name: str, prediction: Prediction) -> np.ndarray:
    """Return what a standard error of each entry has to be small against."""
    if name.endswith("mean"):
        covariance = getattr(prediction, name.replace("mean", "covariance"))
        return np.sqrt(np.clip(np.diag(np.atleast_2d(covariance)), 0, None))
    value = np.asarray(getattr(prediction, name), np.float64)
    if value.ndim == 0:
        return np.abs(value)
    spread = np.sqrt(np.clip(np.diag(value), 0, None))
    return np.outer(spread, spread)


def _rounding(name: str, scale: np.ndarray, result: Result, prediction: Prediction) -> np.ndarray:
    """Return how far rounding errors of the chains alone can move each entry."""
    dtype = str(result.provenance.get("dtype", "float32"))
    epsilon = float(np.finfo(np.float64 if "64" in dtype else np.float32).eps)
    centre = prediction.product_mean if prediction.mean is None else prediction.mean
    size = ROUNDING * epsilon * float(np.max(np.abs(centre), initial=1e-12))
    return np.full(scale.shape, size) if name.endswith("mean") else size**2 + ROUNDING / 4 * epsilon * scale


def heavy_tails(result: Result, prediction: Prediction | None = None) -> str:
    """Return why the standard errors of second moments are not to be trusted, or "".

    They rest on the fourth moment. It must be measured to 10%, and where the kurtosis is above 4 it must
    exist: by all of the interval of the measured tail index where that is far from 4, else by the prediction's, or,
    if it knows none, by the measured one after all.
    """
    if result.kurtosis is None or result.kurtosis_stderr is None:
        return ""
    kurtosis = np.atleast_1d(np.asarray(result.kurtosis, np.float64))
    error = np.atleast_1d(np.asarray(result.kurtosis_stderr, np.float64))
    varies = np.ones(1, bool)
    if result.covariance is not None:
        varies = np.diag(np.atleast_2d(np.asarray(result.covariance))) > 0
    if np.any(varies & ~(error <= POWER * kurtosis)):
        return (
            "heavy tails: the fourth moment was not measured to 10%, so nor was the standard error: "
            "run more chains or steps, or a smaller learning rate"
        )
    if np.any(varies & (kurtosis > SUSPECT)) and (found := _lowest_tail_index(result, prediction))[0] <= FOURTH:
        return (
            f"heavy tails: the tail index is {found[1]}, so a fourth moment need not exist, nor a standard error: "
            "use a smaller learning rate or a larger batch"
        )
    return ""


def _lowest_tail_index(result: Result, prediction: Prediction | None) -> tuple[float, str]:
    """What the tail index is at least, and how it is told: as measured where that is clear, else by theory.

    Theory for a data set takes a minute.
    """
    measured = math.inf, "not known"
    if result.tail is not None and result.tail_group is not None and len(np.unique(result.tail)) >= MIN_SAMPLES:
        found = result.tail_index()
        measured = found.low, f"{found.low:.3g} to {found.high:.3g} as measured"
        if found.low > CLEARLY * FOURTH or found.high < FOURTH:
            return measured
    if prediction is not None:
        index, stderr = float(prediction.tail_index), float(prediction.tail_index_stderr)
        if math.isfinite(index) and math.isfinite(stderr):
            return index - 2 * stderr, f"{index:.3g} by theory"
        if index == math.inf:
            return index, "infinite"
    return measured


def _out_of_regime(result: Result, prediction: Prediction) -> str:
    if prediction.out_of_regime:
        return prediction.out_of_regime
    if result.diverged > 0:
        return f"{result.diverged} of {result.chains} chains diverged"
    if result.status != "ok":
        return f"the run ended with status {result.status!r}"
    if result.rhat is not None and np.max(np.asarray(result.rhat), initial=0.0) > MAX_RHAT:
        return f"R-hat is {np.max(np.asarray(result.rhat)):.3f}, above {MAX_RHAT}: the run had not settled"
    for key in ("problem", "optimizer", "batch_size", "sampling"):
        here, there = result.provenance.get(key), prediction.configuration.get(key)
        if here is not None and there is not None and not _same(here, there):
            return f"the result and the prediction differ in {key}: {_brief(here)} against {_brief(there)}"
    return ""


def _same(here: Any, there: Any) -> bool:
    if isinstance(here, str) != isinstance(there, str):
        return (here if isinstance(here, str) else repr(here)) == (there if isinstance(there, str) else repr(there))
    if isinstance(here, dict) and isinstance(there, dict):
        return here.keys() == there.keys() and all(_same(here[key], there[key]) for key in here)
    if dataclasses.is_dataclass(here) and type(here) is type(there):
        names = [field.name for field in dataclasses.fields(here)]
        return all(_same(getattr(here, name), getattr(there, name)) for name in names)
    if isinstance(here, str) or callable(here):
        return here == there
    try:
        return bool(np.array_equal(np.asarray(here), np.asarray(there)))
    except (TypeError, ValueError):
        return repr(here) == repr(there)


def _brief(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
