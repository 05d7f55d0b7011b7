"""Simulated variances of the gradient against exact ones, entry by entry over steps and batch sizes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim.comparisons.comparison import (
    AGREE,
    DISAGREE,
    OUT,
    POWER,
    ROUNDING,
    UNDERPOWERED,
    Comparison,
    Row,
    sidak_threshold,
)
from sgdsim.comparisons.stationary import compare
from sgdsim.results import GradientVarianceResult, LayerVariance
from sgdsim.solver.variance import GradientVariance, LayerPolynomials, VariancePolynomial

QUANTITIES = ("gradient", "full_gradient", "loss")
# Fewer effective runs, and the standard error is itself uncertain by more than 7%.
MIN_EFFECTIVE_RUNS = 50
# Times the root of the runs: where the fourth moment is infinite, lucky samples with more effective runs are rare.
MIN_EFFECTIVE_SHARE = 1


Formulas = Mapping[str, ArrayLike]
Predicted = GradientVariance | VariancePolynomial | LayerPolynomials | Formulas


class _Table(NamedTuple):
    """One quantity, each array of shape (rows, batch sizes)."""

    name: str
    simulated: np.ndarray
    stderr: np.ndarray
    predicted: np.ndarray


@compare.register(GradientVarianceResult)
@own_settings
def compare_gradient_variance(
    result: GradientVarianceResult,
    prediction: Predicted,
    *,
    step: int | None = None,
    quantity: str = "gradient",
    error_rate: float = 0.01,
) -> Comparison:
    """Hold simulated variances of the gradient against exact ones; `compare` forwards to this function.

    Every quantity is a table over (step, batch size). Its entries are judged together by their largest |z|, at a level
    corrected (Sidak) for their number and for the number of quantities. Entries that cannot be judged get rows of
    their own instead of hiding in the others:

    - *out of regime*: `result.typical_run` marks them (the exact variance is carried by runs that no simulation
      meets), or runs had diverged, or the optimizer is not plain SGD;
    - *underpowered*: the standard error is above 10% of the value, or fewer than max(50, sqrt(runs))
      effective runs carry it (`result.effective_runs`), so that heavy tails may hide from it.

    Rounding counts as one more standard error, 64 machine epsilons of the value: row 0 is exact.

    Args:
        result: what `ss.gradient_variance` measured.
        prediction: of the same problem, start, learning rate and sampling: what `solver.gradient_variance` or
            `solver.variance.epoch_gradient_variance` returns, with at least these batch sizes and steps; or what
            `solver.gradient_variance_polynomial` returns for one step. Or a formula of your own: a mapping from
            "gradient", "full_gradient" or "loss" to arrays of shape (rows, batch sizes), as the result has them.
        step: the step t that a polynomial belongs to; None for a table.
        quantity: which quantity a polynomial is of: "gradient", "full_gradient" or "loss".
        error_rate: probability of any "disagree" for a correct prediction.

    Raises:
        ValueError: the prediction does not cover the result, its basis (1/b or c_b) or its layers are not those of
            the result, or `step` is missing.

    Warns:
        UserWarning: entries are out of regime because rare runs carry the exact variance.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([2.0, 1.0], label_noise=0.5)
        >>> setting = {"batch_size": [8, 32], "steps": 3, "initial": [1.0, -1.0]}
        >>> simulated = ss.gradient_variance(problem, ss.SGD(0.1), chains=8000, **setting)
        >>> exact = ss.solver.gradient_variance(problem, ss.SGD(0.1), **setting)
        >>> [(row.quantity.split("[")[0], row.verdict, row.entries) for row in ss.compare(simulated, exact).rows]
        [('gradient', 'agree', 6), ('full_gradient', 'agree', 6), ('loss', 'agree', 6)]
    """
    rate = _checks.between_0_and_1("error_rate", error_rate, "0.01 is the default")
    at, tables = _tables(result, prediction, step, quantity)
    out = _out_of_regime(result, at)
    rare = result.typical_run[at] & np.isfinite(tables[0].predicted)
    level = 1 - (1 - rate) ** (1 / len(tables))
    rows, entries = [], {}
    for table in tables:
        new, entries[table.name] = _rows(table, result, at, out, level)
        rows += new
    if rare.any():
        warnings.warn(_rare_events(result, at, tables[0], rare), stacklevel=4)
    regime = "; ".join(sorted({r.note for r in rows if r.verdict == OUT}))
    if isinstance(prediction, Mapping):
        return Comparison(rows, entries, rate, regime, "", "as given")
    return Comparison(rows, entries, rate, regime, "exact moments of SGD, docs/theory/variance-polynomial.md", "exact")


def _tables(
    result: GradientVarianceResult, prediction: Predicted, step: int | None, quantity: str
) -> tuple[list[int], list[_Table]]:
    """Which rows of the result are compared (not always those of the same numbers as steps), and with what."""
    if isinstance(prediction, Mapping):
        return list(range(len(result.step))), [_given(result, name, value) for name, value in prediction.items()]
    if isinstance(prediction, GradientVariance):
        return _from_table(result, prediction, step)
    if not isinstance(prediction, VariancePolynomial | LayerPolynomials):
        raise _checks.error("prediction", type(prediction).__name__, "an exact variance of the gradient",
                            "use solver.gradient_variance or solver.gradient_variance_polynomial")
    quantity = _checks.choice("quantity", quantity, QUANTITIES)
    if step is None:
        raise _checks.error("step", step, "the step t of the polynomial", "pass the step it was computed for: step=3")
    at = result.row(step)
    polynomials = prediction if isinstance(prediction, LayerPolynomials) else (prediction,)
    by_layer = quantity != "loss" and len(polynomials) > 1
    if len(polynomials) != max(len(result.by_layer), 1):
        raise _checks.error("prediction", f"of {len(polynomials)} layers", f"of {max(len(result.by_layer), 1)}",
                            "pass what solver.gradient_variance_polynomial returns for the simulated problem")
    for polynomial in polynomials:
        if (polynomial.variable, polynomial.factor.n_examples) != (
            result.basis, result.n_examples if result.basis == "c_b" else None
        ):
            raise _checks.error("prediction", f"a polynomial in {polynomial.variable}", f"one in {result.basis}",
                                f"compute it for sampling={result.provenance['sampling']!r}")
    tables = []
    for i, polynomial in enumerate(polynomials if by_layer else polynomials[:1]):
        source: GradientVarianceResult | LayerVariance = result.by_layer[i] if by_layer else result
        name = f"{quantity} {result.by_layer[i].name}" if by_layer else quantity
        measured, stderr = getattr(source, quantity)[[at]], getattr(source, f"{quantity}_stderr")[[at]]
        tables.append(_Table(name, measured, stderr, polynomial(result.batch_sizes.astype(float))[None]))
    return [at], tables


def _given(result: GradientVarianceResult, name: str, value: ArrayLike) -> _Table:
    _checks.choice("prediction", name, QUANTITIES)
    simulated, predicted = getattr(result, name), _checks.finite_array(f"prediction[{name!r}]", value)
    if predicted.shape != simulated.shape:
        raise _checks.error(f"prediction[{name!r}]", f"of shape {predicted.shape}", f"of shape {simulated.shape}",
                            "one row a measured step, one column a batch size")
    return _Table(name, simulated, getattr(result, f"{name}_stderr"), predicted)


def _from_table(
    result: GradientVarianceResult, prediction: GradientVariance, step: int | None
) -> tuple[list[int], list[_Table]]:
    if step is not None:
        raise _checks.error("step", step, "None for a table of all steps", "leave it out")
    steps, missing = int(result.step[-1]) + 1, set(result.batch_sizes.tolist()) - set(prediction.batch_sizes)
    if missing or len(prediction.gradient) < steps:
        covered = f"of {len(prediction.gradient)} steps and batch sizes {prediction.batch_sizes}"
        raise _checks.error("prediction", covered, f"of {steps} steps and batch sizes {result.batch_sizes.tolist()}",
                            "predict with the steps= and batch_size= of the simulation")
    columns = [prediction.batch_sizes.index(b) for b in result.batch_sizes.tolist()]
    return list(range(len(result.step))), [
        _Table(name, getattr(result, name), getattr(result, f"{name}_stderr"),
               getattr(prediction, name)[result.step][:, columns])
        for name in QUANTITIES
    ]


def _out_of_regime(result: GradientVarianceResult, at: list[int]) -> list[tuple[str, np.ndarray]]:
    """Masks of entries not to be judged, each with the reason."""
    everywhere = np.ones(result.gradient[at].shape, bool)
    optimizer = result.provenance["optimizer"]
    # Saved results of earlier versions say 0.0.
    plain = re.fullmatch(r"SGD\(.*, momentum=(None|0\.0), preconditioner=None\)", optimizer) is not None
    return [
        ("rare runs carry the exact variance: this is that of a typical run", result.typical_run[at]),
        ("runs diverged: conditional on survival", result.runs_left[at] < result.chains),
        (f"the theory is of plain SGD, not {optimizer}", everywhere & (not plain)),
    ]


def _rows(
    table: _Table, result: GradientVarianceResult, at: list[int], out: Sequence[tuple[str, np.ndarray]], level: float
) -> tuple[list[Row], np.ndarray]:
    """One row for each verdict that occurs, and all z."""
    epsilon = float(np.finfo(result.provenance["dtype"]).eps)
    size = np.abs(table.predicted)
    rounding = ROUNDING * epsilon * size + (ROUNDING * epsilon) ** 2 * np.nanmax(np.abs(table.simulated))
    difference = table.simulated - table.predicted
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(difference == 0, 0.0, difference / np.hypot(table.stderr, rounding))
        weak = ~(table.stderr <= POWER * size) & (size > rounding)
    needed = max(MIN_EFFECTIVE_RUNS, MIN_EFFECTIVE_SHARE * np.sqrt(result.chains))
    few = result.effective_runs[table.name][at] < np.minimum(needed, result.chains)
    left = np.ones(z.shape, bool)
    rows = []

    def add(mask: np.ndarray, verdict: str, note: str = "") -> None:
        worst = np.nan_to_num(np.abs(z), nan=np.inf, posinf=np.inf)
        where = np.unravel_index(int(np.where(mask, worst, -1.0).argmax()), z.shape)
        number = int(mask.sum())
        threshold = sidak_threshold(level, number, result.chains - 1)
        if verdict == AGREE and not worst[where] <= threshold:
            verdict = DISAGREE
        truth = float(table.predicted[where])
        relative = float(difference[where]) / abs(truth) if truth else (0.0 if difference[where] == 0 else np.inf)
        name = f"{table.name}[t={result.step[at[where[0]]]},b={result.batch_sizes[where[1]]}]"
        rows.append(Row(
            name, float(table.simulated[where]), float(table.stderr[where]), truth, float(z[where]), relative, verdict,
            threshold, number, note,
        ))  # fmt: skip

    reasons = [(OUT, note, mask) for note, mask in out] + [
        (UNDERPOWERED, f"standard error above {POWER:.0%} of the value: more runs", weak),
        (UNDERPOWERED, "heavy tails: too few of the runs carry the error (effective_runs): more runs", few),
    ]
    aside = []
    for verdict, note, mask in reasons:
        if (mask & left).any():
            aside.append((mask & left, verdict, note))
            left &= ~mask
    if left.any():
        add(left, AGREE)
    for mask, verdict, note in aside:
        # What holds everywhere is the same sentence for every table, and is printed once.
        some = "" if mask.all() else f"{int(mask.sum())} of {mask.size} entries of {table.name}: "
        add(mask, verdict, some + note)
    return rows, z


def _rare_events(result: GradientVarianceResult, rows: list[int], table: _Table, rare: np.ndarray) -> str:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(rare, np.nan_to_num(np.abs(np.log(table.predicted / table.simulated)), posinf=0.0), -1.0)
    at = np.unravel_index(int(ratio.argmax()), ratio.shape)
    return (
        f"rare events: {int(rare.sum())} of {rare.size} entries are variances of typical runs, not to be held against "
        f"exact theory. {table.name}, t = {result.step[rows[at[0]]]}, b = {result.batch_sizes[at[1]]}: exact "
        f"{table.predicted[at]:.3g}, simulated {table.simulated[at]:.3g} +- {table.stderr[at]:.2g}; the difference is "
        "carried by runs that no simulation of this size meets, and the standard error does not know of them. "
        "Compare at larger batches or earlier steps, or with solver.variance.leading_variance_coefficient for large b"
    )
