"""A loop of XLA operations on a TPU, with chains laid out as rows of 128.

XLA keeps the last two axes of an array in vector registers of 8 x 128. Of (D, chains) the first of the two is
parameters: inner products are reductions within registers, what there is one of for each chain fills an eighth of one,
and D = 10 is padded to 16. Of (D, chains / 128, 128) both are chains. The numbers of a chain are the kernel's and the
optimizer's own, as in the loop that steps (D, chains); its random words come in another order.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from sgdsim.kernels import Kernel
from sgdsim.optimizers import Optimizer

# The chains of a vector register, 8 x 128.
REGISTER = (8, 128)
_CHAINS = REGISTER[0] * REGISTER[1]


@functools.partial(jax.jit, static_argnames="diverged")
def folded_steps(
    kernel: Kernel,
    optimizer: Optimizer,
    key: jax.Array,
    first: jax.Array,
    last: jax.Array,
    params: jax.Array,
    state: optax.OptState,
    alive: jax.Array,
    *,
    diverged: float,
) -> tuple[jax.Array, optax.OptState, jax.Array]:
    """Steps `first` to before `last` of every chain; arguments and result are those of `pallas_steps`.

    The kernel draws for chains on any number of axes and remembers nothing.
    """
    chains, update = params.shape[-1], optimizer.as_optax().update

    def step(t: jax.Array, carry: tuple[PyTree, PyTree, jax.Array]) -> tuple[PyTree, PyTree, jax.Array]:
        w, state, alive = carry
        gradient, _ = kernel.draw(jax.random.fold_in(key, t), w, ())
        change, state = update(gradient, state, w)
        w = w + change
        return w, state, alive & (jnp.abs(w) <= diverged).all(axis=0)  # NaN is not

    begun = jax.tree.map(_folded, (params, state, alive))
    ended = jax.lax.fori_loop(first, last, step, begun)
    return jax.tree.map(lambda leaf: _flat(leaf, chains), ended)


def _folded(leaf: jax.Array) -> jax.Array:
    """(..., chains) as (..., rows, 128), filled up to whole registers; a number stays."""
    if leaf.ndim == 0:
        return leaf
    padded = jnp.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, -leaf.shape[-1] % _CHAINS)])
    return padded.reshape(*leaf.shape[:-1], -1, REGISTER[1])


def _flat(leaf: jax.Array, chains: int) -> jax.Array:
    return leaf.reshape(*leaf.shape[:-2], -1)[..., :chains] if leaf.ndim else leaf
