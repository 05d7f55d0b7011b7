"""The tail index of SGD's stationary law where the step matrix is isotropic, by quadrature; and its approximations."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.solver.tails.quadrature import Cases, Nodes, step_nodes

_ROUGH, _FINE, _FINEST = 3, 4, 6  # levels of quadrature; each halves the spacing and squares the error
_TOGETHER = 2**21  # nodes held at once
_TOLERANCE = 1e-9  # relative change by a finer quadrature
_SETTLED = 1e-7  # relative change by Newton's step: the next would be its square
_ROUNDS, _PATIENCE = 120, 25


APPROXIMATIONS = ("exact", "continuous", "published")


def kesten_tail_index(
    step_curvature: ArrayLike, batch_size: ArrayLike, dimension: ArrayLike = 1, *, approximation: str = "exact"
) -> Any:
    r"""The tail index kappa of w on inputs of covariance a I: P(|w| > t) falls as t^-kappa.

    SGD is the random recursion w <- (I - lambda A_hat) w + noise; by Kesten and Goldie kappa > 0 solves

    $$E \Big[ \big( (1 - x q)^2 + x^2 q p \big)^{\kappa/2} \Big] = 1, \qquad
      x = \frac{a\lambda}{S}, \quad q \sim \chi^2_S, \quad p \sim \chi^2_{D-1} \text{ independent}.$$

    Moments of order below kappa exist, those above do not; kappa = 2 at the mean-square limit
    $a\lambda = 2S/(S+D+1)$. To about 1e-9 relative for S up to 1e7, in logarithms: from 1e-6 to far
    above 500 without overflow. In one dimension the literature has approximations:

    $$\text{continuous time: } \frac{2S}{a\lambda} + 1, \qquad
      \text{published [93]: } \frac{2S}{a\lambda} - S, \text{ right only where it is 2.}$$

    Args:
        step_curvature: a lambda > 0, the learning rate times the variance a of each input.
        batch_size: S >= 1, whole numbers.
        dimension: D >= 1, whole numbers. The three broadcast.
        approximation: "exact"; "continuous" or "published", for comparison, in one dimension.

    Returns:
        kappa, a float or an array of the broadcast shape. 0.0 where no stationary law exists: there
        E ln|..| >= 0, so that even an infinitesimal moment diverges. (0 also where the published formula is negative.)

    Raises:
        ValueError: an argument is out of range, or the shapes do not broadcast.
        NotConverged: Newton's method does not settle.

    Examples:
        >>> from sgdsim.solver.tails import kesten_tail_index
        >>> round(kesten_tail_index(1.0, 8), 9), round(kesten_tail_index(0.8, 4, dimension=5), 9)
        (6.202300766, 2.0)
        >>> kesten_tail_index(3.0, 1)
        0.0
        >>> [kesten_tail_index(1.0, 8, approximation=name) for name in ("continuous", "published")]
        [17.0, 8.0]

    Source: stationary.md section 10; Goldie, Implicit renewal theory (1991).
    """
    x, s, d = _arguments(step_curvature, batch_size, dimension)
    if _checks.choice("approximation", approximation, APPROXIMATIONS) == "exact":
        index = isotropic_index(x.ravel(), s.ravel(), d.ravel(), np.ones(x.size)).reshape(x.shape)
    elif (d > 1).any():
        raise _checks.error("dimension", dimension, f"1 for approximation={approximation!r}", "use 'exact'")
    else:
        index = 2 * s / x + 1 if approximation == "continuous" else np.maximum(2 * s / x - s, 0)
    return float(index) if index.ndim == 0 else index


def isotropic_index(x: np.ndarray, s: np.ndarray, d: np.ndarray, centre: np.ndarray) -> np.ndarray:
    r"""The root for step matrices centre I - (x/S) X'X, all arguments of shape (n,), unchecked.

    With weight decay gamma I the centre is 1 - lambda gamma, of either sign.
    """
    index = np.zeros(x.shape)
    for lines, size in ((d == 1, 4_000), (d > 1, 220_000)):  # nodes a setting: chunks fit in memory
        places = np.flatnonzero(lines)
        for begin in range(0, len(places), max(1, _TOGETHER // size)):
            part = places[begin : begin + max(1, _TOGETHER // size)]
            index[part] = _solve(x[part], s[part], d[part], centre[part])
    return index


def isotropic_exponent(x: np.ndarray, s: np.ndarray, d: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """E ln|(centre I - (x/S) X'X) v|, the Lyapunov exponent; arguments as above, D all 1 or all larger."""
    cases, scale = _cases(x, s, d, centre)
    nodes = step_nodes(cases, np.zeros((len(x), 1)), _FINE)
    return scale + np.sum(np.exp(nodes.log_weight) * nodes.log_size, axis=1)


def _cases(x: np.ndarray, s: np.ndarray, d: np.ndarray, centre: np.ndarray) -> tuple[Cases, np.ndarray]:
    size = np.maximum(np.abs(centre), 1e-60)
    columns = (np.log(x / s) - np.log(size), np.where(centre < 0, -1.0, 1.0), s, d - 1)
    return Cases(*(np.asarray(value, np.float64)[:, None] for value in columns)), np.log(size)


def _solve(x: np.ndarray, s: np.ndarray, d: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Newton's method on the convex growth rate; from the right of its root it never overshoots."""
    exponent = isotropic_exponent(x, s, d, centre)
    second = np.log(centre**2 - 2 * centre * x + x**2 * (s + d + 1) / s)  # ln E of the square
    index = np.zeros(x.shape)
    alive = np.flatnonzero(exponent < 0)
    # The parabola through the growth rate at 0 and 2 with the right slope at 0.
    start = -4 * exponent / np.maximum(second - 2 * exponent, 1e-300)
    index[alive] = start[alive]
    level, tries = np.full(x.shape, _ROUGH), np.zeros(x.shape, int)
    for _ in range(_ROUNDS):
        for now in np.unique(level[alive]):
            chosen = alive[level[alive] == now]
            guess = index[chosen]
            cases, scale = _cases(x[chosen], s[chosen], d[chosen], centre[chosen])
            nodes = step_nodes(cases, np.where(guess > 1, guess, 0.0)[:, None], int(now))
            new = _newton(nodes, scale, guess)
            if now == _ROUGH:  # the same nodes serve for nearby powers
                new = _newton(nodes, scale, new)
            index[chosen] = new
            change = np.abs(new - guess) / guess
            done = (change < _TOLERANCE) & (now > _FINE) | (change < _SETTLED) & (now == _FINEST)
            alive = np.setdiff1d(alive, chosen[done])
            finer = change < (1e-4 if now == _ROUGH else _SETTLED)
            tries[chosen] += 1
            lost = ~finer & (tries[chosen] >= _PATIENCE) & (now < _FINEST)  # too rough to see the root at all
            index[chosen[lost]] = start[chosen[lost]]
            tries[chosen[finer | lost]] = 0
            level[chosen] = np.minimum(level[chosen] + (finer | lost), _FINEST)
        if not alive.size:
            return index
    raise _checks.NotConverged(
        f"no tail index at a lambda = {x[alive]}, S = {s[alive]}, D = {d[alive]}: Newton's steps do not settle", index
    )


def _newton(nodes: Nodes, scale: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """One step from `guess`, at most to four times or a quarter of it."""
    size = nodes.log_size + scale[:, None]
    tilted = nodes.log_weight + guess[:, None] * size
    growth = scipy.special.logsumexp(tilted, axis=1)
    slope = np.sum(np.exp(tilted - growth[:, None]) * size, axis=1)
    # Where the nodes hold all of the true law too, the difference of E|M|^kappa from 1 without cancellation.
    whole = np.abs(scipy.special.logsumexp(nodes.log_weight, axis=1)) < 1e-11
    whole &= np.max(guess[:, None] * size, axis=1) < 50
    if whole.any():
        gain = np.exp(nodes.log_weight[whole]) * np.expm1(guess[whole, None] * size[whole])
        growth[whole] = np.log1p(np.maximum(np.sum(gain, axis=1), -0.999999))
    step = guess - growth / np.where(slope > 0, slope, 1)
    return np.where(slope > 0, np.clip(step, guess / 4, guess * 4), guess * 2)


def _arguments(
    step_curvature: ArrayLike, batch_size: ArrayLike, dimension: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = _checks.finite_array("step_curvature", step_curvature, "pass learning_rate times the variance of the inputs")
    if (x <= 0).any():
        raise _checks.error("step_curvature", step_curvature, "positive",
                            "pass learning_rate times the variance of the inputs")
    s, d = _whole("batch_size", batch_size), _whole("dimension", dimension)
    try:
        x, s, d = np.broadcast_arrays(x, s, d)
    except ValueError:
        raise _checks.error("step_curvature", step_curvature,
                            f"of a shape that broadcasts with {s.shape} and {d.shape} (got {x.shape})",
                            "add axes of length 1") from None
    return x, s, d


def _whole(name: str, value: ArrayLike) -> np.ndarray:
    number = _checks.finite_array(name, value, f"try {name}=1")
    if (number < 1).any() or (number != np.floor(number)).any():
        raise _checks.error(name, value, "whole numbers >= 1", f"try {name}=1")
    return number
