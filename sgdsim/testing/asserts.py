"""A theory held against a simulation in a test, in the manner of `numpy.testing`."""

from __future__ import annotations

import math
from typing import TypeAlias

from sgdsim import _checks
from sgdsim.comparisons import Comparison, SideBySide, SweepComparison, compare
from sgdsim.comparisons.comparison import AGREE, DISAGREE, POWER, UNDERPOWERED, Row
from sgdsim.results import GradientVarianceResult, Result, SweepResult

Measured: TypeAlias = Result | SweepResult | GradientVarianceResult


def assert_agrees(result: Measured, theory: object, *, error_rate: float = 1e-3, **how: object) -> None:
    """Raise an `AssertionError` unless every row of `ss.compare(result, theory)` agrees.

    A run that cannot tell does not agree. The message is the table and the smallest number of chains that would decide.

    Args:
        result: what `simulate`, `sweep` or `gradient_variance` measured.
        theory: as for `ss.compare`; one, not several.
        error_rate: probability that a correct theory fails the test.
        how: further arguments of `ss.compare`: `theory_error`, `derived` and so on.

    Raises:
        AssertionError: a row disagrees, is underpowered or out of regime.
        ValueError: as for `ss.compare`.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([1.0], label_noise=1.0)
        >>> result = ss.simulate(problem, ss.SGD(0.1), batch_size=4, chains=2000, steps=400, burn_in=100)
        >>> ss.testing.assert_agrees(result, {"covariance": [[0.1 / (4 * 2 - 0.1 * 6)]]})
    """
    __tracebackhide__ = True
    report = _compared(result, theory, error_rate, how)
    if not report.agrees:
        raise AssertionError(_message("the theory does not agree", report, result))


def assert_disagrees(result: Measured, theory: object, *, error_rate: float = 1e-3, **how: object) -> None:
    """Raise an `AssertionError` unless a row of `ss.compare(result, theory)` disagrees.

    Args:
        result: as for `assert_agrees`.
        theory: as for `assert_agrees`.
        error_rate: probability that a correct theory passes this test.
        how: further arguments of `ss.compare`.

    Raises:
        AssertionError: no row disagrees.
        ValueError: as for `ss.compare`.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([1.0], label_noise=1.0)
        >>> result = ss.simulate(problem, ss.SGD(0.1), batch_size=4, chains=2000, steps=400, burn_in=100)
        >>> ss.testing.assert_disagrees(result, {"covariance": [[0.1 / (4 * 2)]]})
    """
    __tracebackhide__ = True
    report = _compared(result, theory, error_rate, how)
    if not report.disagrees:
        raise AssertionError(_message("the theory does not disagree", report, result))


def _compared(
    result: Measured, theory: object, error_rate: float, how: dict[str, object]
) -> Comparison | SweepComparison:
    report = compare(result, theory, error_rate=error_rate, **how)  # type: ignore[arg-type]
    if isinstance(report, SideBySide):
        raise _checks.error("theory", "several theories", "one", "assert each of them")
    return report


def _message(what: str, report: Comparison | SweepComparison, result: Measured) -> str:
    return f"{what}\n{report!r}\n{_remedy(report.rows, result)}"


def _remedy(rows: list[Row], result: Measured) -> str:
    """What would decide: the smallest number of chains that would, as errors shrink with their root."""
    chains = _chains(result)
    weak = [_needed(row) for row in rows if row.verdict == UNDERPOWERED]
    if weak and all(map(math.isfinite, weak)) and max(weak) > 1:
        return f"about {_rounded(chains * max(weak))} chains would decide (there are {chains})"
    if any(row.verdict == DISAGREE for row in rows):
        return f"{chains} chains were enough to decide"
    close = [(row.threshold / abs(row.z)) ** 2 for row in rows if row.verdict == AGREE and row.z]
    if not weak and close:
        return f"were the difference as large as it looks, about {_rounded(chains * min(close))} chains would show it"
    return "more chains alone would not decide: see the notes"


def _needed(row: Row) -> float:
    """How many times the chains make the standard error small enough against the scale."""
    difference = row.simulated - row.predicted
    scale = abs(difference / row.relative_error) if row.relative_error and difference else abs(row.predicted)
    return (row.stderr / (POWER * scale)) ** 2 if scale else math.inf


def _chains(result: Measured) -> int:
    if isinstance(result, SweepResult):
        return result.results[0].chains
    return result.chains


def _rounded(number: float) -> str:
    return f"{math.ceil(float(f'{1.1 * number:.1e}')):,}"
