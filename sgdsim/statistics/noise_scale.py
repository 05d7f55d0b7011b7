"""The simple noise scale: how many examples it takes for the gradient to stand out of its noise."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from sgdsim import _checks
from sgdsim._types import as_matrix
from sgdsim.problems import LinearRegression, Quadratic

DRAWN = 4096  # examples drawn where a problem has no finite number of them
_NUMBERS = 2**22  # of per-example gradients held at once


class NoiseScale(NamedTuple):
    """B_simple = trace / squared_norm.

    Attributes:
        value: the ratio of the two unbiased estimates; infinite where the estimated squared norm is not positive.
        stderr: its standard error (delta method on the jackknife); 0 where it is exact.
        low: lower end of the confidence interval (Fieller's, which knows that the denominator is noisy).
        high: its upper end; infinite where the gradient does not stand out of the noise of its estimate.
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


def simple_noise_scale(
    problem: Any, w: Any, *, examples: Any = None, seed: int = 0, confidence: float = 0.95
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
        >>> round(ss.statistics.simple_noise_scale(problem, [0.0]).value, 6)  # gradients -1, -2, -3
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
        return _estimate(*_norms(problem, point, drawn), level)


def batch_noise_scale(
    small_norms: Any, large_norms: Any, *, batch_sizes: tuple[int, int], confidence: float = 0.95
) -> NoiseScale:
    r"""Estimate B_simple from squared norms of batch gradients of two sizes b < B, as a training run has them.

    $$\widehat{|g|^2} = \frac{B |g_B|^2 - b |g_b|^2}{B - b}, \qquad
      \widehat{\mathrm{tr}\Sigma} = \frac{|g_b|^2 - |g_B|^2}{1/b - 1/B}.$$

    Args:
        small_norms: |g_b|^2 of independent pairs of batches at one point, shape (pairs,).
        large_norms: |g_B|^2 of the same pairs; the two of a pair may share examples.
        batch_sizes: (b, B).
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: sizes are not increasing, shapes differ, or there are fewer than 3 pairs.

    Examples:
        >>> import sgdsim as ss
        >>> found = ss.statistics.batch_noise_scale([3.0, 3.2, 2.8], [1.5, 1.4, 1.6], batch_sizes=(1, 4))
        >>> round(found.trace, 6), round(found.squared_norm, 6), round(found.value, 6)
        (2.0, 1.0, 2.0)

    Source: McCandlish et al., appendix A.1.
    """
    small = _checks.finite_array("small_norms", small_norms)
    large = _checks.finite_array("large_norms", large_norms)
    if small.ndim != 1 or small.shape != large.shape or len(small) < 3:
        raise _checks.error("large_norms", large_norms, "one number for each of 3 or more `small_norms`",
                            "measure both sizes at each point")
    b = _checks.integer("batch_sizes[0]", batch_sizes[0])
    wide = _checks.integer("batch_sizes[1]", batch_sizes[1], low=b + 1)
    pairs = np.stack([(small - large) / (1 / b - 1 / wide), (wide * large - b * small) / (wide - b)])
    return _ratio(pairs.mean(axis=1), np.cov(pairs) / len(small), len(small), _check_confidence(confidence))


def _check_confidence(confidence: float) -> float:
    level = _checks.real("confidence", confidence, "in (0, 1)", "0.95 is common")
    if not 0 < level < 1:
        raise _checks.error("confidence", confidence, "in (0, 1)", "0.95 is common")
    return level


def _exact(problem: Any, w: np.ndarray) -> NoiseScale:
    n = problem.n_examples
    norms, _, total = _norms(problem, w, (problem.features, problem.targets))
    mean = total / n
    squared = float(mean @ mean)
    trace = max(0.0, float(norms.mean()) - squared)
    value = trace / squared if squared > 0 else math.inf
    return NoiseScale(value, 0.0, value, value, trace, squared, n)


def _draw(problem: Any, count: int, rng: np.random.Generator) -> Any:
    def normal(covariance: Any) -> np.ndarray:
        values, vectors = np.linalg.eigh(as_matrix(covariance, problem.dimension))
        root = vectors * np.sqrt(np.clip(values, 0, None))
        return rng.standard_normal((count, problem.dimension)) @ root.T

    if isinstance(problem, Quadratic):
        return normal(problem.noise_covariance)
    if isinstance(problem, LinearRegression):
        x = normal(problem.second_moment)
        residual = math.sqrt(problem.residual_variance) * rng.standard_normal(count)
        return x, x @ problem.effective_teacher + residual
    if problem.n_examples is None:
        raise NotImplementedError(f"no sampler of examples for {type(problem).__name__}; pass examples=")
    rows = rng.integers(problem.n_examples, size=count)
    targets = problem.targets[rows]
    sigma = float(getattr(problem, "label_noise", 0.0))
    if sigma:
        targets = targets + sigma * rng.standard_normal(targets.shape)
    return problem.features[rows], targets


@jax.jit
def _sums(problem: Any, w: Any, batch: Any) -> Any:
    g = jax.vmap(problem.example_gradient, (None, 0))(w, batch)
    return jnp.sum(g * g, axis=1), g.sum(axis=0)


@jax.jit
def _products(problem: Any, w: Any, batch: Any, total: Any) -> Any:
    return jax.vmap(problem.example_gradient, (None, 0))(w, batch) @ total


def _norms(problem: Any, w: np.ndarray, examples: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|g_i|^2 and g_i . sum_j g_j of every example, and the sum; two passes, a bounded number of gradients at once."""
    examples = jax.tree.map(np.asarray, examples)
    count = len(jax.tree.leaves(examples)[0])
    width = max(1, min(count, _NUMBERS // len(w)))
    batches = [jax.tree.map(lambda leaf, i=i: leaf[i : i + width], examples) for i in range(0, count, width)]
    seen = [_sums(problem, w, batch) for batch in batches]
    total = np.sum([np.asarray(part) for _, part in seen], axis=0)
    along = np.concatenate([np.asarray(_products(problem, w, batch, total)) for batch in batches])
    return np.concatenate([np.asarray(norms) for norms, _ in seen]), along, total


def _estimate(norms: np.ndarray, along: np.ndarray, total: np.ndarray, level: float) -> NoiseScale:
    """Both U-statistics of all examples, and their covariance from those of all but one."""

    def statistics(m: int, sum_of_squares: Any, square_of_sum: Any) -> np.ndarray:
        trace = (sum_of_squares - square_of_sum / m) / (m - 1)
        return np.stack([trace, square_of_sum / m**2 - trace / m])

    m, squares, whole = len(norms), norms.sum(), total @ total
    without = statistics(m - 1, squares - norms, whole - 2 * along + norms)
    return _ratio(statistics(m, squares, whole), (m - 1) ** 2 / m * np.cov(without), m, level)


def _ratio(both: np.ndarray, covariance: np.ndarray, count: int, level: float) -> NoiseScale:
    r"""Fieller's interval: the B for which T - B S is within t standard errors of 0."""
    trace, squared = (float(x) for x in both)
    value = trace / squared if squared > 0 else math.inf
    spread, shared, noise = float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])
    stderr = math.inf
    if math.isfinite(value):
        stderr = math.sqrt(max(0.0, spread - 2 * value * shared + value**2 * noise)) / squared
    t2 = float(stats.t.ppf((1 + level) / 2, count - 1)) ** 2
    a = squared**2 - t2 * noise
    b = trace * squared - t2 * shared
    c = trace**2 - t2 * spread
    gap = b * b - a * c
    low, high = 0.0, math.inf
    if gap >= 0 and a > 0:
        low, high = max(0.0, (b - math.sqrt(gap)) / a), (b + math.sqrt(gap)) / a
    elif gap >= 0 and a < 0 < c:
        low = (b - math.sqrt(gap)) / a
    return NoiseScale(value, stderr, low, high, trace, squared, count)
