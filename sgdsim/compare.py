"""A measured result against a prediction: z-scores, relative errors and verdicts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from sgdsim import _checks
from sgdsim.results.result import Result
from sgdsim.solver.prediction import Prediction

QUANTITIES = ("mean", "covariance", "noise_covariance", "train_loss", "test_loss")
AGREE, DISAGREE, UNDERPOWERED, OUT = "agree", "disagree", "underpowered", "out of regime"

POWER = 0.1  # a standard error above this fraction of the scale cannot tell right from wrong
MIN_GROUPS = 8
DEFAULT_GROUPS = 64
MAX_RHAT = 1.05
ROUNDING = 64  # machine epsilons, relative to the largest parameter, that arithmetic alone may be off by


class Row(NamedTuple):
    """One compared quantity; for a vector or matrix, its entry with the largest |z|.

    Attributes:
        quantity: name, with the index of the shown entry, as in ``covariance[0,1]``.
        simulated: measured value of that entry.
        stderr: its standard error, from independent groups of chains.
        predicted: its predicted value.
        z: (simulated - predicted) / stderr.
        relative_error: (simulated - predicted) / scale, the scale being |predicted| for losses,
            sqrt(S_ii S_jj) for entry ij of a covariance S and sqrt(Sigma_ii) for the mean.
        verdict: "agree", "disagree", "underpowered" or "out of regime".
        threshold: |z| above which an entry disagrees, corrected for all entries and rows.
        entries: how many distinct entries were tested.
        note: why, where the verdict alone does not say it.
    """

    quantity: str
    simulated: float
    stderr: float
    predicted: float
    z: float
    relative_error: float
    verdict: str
    threshold: float
    entries: int
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Verdicts of one comparison.

    Attributes:
        rows: one `Row` a quantity.
        entries: z-scores of every entry, by quantity: shape (), (D,) or (D, D).
        error_rate: probability that a correct prediction gets any "disagree".
        regime: why the result is out of the prediction's regime; empty when it is not.
        reference: the equation the prediction comes from.
        approximation: "exact", "hessian" or "continuous".
    """

    rows: list[Row]
    entries: dict[str, np.ndarray]
    error_rate: float
    regime: str
    reference: str
    approximation: str

    @property
    def agrees(self) -> bool:
        """Whether every row says "agree"."""
        return bool(self.rows) and all(row.verdict == AGREE for row in self.rows)

    @property
    def disagrees(self) -> bool:
        """Whether any row says "disagree" (an underpowered row says neither)."""
        return any(row.verdict == DISAGREE for row in self.rows)

    def table(self) -> str:
        """Return a plain-text table."""
        body = [format_row(row) for row in self.rows]
        widths = [max(len(line[i]) for line in [HEADER, *body]) for i in range(len(HEADER))]
        lines = [HEADER, tuple("-" * width for width in widths), *body]
        text = "\n".join(
            "  ".join(
                cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )
        notes = sorted({row.note for row in self.rows if row.note})
        return "\n".join([text, *(f"note: {note}" for note in notes)])

    def to_markdown(self) -> str:
        """Return the same table as GitHub-flavoured Markdown."""
        align = ["---", *["---:"] * (len(HEADER) - 2), "---"]
        lines = [HEADER, align, *(format_row(row) for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python numbers and strings, ready for JSON (numbers that are not finite become None)."""
        return {
            "rows": [row_to_dict(row) for row in self.rows],
            "agrees": self.agrees,
            "error_rate": self.error_rate,
            "regime": self.regime,
            "reference": self.reference,
            "approximation": self.approximation,
        }

    def __repr__(self) -> str:
        verdicts = [row.verdict for row in self.rows]
        counts = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
        return f"Comparison({counts or 'nothing to compare'}; {self.approximation})\n{self.table()}"


HEADER = ("quantity", "simulated", "stderr", "predicted", "z", "rel. error", "verdict")


def format_row(row: Row) -> tuple[str, ...]:
    """Return the cells of a row under `HEADER`, as short text."""
    return (
        row.quantity,
        f"{row.simulated:.5g}",
        f"{row.stderr:.2g}",
        f"{row.predicted:.5g}",
        f"{row.z:+.2f}" if math.isfinite(row.z) else str(row.z),
        f"{100 * row.relative_error:+.2f}%" if math.isfinite(row.relative_error) else "-",
        row.verdict,
    )


def row_to_dict(row: Row) -> dict[str, Any]:
    """Return a row as plain Python, ready for JSON."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row._asdict().items()
    }


def compare(result: Result, prediction: Prediction, *, error_rate: float = 0.01) -> Comparison:
    """Hold every measured quantity against its prediction.

    The statistic of an entry is Student's t with (groups - 1) degrees of freedom; a row is judged by
    its largest |z| at a level corrected (Sidak) for its distinct entries, D or D(D+1)/2, and for the
    number of rows, so that a correct prediction meets any "disagree" with probability `error_rate`.

    An entry is *underpowered* where its standard error is not finite or above 10% of its scale (see
    `Row.relative_error`), where there are fewer than 8 groups, or (second moments) where the standard
    error of the kurtosis is above 10% of it: then the fourth moment, on which the standard error itself
    rests, was not measured. A row with such an entry says so, whatever its z. A row is *out of regime*
    when chains diverged, the run was interrupted, R-hat is above 1.05 or the two configurations differ.

    Rounding errors of the chains count as one more standard error, added in quadrature: 64 machine
    epsilons of the largest parameter for the mean, its square for second moments, plus 16 epsilons of a
    second moment's own scale. So where theory says exactly zero and nothing varies (b = n without
    replacement), zero agrees with zero.

    Args:
        result: what `simulate` measured.
        prediction: what `predict` says of the same problem, optimizer and batch size.
        error_rate: probability of any "disagree" for a correct prediction.

    Raises:
        ValueError: `error_rate` is not in (0, 1), or the dimensions differ.
    """
    rate = _checks.real("error_rate", error_rate, "in (0, 1)", "0.01 is the default")
    if not 0 < rate < 1:
        raise _checks.error("error_rate", error_rate, "in (0, 1)", "0.01 is the default")
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
    level = 1 - (1 - rate) ** (1 / max(len(names), 1))
    rows, entries = [], {}
    for name in names:
        row, entries[name] = _row(name, result, prediction, level=level, groups=groups, regime=regime)
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
    name: str, result: Result, prediction: Prediction, *, level: float, groups: int, regime: str
) -> tuple[Row, np.ndarray]:
    simulated = np.asarray(getattr(result, name), np.float64)
    stderr = np.broadcast_to(np.asarray(getattr(result, f"{name}_stderr"), np.float64), simulated.shape)
    predicted = np.asarray(getattr(prediction, name), np.float64)
    scale = _scale(name, prediction)
    difference = simulated - predicted
    rounding = _rounding(name, scale, result, prediction)
    zero = scale <= rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        z = difference / np.hypot(stderr, rounding)
        relative = np.where(scale > 0, difference / scale, np.where(difference == 0, 0.0, np.inf))
        weak = ~(stderr <= POWER * scale)
    z = np.where(difference == 0, 0.0, z)
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
    elif name != "mean" and not zero.all() and (heavy := heavy_tails(result)):
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
    if name == "mean":
        return np.sqrt(np.clip(np.diag(np.atleast_2d(prediction.covariance)), 0, None))
    value = np.asarray(getattr(prediction, name), np.float64)
    if value.ndim == 0:
        return np.abs(value)
    spread = np.sqrt(np.clip(np.diag(value), 0, None))
    return np.outer(spread, spread)


def _rounding(name: str, scale: np.ndarray, result: Result, prediction: Prediction) -> np.ndarray:
    """Return how far rounding errors of the chains alone can move each entry."""
    dtype = str(result.provenance.get("dtype", "float32"))
    epsilon = float(np.finfo(np.float64 if "64" in dtype else np.float32).eps)
    size = ROUNDING * epsilon * float(np.max(np.abs(prediction.mean), initial=1e-12))
    return np.full(scale.shape, size) if name == "mean" else size**2 + ROUNDING / 4 * epsilon * scale


def heavy_tails(result: Result) -> str:
    """Return why the standard errors of second moments are not to be trusted, or ""."""
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
    return ""


def _out_of_regime(result: Result, prediction: Prediction) -> str:
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
