"""The sign of a polynomial on [0, 1], decided exactly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from math import comb

from sgdsim import _checks

_DEPTH = 40


def non_negative(coefficients: Sequence[Fraction]) -> bool:
    r"""Whether a polynomial with ascending `coefficients` is >= 0 on [0, 1].

    Its Bernstein coefficients bound it from below and above; intervals where they have both signs are halved.

    Raises:
        NotConverged: it comes so close to zero that 40 halvings decide nothing.
    """
    degree = len(coefficients) - 1
    bernstein = [
        sum((Fraction(comb(j, k), comb(degree, k)) * coefficients[k] for k in range(j + 1)), Fraction(0))
        for j in range(degree + 1)
    ]
    intervals = [(bernstein, 0)]
    while intervals:
        values, depth = intervals.pop()
        if min(values) >= 0:
            continue
        if values[0] < 0 or values[-1] < 0:  # the polynomial's own values at the two ends
            return False
        if depth == _DEPTH:
            raise _checks.NotConverged("the derivative touches zero: its sign is not decided", values)
        left, right = _halve(values)
        intervals += [(left, depth + 1), (right, depth + 1)]
    return True


def _halve(values: list[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    """De Casteljau at 1/2."""
    left, right = [values[0]], [values[-1]]
    while len(values) > 1:
        values = [(a + b) / 2 for a, b in itertools.pairwise(values)]
        left.append(values[0])
        right.append(values[-1])
    return left, right[::-1]
