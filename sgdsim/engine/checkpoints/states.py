"""The states of blocks as named arrays, and back."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from sgdsim.engine.plan.devices import place
from sgdsim.engine.plan.hosts import fetch


def named_states(states: PyTree, used: int) -> dict[str, np.ndarray]:
    """The first `used` units; the rest is padding."""
    return {f"state.{i:03d}": _plain(leaf)[:used] for i, leaf in enumerate(jax.tree.leaves(states))}


def restored_states(arrays: dict[str, np.ndarray], shapes: PyTree, used: int, mesh: Mesh | None) -> PyTree:
    """States from a checkpoint, in the layout of these devices."""
    return placed_states([arrays[f"state.{i:03d}"] for i in range(len(jax.tree.leaves(shapes)))], shapes, used, mesh)


def placed_states(plain: Sequence[np.ndarray], shapes: PyTree, used: int, mesh: Mesh | None) -> PyTree:
    """States of plain leaves, in the layout of these devices; padding repeats the first unit."""
    leaves, structure = jax.tree.flatten(shapes)
    restored = []
    for leaf, array in zip(leaves, plain, strict=True):
        saved = array if _is_key(leaf) else array.view(leaf.dtype)  # to NumPy, JAX's small floats are just bytes
        full = place(np.concatenate([saved, saved[:1].repeat(leaf.shape[0] - used, axis=0)]), mesh)
        restored.append(jax.random.wrap_key_data(full) if _is_key(leaf) else full if mesh else jnp.asarray(full))
    return jax.tree.unflatten(structure, restored)


def _plain(leaf: jax.Array) -> np.ndarray:
    return fetch(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _is_key(leaf: jax.Array | jax.ShapeDtypeStruct) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
