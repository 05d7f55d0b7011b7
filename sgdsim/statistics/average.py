"""Averages over chains and steps of numbers made of the weights of one chain."""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array

from sgdsim import _checks
from sgdsim._specs import set_field, spec, static
from sgdsim.problems.base import Problem
from sgdsim.problems.parts.traced import traced
from sgdsim.statistics.base import Measurement, add, grouped_mean

_TOGETHER = 64  # chains side by side


class AverageSums(NamedTuple):
    """Sums by group: the count (G,) and each number (G, numbers)."""

    count: Any
    total: Any


class _Average(abc.ABC):
    """Mean and standard error of `names`, measured chain by chain."""

    @property
    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """What is measured."""

    @abc.abstractmethod
    def measure(self, problem: Problem, w: Array) -> list[Array]:
        """One number for each name, at the weights w (D,) of one chain; traceable."""

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> AverageSums:
        """Zero sums."""
        return AverageSums(jnp.zeros((groups,), dtype), jnp.zeros((groups, len(self.names)), dtype))

    def update(self, sums: AverageSums, at: Measurement) -> AverageSums:
        """Add one step."""
        rows = at.params.reshape(len(at.params), -1).T
        values = jax.lax.map(lambda w: jnp.stack(self.measure(at.problem, w)), rows, batch_size=_TOGETHER)
        values = at.masked(values.T.reshape(-1, *at.weight.shape))
        return AverageSums(sums.count + at.weight.sum(axis=0), sums.total + values.sum(axis=1).T)

    def collect(self, sums: AverageSums, centre: np.ndarray) -> AverageSums:
        """Plain sums need no centre."""
        return sums

    def merge(self, a: AverageSums, b: AverageSums) -> AverageSums:
        """Join two stretches of steps."""
        return add(a, b)

    def finalize(self, totals: AverageSums) -> dict[str, tuple[Any, Any]]:
        """The means."""
        n = np.maximum(totals.count, 1)
        return {name: grouped_mean(totals.total[:, k] / n, totals.count) for k, name in enumerate(self.names)}


@spec
class Average(_Average):
    """The average of any numbers made of the problem and the weights of one chain.

    Args:
        functions: a mapping from names to functions (problem, w) -> a number for w (D,), traceable by JAX. Functions
            defined once, at the top of a module, are compiled once.

    Raises:
        ValueError: none is given, or one is no function.

    Examples:
        >>> import jax.numpy as jnp
        >>> import sgdsim as ss
        >>> size = ss.statistics.Average({"size": lambda problem, w: jnp.sum(w**2)})
        >>> problem = ss.LinearRegression([1.0], label_noise=1.0)
        >>> result = ss.simulate(problem, ss.SGD(0.3), batch_size=1, chains=4096, steps=60, burn_in=20,
        ...                      statistics=[size])
        >>> abs(float(result.size) - 0.2727) < 0.02
        True
    """

    functions: Any = static()

    def __post_init__(self) -> None:
        given = self.functions.items() if isinstance(self.functions, Mapping) else self.functions
        pairs = tuple(given) if isinstance(given, Iterable) else ()
        if not pairs or not all(isinstance(name, str) and callable(function) for name, function in pairs):
            raise _checks.error("functions", self.functions, "functions (problem, w) -> number by name",
                                "try Average({'size': lambda problem, w: jnp.sum(w**2)})")
        set_field(self, functions=pairs)

    @property
    def names(self) -> tuple[str, ...]:
        """As they were given."""
        return tuple(name for name, _ in self.functions)

    def measure(self, problem: Problem, w: Array) -> list[Array]:
        """Each function."""
        return [jnp.asarray(function(problem, w)) for _, function in self.functions]

    def check(self, problem: Problem) -> None:
        """Refuse functions that JAX cannot trace, or whose value is not one real number."""
        w = jax.ShapeDtypeStruct((problem.dimension,), jnp.float32)
        for name, function in self.functions:
            made = traced(f"functions[{name!r}]", functools.partial(function, problem), w,
                          wanted="a function (problem, w)", remedy="write it with jax.numpy for w of shape (D,)")
            if getattr(made, "shape", None) != () or jnp.iscomplexobj(made):
                raise _checks.error(f"functions[{name!r}]", getattr(function, "__name__", function),
                                    f"a function whose value is one real number (got {made})",
                                    "give each number a function of its own")


@spec
class GradientL1(_Average):
    r"""$$\|\nabla L(w)\|_1$$ of the full gradient, as `gradient_l1`: what Adam's memory penalises."""

    @property
    def names(self) -> tuple[str, ...]:
        """One."""
        return ("gradient_l1",)

    def measure(self, problem: Problem, w: Array) -> list[Array]:
        """Its sum of absolute values."""
        return [jnp.abs(problem.gradient(w)).sum()]


@spec
class NoiseScale(_Average):
    r"""The simple noise scale $\mathrm{tr}\Sigma / \|g\|^2$ of a data set, as `noise_scale`; and its two parts.

    `noise_trace` is tr Sigma of ONE example's gradient and `gradient_square` is |g|^2, of all examples at the weights
    of each chain. Their ratio is averaged over chains; where it has no mean, divide the averages.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Three."""
        return ("noise_scale", "noise_trace", "gradient_square")

    def measure(self, problem: Any, w: Array) -> list[Array]:
        """From every example's gradient.

        Raises:
            ValueError: the problem has no data set.
        """
        if not hasattr(problem, "features"):
            raise _checks.error("statistics", "NoiseScale", "for a problem with a data set", "leave it out, or average "
                                "estimators.simple_noise_scale over result.final")
        data = jnp.asarray(problem.features, w.dtype), jnp.asarray(problem.targets)
        each = jax.lax.map(lambda example: problem.example_gradient(w, example), data, batch_size=_TOGETHER)
        mean = each.mean(axis=0)
        trace, square = jnp.sum((each - mean) ** 2) / len(each), jnp.sum(mean**2)
        return [trace / square, trace, square]


@spec
class HessianTrace(_Average):
    r"""Tr of the Hessian of the loss by Hutchinson's estimator, $E\,z^\top H z$ for random signs z, as `hessian_trace`.

    No D x D matrix is formed: each probe is one Hessian-vector product. Its signs are drawn anew for every chain and
    step, so that what they add is in the standard error.

    Args:
        probes: how many vectors of signs for each chain and step.

    Raises:
        ValueError: `probes` is out of range.
    """

    probes: int = static(default=1)

    def __post_init__(self) -> None:
        set_field(self, probes=_checks.integer("probes", self.probes))

    @property
    def names(self) -> tuple[str, ...]:
        """One."""
        return ("hessian_trace",)

    def measure(self, problem: Problem, w: Array) -> list[Array]:
        """The mean over the probes."""
        return [hutchinson(problem, w, self.probes).sum()]


def hutchinson(problem: Problem, w: Array, probes: int) -> Array:
    """Estimates of the Hessian's diagonal (D,): the mean of z H z, entry by entry, over vectors of random signs z."""
    # The bits of the weights, scattered by a hash, are the seed: other weights, other signs.
    bits = jax.lax.bitcast_convert_type(w.astype(jnp.float32), jnp.uint32)
    seed = jnp.bitwise_xor.reduce(bits * (2 * jnp.arange(len(w), dtype=jnp.uint32) + 1))
    signs = jax.random.rademacher(jax.random.key(seed), (probes, len(w)), w.dtype)
    slope = jax.grad(problem.loss)
    return jax.lax.map(lambda z: z * jax.jvp(slope, (w,), (z,))[1], signs).mean(axis=0)


@spec
class Curvature(_Average):
    r"""Tr Diag(H)^p of the Hessian of the loss, as `curvature_p`: at p = 1 what SGD flattens, at 1/2 what Adam does.

    The diagonal is exact, of D Hessian-vector products, or Hutchinson's estimate of it, of `probes` products; negative
    entries count as 0. An estimate with noise is biased at p other than 1, by a term that falls like 1/probes.

    Args:
        powers: p > 0, one or several.
        probes: how many vectors of signs for each chain and step; None takes the exact diagonal.

    Raises:
        ValueError: a power is not positive, or `probes` is out of range.
    """

    powers: tuple[float, ...] = static(default=(1.0, 0.5))
    probes: int | None = static(default=None)

    def __post_init__(self) -> None:
        given = [_checks.positive("powers", p) for p in _checks.sequence("powers", self.powers)]
        probes = None if self.probes is None else _checks.integer("probes", self.probes)
        set_field(self, powers=tuple(given), probes=probes)

    @property
    def names(self) -> tuple[str, ...]:
        """One for each power."""
        return tuple(f"curvature_{p:g}" for p in self.powers)

    def measure(self, problem: Problem, w: Array) -> list[Array]:
        """From the diagonal."""
        if self.probes is not None:
            diagonal = hutchinson(problem, w, self.probes)
            return [jnp.sum(jnp.maximum(diagonal, 0.0) ** p if p != 1 else diagonal) for p in self.powers]
        slope = jax.grad(problem.loss)
        unit = jnp.eye(len(w), dtype=w.dtype)
        diagonal = jax.lax.map(lambda e: jnp.vdot(e, jax.jvp(slope, (w,), (e,))[1]), unit, batch_size=_TOGETHER)
        return [jnp.sum(jnp.maximum(diagonal, 0.0) ** p) for p in self.powers]
