"""A three-layer network on scikit-learn's digits, as the paper's on MNIST: many runs from the same start."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim.experiments._networks import digits
from sgdsim.problems import FlaxNetwork

TRAINED = 512
RATE = 0.05
WIDTHS = {"smoke": (16, 12), "laptop": (64, 32), "full": (128, 64)}


def three_layers(widths: tuple[int, int]) -> FlaxNetwork:
    """Return ReLU layers of these widths and a linear one with 10 logits; pixels in [-1, 1], cross-entropy.

    Raises:
        ImportError: scikit-learn is missing.
    """
    from flax import linen as nn

    data = digits(TRAINED)
    module = nn.Sequential((nn.Dense(widths[0]), nn.relu, nn.Dense(widths[1]), nn.relu, nn.Dense(10)))
    return FlaxNetwork(module, 2 * data.train - 1, data.train_labels, "cross_entropy",
                       test_features=2 * data.test - 1, test_targets=data.test_labels)  # fmt: skip


class Course(NamedTuple):
    """Losses and errors (one minus accuracy) along training, each of shape (runs, records)."""

    train_loss: Any
    test_loss: Any
    train_error: Any
    test_error: Any


def train(problem: FlaxNetwork, start: Any, *, batch_size: int, runs: int, steps: int, every: int, seed: int) -> Course:
    """Pass over the examples in a new random order every epoch, from one start, and look every few steps."""
    rng = np.random.default_rng(seed)
    epochs = -(-steps * batch_size // TRAINED)
    order = np.stack([np.concatenate([rng.permutation(TRAINED) for _ in range(epochs)]) for _ in range(runs)])
    rows = order[:, : steps * batch_size].reshape(runs, steps // every, every, batch_size).astype(np.int32)
    x, y = jnp.asarray(problem.features, jnp.float32), jnp.asarray(problem.targets)
    held = jnp.asarray(problem.test_features, jnp.float32), jnp.asarray(problem.test_targets)

    def look(w: Any) -> Course:
        wrong = [(problem.network.predict(w, a).argmax(axis=-1) != b).mean() for a, b in ((x, y), held)]
        losses = [problem.batch_loss(w, a, b).mean() for a, b in ((x, y), held)]
        return Course(*losses, *wrong)

    def step(w: Any, batch: Any) -> Any:
        return w - RATE * jax.grad(lambda v: problem.batch_loss(v, x[batch], y[batch]).mean())(w), None

    def stretch(w: Any, batches: Any) -> Any:
        w, _ = jax.lax.scan(step, w, batches)
        return w, look(w)

    run = jax.jit(jax.vmap(lambda batches: jax.lax.scan(stretch, jnp.asarray(start, jnp.float32), batches)[1]))
    return jax.tree.map(lambda values: np.asarray(values, np.float64), run(jnp.asarray(rows)))
