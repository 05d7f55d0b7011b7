"""A three-layer network on scikit-learn's digits, as the paper's on MNIST: many runs from the same start."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim.experiments.framework.networks import Digits, classes
from sgdsim.problems import FlaxNetwork

Carry: TypeAlias = tuple[jax.Array, jax.Array]  # parameters, and the order of the examples in this pass

TRAINED = 512
RATE = 0.05
WIDTHS = {"smoke": (16, 12), "laptop": (64, 32), "full": (128, 64)}


def three_layers(widths: tuple[int, int], data: Digits) -> FlaxNetwork:
    """Return ReLU layers of these widths and a linear one with a logit a class; pixels in [-1, 1], cross-entropy.

    Raises:
        ValueError: there are fewer than 512 training images, of which passes of all batch sizes are made.
    """
    from flax import linen as nn

    if len(data.train) < TRAINED:
        raise _checks.error("data", f"{len(data.train)} training images", f"at least {TRAINED} of them",
                            "fig1_left, fig1_middle and fig1_right take fewer")
    module = nn.Sequential((nn.Dense(widths[0]), nn.relu, nn.Dense(widths[1]), nn.relu, nn.Dense(classes(data))))
    return FlaxNetwork(module, 2 * data.train - 1, data.train_labels, "cross_entropy",
                       test_features=2 * data.test - 1, test_targets=data.test_labels)  # fmt: skip


def stderr(values: np.ndarray) -> np.ndarray:
    """Return the standard error of the mean over runs, the first axis."""
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


class Course(NamedTuple):
    """Losses and errors (one minus accuracy) along training, each of shape (runs, records)."""

    train_loss: np.ndarray
    test_loss: np.ndarray
    train_error: np.ndarray
    test_error: np.ndarray


def train(
    problem: FlaxNetwork, initial: np.ndarray, *, batch_size: int, runs: int, steps: int, every: int, seed: int,
    rate: float = RATE,
) -> Course:
    """Pass over the examples in a new random order every epoch, from one start (D,) or one for each run (runs, D).

    Losses and errors are looked at every few steps.
    """
    batches = TRAINED // batch_size
    x, y = jnp.asarray(problem.features, jnp.float32), jnp.asarray(problem.targets)
    held = jnp.asarray(problem.test_features, jnp.float32), jnp.asarray(problem.test_targets)

    def look(w: jax.Array) -> list[jax.Array]:
        wrong = [(problem.network.predict(w, a).argmax(axis=-1) != b).mean() for a, b in ((x, y), held)]
        losses = [problem.batch_loss(w, a, b).mean() for a, b in ((x, y), held)]
        return [*losses, *wrong]

    def one_run(key: jax.Array, start: jax.Array) -> list[jax.Array]:
        def step(t: jax.Array, carry: Carry) -> Carry:
            w, order = carry
            order = jax.lax.cond(
                t % batches == 0, lambda: jax.random.permutation(jax.random.fold_in(key, t), TRAINED), lambda: order
            )
            batch = jax.lax.dynamic_slice_in_dim(order, t % batches * batch_size, batch_size)
            return w - rate * jax.grad(lambda v: problem.batch_loss(v, x[batch], y[batch]).mean())(w), order

        def stretch(carry: Carry, first: jax.Array) -> tuple[Carry, list[jax.Array]]:
            carry = jax.lax.fori_loop(first, first + every, step, carry)
            return carry, look(carry[0])

        begun = start, jnp.arange(TRAINED)
        return jax.lax.scan(stretch, begun, jnp.arange(0, steps, every))[1]

    starts = jnp.asarray(np.broadcast_to(initial, (runs, problem.dimension)), jnp.float32)
    seen = jax.jit(jax.vmap(one_run))(jax.random.split(jax.random.key(seed), runs), starts)
    return Course(*(np.asarray(values, np.float64) for values in seen))
