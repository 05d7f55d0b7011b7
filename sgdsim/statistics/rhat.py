"""Did the run settle? Nested split R-hat, from streaming moments and rank-normalised from snapshots."""

from __future__ import annotations

import numpy as np
import scipy

from sgdsim.statistics.moments import CentralMoments, merge

SUPERCHAINS = 4


def nested_rhat(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    r"""$$\hat R = \sqrt{1 + B / W}$$ over superchains.

    Args:
        means: mean of each superchain, shape (K, D).
        variances: variance inside each superchain, over its chains and times, shape (K, D).

    Returns:
        R-hat of each parameter, shape (D,); 1 where nothing varies at all.

    Source: Margossian et al., "Nested R-hat" (2024), eq. 10 with between- and within-chain variance joined.
    """
    between, within = means.var(axis=0, ddof=1), variances.mean(axis=0)
    ratio = np.divide(between, within, out=np.where(between > 0, np.inf, 0.0), where=within > 0)
    return np.sqrt(1 + ratio)


def streaming_rhat(halves: list[CentralMoments]) -> np.ndarray:
    """Nested R-hat over the groups of the first and the second half of the measured steps.

    Groups are joined into a few superchains first: a superchain of few chains would show the scatter
    of its own mean as disagreement.
    """
    means, variances = [], []
    for half in halves:
        groups = len(half.n)
        for k in range(min(SUPERCHAINS, groups)):
            members = [CentralMoments(*(x[i : i + 1] for x in half)) for i in range(k, groups, SUPERCHAINS)]
            joined = members[0]
            for member in members[1:]:
                joined = merge(joined, member)
            if joined.n[0] > 0:
                second = joined.second[0]
                means.append(joined.mean[0])
                variances.append((np.diagonal(second) if second.ndim == 2 else second) / joined.n[0])
    if len(means) < 2:
        return np.full(halves[0].mean.shape[1], np.nan)
    return nested_rhat(np.array(means), np.array(variances))


def rank_normalised_rhat(snapshots: np.ndarray) -> np.ndarray:
    """The larger of the bulk and the folded nested split R-hat of rank-normalised snapshots.

    Ranks make it insensitive to heavy tails; folding (|x - median|) sees a changing spread.

    Args:
        snapshots: parameters of some chains at some times, shape (times, chains, D).

    Returns:
        R-hat of each parameter, shape (D,); NaN with fewer than 2 times or 8 chains.

    Source: Vehtari et al., "Rank-normalization, folding, and localization" (2021), eqs. 14 and 16.
    """
    times, chains, dimension = snapshots.shape
    if times < 2 or chains < 2 * SUPERCHAINS:
        return np.full(dimension, np.nan)
    folded = np.abs(snapshots - np.median(snapshots, axis=(0, 1)))
    return np.maximum(_split(_normal_scores(snapshots)), _split(_normal_scores(folded)))


def _normal_scores(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(-1, x.shape[-1])
    ranks = scipy.stats.rankdata(flat, axis=0)
    return scipy.stats.norm.ppf((ranks - 0.375) / (len(flat) + 0.25)).reshape(x.shape)


def _split(z: np.ndarray) -> np.ndarray:
    half = z.shape[0] // 2
    parts = [
        part[:, k::SUPERCHAINS].reshape(-1, z.shape[-1])
        for part in (z[:half], z[-half:])
        for k in range(SUPERCHAINS)
    ]
    means = np.array([part.mean(axis=0) for part in parts])
    return nested_rhat(means, np.array([part.var(axis=0) for part in parts]))
