"""The linear scaling rule: where (k lambda, k S) fluctuates like (lambda, S), exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from sgdsim import _checks
from sgdsim.optimizers.base import Optimizer
from sgdsim.problems.base import Problem
from sgdsim.solver.limits.stability import stability
from sgdsim.solver.predict import predict

QUANTITIES = ("fluctuation", "test_loss")


@dataclasses.dataclass(frozen=True, eq=False)
class ScalingMap:
    r"""How well the linear scaling rule holds over a grid of learning rates and batch sizes.

    Attributes:
        learning_rates: lambda, shape (R,).
        batch_sizes: S, shape (B,).
        factor: k, by which both are multiplied.
        quantity: what is compared: "fluctuation" (Tr Sigma) or "test_loss" (the excess above that of the mean).
        value: the exact value at (lambda, S), shape (B, R); NaN where there is no second moment.
        scaled: the exact value at (k lambda, k S), same shape.
        rule: the rule of thumb at (lambda, S): continuous time with noise proportional to the Hessian, a function of
            lambda/S alone; the same at (k lambda, k S). Same shape.
        max_learning_rate: the mean-square limit at each batch size, shape (B,).
        max_learning_rate_scaled: the largest lambda for which (k lambda, k S) is stable, shape (B,).
    """

    learning_rates: np.ndarray
    batch_sizes: np.ndarray
    factor: int
    quantity: str
    value: np.ndarray
    scaled: np.ndarray
    rule: np.ndarray
    max_learning_rate: np.ndarray
    max_learning_rate_scaled: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """Value at (k lambda, k S) over that at (lambda, S): 1 where the rule holds. Shape (B, R)."""
        return self.scaled / self.value

    @property
    def rule_error(self) -> np.ndarray:
        """The rule of thumb over the exact value, less 1, shape (B, R)."""
        return self.rule / self.value - 1

    def holds(self, tolerance: float = 0.1) -> np.ndarray:
        """Where scaling changes the value by less than `tolerance` of it, shape (B, R); false where unstable."""
        limit = _checks.positive("tolerance", tolerance, "0.1 is the default")
        return np.nan_to_num(np.abs(self.ratio - 1), nan=np.inf) < limit


def linear_scaling_rule(
    problem: Problem,
    optimizer: Optimizer,
    *,
    batch_size: int | Sequence[int],
    learning_rate: float | Sequence[float],
    factor: int = 2,
    quantity: str = "fluctuation",
    sampling: str | None = None,
) -> ScalingMap:
    r"""Hold the linear scaling rule "multiply lambda and S by the same k" against the exact stationary law.

    In continuous time with noise proportional to the Hessian the fluctuation is
    $\Sigma = \tfrac{\lambda\sigma^2}{2S} I$ (without momentum): a function of lambda/S alone. Exactly, one dimension,

    $$\frac{\Sigma(k\lambda, kS)}{\Sigma(\lambda, S)} = \frac{2 - \lambda a (1 + 2/S)}{2 - \lambda a (k + 2/S)} :$$

    the rule holds to first order in k lambda a, and fails at the stability limit of the larger step, whatever S is.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression.
        optimizer: an SGD or DampedNewton; its learning rate is replaced. (The step of a NaturalGradient does not
            depend on S in the first place.)
        batch_size: S, one or several, distinct.
        learning_rate: lambda, one or several, distinct.
        factor: k >= 2, a whole number.
        quantity: "fluctuation" for Tr Sigma, "test_loss" for the excess test loss above that of the mean.
        sampling: as for `predict`.

    Returns:
        A `ScalingMap`.

    Raises:
        ValueError: an argument is out of range, or the optimizer has no learning rate to replace.

    Examples:
        >>> import sgdsim as ss
        >>> from sgdsim.solver.limits import linear_scaling_rule
        >>> problem = ss.LinearRegression(covariance=[1.0], label_noise=1.0)
        >>> chart = linear_scaling_rule(problem, ss.SGD(0.1), batch_size=8, learning_rate=[0.02, 0.5, 0.8])
        >>> [[round(float(x), 3) for x in row] for row in chart.ratio]
        [[1.01, 1.571, 5.0]]
    """
    k = _checks.integer("factor", factor, low=2)
    _checks.choice("quantity", quantity, QUANTITIES)
    sizes = [_checks.integer("batch_size", b) for b in _distinct("batch_size", batch_size)]
    rates = [_checks.positive("learning_rate", r) for r in _distinct("learning_rate", learning_rate)]
    if not hasattr(optimizer, "momentum") or not dataclasses.is_dataclass(optimizer):
        raise _checks.error("optimizer", optimizer, "an SGD or DampedNewton", "try ss.SGD(learning_rate=0.1)")

    def at(rate: float) -> Optimizer:
        return dataclasses.replace(optimizer, learning_rate=rate)

    limits = {
        b: stability(problem, at(min(rates)), batch_size=b, sampling=sampling).max_learning_rate
        for b in {*sizes, *(k * b for b in sizes)}
    }

    def value(rate: float, size: int, approximation: str = "exact") -> float:
        if rate >= limits[size]:
            return np.nan
        law = predict(problem, at(rate), batch_size=size, sampling=sampling, approximation=approximation)
        if quantity == "fluctuation":
            return float(np.trace(law.covariance))
        return law.test_loss - float(problem.test_loss(law.mean))

    grid = [[(r, b) for r in rates] for b in sizes]
    return ScalingMap(
        np.array(rates),
        np.array(sizes),
        k,
        quantity,
        np.array([[value(r, b) for r, b in row] for row in grid]),
        np.array([[value(k * r, k * b) for r, b in row] for row in grid]),
        np.array([[value(r, b, "continuous") for r, b in row] for row in grid]),
        np.array([limits[b] for b in sizes]),
        np.array([limits[k * b] / k for b in sizes]),
    )


def _distinct(name: str, values: float | Sequence[float]) -> list[float]:
    listed = _checks.sequence(name, values)
    if not listed or len(set(listed)) < len(listed):
        raise _checks.error(name, values, "one or more distinct values in a list", f"try {name}=[1, 2]")
    return listed
