"""Exponents: does a quantity follow a power law along an axis of a sweep, and which?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from sgdsim import _checks
from sgdsim.comparisons.comparison import (
    AGREE,
    DISAGREE,
    OUT,
    POWER,
    UNDERPOWERED,
    Comparison,
    Row,
    sidak_threshold,
)
from sgdsim.comparisons.line import Line, lines
from sgdsim.comparisons.tables import Cells, Table
from sgdsim.estimators.jackknife import Estimate
from sgdsim.results import SweepResult
from sgdsim.results.derive import Function


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Scaling(Table):
    """Exponents of a quantity along an axis.

    Attributes:
        quantity: what scales.
        over: with which axis.
        x: values of the axis, shape (P,), ascending.
        local: exponents between neighbours, shape (P - 1,).
        exponent: of the power law fitted to all points.
        curvature: coefficient of the square of ln x in a parabola for ln y; 0 of a power law; NaN with two points.
        single: whether one power law describes all points, at the error rate; False is an answer.
        comparison: with the claimed exponent: rows for it and for the power law; None where nothing is claimed.
    """

    quantity: str
    over: str
    x: np.ndarray
    local: Estimate
    exponent: Estimate
    curvature: Estimate
    single: bool
    comparison: Comparison | None

    def _cells(self) -> tuple[Cells, list[Cells]]:
        pairs = [f"{a:g} to {b:g}" for a, b in zip(self.x[:-1], self.x[1:], strict=True)]
        body: list[Cells] = [_cells(pair, _entry(self.local, i)) for i, pair in enumerate(pairs)]
        return [self.over, "exponent", "stderr", "low", "high"], [*body, _cells("all", self.exponent)]

    def _title(self) -> str:
        return f"Scaling({self.quantity} over {self.over}: {self._said()})"

    def _said(self) -> str:
        low, high = np.min(self.local.value), np.max(self.local.value)
        if not self.single:
            return f"no single power law, local exponents from {low:.3g} to {high:.3g}"
        return f"exponent {self.exponent.value:.4g} ± {self.exponent.stderr:.2g}"

    def _notes(self) -> list[str]:
        rows = [] if self.comparison is None else self.comparison.rows[:1]
        return [f"claimed exponent {row.predicted:g}: {row.verdict}" for row in rows]


def _entry(found: Estimate, i: int) -> Estimate:
    value, stderr, low, high = (np.asarray(x)[i] for x in (found.value, found.stderr, *found.interval))
    return Estimate(value, stderr, (low, high))


def _cells(place: str, found: Estimate) -> Cells:
    low, high = found.interval
    return place, f"{found.value:.4g}", f"{found.stderr:.2g}", f"{low:.4g}", f"{high:.4g}"


def scaling(
    sweep: SweepResult,
    quantity: str | Function,
    *,
    over: str | None = None,
    claimed: float | None = None,
    error_rate: float = 0.01,
    confidence: float = 0.95,
    derived: Mapping[str, Function] | None = None,
) -> Scaling:
    r"""Local and fitted exponents of a positive quantity along one axis of a sweep.

    $$\alpha_i = \frac{\ln y_{i+1} - \ln y_i}{\ln x_{i+1} - \ln x_i}, \qquad
      \ln y = c + \alpha \ln x + \gamma\, (\ln x - \overline{\ln x})^2.$$

    Points of a sweep share their random numbers, so their errors are not independent: the jackknife leaves the same
    groups of chains out at all of them. One power law is refused where the curvature or the distance of a point from
    the line is beyond chance (Student's t, Sidak over all of these).

    Args:
        sweep: its other axes have one value each.
        quantity: a name as for `compare`, or a function as for `Result.derive`.
        over: the axis; None is the one that has several values.
        claimed: an exponent to be held against the fitted one.
        error_rate: probability of any "disagree" for a right claim, and of refusing a power law that holds.
        confidence: of the intervals.
        derived: functions by name, as for `compare`.

    Returns:
        A `Scaling`.

    Raises:
        ValueError: other axes have several values, there are fewer than two points, or a value is not positive.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([1.0], label_noise=1.0)
        >>> grid = ss.sweep(problem, ss.SGD(0.1), batch_size=64, learning_rate=[0.01, 0.02, 0.04], chains=1000,
        ...                 steps=1000, burn_in=300)
        >>> found = ss.scaling(grid, "trace(covariance)", claimed=1.0)
        >>> round(float(found.exponent.value), 1), found.local.value.shape
        (1.0, (2,))
    """
    rate = _checks.between_0_and_1("error_rate", error_rate, "0.01 is the default")
    level = _checks.between_0_and_1("confidence", confidence, "0.95 is the default")
    name = quantity if isinstance(quantity, str) else getattr(quantity, "__name__", "quantity")
    long = [axis for axis, values in sweep.axes.items() if len(values) > 1]
    over = over or (long[0] if len(long) == 1 else "learning_rate")
    found = lines(sweep, quantity, over, derived=derived, logarithm=True)
    if len(found) > 1:
        raise _checks.error("sweep", f"over {', '.join(sweep.axes)}", f"with several values of {over} only",
                            f"sweep over {over} alone")
    line = found[0]
    if line.y.value.ndim > 1 or len(line.x) < 2 or line.x[0] <= 0:
        raise _checks.error("quantity", name, f"one number at two or more positive values of {over}",
                            "try 'trace(covariance)'")
    u = np.log(line.x)
    line = line._replace(x=u - u.mean())
    groups = len(line.y.errors)
    steps = np.diff(np.eye(len(u)), axis=0) / np.diff(u)[:, None]
    slope = line.y.combined(line.fit((0, 1))[1:])
    curvature, worst = _departure(line, rate, groups)
    exponent, local = slope.estimate(level), line.y.combined(steps).estimate(level)
    one = _entry(exponent, 0)
    single = worst.verdict != DISAGREE
    comparison = None if claimed is None else _compare(name, over, one, local, float(claimed), worst, rate, groups)
    return Scaling(name, over, np.exp(u), local, one, curvature, single, comparison)


def _departure(line: Line, rate: float, groups: int) -> tuple[Estimate, Row]:
    """The curvature, and the verdict on the power law: by it and by the distance of each point from the line."""
    count = len(line.x)
    if count < 3:
        nothing = Estimate(math.nan, math.nan, (math.nan, math.nan))
        return nothing, Row("one power law", 0.0, math.nan, 0.0, 0.0, 0.0, UNDERPOWERED, math.inf, 0,
                            "two points always lie on a line: simulate a third")
    bend = line.fit((0, 1, 2))[2:]
    straight = np.eye(count) - np.power.outer(line.x, np.arange(2)) @ line.fit((0, 1))
    tests = line.y.combined(np.concatenate([bend, straight] if count > 3 else [bend]))
    z = np.divide(tests.value, tests.stderr, out=np.zeros_like(tests.value), where=tests.stderr > 0)
    threshold = sidak_threshold(rate, len(z), groups - 1)
    where = int(np.abs(z).argmax())
    verdict = DISAGREE if abs(z[where]) > threshold else AGREE
    value, stderr = tests.value[0], tests.stderr[0]
    half = sidak_threshold(0.05, 1, groups - 1) * stderr
    name = "curvature" if where == 0 else f"point {where} off the line"
    row = Row(f"one power law: {name}", float(tests.value[where]), float(tests.stderr[where]), 0.0, float(z[where]),
              float(tests.value[where]), verdict, threshold, len(z))
    return Estimate(value, stderr, (value - half, value + half)), row


def _compare(
    name: str, over: str, exponent: Estimate, local: Estimate, claimed: float, law: Row, rate: float, groups: int
) -> Comparison:
    difference = float(exponent.value) - claimed
    stderr, scale = float(exponent.stderr), abs(claimed) or 1.0
    z = difference / stderr if stderr > 0 else math.copysign(math.inf, difference) if difference else 0.0
    threshold = sidak_threshold(rate, 1, groups - 1)
    verdict, note = AGREE if abs(z) <= threshold else DISAGREE, ""
    if law.verdict == DISAGREE:
        low, high = np.min(local.value), np.max(local.value)
        verdict, note = OUT, f"no single power law: local exponents from {low:.3g} to {high:.3g}"
    elif not stderr <= POWER * scale:
        verdict, note = UNDERPOWERED, f"standard error above {POWER:.0%} of the exponent: run more chains or steps"
    row = Row(f"exponent of {name} in {over}", float(exponent.value), stderr, claimed, z, difference / scale, verdict,
              threshold, 1, note)
    return Comparison([row, law], {}, rate, "", "", "as claimed")
