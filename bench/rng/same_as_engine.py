"""Whether `stream.py` writes what a run draws, bit for bit: one step along pure noise is the noise, with another sign.

    python bench/rng/same_as_engine.py
"""

from __future__ import annotations

import jax
import numpy as np
from stream import chunks

import sgdsim as ss
from sgdsim.engine.plan.passes import block_keys
from sgdsim.engine.run.pallas_steps import pallas_steps
from sgdsim.kernels.quadratic import quadratic_kernel

D = 4
CHAINS = 8192  # two blocks on a CPU
NOISE = ss.Quadratic(hessian=np.full(D, 1e-30), example_noise_covariance=np.ones(D))


def last(steps: int, seed: int = 0) -> np.ndarray:
    """Where chains are that start at 0 and step along their noise, block after block."""
    result = ss.simulate(NOISE, ss.SGD(1.0), batch_size=1, chains=CHAINS, steps=steps, seed=seed, progress=False)
    return np.asarray(result.final).reshape(2, CHAINS // 2, D)


def first_chunk(order: str) -> np.ndarray:
    """What the stream begins with, for blocks of that size."""
    return next(chunks(order, True, D, CHAINS // 2))


def on_gpu_threads(steps: int) -> np.ndarray:
    """The same by the program for GPUs, emulated."""
    key = jax.random.fold_in(block_keys(np.uint32(0), np.zeros(1, np.uint32), mesh=None)[0], 2)
    kernel = jax.tree.map(np.float32, quadratic_kernel(NOISE, 1, "online", np.float32))
    at, state = np.zeros((D, 256), np.float32), ss.SGD(np.float32(1)).as_optax().init(np.zeros((D, 256), np.float32))
    moved = pallas_steps(kernel, ss.SGD(np.float32(1)), key, 0, steps, at, state, np.ones(256, bool), diverged=1e18,
                       interpret=True)
    return np.asarray(moved[0])


def main() -> None:
    """Compare."""
    steps = first_chunk("memory")
    np.testing.assert_array_equal(last(1)[0], -steps[0].T)
    np.testing.assert_array_equal(last(2)[0], -steps[0].T - steps[1].T)
    np.testing.assert_array_equal(last(1)[0], -first_chunk("chain")[:, 0])
    np.testing.assert_array_equal(last(1)[1], -first_chunk("blocks")[:, :, 1].T)
    np.testing.assert_array_equal(last(1, seed=1)[0], -first_chunk("seeds")[:, :, 1].T)
    of_threads = next(chunks("gpu", True, D, 256))
    np.testing.assert_array_equal(on_gpu_threads(1), -of_threads[0].reshape(256, D).T)
    print("the stream is what the engine draws: memory, chain, blocks, seeds, gpu (emulated)")


if __name__ == "__main__":
    main()
