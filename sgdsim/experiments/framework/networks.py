"""What the experiments with networks share: modules, data, minima, the spread of the loss over chains."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import DTypeLike

from sgdsim import _checks
from sgdsim._specs import spec, static
from sgdsim._types import Matrix, Vector
from sgdsim.comparisons.claims import one_sided
from sgdsim.comparisons.comparison import AGREE, DISAGREE, POWER, UNDERPOWERED, Row, sidak_threshold
from sgdsim.problems import FlaxNetwork, Problem
from sgdsim.statistics import Measurement, grouped_mean

if TYPE_CHECKING:
    from flax import linen


def two_layers(width: int, outputs: int) -> linen.Module:
    """A dense layer of `width` tanh units and a linear one on top."""
    from flax import linen as nn

    return nn.Sequential((nn.Dense(width), nn.tanh, nn.Dense(outputs)))


def teacher_weights(inner: Matrix, outer: Vector) -> Vector:
    """The weights at which `two_layers` with one output is x -> tanh(x inner) outer: its biases are 0, and first.

    A minimum is looked for from here where labels come from such a network. From random weights the path is chaotic:
    a difference in the seventh digit, as between two versions of JAX, ends at another minimum, or at none.
    """
    return np.concatenate([np.zeros(len(outer)), inner.ravel(), [0.0], outer])


def linear_layer(outputs: int) -> linen.Module:
    """One dense layer: logistic regression under cross-entropy."""
    from flax import linen as nn

    return nn.Dense(outputs)


class Digits(NamedTuple):
    """Images with pixels in [0, 1], a row each, and their labels."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def digits(n_train: int, data: str | os.PathLike[str] | None = None) -> Digits:
    """Scikit-learn's digits (1797 of 8 x 8), shuffled: the first `n_train`, and the rest; or images of one's own.

    Args:
        n_train: how many to train on.
        data: an .npz file with MNIST's arrays, x_train (n, ...) and y_train (n,), x_test and y_test, classes 0, 1, ...;
            pixels are divided by the largest. The first `n_train` of both are kept. None is the digits.

    Raises:
        ValueError: the file cannot be read, an array is missing or does not fit, or labels are no classes.
    """
    if data is None:
        x, y = _checks.need("sklearn.datasets", "data").load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(y))
        x, y = x[order] / 16, y[order]
        return Digits(x[:n_train], y[:n_train], x[n_train:], y[n_train:])
    names = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(data, allow_pickle=False) as file:
            arrays = [file[name][:n_train] for name in names]
    except (OSError, ValueError, KeyError) as failed:
        wanted = ", ".join(names)
        raise _checks.error("data", str(data), f"an .npz file with {wanted} ({failed})",
                            "np.savez(path, x_train=..., y_train=..., ...) writes it") from failed
    x, y, held, labels = (_checks.finite_array(name, array) for name, array in zip(names, arrays, strict=True))
    if not len(x) == len(y) > 0 < len(held) == len(labels):
        raise _checks.error("data", str(data), f"an .npz file with a label for each image (got {len(y)} for {len(x)}, "
                            f"and {len(labels)} for {len(held)} to test on)", "np.savez the arrays of one data set")
    if x.max() <= 0 or min(y.min(), labels.min()) < 0 or np.any(y % 1) or np.any(labels % 1):
        raise _checks.error("data", str(data), "an .npz file with positive pixels and labels 0, 1, ...",
                            "number the classes from 0")
    images = [part.reshape(len(part), -1) / x.max() for part in (x, held)]
    return Digits(images[0], y.astype(int), images[1], labels.astype(int))


def classes(data: Digits) -> int:
    """How many classes the labels have."""
    return int(data.train_labels.max()) + 1


def find_minimum(problem: FlaxNetwork, initial: Vector) -> Vector:
    """A local minimum of the training loss in float64, by Newton steps in a trust region.

    Raises:
        NotConverged: after 300 steps, Newton's next would still lower the loss by more than rounding.
    """
    with jax.enable_x64(True):

        def number(function: Callable[[jax.Array], jax.Array]) -> Callable[[Vector], np.ndarray]:
            return lambda w: np.asarray(function(jnp.asarray(w)))

        found = scipy.optimize.minimize(number(problem.loss), np.asarray(initial, np.float64), method="trust-exact",
                         jac=number(problem.gradient), hess=number(problem.hessian),
                         options={"gtol": 1e-9, "maxiter": 300})
    gain = found.jac @ np.linalg.lstsq(found.hess, found.jac)[0] / 2
    if not (found.success or abs(gain) <= 1e-14 * found.fun):
        raise _checks.NotConverged(f"no minimum within {found.nit} Newton steps: the next would still lower the loss "
                                   f"{found.fun:.3g} by {gain:.1e}")
    return found.x


class LossSums(NamedTuple):
    """Sums over chains by group."""

    n: jax.Array  # (G,)
    first: jax.Array  # of the loss at each of the steps, (G, K)
    second: jax.Array  # of its square, (G, K)
    within: jax.Array  # of each chain's variance over the steps, (G,)


@spec
class LossVariances:
    """Variance of the training loss over runs, averaged over steps, and over the steps of a run, averaged over runs.

    Steps `every`, 2 `every`, ... count, `points` of them; to be measured once, at the end.
    """

    problem: Problem
    every: int = static()
    points: int = static()

    def begin(self, params: jax.Array) -> tuple[jax.Array, jax.Array]:
        """No loss yet, and no step."""
        return jnp.zeros((self.points, params.shape[-1]), params.dtype), jnp.zeros((), jnp.int32)

    def remember(self, memory: tuple[jax.Array, jax.Array], params: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Look at the loss of every chain where it is time to."""
        losses, step = memory
        place = step // self.every - 1

        def look(losses: jax.Array) -> jax.Array:
            return losses.at[place].set(self.problem.loss(params))

        due = (step % self.every == 0) & (place >= 0) & (place < self.points)
        return jax.lax.cond(due, look, lambda losses: losses, losses), step + 1

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> LossSums:
        """Zero sums."""
        zero, each = jnp.zeros((groups,), dtype), jnp.zeros((groups, self.points), dtype)
        return LossSums(zero, each, each, zero)

    def update(self, sums: LossSums, at: Measurement) -> LossSums:
        """Add what is remembered of every chain."""
        losses = at.masked(at.memory[0].reshape(-1, *at.weight.shape))
        mean = losses.mean(axis=0)
        within = at.masked(((losses - mean) ** 2).sum(axis=0) / (self.points - 1))
        new = LossSums(at.weight.sum(axis=0), losses.sum(axis=1).T, (losses**2).sum(axis=1).T, within.sum(axis=0))
        return jax.tree.map(jnp.add, sums, new)

    def collect(self, sums: LossSums, centre: np.ndarray) -> LossSums:
        """Plain sums need no centre."""
        return sums

    def merge(self, a: LossSums, b: LossSums) -> LossSums:
        """Join two stretches of steps."""
        return jax.tree.map(np.add, a, b)

    def finalize(self, totals: LossSums) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Both, with standard errors; the variance over runs by its groupwise influence."""
        n, first, second, within = map(np.asarray, totals)
        counts, chains = np.maximum(n, 1)[:, None], max(float(n.sum()), 2.0)
        first, second = first / counts, second / counts
        mean, square = (grouped_mean(values, n)[0] for values in (first, second))
        _, stderr = grouped_mean((second - 2 * mean * first).mean(axis=1), n)
        return {
            "over_runs": (np.mean(square - mean**2) * chains / (chains - 1), stderr),
            "within_run": grouped_mean(within / counts[:, 0], n),
        }


def claim(quantity: str, value: float, stderr: float, bound: float, *, above: bool, error_rate: float) -> Row:
    """The verdict on a claim that a number lies above (or below) a bound; see `one_sided`."""
    side = "above" if above else "below"
    return one_sided(f"{quantity}, claimed {side}", value, stderr, bound, above=above, error_rate=error_rate)


def judge_matrix(
    quantity: str, simulated: Matrix, stderr: Matrix, predicted: Matrix, *, error_rate: float, groups: int
) -> Row:
    """The verdict on a measured covariance matrix: its entry with the largest |z|, corrected for their number."""
    upper = np.triu_indices(len(predicted))
    spread = np.sqrt(np.diag(predicted))
    scale = np.outer(spread, spread)[upper]
    value, error, truth = (np.asarray(m)[upper] for m in (simulated, stderr, predicted))
    z = (value - truth) / error
    worst = int(np.abs(z).argmax())
    threshold = sidak_threshold(error_rate, len(z), groups - 1)
    weak = bool((error > POWER * scale).any())
    verdict = UNDERPOWERED if weak else AGREE if abs(z[worst]) <= threshold else DISAGREE
    name = f"{quantity}[{upper[0][worst]},{upper[1][worst]}]"
    return Row(name, float(value[worst]), float(error[worst]), float(truth[worst]), float(z[worst]),
               float((value - truth)[worst] / scale[worst]), verdict, threshold, len(z))
