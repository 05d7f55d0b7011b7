"""The simple noise scale: how many examples it takes for the gradient to stand out of its noise."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim._types import as_matrix
from sgdsim.problems import LinearRegression, Quadratic
from sgdsim.problems.base import Problem

DRAWN = 4096  # examples drawn where a problem has no finite number of them
_NUMBERS = 2**22  # of per-example gradients held at once


@runtime_checkable
class DataSet(Protocol):
    """A problem whose examples are rows of two arrays."""

    n_examples: int
    features: np.ndarray
    targets: np.ndarray


class NoiseScale(NamedTuple):
    """B_simple = trace / squared_norm.

    Attributes:
        value: the ratio of the two unbiased estimates, at least 0; infinite where the squared norm's is not positive.
        stderr: its standard error (delta method on the jackknife); 0 where it is exact.
        low: lower end of the confidence interval (Fieller's, which knows that the denominator is noisy).
        high: its upper end; infinite where the gradient does not stand out of the noise of its estimate. Where the
            estimates fit no scale at all (a squared norm that is significantly negative), all of 0 to infinity.
        trace: estimate of tr Sigma, Sigma the covariance of ONE example's gradient.
        squared_norm: estimate of |g|^2 of the mean gradient; unbiased, so that it may be negative.
        examples: how many examples, or pairs of batches, it rests on.
    """

    value: float
    stderr: float
    low: float
    high: float
    trace: float
    squared_norm: float
    examples: int


@own_settings
def simple_noise_scale(
    problem: Problem,
    w: ArrayLike,
    *,
    examples: PyTree[ArrayLike] | int | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> NoiseScale:
    r"""Estimate B_simple = tr Sigma / |g|^2 at a point, with an error bar.

    From m independent examples, with U-statistics unbiased for numerator and denominator,

    $$\widehat{\mathrm{tr}\Sigma} = \frac1{m-1} \sum_i |g_i - \bar g|^2, \qquad
      \widehat{|g|^2} = \frac1{m(m-1)} \sum_{i \ne j} g_i^\top g_j
      = |\bar g|^2 - \tfrac1m \widehat{\mathrm{tr}\Sigma}.$$

    Args:
        problem: any problem with `example_gradient`.
        w: the point, shape (D,).
        examples: None takes every example of a data set: then the value is exact, with Sigma divided by n. A number
            draws so many, with replacement from a data set, afresh from `LinearRegression` or `Quadratic` (None draws
            4096 there). Else independent examples, arrays with a leading axis, as `problem.example_gradient` takes
            them; so `(features, targets)` treats a data set as a sample of a larger population.
        seed: of the draws.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: an argument is out of range, or there are fewer than 3 examples.
        NotImplementedError: there is no sampler for the problem: pass examples.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DatasetRegression([[1.0], [2.0], [3.0]], [1.0, 1.0, 1.0])
        >>> round(ss.estimators.simple_noise_scale(problem, [0.0]).value, 6)  # gradients -1, -2, -3
        0.166667

    Source: McCandlish et al., "An Empirical Model of Large-Batch Training", appendix A.1.
    """
    point = _checks.vector("w", w, problem.dimension)
    level = _check_confidence(confidence)
    with jax.enable_x64(True):
        if examples is None and problem.n_examples is not None and not np.any(getattr(problem, "label_noise", 0.0)):
            return _exact(problem, point)
        if examples is None or np.isscalar(examples):
            count = _checks.integer("examples", DRAWN if examples is None else examples, low=3)
            drawn = _draw(problem, count, np.random.default_rng(_checks.integer("seed", seed, low=0)))
        else:
            drawn = examples
            lengths = {len(leaf) for leaf in jax.tree.leaves(drawn)}
            if len(lengths) != 1 or min(lengths) < 3:
                raise _checks.error("examples", examples, "arrays with the same leading axis of 3 or more",
                                    "one row an example")
        return from_deviations(*_deviations(problem, point, drawn), level)


def batch_noise_scale(
    small_norms: ArrayLike, large_norms: ArrayLike, *, batch_size: tuple[int, int], confidence: float = 0.95
) -> NoiseScale:
    r"""Estimate B_simple from squared norms of batch gradients of two sizes b < B, as a training run has them.

    $$\widehat{|g|^2} = \frac{B |g_B|^2 - b |g_b|^2}{B - b}, \qquad
      \widehat{\mathrm{tr}\Sigma} = \frac{|g_b|^2 - |g_B|^2}{1/b - 1/B}.$$

    Args:
        small_norms: |g_b|^2 of independent pairs of batches at one point, shape (pairs,).
        large_norms: |g_B|^2 of the same pairs; the two of a pair may share examples.
        batch_size: (b, B).
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: there are not two increasing sizes, shapes differ, a norm is negative, or there are fewer than 3
            pairs.

    Examples:
        >>> import sgdsim as ss
        >>> found = ss.estimators.batch_noise_scale([3.0, 3.2, 2.8], [1.5, 1.4, 1.6], batch_size=(1, 4))
        >>> round(found.trace, 6), round(found.squared_norm, 6), round(found.value, 6)
        (2.0, 1.0, 2.0)

    Source: McCandlish et al., appendix A.1.
    """
    small = _checks.finite_array("small_norms", small_norms)
    large = _checks.finite_array("large_norms", large_norms)
    if small.ndim != 1 or small.shape != large.shape or len(small) < 3:
        raise _checks.error("large_norms", large_norms, "one number for each of 3 or more `small_norms`",
                            "measure both sizes at each point")
    for name, norms in (("small_norms", small), ("large_norms", large)):
        if norms.min() < 0:
            raise _checks.error(name, float(norms.min()), "squared norms, 0 or positive", "pass |g|^2 of each batch")
    sizes = _checks.sequence("batch_size", batch_size)
    if len(sizes) != 2:
        raise _checks.error("batch_size", batch_size, "two sizes (b, B)", "call once for each pair of sizes")
    b = _checks.integer("batch_size[0]", sizes[0])
    wide = _checks.integer("batch_size[1]", sizes[1], low=b + 1)
    pairs = np.stack([(small - large) / (1 / b - 1 / wide), (wide * large - b * small) / (wide - b)])
    return _ratio(pairs.mean(axis=1), np.cov(pairs) / len(small), len(small), _check_confidence(confidence))


def _check_confidence(confidence: float) -> float:
    level = _checks.real("confidence", confidence, "in (0, 1)", "0.95 is common")
    if not 0 < level < 1:
        raise _checks.error("confidence", confidence, "in (0, 1)", "0.95 is common")
    return level


def _exact(problem: Problem, w: np.ndarray) -> NoiseScale:
    if not isinstance(problem, DataSet):
        raise _no_sampler(problem)
    norms, _, squared = _deviations(problem, w, (problem.features, problem.targets))
    trace = float(norms.mean())
    value = trace / squared if squared > 0 else math.inf
    return NoiseScale(value, 0.0, value, value, trace, squared, problem.n_examples)


def _no_sampler(problem: Problem) -> NotImplementedError:
    return NotImplementedError(f"no sampler of examples for {type(problem).__name__}; pass examples=")


def _draw(problem: Problem, count: int, rng: np.random.Generator) -> PyTree[np.ndarray]:
    def normal(covariance: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(as_matrix(covariance, problem.dimension))
        root = vectors * np.sqrt(np.clip(values, 0, None))
        return rng.standard_normal((count, problem.dimension)) @ root.T

    if isinstance(problem, Quadratic):
        return normal(problem.example_noise_covariance)
    if isinstance(problem, LinearRegression):
        x = normal(problem.input_second_moment)
        residual = math.sqrt(problem.residual_variance) * rng.standard_normal(count)
        return x, x @ problem.effective_teacher + residual
    if problem.n_examples is None or not isinstance(problem, DataSet):
        raise _no_sampler(problem)
    rows = rng.integers(problem.n_examples, size=count)
    targets = problem.targets[rows]
    sigma = float(getattr(problem, "label_noise", 0.0))
    if sigma:
        targets = targets + sigma * rng.standard_normal(targets.shape)
    return problem.features[rows], targets


@jax.jit
def _sum(problem: Problem, w: jax.Array, batch: PyTree[np.ndarray]) -> jax.Array:
    return jax.vmap(problem.example_gradient, (None, 0))(w, batch).sum(axis=0)


@jax.jit
def _around(
    problem: Problem, w: jax.Array, batch: PyTree[np.ndarray], mean: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    d = jax.vmap(problem.example_gradient, (None, 0))(w, batch) - mean
    return jnp.sum(d * d, axis=1), d @ mean


def _deviations(problem: Problem, w: np.ndarray, examples: PyTree[ArrayLike]) -> tuple[np.ndarray, np.ndarray, float]:
    """|d_i|^2 and d_i . g of every example, d_i = g_i - g, and |g|^2; a bounded number of gradients at once.

    In two passes: means of squares less squares of means would cancel where the examples agree.
    """
    examples = jax.tree.map(np.asarray, examples)
    count = len(jax.tree.leaves(examples)[0])
    width = max(1, min(count, _NUMBERS // len(w)))
    batches = [jax.tree.map(lambda leaf, i=i: leaf[i : i + width], examples) for i in range(0, count, width)]
    mean = np.sum([np.asarray(_sum(problem, w, batch)) for batch in batches], axis=0) / count
    norms, along = zip(*(_around(problem, w, batch, mean) for batch in batches), strict=True)
    return np.concatenate(norms), np.concatenate(along), float(mean @ mean)


def from_deviations(norms: np.ndarray, along: np.ndarray, squared: float, level: float) -> NoiseScale:
    """Both U-statistics of all examples, and their covariance from those of all but one."""

    def statistics(m: int, around: np.ndarray | float, of_mean: np.ndarray | float) -> np.ndarray:
        trace = around / (m - 1)
        return np.stack([trace, of_mean - trace / m])

    m = len(norms)
    # Without example i the mean moves by -d_i / (m - 1).
    without = statistics(m - 1, norms.sum() - norms * m / (m - 1), squared - 2 * along / (m - 1) + norms / (m - 1) ** 2)
    return _ratio(statistics(m, norms.sum(), squared), (m - 1) ** 2 / m * np.cov(without), m, level)


def _ratio(both: np.ndarray, covariance: np.ndarray, count: int, level: float) -> NoiseScale:
    r"""Fieller's interval: the B for which T - B S is within t standard errors of 0."""
    trace, squared = (float(x) for x in both)
    value = max(0.0, trace / squared) if squared > 0 else math.inf
    spread, shared, noise = float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])
    stderr = math.inf
    if math.isfinite(value):
        stderr = math.sqrt(max(0.0, spread - 2 * value * shared + value**2 * noise)) / squared
    t2 = float(scipy.stats.t.ppf((1 + level) / 2, count - 1)) ** 2
    a = squared**2 - t2 * noise
    b = trace * squared - t2 * shared
    c = trace**2 - t2 * spread
    gap = b * b - a * c
    low, high = 0.0, math.inf
    if gap >= 0 and a > 0:
        low, high = max(0.0, (b - math.sqrt(gap)) / a), max(0.0, (b + math.sqrt(gap)) / a)
        if squared <= 0:
            low, high = 0.0, math.inf
    elif gap >= 0 and a < 0 < c:
        low = (b - math.sqrt(gap)) / a
    return NoiseScale(value, stderr, low, high, trace, squared, count)
