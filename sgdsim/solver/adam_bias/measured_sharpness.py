"""How strongly noisy Adam penalises the l_1 norm of the gradient on a given problem: measured, not expanded."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix
from sgdsim.optimizers import Adam
from sgdsim.problems.base import Problem
from sgdsim.solver.adam_bias.batch_order import DataProblem, check_data_set, mean_gradient
from sgdsim.solver.adam_bias.memoryless import unit_transformation
from sgdsim.solver.adam_bias.permutations import terms_of_orders

_MEMORIES = 6.0  # steps, in units of the longer memory
_GROUPS = 16


class MeasuredSharpness(NamedTuple):
    """The slope of a regression through the origin.

    Attributes:
        coefficient: C; positive means that large gradients are penalised.
        stderr: of C: the jackknife over points, over groups of batch orders where there is one point.
        correlation: cosine of |g_j| E Corr_j and d_j |g|_1: 1 if the pull is nothing but C.
        noise_ratio: tr Sigma / (b |g|^2) at each point.
    """

    coefficient: float
    stderr: float
    correlation: float
    noise_ratio: np.ndarray


def measured_sharpness_coefficient(
    problem: Problem, w: ArrayLike, optimizer: Adam, batch_size: int, *, steps: int | None = None, orders: int = 64,
    seed: int = 0
) -> MeasuredSharpness:
    r"""The coefficient C of d_j |g|_1 in |g_j| E Corr_j by regression over parameters, points and orders of batches.

    $$C = \frac{\sum_j x_j\, |g_j|\, E\,\mathrm{Corr}_j}{\sum_j x_j^2}, \qquad x_j = \partial_j \|g\|_1
      = [H\, \mathrm{sgn}\, g]_j ,$$

    Corr the correction of `memoryless` after `steps` batches drawn independently, exact in the noise, Hessian noise
    included; g and H are those of all examples. `adam_sharpness_coefficient` has C in one dimension. On a
    network noise ratios differ between parameters, and |g|_1 is not all that Corr holds: see `correlation`.

    Args:
        problem: a `DatasetRegression` or `FlaxNetwork` without label noise.
        w: points, shape (D,) or (points, D), away from the minimum.
        optimizer: `Adam`; the learning rate does not matter.
        batch_size: b; each batch is drawn with replacement.
        steps: how many batches; None is 6 / (1 - the larger beta).
        orders: sequences of batches for each point.
        seed: of the batches.

    Raises:
        ValueError: an argument is out of range, or there are no examples.

    Examples:
        >>> import numpy as np
        >>> import sgdsim as ss
        >>> noise = np.random.default_rng(0).normal(size=200)
        >>> line = ss.DatasetRegression(np.ones((200, 1)), noise)
        >>> adam = ss.Adam(0.01, b1=0.5, b2=0.9)
        >>> found = ss.solver.adam_bias.measured_sharpness_coefficient(line, [1.0], adam, 8, orders=2000)
        >>> bool(found.coefficient < 0), found.noise_ratio.shape
        (True, (1,))

    Source: Cattaneo and Shigida, equation (9), and docs/theory/adam-bias.md.
    """
    data = check_data_set(problem, "at random")
    points = np.atleast_2d(_checks.finite_array("w", w))
    if points.ndim != 2 or points.shape[1] != problem.dimension or not len(points):
        raise _checks.error("w", w, f"of shape ({problem.dimension},) or (points, {problem.dimension})", "one row each")
    if not isinstance(optimizer, Adam):
        raise _checks.error("optimizer", optimizer, "Adam", "its betas are what the coefficient depends on")
    b = _checks.integer("batch_size", batch_size)
    count = _checks.integer("orders", orders, low=_GROUPS if len(points) == 1 else 1)
    longest = max(float(optimizer.b1 or 0), float(optimizer.b2))
    length = math.ceil(_MEMORIES / (1 - longest)) if steps is None else _checks.integer("steps", steps, low=2)
    rng = np.random.default_rng(_checks.integer("seed", seed, low=0))
    transformation, _ = unit_transformation(problem, optimizer, None)
    products, ratios = [], []
    with jax.enable_x64(True):
        for point in points:
            g, slope, noise = map(np.asarray, _full(data, jnp.asarray(point)))
            rows = rng.integers(len(data.features), size=(count, length, b))
            pulls = np.abs(g) * terms_of_orders(data, transformation, point, rows)[1]
            groups = np.array_split(pulls, _GROUPS) if len(points) == 1 else [pulls]
            products += [[slope @ y, slope @ slope, y @ y] for y in (part.mean(axis=0) for part in groups)]
            ratios.append(float(noise) / (b * g @ g))
    sums = np.array(products)
    return MeasuredSharpness(*_slope(sums), np.array(ratios))


def _slope(sums: Matrix) -> tuple[float, float, float]:
    """C, its jackknife error, and the cosine, from sums of xy, xx, yy, one row a group."""
    total = sums.sum(axis=0)
    if total[1] == 0:
        raise _checks.error("w", "a minimum", "a point where the l_1 norm of the gradient has a slope", "move it")
    left = (total - sums)[:, 0] / (total - sums)[:, 1]
    stderr = math.sqrt((len(sums) - 1) / len(sums) * np.sum((left - left.mean()) ** 2))
    return float(total[0] / total[1]), stderr, float(total[0] / math.sqrt(total[1] * total[2] or 1.0))


@jax.jit
def _full(problem: DataProblem, w: Array) -> tuple[Array, Array, Array]:
    """The gradient g, H sgn(g), and the trace of the covariance of one example's gradient."""
    rows = jnp.arange(len(problem.features))
    g = jax.grad(problem.loss)(w)
    slope = jax.jvp(jax.grad(problem.loss), (w,), (jnp.sign(g),))[1]
    each = jax.lax.map(lambda k: mean_gradient(problem, w, k[None]), rows)
    return g, slope, jnp.sum((each - each.mean(axis=0)) ** 2) / len(rows)
