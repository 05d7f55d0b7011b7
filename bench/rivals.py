"""What sgdsim is measured against: the loops that a researcher writes by hand."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

RATE, SIGMA = 0.1, 0.5


def on_every_device(function: Callable) -> Callable:
    """Compile `function(key)` so that each device runs its own copy: the rivals get all cores too."""
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    spec = PartitionSpec("devices")

    def shard(keys):
        return jax.vmap(function)(keys)

    return jax.jit(jax.shard_map(shard, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))


def _ready(function: Callable) -> Callable[[], object]:
    compiled, keys = on_every_device(function), jax.random.split(jax.random.key(0), jax.device_count())
    return lambda: compiled(keys).block_until_ready()


def normals(dimension: int, chains: int, steps: int) -> Callable[[], object]:
    """The floor: merely drawing D + 2 normals for each chain and step, in cache-sized blocks on every device."""

    def run(key):
        def step(i, total):
            return total + jax.random.normal(jax.random.fold_in(key, i), total.shape)

        return jax.lax.fori_loop(0, steps, step, jnp.zeros((dimension + 2, chains)))

    return _ready(run)


def handwritten(diagonal: np.ndarray, batch: int, chains: int, steps: int) -> Callable[[], object]:
    """The strongest plain JAX loop: one batch-shaped array a step, an einsum for the gradient."""
    dimension, root = len(diagonal), jnp.sqrt(jnp.asarray(diagonal, jnp.float32))

    def run(key):
        def step(i, w):
            z = jax.random.normal(jax.random.fold_in(key, i), (chains, batch, dimension + 1))
            x = z[..., :dimension] * root
            residual = jnp.einsum("cbd,cd->cb", x, w) - SIGMA * z[..., dimension]
            return w - RATE * jnp.einsum("cbd,cb->cd", x, residual) / batch

        return jax.lax.fori_loop(0, steps, step, jnp.zeros((chains, dimension)))

    return _ready(run)


def optax_per_chain(
    diagonal: np.ndarray, batch: int, chains: int, steps: int, optimizer: optax.GradientTransformation | None = None
) -> Callable[[], object]:
    """One optax run written for a single chain, `vmap`ped over chains with a key each."""
    dimension, root = len(diagonal), jnp.sqrt(jnp.asarray(diagonal, jnp.float32))
    optimizer = optimizer or optax.sgd(RATE)

    def loss(w, x, y):
        return 0.5 * jnp.mean((x @ w - y) ** 2)

    def one(key):
        def step(i, carry):
            w, state = carry
            x_key, y_key = jax.random.split(jax.random.fold_in(key, i))
            x = jax.random.normal(x_key, (batch, dimension)) * root
            y = SIGMA * jax.random.normal(y_key, (batch,))
            update, state = optimizer.update(jax.grad(loss)(w, x, y), state)
            return optax.apply_updates(w, update), state

        w = jnp.zeros(dimension)
        return jax.lax.fori_loop(0, steps, step, (w, optimizer.init(w)))[0]

    return _ready(lambda key: jax.vmap(one)(jax.random.split(key, chains)))


def numpy_loop(diagonal: np.ndarray, batch: int, chains: int, steps: int) -> Callable[[], object]:
    """The same loop in NumPy, float32, on one core."""
    dimension, root = len(diagonal), np.sqrt(diagonal).astype(np.float32)

    def run():
        rng = np.random.default_rng(0)
        w = np.zeros((chains, dimension), np.float32)
        for _ in range(steps):
            x = rng.standard_normal((chains, batch, dimension), dtype=np.float32) * root
            noise = rng.standard_normal((chains, batch), dtype=np.float32)
            residual = np.einsum("cbd,cd->cb", x, w) - np.float32(SIGMA) * noise
            w -= np.float32(RATE / batch) * np.einsum("cbd,cb->cd", x, residual)
        return w

    return run
