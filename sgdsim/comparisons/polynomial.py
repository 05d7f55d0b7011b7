"""Fit a polynomial in 1/b to any quantity of a sweep over batch sizes."""

from __future__ import annotations

from collections.abc import Mapping

from sgdsim import _checks
from sgdsim.comparisons.line import lines
from sgdsim.estimators import PolynomialFit, fit_polynomial
from sgdsim.results import SweepResult
from sgdsim.results.derive import Function


@fit_polynomial.register
def fit_polynomial_of_sweep(
    sweep: SweepResult,
    quantity: str | Function = "trace(noise_covariance)",
    degree: int | None = None,
    basis: str | None = None,
    *,
    non_negative: bool = False,
    derived: Mapping[str, Function] | None = None,
    constant: bool = False,
) -> PolynomialFit:
    """A quantity of a sweep over batch sizes as a polynomial in 1/b; see `fit_polynomial`.

    The batch sizes share their random numbers. The covariance of their errors is measured over groups of chains, and
    its inverse corrected for the number of groups (Hartlap, Simon and Schneider 2007).

    Args:
        sweep: over several batch sizes; its other axes have one value each.
        quantity: a name as for `compare`, or a function as for `Result.derive`.
        degree: as for `fit_polynomial`.
        basis: "1/b" or "c_b"; None is what belongs to the sampling mode.
        non_negative: as for `fit_polynomial`.
        derived: functions by name, as for `compare`.
        constant: as for `fit_polynomial`: True for `train_loss` and whatever else does not vanish as b grows.

    Raises:
        ValueError: other axes have several values, or there are too many batch sizes for the groups of chains.
    """
    found = lines(sweep, quantity, "batch_size", derived=derived)
    if len(found) > 1 or found[0].y.value.ndim > 1:
        raise _checks.error("sweep", f"over {', '.join(sweep.axes)}", "over batch sizes alone, of one number",
                            "name an entry or a trace, and sweep over batch_size alone")
    line = found[0]
    groups, sizes = len(line.y.errors), len(line.x)
    if groups < sizes + 3:
        most = f"of at most {groups - 3}, for {groups} groups of chains"
        raise _checks.error("sweep", f"of {sizes} batch sizes", most, "run more chains")
    without = sweep.results[0].provenance.get("sampling") == "without_replacement"
    examples = None if sweep.problem is None else sweep.problem.n_examples
    chosen = basis or ("c_b" if without else "1/b")
    return fit_polynomial(line.x, line.y.value, None, degree, chosen, non_negative=non_negative, constant=constant,
                          n_examples=examples if chosen == "c_b" else None,
                          covariance=line.y.covariance() * (groups - 1) / (groups - sizes - 2))
