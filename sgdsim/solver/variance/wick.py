r"""Expectations of words in a Wishart matrix: sums over pairings.

With Sigma = (1/b) sum_a x_a x_a' and x_a ~ N(0, I), the expectation of a product of traces of words in Sigma is a sum
over the (2k-1)!! pairings of the 2k halves of its k factors Sigma. A pairing contributes the traces of the
matrices that its links string together, times s^{k - loops}, s = 1/b, where loops counts the classes of factors that
share one example.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sgdsim._types import Matrix
from sgdsim.solver.variance.pairings import Halves, pairings


class Factor(NamedTuple):
    """A + B Sigma C; without B it does not fluctuate."""

    fixed: Matrix
    left: Matrix | None = None
    right: Matrix | None = None

    @property
    def transposed(self) -> Factor:
        """(A + B Sigma C)' = A' + C' Sigma B'."""
        if self.left is None or self.right is None:
            return Factor(self.fixed.T)
        return Factor(self.fixed.T, self.right.T, self.left.T)


Word = Sequence[Factor]


def squared_norm(word: Word) -> list[Factor]:
    """The word M'M, whose trace is ||M||^2."""
    return [factor.transposed for factor in reversed(word)] + list(word)


def mean_of_traces(*words: Word) -> np.ndarray:
    """E tr(word) tr(word) ..., coefficients ascending in s = 1/b."""
    return _expand(words, None)


def variance_of(word: Word) -> np.ndarray:
    """E||M||^2 - ||E M||^2 of a word M, coefficients ascending in s: pairings that link the two copies."""
    return _expand([squared_norm(word)], len(word))


def _expand(words: Sequence[Word], copy: int | None) -> np.ndarray:
    """Choose B Sigma C or A in every factor; `copy` factors at the front are the first of two copies."""
    total = np.zeros(1 + max(1, sum(factor.left is not None for word in words for factor in word)))
    choices = [_choices(word) for word in words]
    between = [functools.cache(functools.partial(_segment, word)) for word in words]
    for chosen in itertools.product(*choices):
        weight, segments = 1.0, []
        for word, active, segment in zip(words, chosen, between, strict=True):
            if active:
                around = (*active[1:], active[0] + len(word))
                segments += [segment(here, after) for here, after in zip(active, around, strict=True)]
            else:
                weight *= float(np.trace(_chain([factor.fixed for factor in word])))
        sizes = tuple(len(active) for active in chosen if active)
        first = None if copy is None else sum(index < copy for index in chosen[0])
        if segments:
            keep = None if first is None else functools.partial(_across, first=first)
            powers = sum_over_pairings(segments, sizes, keep)
            total[: len(powers)] += weight * powers
        elif copy is None:
            total[0] += weight
    return total


def _choices(word: Word) -> list[tuple[int, ...]]:
    moving = [index for index, factor in enumerate(word) if factor.left is not None]
    return [chosen for size in range(len(moving) + 1) for chosen in itertools.combinations(moving, size)]


def _chain(matrices: Sequence[Matrix]) -> Matrix:
    return matrices[0] if len(matrices) == 1 else np.linalg.multi_dot(matrices)


def _segment(word: Word, here: int, after: int) -> Matrix:
    """What stands around the trace from the Sigma of one factor to that of another: C A ... A B."""
    length = len(word)
    right, left = word[here].right, word[after % length].left
    assert right is not None and left is not None
    return _chain([right, *(word[index % length].fixed for index in range(here + 1, after)), left])


def sum_over_pairings(
    segments: list[Matrix], sizes: tuple[int, ...], keep: Callable[[np.ndarray], np.ndarray] | None
) -> np.ndarray:
    """Coefficients in s of traces with so many factors each, `segments` between them; of the pairings kept."""
    table = pairings(sizes)
    values = _loop_traces(segments, table.halves)
    products = np.append(values, 1.0)[table.members].prod(axis=1)
    if keep is not None:
        products = products * keep(table.places)
    return np.bincount(table.powers, weights=products, minlength=1)


def _across(places: np.ndarray, first: int) -> np.ndarray:
    """Which pairings link the first factors to the others."""
    sides = places < first
    return (sides[:, :, 0] != sides[:, :, 1]).any(axis=1)


def _loop_traces(segments: list[Matrix], halves: Halves) -> np.ndarray:
    """The trace of every loop: inner products between the products of at most half a loop each."""
    size = len(segments[0])
    letters = np.array([segments, [segment.T for segment in segments]])
    products = np.empty((halves.total, size, size))
    products[0] = np.eye(size)
    for word, before, segment, back in halves.levels:
        products[word] = products[before] @ letters[back, segment]
    first, row = np.unique(halves.pairs[:, 0], return_inverse=True)
    second, column = np.unique(halves.pairs[:, 1], return_inverse=True)
    left = products[first].reshape(len(first), -1)
    right = products[second].swapaxes(1, 2).reshape(len(second), -1)
    return (left @ right.T)[row, column]
