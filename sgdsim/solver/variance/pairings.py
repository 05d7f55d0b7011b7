"""The pairings of a word's halves, once for all words of the same shape: they do not depend on any matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

Loop = tuple[tuple[int, bool], ...]  # (segment, transposed), cyclic


class Halves(NamedTuple):
    """Loops as pairs of products of segments."""

    total: int  # products
    levels: tuple[np.ndarray, ...]  # for each length, rows: product, the one without its last segment, that, transposed
    pairs: np.ndarray  # (loops, 2)


class Pairings(NamedTuple):
    """All pairings of k segments' ends: the loops that occur, and which of them each strings."""

    halves: Halves
    members: np.ndarray  # (pairings, k): indices of loops, one past the last where there are fewer
    powers: np.ndarray  # (pairings,): k - loops of examples
    places: np.ndarray  # (pairings, k, 2): the two factors Sigma that each link joins


@lru_cache(maxsize=64)
def pairings(sizes: tuple[int, ...]) -> Pairings:
    """The table for traces with so many factors Sigma each.

    Segment j runs from the right half of factor j, point 2j, to the left half of the next one, point 2j + 1.
    """
    k = sum(sizes)
    after, start = list(range(k)), 0
    for size in sizes:
        for j in range(size):
            after[start + j] = start + (j + 1) % size
        start += size
    place = [0] * (2 * k)
    for j in range(k):
        place[2 * j], place[2 * j + 1] = j, after[j]
    numbers: dict[Loop, int] = {}
    members, powers, places = [], [], []
    for pairing in _matchings(tuple(range(2 * k))):
        partner = [0] * (2 * k)
        for a, b in pairing:
            partner[a], partner[b] = b, a
        strung = [numbers.setdefault(loop, len(numbers)) for loop in _loops(partner, k)]
        members.append(strung + [-1] * (k - len(strung)))
        links = [(place[a], place[b]) for a, b in pairing]
        powers.append(k - _components(links, k))
        places.append(links)
    return Pairings(_halves(tuple(numbers)), np.array(members), np.array(powers), np.array(places))


def _matchings(points: tuple[int, ...]) -> Iterator[list[tuple[int, int]]]:
    if not points:
        yield []
        return
    head, *rest = points
    for index, other in enumerate(rest):
        for matching in _matchings(tuple(rest[:index] + rest[index + 1 :])):
            yield [(head, other), *matching]


def _loops(partner: list[int], k: int) -> Iterator[Loop]:
    """The cyclic words that a pairing strings, each from its lowest segment, that one not transposed."""
    seen = [False] * k
    for start in range(k):
        if seen[start]:
            continue
        loop, point = [], 2 * start
        while not seen[point // 2]:
            segment, back = point // 2, bool(point % 2)
            seen[segment] = True
            loop.append((segment, back))
            point = partner[2 * segment if back else 2 * segment + 1]
        yield tuple(loop)


def _components(links: list[tuple[int, int]], k: int) -> int:
    root = list(range(k))
    for a, b in links:
        ra, rb = root[a], root[b]
        if ra != rb:
            root = [ra if r == rb else r for r in root]
    return len(set(root))


def _halves(loops: Sequence[Loop]) -> Halves:
    """Every loop cut in two, and the products that are needed, shorter ones first."""
    words: dict[Loop, int] = {(): 0}

    def index(word: Loop) -> int:
        if word not in words:
            index(word[:-1])
            words[word] = len(words)
        return words[word]

    cuts = [(len(loop) + 1) // 2 for loop in loops]
    pairs = np.array([(index(loop[:cut]), index(loop[cut:])) for loop, cut in zip(loops, cuts, strict=True)])
    steps = [(words[word], words[word[:-1]], *word[-1]) for word in words if word]
    levels = tuple(
        np.array([step for step, word in zip(steps, list(words)[1:], strict=True) if len(word) == length]).T
        for length in range(1, max(map(len, words)) + 1)
    )
    return Halves(len(words), levels, pairs)
