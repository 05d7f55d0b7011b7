"""The random numbers that the engine really draws, as raw words on standard output: food for test batteries.

    python bench/rng/stream.py memory | RNG_test stdin32

Keys are those of a run: block, step, then one call of `sgdsim.kernels.draws.random` for the whole block. The order says
which numbers stand side by side:

    memory  block 0, step after step, each step as it lies in memory
    chain   block 0, for each chain the numbers that it sees over many steps (--chains 1: over all steps)
    blocks  the same number of many blocks at the same step
    seeds   the same number of runs with seeds 0, 1, 2, ...
    gpu     the words of `sgdsim.engine.run.pallas_steps`: one key, counters of step and chain
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr

from sgdsim.engine.plan.passes import block_keys
from sgdsim.engine.run.fused_step import PAIRS
from sgdsim.kernels.draws import random

ORDERS = ("memory", "chain", "blocks", "seeds", "gpu")
# Words made at a time.
CHUNK = 2**22


def fewer_rounds(groups: int, key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Threefry-2x32 with 4 rounds a group, of which the real one has 5: something that a battery shall refuse."""
    keys = (*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(groups):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x, y = x + keys[(group + 1) % 3], y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def steps_keys(order: str, seed: int, chunk: Any, several: int) -> jax.Array:
    """Keys of `several` calls: of so many steps of block 0, or of one step of so many blocks or seeds."""
    count = jnp.arange(several, dtype=jnp.uint32)
    if order in ("memory", "chain"):
        blocks = block_keys(np.uint32(seed), jnp.zeros(several, jnp.uint32), mesh=None)
        steps = chunk * several + count
    else:
        steps = jnp.full(several, chunk, jnp.uint32)
        if order == "blocks":
            blocks = block_keys(np.uint32(seed), count, mesh=None)
        else:
            blocks = jax.vmap(lambda s: block_keys(s, jnp.zeros(1, jnp.uint32), mesh=None)[0])(seed + count)
    return jax.vmap(lambda block, t: jax.random.fold_in(jax.random.fold_in(block, 0), t))(blocks, steps)


def one_launch(seed: int, chunk: Any, several: int, rows: int, chains: int, normals: bool) -> jax.Array:
    """What GPU threads draw in so many steps, in the order in which each chain takes it."""
    block = block_keys(np.uint32(seed), jnp.zeros(1, jnp.uint32), mesh=None)[0]
    key = jax.random.key_data(jax.random.fold_in(block, 2))
    step, chain, pair = (jnp.arange(n, dtype=jnp.uint32) for n in (several, chains, rows // 2))
    counter = np.uint32(PAIRS) * chain[:, None] + pair
    shape = (several, *counter.shape)
    step = jnp.broadcast_to((chunk * several + step)[:, None, None], shape)
    both = random.threefry((key[0], key[1]), (step, jnp.broadcast_to(counter, shape)))
    return jnp.stack(random.box_muller(*both) if normals else both, axis=-1)


def chunks(order: str, normals: bool, rows: int, chains: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Chunk after chunk of uint32 words or of float32 normals, in the order asked for."""
    several = max(1, CHUNK // (rows * chains))

    @jax.jit
    def draw(chunk: Any) -> jax.Array:
        if order == "gpu":
            return one_launch(seed, chunk, several, rows, chains, normals)
        one = functools.partial(random.normals, dtype=np.float32) if normals else random.bits
        return jax.vmap(lambda key: one(key, (rows, chains)))(steps_keys(order, seed, chunk, several))

    axes = {"memory": (0, 1, 2), "gpu": (0, 1, 2, 3), "chain": (2, 0, 1)}.get(order, (1, 2, 0))
    ahead = draw(np.uint32(0))
    chunk = 0
    while True:
        chunk += 1
        now, ahead = ahead, draw(np.uint32(chunk))  # made while this one is written
        yield np.ascontiguousarray(np.asarray(now).transpose(axes))


def uniform(z: np.ndarray, bits: int) -> np.ndarray:
    """The first bits of Phi(z): float32 normals fix about 24 of them."""
    return (ndtr(z.astype(np.float64)) * 2.0**bits).astype(np.dtype(f"u{bits // 8}"))


def main() -> None:
    """Write until the reader has enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("order", choices=ORDERS)
    parser.add_argument("--normals", type=int, choices=(8, 16), help="so many bits of Phi(z) instead of words")
    parser.add_argument("--rows", type=int, default=12, help="numbers of a chain in a step, D + 2")
    parser.add_argument("--chains", type=int, default=4096, help="chains of a block")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, choices=(4, 8, 12, 16, 20), help="a weaker generator, as a control")
    given = parser.parse_args()
    if given.rounds:
        random.threefry = functools.partial(fewer_rounds, given.rounds // 4)
    try:
        for numbers in chunks(given.order, given.normals is not None, given.rows, given.chains, given.seed):
            sys.stdout.buffer.write((uniform(numbers, given.normals) if given.normals else numbers).data)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
