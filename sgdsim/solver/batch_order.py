"""A fixed order of batches as a function of the point and the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks


def batch_gradients(problem: Any, batches: Any) -> tuple[Callable[[Any, Any], Any], int | None]:
    """The gradient of the loss of batch k at w as a function (w, k), and how many batches there are (None: no end).

    Raises:
        ValueError: the batches do not fit the problem.
    """
    if batches is None:
        return (lambda w, k: problem.gradient(w)), None
    if callable(batches):
        return batches, None
    leaves = jax.tree.leaves(batches)
    if len(leaves) == 1 and np.issubdtype(np.asarray(leaves[0]).dtype, np.integer):
        order = check_order(problem, leaves[0])
        return (lambda w, k: mean_gradient(problem, w, jnp.asarray(order)[k])), len(order)
    shapes = {np.shape(leaf)[:2] for leaf in leaves}
    if len(shapes) != 1 or min(np.shape(leaves[0])[:2], default=0) == 0 or np.ndim(leaves[0]) < 2:
        raise _checks.error("batches", batches, f"arrays with the same leading axes (steps, b) (got {sorted(shapes)})",
                            "or an integer array of examples, or a function (w, k) -> gradient")
    examples = jax.tree.map(lambda leaf: _checks.finite_array("batches", leaf), batches)

    def gradient(w: Any, k: Any) -> Any:
        batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[k], examples)
        return jax.vmap(problem.example_gradient, (None, 0))(w, batch).mean(axis=0)

    return gradient, len(leaves[0])


def check_order(problem: Any, order: Any) -> np.ndarray:
    """A batch order (steps, b) of examples of a data set.

    Raises:
        ValueError: the problem has no examples, or they carry fresh noise, or an index is outside.
    """
    rows = np.asarray(order)
    if problem.n_examples is None:
        raise _checks.error("batches", order, "None, a function or examples for a problem without a data set",
                            "indices need a DatasetRegression or FlaxNetwork")
    if np.any(getattr(problem, "label_noise", 0.0)):
        raise _checks.error("label_noise", problem.label_noise, "0 with a fixed order of batches",
                            "fresh noise has no fixed order: use a function (w, k) -> gradient")
    if rows.ndim != 2 or rows.size == 0 or rows.min() < 0 or rows.max() >= problem.n_examples:
        raise _checks.error("batches", order, f"of shape (steps, b), with entries 0 to {problem.n_examples - 1}",
                            "one row a batch")
    return rows


def mean_gradient(problem: Any, w: Any, rows: Any) -> Any:
    """The gradient of the mean loss of some examples of a data set."""
    batch = jnp.asarray(problem.features)[rows], jnp.asarray(problem.targets)[rows]
    return jax.vmap(problem.example_gradient, (None, 0))(w, batch).mean(axis=0)
