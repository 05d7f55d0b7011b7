"""Subsets nested in b: with one key, the batch of b examples is part of the batch of b+1."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from sgdsim.kernels import subsets
from sgdsim.kernels.dataset import ComplementKernel, RowsKernel


def nested_subset(key: jax.Array, n: int, batch_size: int, chains: int) -> jax.Array:
    """The first `batch_size` examples of a random order of all n that depends on the key alone, (b, chains)."""
    index, _, _ = subsets.next_batch(key, subsets.start_epochs(n, chains), batch_size)
    return index


def nested(kernel: Any) -> Any:
    """The same law as `kernel`, drawn so that batch sizes under one key are correlated as much as they can be."""
    if isinstance(kernel, ComplementKernel):
        return RowsKernel(kernel.examples, kernel.batch_size, nested_subset)
    if isinstance(kernel, RowsKernel) and kernel.choose is subsets.floyd_subset:
        return dataclasses.replace(kernel, choose=nested_subset)
    return kernel
