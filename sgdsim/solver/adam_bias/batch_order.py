"""A fixed order of batches as a function of the point and the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.problems.base import Problem
from sgdsim.problems.parts.example_losses import ExampleLosses

BatchGradient: TypeAlias = Callable[[Array, Array], Array]  # (w, k) -> the gradient of the loss of batch k at w
Batches: TypeAlias = BatchGradient | PyTree | None


class DataProblem(Problem, Protocol):
    """A problem with a data set."""

    @property
    def features(self) -> np.ndarray:
        """Of every example."""
        ...

    @property
    def targets(self) -> np.ndarray:
        """Of every example."""
        ...


def batch_gradients(problem: Problem, batches: Batches) -> tuple[BatchGradient, int | None]:
    """The gradient of the loss of each batch, and how many batches there are (None: no end).

    Raises:
        ValueError: the batches do not fit the problem.
    """
    if batches is None:
        return (lambda w, k: problem.gradient(w)), None
    if callable(batches):
        return batches, None
    leaves = jax.tree.leaves(batches)
    if len(leaves) == 1 and np.issubdtype(np.asarray(leaves[0]).dtype, np.integer):
        data = check_data_set(problem, leaves[0])
        order = check_order(data, leaves[0])
        return (lambda w, k: mean_gradient(data, w, jnp.asarray(order)[k])), len(order)
    shapes = {np.shape(leaf)[:2] for leaf in leaves}
    if len(shapes) != 1 or min(np.shape(leaves[0])[:2], default=0) == 0 or np.ndim(leaves[0]) < 2:
        raise _checks.error("batches", batches, f"arrays with the same leading axes (steps, b) (got {sorted(shapes)})",
                            "or an integer array of examples, or a function (w, k) -> gradient")
    examples = jax.tree.map(lambda leaf: _checks.finite_array("batches", leaf), batches)

    def gradient(w: Array, k: Array) -> Array:
        batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[k], examples)
        return jax.vmap(problem.example_gradient, (None, 0))(w, batch).mean(axis=0)

    return gradient, len(leaves[0])


def check_data_set(problem: Problem, order: ArrayLike) -> DataProblem:
    """The problem, if its examples can be put in an order.

    Raises:
        ValueError: the problem has no examples, or they carry fresh noise.
    """
    if problem.n_examples is None:
        raise _checks.error("batches", order, "None, a function or examples for a problem without a data set",
                            "indices need a DatasetRegression or FlaxNetwork")
    label_noise = getattr(problem, "label_noise", 0.0)
    if np.any(label_noise):
        raise _checks.error("label_noise", label_noise, "0 with a fixed order of batches",
                            "fresh noise has no fixed order: use a function (w, k) -> gradient")
    return cast(DataProblem, problem)


def check_order(problem: DataProblem, order: ArrayLike) -> np.ndarray:
    """A batch order (steps, b) of examples of a data set.

    Raises:
        ValueError: the shape is wrong, or an index is outside.
    """
    rows, examples = np.asarray(order), len(problem.features)
    if rows.ndim != 2 or rows.size == 0 or rows.min() < 0 or rows.max() >= examples:
        raise _checks.error("batches", order, f"of shape (steps, b), with entries 0 to {examples - 1}",
                            "one row a batch")
    return rows


def mean_gradient(problem: DataProblem, w: Array, rows: Array) -> Array:
    """The gradient of the mean loss of some examples of a data set."""
    batch = jnp.asarray(problem.features)[rows], jnp.asarray(problem.targets)[rows]
    if isinstance(problem, ExampleLosses):  # one pass for all examples
        return jax.grad(problem.loss_of)(w, *batch)
    return jax.vmap(problem.example_gradient, (None, 0))(w, batch).mean(axis=0)
