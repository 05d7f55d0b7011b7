"""What looks back in time: autocovariances and averages of iterates."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import set_field, spec, static
from sgdsim.statistics.base import Measurement, add, grouped_mean
from sgdsim.statistics.moments import CentralMoments, Moments, PowerSums


class LagSums(NamedTuple):
    """Sums by group for each lag h, over steps t >= h, of x = w_t, y = w_{t-h} and their products."""

    n: Any  # (G, lags)
    x: Any  # (G, lags, D)
    y: Any  # (G, lags, D)
    xy: Any  # (G, lags, D, D)


@spec
class Autocovariance:
    """Cov(w_t, w_{t-h}) for some lags h; as many past steps are kept as the largest has.

    Measured as `autocovariance_5` and so on, shape (D, D); its prediction is `prediction.autocovariance([5])`.

    Args:
        lags: whole numbers >= 0.

    Raises:
        ValueError: a lag is no whole number >= 0, or comes twice.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([1.0], label_noise=1.0)
        >>> result = ss.simulate(problem, ss.SGD(0.1), batch_size=4, chains=500, steps=300, burn_in=100,
        ...                      statistics=[ss.statistics.Autocovariance([0, 5])])
        >>> result.autocovariance_5.shape
        (1, 1)
    """

    lags: tuple[int, ...] = static()

    def __post_init__(self) -> None:
        lags = tuple(_checks.integer("lags", h, low=0) for h in _checks.sequence("lags", self.lags))
        if not lags or len(set(lags)) < len(lags):
            raise _checks.error("lags", self.lags, "one or more different whole numbers", "try [0, 1, 10]")
        set_field(self, lags=lags)

    def begin(self, params: jax.Array) -> PyTree:
        """An empty ring of past parameters, and how many steps were seen."""
        return jnp.zeros((max(self.lags) + 1, *params.shape), params.dtype), jnp.zeros((), jnp.int32)

    def remember(self, memory: PyTree, params: jax.Array) -> PyTree:
        """Put the newest in the place of the oldest."""
        ring, seen = memory
        return ring.at[seen % len(ring)].set(params), seen + 1

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> LagSums:
        """Zero sums."""
        one = jnp.zeros((groups, len(self.lags), dimension), dtype)
        return LagSums(one[..., 0], one, one, jnp.zeros((*one.shape, dimension), dtype))

    def update(self, sums: LagSums, at: Measurement) -> LagSums:
        """Add one step: a D x D product over chains for each lag."""
        ring, seen = at.memory
        centre = at.centre[:, None, None]
        x = at.masked(at.params - centre)
        n, first, past, products = [], [], [], []
        for h in self.lags:
            there = (seen > h).astype(x.dtype)
            y = at.masked(ring[(seen - 1 - h) % len(ring)].reshape(x.shape) - centre) * there
            n.append(at.weight.sum(axis=0) * there)
            first.append(x.sum(axis=1).T * there)
            past.append(y.sum(axis=1).T)
            products.append(jnp.einsum("dmg,emg->gde", x, y, precision=jax.lax.Precision.HIGHEST))
        new = LagSums(*(jnp.stack(each, axis=1) for each in (n, first, past, products)))
        return jax.tree.map(jnp.add, sums, new)

    def collect(self, sums: LagSums, centre: np.ndarray) -> LagSums:
        """The same sums about the origin, in float64."""
        n, c = sums.n[..., None], centre[:, None]
        crossed = sums.x[..., None] * c[..., None, :] + c[..., None] * sums.y[..., None, :]
        products = sums.xy + crossed + n[..., None] * c[..., None] * c[..., None, :]
        return LagSums(sums.n, sums.x + n * c, sums.y + n * c, products)

    def merge(self, a: LagSums, b: LagSums) -> LagSums:
        """Join two stretches of steps."""
        return add(a, b)

    def finalize(self, totals: LagSums) -> dict[str, tuple[ArrayLike, ArrayLike]]:
        """One matrix a lag, about the means of all groups."""
        found: dict[str, tuple[ArrayLike, ArrayLike]] = {}
        for i, h in enumerate(self.lags):
            n = np.maximum(totals.n[:, i], 1)[:, None]
            x, y = totals.x[:, i] / n, totals.y[:, i] / n
            (mean_x, _), (mean_y, _) = grouped_mean(x, totals.n[:, i]), grouped_mean(y, totals.n[:, i])
            about = totals.xy[:, i] / n[..., None] - x[:, :, None] * mean_y - mean_x[:, None] * y[:, None, :]
            found[f"autocovariance_{h}"] = grouped_mean(about + mean_x[:, None] * mean_y, totals.n[:, i])
        return found


class AveragedTotals(NamedTuple):
    """Moments of an average; of a type of their own, for they say nothing about the parameters themselves."""

    moments: CentralMoments


class _Averages:
    """Moments of something that is remembered of each chain."""

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> PowerSums:
        """Zero sums."""
        return Moments().init(dimension, groups, dtype)

    def collect(self, sums: PowerSums, centre: np.ndarray) -> AveragedTotals:
        """Central moments of float64 sums about `centre`."""
        return AveragedTotals(Moments().collect(sums, centre))

    def merge(self, a: AveragedTotals, b: AveragedTotals) -> AveragedTotals:
        """Join two stretches of steps."""
        return AveragedTotals(Moments().merge(a.moments, b.moments))


@spec
class IterateAverage(_Averages):
    """Mean and covariance of the average of so many successive iterates (Polyak and Ruppert).

    Measured as `average_100_mean` and `average_100_covariance` for `steps=100`; the prediction is
    `prediction.averaged(100)`. At each measured step the last complete stretch counts.

    Args:
        steps: T >= 1; measure after at least as many.

    Raises:
        ValueError: `steps` is out of range.
    """

    steps: int = static()

    def __post_init__(self) -> None:
        set_field(self, steps=_checks.integer("steps", self.steps))

    def begin(self, params: jax.Array) -> PyTree:
        """The running sum, the last complete mean, and how many steps were seen."""
        return jnp.zeros_like(params), jnp.zeros_like(params), jnp.zeros((), jnp.int32)

    def remember(self, memory: PyTree, params: jax.Array) -> PyTree:
        """Add; at the end of a stretch, divide and begin anew."""
        total, last, seen = memory
        total, seen = total + params, seen + 1
        full = seen % self.steps == 0
        return jnp.where(full, 0, total), jnp.where(full, total / self.steps, last), seen

    def update(self, sums: PowerSums, at: Measurement) -> PowerSums:
        """Add the last complete mean of every chain."""
        _, last, seen = at.memory
        weight = at.weight * (seen >= self.steps).astype(at.weight.dtype)
        return Moments().update(sums, at._replace(params=last.reshape(at.params.shape), weight=weight))

    def finalize(self, totals: AveragedTotals) -> dict[str, tuple[ArrayLike, ArrayLike]]:
        """Its mean and covariance."""
        found = Moments().finalize(totals.moments)
        return {f"average_{self.steps}_{name}": found[name] for name in ("mean", "covariance")}


@spec
class ParameterEMA(_Averages):
    """Mean and covariance of the exponential average a <- decay a + (1 - decay) w of the parameters.

    Measured as `ema_mean` and `ema_covariance`, with the decay in between: `ema_0.99_covariance`, to be read with
    `getattr` or in `result.quantities`; the prediction is `prediction.ema(0.99)`. It starts at the start.

    Args:
        decay: in [0, 1); measure after several 1 / (1 - decay) steps.

    Raises:
        ValueError: `decay` is out of range.
    """

    decay: float = static()

    def __post_init__(self) -> None:
        set_field(self, decay=_checks.fraction("decay", self.decay))

    def begin(self, params: jax.Array) -> PyTree:
        """The start."""
        return params

    def remember(self, memory: PyTree, params: jax.Array) -> PyTree:
        """One step of the average."""
        return self.decay * memory + (1 - self.decay) * params

    def update(self, sums: PowerSums, at: Measurement) -> PowerSums:
        """Add the average of every chain."""
        return Moments().update(sums, at._replace(params=at.memory.reshape(at.params.shape)))

    def finalize(self, totals: AveragedTotals) -> dict[str, tuple[ArrayLike, ArrayLike]]:
        """Its mean and covariance."""
        found = Moments().finalize(totals.moments)
        return {f"ema_{self.decay:g}_{name}": found[name] for name in ("mean", "covariance")}
