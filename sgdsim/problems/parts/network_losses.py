"""Losses of one example's prediction: half the squared error, cross-entropy, or a function of the user."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks

LossFunction = Callable[[jax.Array, jax.Array], jax.Array]


def half_squared_error(prediction: jax.Array, target: jax.Array) -> jax.Array:
    r"""$$\tfrac12 \sum_k (f_k - y_k)^2$$, summed over outputs."""
    return 0.5 * jnp.sum((prediction - target) ** 2)


def cross_entropy(prediction: jax.Array, target: jax.Array) -> jax.Array:
    r"""$$-\log \mathrm{softmax}(f)_y$$ of the class y, in nats."""
    return jax.nn.logsumexp(prediction) - prediction[target]


def logistic(prediction: jax.Array, target: jax.Array) -> jax.Array:
    r"""$$\log(1 + e^{-y f})$$ of one output f and the label y = +-1, in nats."""
    return jnp.sum(jax.nn.softplus(-target * prediction))


LOSSES: dict[str, LossFunction] = {"mse": half_squared_error, "cross_entropy": cross_entropy, "logistic": logistic}


def flipped(loss: str, flip: float) -> LossFunction:
    """The expected loss of one example whose label is another, each with equal chances, with probability `flip`."""
    function = LOSSES[loss]

    def expected(prediction: jax.Array, target: jax.Array) -> jax.Array:
        if loss == "logistic":
            return (1 - flip) * function(prediction, target) + flip * function(prediction, -target)
        others = jnp.sum(prediction) - prediction[target]
        kept = prediction[target]
        return jax.nn.logsumexp(prediction) - (1 - flip) * kept - flip * others / (len(prediction) - 1)

    return expected


def find_loss(loss: str | LossFunction) -> LossFunction:
    """The loss of that name, or the function itself.

    Raises:
        ValueError: it is neither a known name nor a function.
    """
    if callable(loss):
        return loss
    if not isinstance(loss, str):
        names = ", ".join(map(repr, LOSSES))
        raise _checks.error("loss", loss, f"{names} or a function (prediction, target) -> scalar", "try loss='mse'")
    return LOSSES[_checks.choice("loss", loss, LOSSES)]


def check_targets(argument: str, targets: ArrayLike, n: int, loss: str | LossFunction, output: tuple[int, ...],
                  like: np.ndarray | None = None) -> np.ndarray:
    """Targets that fit the loss and the outputs of the network: class labels as int32, the rest as float64.

    Args:
        argument: the name of what is checked, for the complaint.
        targets: one for each example.
        n: number of examples.
        loss: a name or a function.
        output: shape of the prediction of one example.
        like: the training targets, where held-out ones are checked.

    Raises:
        ValueError: their number or shape is wrong, one is not finite, or a class label is none.
    """
    values = _checks.finite_array(argument, targets)
    if values.shape[:1] != (n,):
        raise _checks.error(argument, targets, f"one for each of the {n} examples (got shape {values.shape})",
                            "one target for each row of features")
    if loss == "cross_entropy":
        return _labels(argument, values, output)
    if loss == "logistic" and int(np.prod(output)) != 1:
        raise _checks.error("module", f"an output of shape {output}", "a network with one output for loss='logistic'",
                            "end it with a dense layer of 1, or use 'cross_entropy'")
    if loss == "logistic" and not np.isin(values, (-1, 1)).all():
        raise _checks.error(argument, values, "-1 or 1 for loss='logistic'", "turn 0 and 1 into 2 * targets - 1")
    if loss in ("mse", "logistic"):
        if values.shape == (n,) and int(np.prod(output)) == 1:
            return values.reshape(n, *output)
        if values.shape[1:] != output:
            raise _checks.error(argument, f"of shape {values.shape}", f"of shape {(n, *output)}, like the predictions",
                                "give the network as many outputs as a target has numbers")
        return values
    return _checks.example_array(argument, targets, like)


def _labels(argument: str, values: np.ndarray, output: tuple[int, ...]) -> np.ndarray:
    if len(output) != 1:
        raise _checks.error("module", f"an output of shape {output}", "a network with one logit for each class",
                            "end it with a dense layer, without softmax")
    if values.ndim != 1:
        raise _checks.error(argument, f"of shape {values.shape}", "class labels of shape (n,)",
                            "turn one-hot rows into labels: targets.argmax(axis=1)")
    wrong = np.flatnonzero((values != np.round(values)) | (values < 0) | (values >= output[0]))
    if wrong.size:
        raise _checks.error(argument, float(values[wrong[0]]),
                            f"a whole number from 0 to {output[0] - 1} (at index {int(wrong[0])})",
                            f"the network has {output[0]} outputs: count classes from 0")
    return values.astype(np.int32)
