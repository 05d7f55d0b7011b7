"""A function of measured quantities, of a result or of every point of a sweep, with its error."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.estimators.jackknife import MIN_GROUPS, Jackknife, jackknife
from sgdsim.results.groups import Groups

# Its parameters are called as the measured quantities that it gets.
Function = Callable[..., ArrayLike]


class Run(Protocol):
    """What is needed of a result."""

    @property
    def quantities(self) -> Mapping[str, tuple[ArrayLike, ArrayLike]]:
        """Value and standard error of all that was measured."""
        ...

    @property
    def groups(self) -> Groups | None:
        """What was kept of groups of chains."""
        ...


def measured(result: Run) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """All that a result measured, by name, with standard errors; variances too where it measured a covariance."""
    found = {name: (np.asarray(value), np.asarray(stderr)) for name, (value, stderr) in result.quantities.items()}
    if "covariance" in found and "variance" not in found:
        value, stderr = found["covariance"]
        found["variance"] = np.diagonal(value), np.diagonal(stderr)
    return found


def parameters(function: Callable[..., object]) -> list[str]:
    """The names of what a function gets; what has a default is its own affair.

    Raises:
        ValueError: it is no function, or its parameters have no names.
    """
    remedy = "try lambda covariance, train_loss: np.trace(covariance) / train_loss"
    try:
        signature = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise _checks.error("function", function, "a function of measured quantities", remedy) from None
    named = [p for p in signature if p.default is p.empty]
    if not named or any(p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in named):
        raise _checks.error("function", function, "a function whose parameters are called as what was measured", remedy)
    return [p.name for p in named]


def not_measured(argument: str, name: str, known: Sequence[str]) -> ValueError:
    """The complaint about a quantity that a result does not have."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    remedy = f"did you mean {near[0]!r}?" if near else "a further statistic may measure it: statistics=[...]"
    return _checks.error(argument, name, f"one of what was measured: {', '.join(known) or 'nothing'}", remedy)


def jackknifed(function: Function, results: Sequence[Run], names: Sequence[str] = ()) -> Jackknife:
    """The function of each of several results whose groups share their random numbers, shape (P, ...).

    Args:
        function: called with measured quantities, by name.
        results: of one run, or of all points of a sweep.
        names: of what it gets; those of its parameters if not given.

    Raises:
        ValueError: a parameter is not measured, no groups were kept or too few, or a value is not finite.
    """
    names = names or parameters(function)
    values, without = [], []
    for result in results:
        known = measured(result)
        for name in names:
            if name not in known:
                raise not_measured("function", name, list(known))
        sizes, left = _groups(result, names)
        values.append(_called(function, {name: known[name][0] for name in names}))
        without.append([_called(function, {name: left[name][k] for name in names}) for k in range(len(sizes))])
    return jackknife(np.array(values), np.array(without).swapaxes(0, 1), sizes)


def _groups(result: Run, names: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Chains of each group, and the quantities without it."""
    groups = result.groups
    if groups is None:
        raise _checks.error("result.groups", None, "kept, for an error bar of what is derived",
                            "they did not fit, or were dropped: simulate with keep_groups=True")
    if len(groups.sizes) < MIN_GROUPS:
        raise _checks.error("result.groups", f"{len(groups.sizes)} groups of chains", f"at least {MIN_GROUPS}",
                            "run more chains")
    return groups.sizes, {name: groups[name] if name in groups else np.diagonal(groups["covariance"], axis1=1, axis2=2)
                          for name in names}


def _called(function: Function, arguments: Mapping[str, np.ndarray]) -> np.ndarray:
    copies = {name: value.copy()[()] for name, value in arguments.items()}
    value = _checks.real_array("function's value", function(**copies), "return a number or an array")
    if not np.isfinite(value).all():
        raise _checks.error("function's value", value, "finite", "it is not, of what was measured or of all groups of "
                            "chains but one: look for logarithms, roots and ratios of what is near 0")
    return value.astype(np.float64)
