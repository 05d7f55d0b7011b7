"""What drawing b examples makes of the covariance of one: 1/b, or c_b without replacement."""

from __future__ import annotations

import dataclasses
import itertools
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from sgdsim.problems.base import Problem
from sgdsim.problems.sampling import PASSES

Number = TypeVar("Number", float, np.ndarray, jax.Array)


@dataclasses.dataclass(frozen=True)
class NoiseFactor:
    r"""The variable x in which variances are polynomials with non-negative coefficients.

    $$x = \tfrac1b \;\text{(online, with replacement)}, \qquad x = c_b = \frac{n-b}{b(n-1)} \;\text{(without)}.$$

    Attributes:
        n_examples: n where examples are drawn without replacement, None otherwise.
    """

    n_examples: int | None = None

    @property
    def name(self) -> str:
        """"1/b" or "c_b"."""
        return "1/b" if self.n_examples is None else "c_b"

    def of(self, b: Number) -> Number:
        """The variable x of batch size b, which need not be whole."""
        n = self.n_examples
        if n is None:
            return 1 / b
        return (n - b) / (b * (n - 1)) if n > 1 else 0 * b

    def slope(self, b: Number) -> Number:
        """The derivative dx/db."""
        n = self.n_examples
        if n is None:
            return -1 / b**2
        return -n / (b**2 * (n - 1)) if n > 1 else 0 * b

    @property
    def inverse(self) -> tuple[float, float]:
        """(a, c) of 1/b = a + c x: both non-negative."""
        n = self.n_examples
        return (0.0, 1.0) if n is None else (1 / n, (n - 1) / n)

    def cumulants(self, b: int) -> CumulantFactors:
        """With replacement the draws are independent; without, from the chances that 1 to 4 given rows are drawn."""
        n = self.n_examples
        if n is None:
            return CumulantFactors(1 / b**2, 1 / b**3, -1 / b**3)
        each = ((b - k) / (n - k) if n > k else 0.0 for k in range(4))
        one, two, three, four = itertools.accumulate(each, lambda p, q: p * q)
        third = n * (one - 3 * two + 2 * three) / b**3
        fourth = n * (one - 7 * two + 12 * three - 6 * four) / b**4
        return CumulantFactors(third, fourth, n**2 * (two - 2 * three + four) / b**4 - self.of(float(b)) ** 2)


class CumulantFactors(NamedTuple):
    """What multiplies the centred moments of one row in the higher cumulants of the mean of b rows.

    The fourth is `fourth` times the fourth moment plus `pairs` times the three products of covariances.
    """

    third: float
    fourth: float
    pairs: float


def factor_of(problem: Problem, mode: str) -> NoiseFactor:
    """The variable x of a sampling mode.

    Raises:
        NotImplementedError: passes, or batches of random sizes.
    """
    if mode in PASSES:
        raise NotImplementedError(
            f"no theory for sampling={mode!r}: batches of one pass are dependent; use 'without_replacement' "
            "(a fresh subset each step), solver.variance.epoch_gradient_variance for n <= 12, or simulate it"
        )
    if mode == "bernoulli":
        raise NotImplementedError("no theory for sampling='bernoulli': use 'without_replacement', or simulate it")
    return NoiseFactor(problem.n_examples if mode == "without_replacement" else None)
