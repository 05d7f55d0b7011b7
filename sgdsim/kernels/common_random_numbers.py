"""Common random numbers: with one key, the batch of b examples is part of the batch of b+1."""

from __future__ import annotations

import dataclasses

import jax

from sgdsim.kernels.base import Kernel
from sgdsim.kernels.dataset import ComplementKernel, RowsKernel
from sgdsim.kernels.draws import subsets


def first_of_a_shuffle(key: jax.Array, n: int, batch_size: int, chains: int) -> jax.Array:
    """The first `batch_size` examples of a random order of all n that depends on the key alone, (b, chains)."""
    index, _, _ = subsets.next_batch(key, subsets.start_epochs(n, chains), batch_size)
    return index


def share_random_numbers(kernel: Kernel) -> Kernel:
    """The same law as `kernel`, drawn so that batch sizes under one key are correlated as much as they can be."""
    if isinstance(kernel, ComplementKernel):
        return RowsKernel(kernel.examples, kernel.batch_size, first_of_a_shuffle)
    if isinstance(kernel, RowsKernel) and kernel.choose is subsets.floyd_subset:
        return dataclasses.replace(kernel, choose=first_of_a_shuffle)
    return kernel
