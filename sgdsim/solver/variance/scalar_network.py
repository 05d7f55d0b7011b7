r"""One unit in every layer: variances as polynomials in s = 1/b with rational coefficients.

The batch enters through z_t = (1/b) sum_a x_a^2, a chi-square over b, whose moments are polynomials in s:

$$E z^k = \prod_{j<k} (1 + 2 j s) .$$

Weights are polynomials in z_0, ..., z_{t-1}: an array of whole numbers, one axis for each z, over one denominator.
"""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from typing import Any, NamedTuple

import numpy as np


class Polynomial(NamedTuple):
    """`numbers / below`, numbers an object array of Python integers, one axis for each variable."""

    numbers: np.ndarray
    below: int

    def times(self, other: Polynomial) -> Polynomial:
        """The product."""
        few, many = sorted((self.numbers, other.numbers), key=np.count_nonzero)
        shape = tuple(a + b - 1 for a, b in zip(few.shape, many.shape, strict=True))
        out = np.zeros(shape, dtype=object)
        for index in zip(*np.nonzero(few), strict=True):
            window = tuple(slice(at, at + length) for at, length in zip(index, many.shape, strict=True))
            out[window] += few[index] * many
        return Polynomial(out, self.below * other.below)

    def plus(self, other: Polynomial, factor: Fraction) -> Polynomial:
        """The sum self + factor * other."""
        shape = tuple(max(a, b) for a, b in zip(self.numbers.shape, other.numbers.shape, strict=True))
        below = lcm(self.below, other.below * factor.denominator)
        scales = below // self.below, factor.numerator * (below // (other.below * factor.denominator))
        out = np.zeros(shape, dtype=object)
        for numbers, scale in zip((self.numbers, other.numbers), scales, strict=True):
            out[tuple(slice(length) for length in numbers.shape)] += numbers * scale
        return Polynomial(out, below)


def as_fraction(value: float | Fraction) -> Fraction:
    """A number as a fraction; a float stands for the shortest decimal that denotes it."""
    return value if isinstance(value, Fraction) else Fraction(repr(float(value)))


def scalar_polynomials(
    layers: tuple[np.ndarray, ...], teachers: tuple[np.ndarray, ...], rates: list[Any], quantity: str
) -> tuple[list[Fraction], list[Fraction]]:
    r"""Coefficients ascending in s of the variance of g_1 and of g_2 after len(rates) steps.

    $$\mathrm{Var}(g_1) = 2 s E q^2 + \mathrm{Var}(q), \quad q = w_2 e, \qquad
      \mathrm{Var}(g_2) = 2 s E r^2 + \mathrm{Var}(r), \quad r = w_1 e, \quad e = w_2 w_1 - T .$$
    """
    variables = max(1, len(rates))
    teacher = as_fraction(teachers[0][0, 0]) * as_fraction(teachers[1][0, 0])
    w1, w2 = (_constant(as_fraction(layer[0, 0]), variables) for layer in layers)
    target = _constant(teacher, variables)
    e = w2.times(w1).plus(target, Fraction(-1))
    for t, rate in enumerate(rates):
        z = _variable(t, variables)
        move = as_fraction(rate)
        w1, w2 = w1.plus(w2.times(e).times(z), -move), w2.plus(w1.times(e).times(z), -move)
        e = w2.times(w1).plus(target, Fraction(-1))
    if quantity == "loss":
        half = [value / 2 for value in _mean(e.times(e))]
        return half, half
    inner, outer = (_variance(w.times(e), quantity) for w in (w2, w1))
    return inner, outer


def _variance(q: Polynomial, quantity: str) -> list[Fraction]:
    mean, square = _mean(q), _mean(q.times(q))
    total = [Fraction(0)] * max(len(square) + 1, 2 * len(mean) - 1)
    for power, value in enumerate(square):
        total[power] += value
        if quantity == "gradient":
            total[power + 1] += 2 * value
    for i, a in enumerate(mean):
        for j, b in enumerate(mean):
            total[i + j] -= a * b
    while len(total) > 1 and total[-1] == 0:
        total.pop()
    return total


def _mean(polynomial: Polynomial) -> list[Fraction]:
    """The expectation over all z: coefficients in s."""
    # axis by axis from the last; the new last axis holds powers of s
    values = polynomial.numbers[..., None]
    for _ in range(polynomial.numbers.ndim):
        moments = _moments(values.shape[-2])
        out = np.zeros((*values.shape[:-2], values.shape[-1] + moments.shape[1] - 1), dtype=object)
        for k, moment in enumerate(moments):
            for power, weight in enumerate(moment):
                if weight:
                    out[..., power : power + values.shape[-1]] += weight * values[..., k, :]
        values = out
    return [Fraction(int(value), polynomial.below) for value in np.atleast_1d(values)]


def _moments(count: int) -> np.ndarray:
    """E z^k for k < count, coefficients in s: whole numbers, shape (count, max(count - 1, 1))."""
    table = np.zeros((count, max(count - 1, 1)), dtype=object)
    table[0, 0] = 1
    for k in range(1, count):
        table[k] = table[k - 1]
        table[k, 1:] += 2 * (k - 1) * table[k - 1, :-1]
    return table


def _constant(value: Fraction, variables: int) -> Polynomial:
    numbers = np.empty((1,) * variables, dtype=object)
    numbers[...] = value.numerator
    return Polynomial(numbers, value.denominator)


def _variable(which: int, variables: int) -> Polynomial:
    numbers = np.zeros(tuple(2 if axis == which else 1 for axis in range(variables)), dtype=object)
    numbers[tuple(1 if axis == which else 0 for axis in range(variables))] = 1
    return Polynomial(numbers, 1)
