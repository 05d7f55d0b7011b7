"""Cut an ensemble into blocks: the unit of randomness, compute, sharding and merging."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Parameters of one block, (D, chains), stay in a core's cache; a GPU wants all its lanes busy.
_BLOCK_CHAINS = {"cpu": 4096, "gpu": 2**17, "tpu": 2**17}
_CACHE_NUMBERS = 2**17
_MIN_GROUPS = 64


class Blocks(NamedTuple):
    """How chains are laid out; a function of chains, parameters and backend only, never of the devices.

    Attributes:
        chains: number of chains asked for.
        number: how many blocks, even (1 for a single chain).
        size: chains of a block, padding included: a multiple of `groups`.
        groups: independent groups of chains in each block; chain j of a block is in group j % groups. Large groups of a
            GPU or a TPU are of neighbours instead, chain j in group j // (size / groups).
    """

    chains: int
    number: int
    size: int
    groups: int

    @property
    def valid(self) -> np.ndarray:
        """Chains of each block that are not padding, shape (number,); they differ by at most one."""
        return np.diff(np.arange(self.number + 1) * self.chains // self.number)


def plan_blocks(chains: int, dimension: int, backend: str) -> Blocks:
    """Equal blocks, even in number, with at least 64 groups in all where there are chains enough."""
    target = _BLOCK_CHAINS.get(backend, 4096)
    if backend == "cpu":
        target = min(target, max(256, _CACHE_NUMBERS // dimension))
    count = 1 if chains == 1 else 2 * max(1, round(chains / target / 2))
    largest = -(-chains // count)
    groups = min(-(-_MIN_GROUPS // count), chains // count)
    return Blocks(chains, count, -(-largest // groups) * groups, groups)
