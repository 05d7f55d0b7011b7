"""How an epoch may be cut into batches: all ways where they are few, else some of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_ALL = 20_000  # ordered partitions that are enumerated
_NUMBERS = 2**26  # of all matrices of a sample


class Shuffles(NamedTuple):
    """Batches of shuffled passes.

    Attributes:
        rows: examples of each batch, shape (shuffles, batches, b); a smaller last batch is filled up with row 0.
        weights: what each of them counts in the mean of its batch, shape (batches, b).
        exact: whether these are all shuffles.
    """

    rows: np.ndarray
    weights: np.ndarray
    exact: bool


def shuffles(n: int, batch_size: int, numbers: int, seed: int = 0) -> Shuffles:
    """All ordered partitions of n rows up to 20,000, else a sample of 256 to 4,096 random passes.

    Args:
        n: rows.
        batch_size: b.
        numbers: numbers that each pass will need in memory.
        seed: of the sample.
    """
    batches = -(-n // batch_size)
    sizes = [min(batch_size, n - batch_size * j) for j in range(batches)]
    ways = math.factorial(n) // math.prod(map(math.factorial, sizes))
    if ways <= _ALL:
        rows = np.array(list(_partitions(tuple(range(n)), sizes)))
    else:
        count = int(np.clip(_NUMBERS // numbers, 256, 4096))
        rows = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (count, 1)), axis=1)
    padded = np.zeros((len(rows), batches * batch_size), int)
    padded[:, :n] = rows
    weights = np.array([[1 / size if i < size else 0.0 for i in range(batch_size)] for size in sizes])
    return Shuffles(padded.reshape(len(rows), batches, batch_size), weights, ways <= _ALL)


def _partitions(left: tuple[int, ...], sizes: list[int]) -> Iterator[tuple[int, ...]]:
    """Every way to deal `left` into batches of these sizes, in order."""
    if not sizes:
        yield ()
        return
    for batch in itertools.combinations(left, sizes[0]):
        rest = tuple(i for i in left if i not in batch)
        for more in _partitions(rest, sizes[1:]):
            yield batch + more
