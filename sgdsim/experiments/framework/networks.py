"""What the experiments with networks share: modules, data, minima, the spread of the loss over chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import DTypeLike

from sgdsim import _checks
from sgdsim._specs import spec
from sgdsim._types import Matrix, Vector
from sgdsim.comparisons.claims import one_sided
from sgdsim.comparisons.comparison import AGREE, DISAGREE, POWER, UNDERPOWERED, Row, sidak_threshold
from sgdsim.problems import FlaxNetwork
from sgdsim.statistics import Measurement, grouped_mean

if TYPE_CHECKING:
    from flax import linen


def two_layers(width: int, outputs: int) -> linen.Module:
    """A dense layer of `width` tanh units and a linear one on top."""
    from flax import linen as nn

    return nn.Sequential((nn.Dense(width), nn.tanh, nn.Dense(outputs)))


def linear_layer(outputs: int) -> linen.Module:
    """One dense layer: logistic regression under cross-entropy."""
    from flax import linen as nn

    return nn.Dense(outputs)


class Digits(NamedTuple):
    """Scikit-learn's digits (1797 images of 8 x 8), pixels in [0, 1], shuffled and cut in two."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def digits(n_train: int) -> Digits:
    """The first `n_train` shuffled images, and the rest."""
    x, y = _checks.need("sklearn.datasets", "data").load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order] / 16, y[order]
    return Digits(x[:n_train], y[:n_train], x[n_train:], y[n_train:])


def find_minimum(problem: FlaxNetwork, initial: Vector) -> Vector:
    """A local minimum of the training loss in float64, by Newton steps in a trust region.

    Raises:
        NotConverged: the gradient is not zero after 300 steps.
    """
    with jax.enable_x64(True):

        def number(function: Callable[[jax.Array], jax.Array]) -> Callable[[Vector], np.ndarray]:
            return lambda w: np.asarray(function(jnp.asarray(w)))

        found = scipy.optimize.minimize(number(problem.loss), np.asarray(initial, np.float64), method="trust-exact",
                         jac=number(problem.gradient), hess=number(problem.hessian),
                         options={"gtol": 1e-9, "maxiter": 300})
    if not found.success:
        rest = abs(found.jac).max()
        raise _checks.NotConverged(f"no minimum within {found.nit} Newton steps: the gradient is still {rest:.1e}")
    return found.x


class SpreadSums(NamedTuple):
    """Sums by group, each of shape (G,)."""

    n: jax.Array
    first: jax.Array
    second: jax.Array


@spec
class LossSpread:
    """Mean and variance of the training loss over chains and measured steps."""

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> SpreadSums:
        """Zero sums."""
        zero = jnp.zeros((groups,), dtype)
        return SpreadSums(zero, zero, zero)

    def update(self, sums: SpreadSums, at: Measurement) -> SpreadSums:
        """Add one step."""
        loss = at.masked(at.problem.loss(at.params))
        total = at.weight.sum(axis=0)
        return SpreadSums(sums.n + total, sums.first + loss.sum(axis=0), sums.second + (loss * loss).sum(axis=0))

    def collect(self, sums: SpreadSums, centre: np.ndarray) -> SpreadSums:
        """Plain sums need no centre."""
        return sums

    def merge(self, a: SpreadSums, b: SpreadSums) -> SpreadSums:
        """Join two stretches of steps."""
        return jax.tree.map(np.add, a, b)

    def finalize(self, totals: SpreadSums) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Both, with standard errors; the variance by its groupwise influence."""
        n, first, second = map(np.asarray, totals)
        first, second = first / np.maximum(n, 1), second / np.maximum(n, 1)
        mean, mean_stderr = grouped_mean(first, n)
        square, _ = grouped_mean(second, n)
        _, stderr = grouped_mean(second - 2 * mean * first, n)
        chains = max(float(n.sum()), 2.0)
        return {
            "loss": (mean, mean_stderr),
            "loss_variance": ((square - mean**2) * chains / (chains - 1), stderr),
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
