"""A whole sweep against a theory: at every point, at one error rate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim.comparisons.stationary import Error, OneTheory, compare, held_by
from sgdsim.comparisons.sweep_comparison import Point, SweepComparison
from sgdsim.results import Result, SweepResult
from sgdsim.results.derive import Function, parameters
from sgdsim.solver.predict import BeyondLimit, predict
from sgdsim.solver.prediction import Prediction

SweepTheory: TypeAlias = Callable[..., OneTheory] | Mapping[str, ArrayLike]


@compare.register(SweepResult)
@own_settings
def compare_sweep(
    sweep: SweepResult,
    theory: SweepTheory,
    *,
    error_rate: float = 0.01,
    theory_error: Error | None = None,
    reference: str = "",
    regime: str = "",
    derived: Mapping[str, Function] | None = None,
) -> SweepComparison:
    """Hold every point of a sweep against a theory; `compare` forwards to this function.

    Args:
        sweep: what `ss.sweep` measured.
        theory: a function whose parameters are called as the axes (or other numbers of the optimizer) and that returns
            what `compare` takes at a point: `lambda learning_rate, batch_size: {"test_loss": ...}`; `ss.predict` itself
            (where the sweep comes from no file); or a mapping from quantities to arrays of shape (*sweep.shape, ...).
            Where a prediction does not exist, beyond the stability limit, the point is out of regime.
        error_rate: probability of any "disagree" at any point for a correct theory.
        theory_error: as for `compare`.
        reference: as for `compare`.
        regime: as for `compare`.
        derived: as for `compare`.

    Returns:
        A `SweepComparison`: verdicts by point, where disagreement begins along each axis, maps.

    Raises:
        ValueError: the theory asks for what is no axis, has another shape, or speaks of what was not measured.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([1.0], label_noise=1.0)
        >>> grid = ss.sweep(problem, ss.SGD(0.1), batch_size=4, learning_rate=[0.05, 0.4], chains=2000, steps=500,
        ...                 burn_in=200)
        >>> mine = lambda learning_rate, batch_size: {"variance": [learning_rate / (2 * batch_size)]}
        >>> ss.compare(grid, mine).disagrees
        True
    """
    rate = _checks.between_0_and_1("error_rate", error_rate, "0.01 is the default")
    each = 1 - (1 - rate) ** (1 / len(sweep.results))
    theories: list[OneTheory | str] = []
    failed: list[ValueError] = []
    for index, (point, result) in zip(np.ndindex(sweep.shape), sweep.points(), strict=True):
        try:
            theories.append(_at(theory, sweep, index, setting(sweep, index, point, result)))
        except BeyondLimit:
            theories.append("beyond the stability limit: no second moment exists")
        except ValueError as error:
            if not _is_predict(theory):
                raise
            failed.append(error)
            theories.append(str(error))
    if len(failed) == len(theories):
        raise failed[0]
    points = []
    for (point, result), one in zip(sweep.points(), theories, strict=True):
        if isinstance(one, str):
            points.append(Point(point, None, {}, one))
        else:
            found, held = held_by(result, one, each, theory_error=theory_error, reference=reference,
                                  regime=regime, derived=dict(derived or {}))
            points.append(Point(point, found, held, ""))
    return SweepComparison({name: list(values) for name, values in sweep.axes.items()}, points, rate,
                           functools.partial(_limits, sweep))


def setting(
    sweep: SweepResult, index: tuple[int, ...], point: Mapping[str, float], result: Result
) -> dict[str, object]:
    """What a function of a point may ask for: axes, the batch size, and numbers of the optimizer."""
    known: dict[str, object] = {"batch_size": result.provenance.get("batch_size"), **point}
    if sweep.optimizers:
        optimizer = sweep.optimizers[int(np.ravel_multi_index(index, sweep.shape))]
        known = {name: value for name in ("learning_rate", "momentum", "b1", "b2", "eps", "weight_decay", "exponent")
                 if (value := getattr(optimizer, name, None)) is not None} | known
    return known


def _at(theory: SweepTheory, sweep: SweepResult, index: tuple[int, ...], known: Mapping[str, object]) -> OneTheory:
    if _is_predict(theory):
        return _predicted(theory, sweep, index)
    if isinstance(theory, Mapping):
        return {name: _entry(name, value, sweep.shape, index) for name, value in theory.items()}
    names = parameters(theory)
    for name in names:
        if name not in known:
            raise _checks.error("theory", f"a function of {name}", f"one of {', '.join(known)}",
                                "call its parameters as the axes of the sweep")
    said = theory(**{name: known[name] for name in names})
    if not isinstance(said, Mapping | Prediction):
        raise _checks.error("theory's value", type(said).__name__, "a mapping from quantities, or a Prediction",
                            "return {'covariance': ...}")
    return said


def _is_predict(theory: object) -> TypeGuard[Callable[..., Prediction]]:
    return theory is predict or (isinstance(theory, functools.partial) and theory.func is predict)


def _predicted(theory: Callable[..., Prediction], sweep: SweepResult, index: tuple[int, ...]) -> OneTheory:
    at = int(np.ravel_multi_index(index, sweep.shape))
    if sweep.problem is None:
        raise _checks.error("theory", "ss.predict", "a function of the axes, for a sweep from a file",
                            "try lambda learning_rate, batch_size: ss.predict(problem, ss.SGD(learning_rate), ...)")
    how = sweep.results[at].provenance
    return theory(sweep.problem, sweep.optimizers[at], batch_size=how["batch_size"], sampling=how["sampling"])


def _entry(name: str, value: ArrayLike, shape: tuple[int, ...], index: tuple[int, ...]) -> np.ndarray:
    if callable(value) or isinstance(value, Mapping):
        raise _checks.error(f"theory[{name!r}]", value, "an array on the grid", "compare with one theory at a time")
    array = _checks.finite_array(f"theory[{name!r}]", value, "check the formula")
    if array.shape[: len(shape)] != shape:
        raise _checks.error(f"theory[{name!r}]", f"of shape {array.shape}", f"of shape {shape} and the quantity's",
                            "one value for each point of the grid, or a function of the axes")
    return array[index]


def _limits(sweep: SweepResult) -> dict[float, float]:
    """The largest stable learning rate of each batch size, where theory knows it."""
    found: dict[float, float] = {}
    for optimizer, result in zip(sweep.optimizers, sweep.results, strict=bool(sweep.optimizers)):
        size, how = result.provenance["batch_size"], result.provenance
        if size not in found and sweep.problem is not None:
            try:
                law = predict(sweep.problem, optimizer, batch_size=size, sampling=how["sampling"])
            except (ValueError, NotImplementedError):
                continue  # at the next learning rate, perhaps
            found[size] = float(law.max_learning_rate)
    return found
