"""A quantity along one axis of a sweep, with the errors of its points and what they have in common."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sgdsim import _checks
from sgdsim.comparisons.comparison import ROUNDING
from sgdsim.comparisons.quantity import function_of
from sgdsim.comparisons.theory import dtype_of
from sgdsim.estimators.jackknife import Jackknife
from sgdsim.results import Result, SweepResult
from sgdsim.results.derive import Function, jackknifed


class Line(NamedTuple):
    """Values at ascending places.

    Attributes:
        axis: what changes along it.
        x: shape (P,).
        y: values, shape (P, ...); points share their random numbers, and so do their errors.
        at: where the line lies along the other axes, in words.
    """

    axis: str
    x: np.ndarray
    y: Jackknife
    at: str

    def fit(self, powers: tuple[int, ...]) -> np.ndarray:
        """Weights (len(powers), P) that make the values coefficients of powers of x, by weighted least squares.

        Errors of the points weigh them as if they were independent; those of what is fitted count what they share.
        """
        design = np.power.outer(self.x, np.array(powers))
        weight = 1 / self.y.stderr[:, None]
        return np.linalg.pinv(design * weight) * weight.T

    def inverted(self) -> Line:
        """The same values over 1/x."""
        back = self.y._replace(value=self.y.value[::-1], bias=self.y.bias[::-1], errors=self.y.errors[:, ::-1],
                               rounding=np.broadcast_to(self.y.rounding, self.y.value.shape)[::-1])
        return Line(f"1/{self.axis}", 1 / self.x[::-1], back, self.at)


def lines(
    sweep: SweepResult,
    quantity: str | Function,
    axis: str,
    *,
    derived: Mapping[str, Function] | None = None,
    logarithm: bool = False,
) -> list[Line]:
    """A quantity, or its logarithm, along an axis, for every setting of the others.

    Rounding errors of the chains count as one more error, 16 machine epsilons of the value: with common random numbers
    two points may differ by less.

    Raises:
        ValueError: there is no such axis or quantity, no groups of chains were kept, or a logarithm does not exist.
    """
    axis = _checks.choice("axis", axis, sweep.axes)
    where = list(sweep.axes).index(axis)
    x = np.asarray(sweep.axes[axis], np.float64)
    order = np.argsort(x)
    numbers = np.moveaxis(np.arange(len(sweep.results)).reshape(sweep.shape), where, -1)
    found = []
    for index in np.ndindex(numbers.shape[:-1]):
        results: list[Result] = [sweep.results[i] for i in numbers[index][order]]
        function, names = function_of(quantity, results[0], derived)
        y = jackknifed(functools.partial(_log, function) if logarithm else function, results, names)
        epsilon = ROUNDING / 4 * np.finfo(np.float64 if "64" in dtype_of(results[0]) else np.float32).eps
        y = y._replace(rounding=epsilon * (np.ones(y.value.shape) if logarithm else np.abs(y.value)))
        others = {name: values[index[i]] for i, (name, values) in enumerate(_others(sweep, axis))}
        long = (f"{name} {value:g}" for name, value in others.items() if len(sweep.axes[name]) > 1)
        found.append(Line(axis, x[order], y, ", ".join(long)))
    return found


def _log(function: Function, **given: np.ndarray) -> np.ndarray:
    value = np.asarray(function(**given))
    if not np.all(value > 0):
        raise _checks.error("quantity", float(np.min(value)), "positive, to have an exponent", "try its square")
    return np.log(value)


def _others(sweep: SweepResult, axis: str) -> list[tuple[str, list[float]]]:
    return [(name, values) for name, values in sweep.axes.items() if name != axis]
