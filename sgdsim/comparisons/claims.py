"""Claims in words, tested: above or below a number, falling, rising, linear, proportional, a coefficient of zero."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import numpy as np

from sgdsim import _checks
from sgdsim.comparisons.comparison import (
    AGREE,
    DEFAULT_GROUPS,
    DISAGREE,
    OUT,
    POWER,
    UNDERPOWERED,
    Comparison,
    Row,
    sidak_threshold,
)
from sgdsim.comparisons.line import Line, lines
from sgdsim.comparisons.quantity import function_of
from sgdsim.estimators import PolynomialFit
from sgdsim.estimators.jackknife import Jackknife
from sgdsim.estimators.polynomial_curve import basis_value
from sgdsim.results import Result, SweepResult
from sgdsim.results.derive import Function, jackknifed

_BOUND = re.compile(r"(?P<quantity>.+?)\s*(?P<sign>[<>])\s*(?P<bound>[-+\d.e]+)")
_HOW = "decreases in|increases in|is linear in|is proportional to"
_ALONG = re.compile(rf"(?P<quantity>.+?)\s+(?P<how>{_HOW})\s+(?P<inverse>1/)?(?P<axis>\w+)")
_ZERO = re.compile(r"coefficient of (?:1/b|c_b)(?:\^(?P<power>\d+))? is zero")
_REMEDY = "try 'test_loss < 0.3', 'test_loss decreases in batch_size' or 'trace(covariance) is linear in learning_rate'"


@functools.singledispatch
def claim(
    measured: object, text: str, *, error_rate: float = 0.01, derived: Mapping[str, Function] | None = None
) -> Comparison:
    """Test a claim: the verdict is "agree", "disagree", or "underpowered" where the run can tell neither.

    | Claim | Test |
    | --- | --- |
    | `"test_loss < 0.3"`, `>` | one-sided: every entry, at every point |
    | `"test_loss decreases in batch_size"`, `increases in` | one-sided, of the differences of neighbours |
    | `"trace(covariance) is linear in learning_rate"`, `is proportional to` | two-sided, of distances from the line |
    | `"trace(covariance) is proportional to 1/batch_size"`, `is linear in` | the same, over the reciprocal |
    | `"coefficient of 1/b^2 is zero"`, of a `PolynomialFit` | two-sided |

    Where a one-sided claim agrees, it is shown: a claim that is wrong, or only just true, does so with a probability of
    at most `error_rate`. A claim that is right meets "disagree" with at most that, whatever the number of points. The
    points of a sweep share their random numbers, which the errors of differences know.

    Args:
        measured: a `Result`, a `SweepResult` or a `PolynomialFit`.
        text: the claim; names are as for `compare`, axes those of the sweep. Where the sweep has further axes, it is
            tested at each of their values.
        error_rate: see above.
        derived: functions of measured quantities by name, as for `compare`.

    Returns:
        A `Comparison`; each row shows the entry, the step or the point that speaks most against the claim.

    Raises:
        ValueError: the claim is none of these, or is about what was not measured.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([1.0], label_noise=1.0)
        >>> grid = ss.sweep(problem, ss.SGD(0.2), batch_size=[1, 4, 16], chains=1000, steps=300, burn_in=100)
        >>> ss.claim(grid, "trace(covariance) decreases in batch_size").agrees
        True
    """
    raise _checks.error("measured", type(measured).__name__, "a Result, a SweepResult or a PolynomialFit",
                        "try ss.claim(result, 'test_loss < 0.3')")


@claim.register
def claim_of_result(
    measured: Result, text: str, *, error_rate: float = 0.01, derived: Mapping[str, Function] | None = None
) -> Comparison:
    """A claim about one result."""
    return _bounded([measured], [""], text, error_rate, derived)


@claim.register
def claim_of_sweep(
    measured: SweepResult, text: str, *, error_rate: float = 0.01, derived: Mapping[str, Function] | None = None
) -> Comparison:
    """A claim about every point of a sweep, or along one of its axes."""
    found = _ALONG.fullmatch(text.strip())
    if found is None:
        long = [name for name, values in measured.axes.items() if len(values) > 1]
        at = [", ".join(f"{name} {point[name]:g}" for name in long) for point, _ in measured.points()]
        return _bounded(measured.results, at, text, error_rate, derived)
    rate = _checks.between_0_and_1("error_rate", error_rate, "0.01 is the default")
    all_lines = lines(measured, found["quantity"], found["axis"], derived=derived)
    if found["inverse"]:
        all_lines = [line.inverted() for line in all_lines]
    level = 1 - (1 - rate) ** (1 / len(all_lines))
    if found["how"].endswith("creases in"):
        sign = 1.0 if found["how"].startswith("in") else -1.0
        rows = [monotone(text, line, sign, level) for line in all_lines]
    else:
        powers = (0, 1) if "linear" in found["how"] else (1,)
        rows = [straight(text, line, powers, level) for line in all_lines]
    return Comparison(rows, {}, rate, "", "", "as claimed")


@claim.register
def claim_of_fit(
    measured: PolynomialFit, text: str, *, error_rate: float = 0.01, derived: Mapping[str, Function] | None = None
) -> Comparison:
    """A claim about a coefficient of a fitted polynomial."""
    rate = _checks.between_0_and_1("error_rate", error_rate, "0.01 is the default")
    found = _ZERO.fullmatch(text.strip())
    power = int(found["power"] or 1) if found else 0
    if not 1 <= power <= measured.degree:
        highest = f"{measured.basis}^{measured.degree}"
        raise _checks.error("text", text, f"about a coefficient of {measured.basis} to {highest}",
                            "try 'coefficient of 1/b^2 is zero'")
    place = int(np.flatnonzero(measured.powers == power)[0])
    value, stderr = float(measured.solution.coefficients[place]), float(measured.stderr[place])
    smallest = measured.batch_sizes.min()
    above = measured.solution.coefficients[0] if measured.constant else 0.0
    x = float(basis_value(smallest, measured.basis, measured.n_examples))
    reach = float(measured(smallest) - above) / x**power  # were it all that varies there
    threshold = sidak_threshold(rate, 1, 10**6)
    z = value / stderr if stderr > 0 else 0.0
    verdict = DISAGREE if abs(z) > threshold else AGREE if stderr <= POWER * abs(reach) else UNDERPOWERED
    verdict, note = (OUT, "the polynomial misses the data") if measured.misses else (verdict, "")
    row = Row(text, value, stderr, 0.0, z, value / reach if reach else 0.0, verdict, threshold, 1, note)
    return Comparison([row], {}, rate, "", "", "as claimed")


def _bounded(
    results: list[Result], at: list[str], text: str, error_rate: float, derived: Mapping[str, Function] | None
) -> Comparison:
    rate = _checks.between_0_and_1("error_rate", error_rate, "0.01 is the default")
    found = _BOUND.fullmatch(text.strip())
    if found is None:
        raise _checks.error("text", text, "a claim that can be tested", _REMEDY)
    bound = _number(found["bound"])
    above, level = found["sign"] == ">", 1 - (1 - rate) ** (1 / len(results))
    rows = []
    for result, place in zip(results, at, strict=True):
        function, names = function_of(found["quantity"], result, derived)
        y = jackknifed(function, [result], names)
        name = f"{text} ({place})" if place else text
        rows.append(one_sided(name, y.value.ravel(), y.stderr.ravel(), bound, above=above, error_rate=level,
                              groups=len(y.errors)))
    return Comparison(rows, {}, rate, "", "", "as claimed")


def one_sided(
    name: str, value: np.ndarray | float, stderr: np.ndarray | float, bound: float, *, above: bool, error_rate: float,
    groups: int = DEFAULT_GROUPS,
) -> Row:
    """The verdict on a claim that numbers lie above (or below) a bound; the row shows what speaks most against it.

    "agree" where each of them is further on the right side than chance explains (an intersection-union test: no level
    is shared), "disagree" where one is further on the wrong side (the level is shared by all), else "underpowered".
    """
    values, errors = np.atleast_1d(value), np.broadcast_to(stderr, np.shape(np.atleast_1d(value)))
    difference = values - bound
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(difference == 0, 0.0, difference / errors)
    support = np.nan_to_num(z if above else -z, nan=0.0, posinf=np.inf, neginf=-np.inf)
    alone, shared = (sidak_threshold(2 * error_rate, many, groups - 1) for many in (1, len(values)))
    worst = int(support.argmin())
    verdict = AGREE if support[worst] >= alone else DISAGREE if support[worst] <= -shared else UNDERPOWERED
    threshold = alone if verdict == AGREE else shared
    return Row(name, float(values[worst]), float(errors[worst]), bound, float(z[worst]),
               float(difference[worst]) / (abs(bound) or 1.0), verdict, threshold, len(values))


def monotone(text: str, line: Line, sign: float, error_rate: float) -> Row:
    """The verdict on a claim that values rise (sign 1) or fall (-1) from each place to the next."""
    if len(line.x) < 2:
        raise _checks.error("text", text, f"about several values of {line.axis}", "sweep over more of them")
    steps = line.y.combined(sign * np.diff(np.eye(len(line.x)), axis=0))
    each = int(steps.value[0].size)
    row = one_sided(text, steps.value.ravel(), steps.stderr.ravel(), 0.0, above=True, error_rate=error_rate,
                    groups=len(steps.errors))
    worst = int(np.argmin(np.divide(steps.value, steps.stderr, out=np.zeros_like(steps.value),
                                    where=steps.stderr > 0))) // each
    where = f"{line.axis} {line.x[worst]:g} to {line.x[worst + 1]:g}"
    scale = float(np.abs(line.y.value[worst]).max()) or 1.0
    name = f"{text} ({', '.join(filter(None, (where, line.at)))})"
    return row._replace(quantity=name, simulated=sign * row.simulated, z=sign * row.z,
                        relative_error=sign * row.simulated / scale)


def straight(text: str, line: Line, powers: tuple[int, ...], error_rate: float) -> Row:
    """The verdict on a claim that values lie on a line (through the origin where `powers` is (1,))."""
    if line.y.value.ndim > 1 or len(line.x) <= len(powers):
        raise _checks.error("text", text, f"about one number at more than {len(powers)} values of {line.axis}",
                            "sweep over more of them, or name an entry")
    hat = np.power.outer(line.x, np.array(powers)) @ line.fit(powers)
    off: Jackknife = line.y.combined(np.eye(len(line.x)) - hat)
    z = np.divide(off.value, off.stderr, out=np.zeros_like(off.value), where=off.stderr > 0)
    threshold = sidak_threshold(error_rate, len(z), len(off.errors) - 1)
    worst = int(np.abs(z).argmax())
    scale = np.ptp(line.y.value) if len(powers) > 1 else np.abs(line.y.value)
    weak = bool(np.any(~(off.stderr <= POWER * scale)))
    verdict = DISAGREE if abs(z[worst]) > threshold else UNDERPOWERED if weak else AGREE
    value = float(line.y.value[worst])
    name = f"{text} ({', '.join(filter(None, (f'{line.axis} {line.x[worst]:g}', line.at)))})"
    fitted = value - float(off.value[worst])
    return Row(name, value, float(off.stderr[worst]), fitted, float(z[worst]),
               float(off.value[worst]) / float(np.max(scale)) if np.max(scale) else 0.0, verdict, threshold, len(z))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _checks.error("text", text, "a number", _REMEDY) from None
