"""Mean, covariance and kurtosis of the parameters, from centred mergeable moments."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim._specs import spec, static
from sgdsim.statistics.base import Measurement, grouped_mean


class PowerSums(NamedTuple):
    """Sums of powers of deviations from a centre, by group.

    Third and fourth powers are in powers of a unit of the size of the first deviations seen: in single precision they
    would vanish from 1e-10 on, and be infinite at 1e10.
    """

    n: Any  # (G,)
    first: Any  # (G, D)
    second: Any  # (G, D, D), or (G, D) if only variances are kept
    third: Any  # (G, D)
    fourth: Any  # (G, D)
    unit: Any  # (G, D), a power of two; 0 as long as nothing has moved


class CentralMoments(NamedTuple):
    """Count, mean and central sums of each group, float64."""

    n: np.ndarray
    mean: np.ndarray
    second: np.ndarray
    third: np.ndarray
    fourth: np.ndarray


def _diagonal(second: np.ndarray) -> np.ndarray:
    return np.diagonal(second, axis1=-2, axis2=-1) if second.ndim == 3 else second


def _outer(x: np.ndarray, second: np.ndarray) -> np.ndarray:
    return x[:, :, None] * x[:, None, :] if second.ndim == 3 else x * x


def _wide(count: np.ndarray, array: np.ndarray) -> np.ndarray:
    return count.reshape(count.shape + (1,) * (array.ndim - 1))


def central(sums: PowerSums, centre: np.ndarray) -> CentralMoments:
    """Central moments of sums of powers about `centre` (G, D)."""
    n = np.maximum(sums.n, 1)[:, None]
    d = sums.first / n
    second = _diagonal(sums.second)
    sums = sums._replace(third=sums.third * sums.unit**3, fourth=sums.fourth * sums.unit**4)
    return CentralMoments(
        n=sums.n,
        mean=centre + d,
        second=sums.second - _wide(n[:, 0], sums.second) * _outer(d, sums.second),
        third=sums.third - 3 * d * second + 2 * n * d**3,
        fourth=sums.fourth - 4 * d * sums.third + 6 * d**2 * second - 3 * n * d**4,
    )


def merge(a: CentralMoments, b: CentralMoments) -> CentralMoments:
    """Pairwise merge (Chan, Golub and LeVeque 1979; third and fourth moments after Pebay 2008)."""
    na, nb = a.n[:, None], b.n[:, None]
    n = np.maximum(na + nb, 1)
    d = np.where(nb > 0, b.mean - a.mean, 0) * (na > 0)
    a2, b2 = _diagonal(a.second), _diagonal(b.second)
    cross = na * nb / n
    return CentralMoments(
        n=a.n + b.n,
        mean=np.where(na > 0, a.mean + d * nb / n, b.mean),
        second=a.second + b.second + _wide(cross[:, 0], a.second) * _outer(d, a.second),
        third=a.third + b.third + d**3 * cross * (na - nb) / n + 3 * d * (na * b2 - nb * a2) / n,
        fourth=a.fourth
        + b.fourth
        + d**4 * cross * (na**2 - na * nb + nb**2) / n**2
        + 6 * d**2 * (na**2 * b2 + nb**2 * a2) / n**2
        + 4 * d * (na * b.third - nb * a.third) / n,
    )


def _power_of_two(size: jax.Array) -> jax.Array:
    """The one next above, 0 of 0: a division by it loses no digit."""
    exponent = jnp.frexp(size)[1]
    return jnp.where((size > 0) & jnp.isfinite(size), jnp.ldexp(jnp.ones_like(size), exponent), 0)


@spec
class Moments:
    """Mean, covariance (or variances alone) and kurtosis of the parameters.

    Args:
        full: keep the D x D covariance; False keeps its diagonal, for problems of many parameters.
    """

    full: bool = static(default=True)

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> PowerSums:
        """Zero sums."""
        vector = jnp.zeros((groups, dimension), dtype)
        second = jnp.zeros((groups, dimension, dimension), dtype) if self.full else vector
        return PowerSums(jnp.zeros((groups,), dtype), vector, second, vector, vector, vector)

    def update(self, sums: PowerSums, at: Measurement) -> PowerSums:
        """Add one step: D x D products over chains, and four powers."""
        d = at.masked(at.params - at.centre[:, None, None])
        squares = d * d
        total = lambda x: x.sum(axis=1).T  # noqa: E731
        spread = jnp.sqrt(total(squares) / jnp.maximum(at.weight.sum(axis=0), 1)[:, None])
        unit = jnp.where(sums.unit > 0, sums.unit, _power_of_two(spread))
        scaled = d / jnp.where(unit > 0, unit, 1).T[:, None]
        if self.full:
            second = jnp.einsum("dmg,emg->gde", d, d, precision=jax.lax.Precision.HIGHEST)
        else:
            second = total(squares)
        return PowerSums(
            sums.n + at.weight.sum(axis=0),
            sums.first + total(d),
            sums.second + second,
            sums.third + total(scaled**3),
            sums.fourth + total(scaled**4),
            unit,
        )

    def collect(self, sums: PowerSums, centre: np.ndarray) -> CentralMoments:
        """Central moments of float64 sums about `centre`."""
        return central(sums, centre)

    def merge(self, a: CentralMoments, b: CentralMoments) -> CentralMoments:
        """Join two stretches of steps."""
        return merge(a, b)

    def finalize(self, totals: CentralMoments) -> dict[str, tuple[ArrayLike, ArrayLike]]:
        """Mean, covariance about the overall mean, and kurtosis."""
        mean, mean_stderr = grouped_mean(totals.mean, totals.n)
        n = np.maximum(totals.n, 1)
        d = totals.mean - mean
        about_mean = totals.second / _wide(n, totals.second) + _outer(d, totals.second)
        covariance, covariance_stderr = grouped_mean(about_mean, totals.n)
        # The overall mean was fitted to the same data: give back the covariance of its estimate.
        covariance = covariance + self._covariance_of_mean(d, totals.n)
        second = _diagonal(totals.second) / n[:, None]
        fourth = (
            totals.fourth / n[:, None] + 4 * d * totals.third / n[:, None] + 6 * d**2 * second + d**4
        )
        m4, _ = grouped_mean(fourth, totals.n)
        m2, _ = grouped_mean(second + d**2, totals.n)
        safe = np.where(m2 > 0, m2, 1)
        # Linearised ratio m4 / m2^2: its groupwise influence carries the standard error.
        influence = fourth / safe**2 - 2 * (second + d**2) * m4 / safe**3
        _, kurtosis_stderr = grouped_mean(influence, totals.n)
        kurtosis = np.where(m2 > 0, m4 / safe**2, np.nan)
        name = "covariance" if self.full else "variance"
        return {
            "mean": (mean, mean_stderr),
            name: (covariance, covariance_stderr),
            "kurtosis": (kurtosis, kurtosis_stderr),
        }

    def _covariance_of_mean(self, d: np.ndarray, count: np.ndarray) -> np.ndarray | float:
        used = count > 0
        groups = int(used.sum())
        if groups < 2:
            return 0.0
        weights = (count / count.sum())[used, None] * d[used]
        square = weights.T @ weights if self.full else (weights**2).sum(axis=0)
        return square * groups / (groups - 1)
