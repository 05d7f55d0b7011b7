"""Nodes and weights for moments of |(I - x W) v|, W a Wishart matrix: all settings at once, in logarithms.

In law |(c I - x W) v|^2 = c^2 ((1 - beta) + beta (1 - z)^2), z = (x / c) t, with t ~ chi^2_{S+D-1} and
beta ~ Beta(S/2, (D-1)/2) independent. All positive: nothing cancels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

FAR = 45.0  # what lies this far below the maximum of the logarithm is left out
_SCAN = 65


class Cases(NamedTuple):
    """Settings, each of shape (cases, 1): ln |x/c| and its sign, S and D - 1."""

    log_ratio: np.ndarray
    sign: np.ndarray
    batch_size: np.ndarray
    rest: np.ndarray


class Nodes(NamedTuple):
    """ln |M v| - ln |c| and the logarithm of its probability weight, each of shape (cases, nodes)."""

    log_size: np.ndarray
    log_weight: np.ndarray


def step_nodes(cases: Cases, power: np.ndarray, level: int) -> Nodes:
    """Nodes for E of |M v|^kappa and what is close to it; `power` is kappa, of shape (cases, 1).

    Each side of the cusp z = 1 is cut at the largest value of the integrand and where it is negligible, and every
    piece has the tanh-sinh rule in |ln z|: the cusp and the algebraic ends cost nothing. Spacing 2^-level.
    """
    ends = [_left(cases), _right(cases, power)]
    peaks = [_peak(cases, power, side, end) for side, end in zip((-1, 1), ends, strict=True)]
    top = np.maximum(peaks[0][1], peaks[1][1])
    found = []
    for side, end, (peak, value) in zip((-1, 1), ends, peaks, strict=True):
        inner, outer = _edges(cases, power, side, peak, end, top)
        present = value > top - FAR
        for low, high in ((inner, peak), (peak, outer)):
            found.append(_piece(cases, power, side, low, np.where(present, high, low), level))
    return Nodes(*(np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)))


def _left(cases: Cases) -> np.ndarray:
    """How far left of ln z = 0 anything may lie."""
    m = cases.batch_size + cases.rest
    centre = np.log(m) + cases.log_ratio  # ln z at t = S + D - 1
    return np.maximum(centre, 0) - np.minimum(centre, 0) + 8 * FAR / np.sqrt(m) + 4 * FAR / m


def _right(cases: Cases, power: np.ndarray) -> np.ndarray:
    """How far right of ln z = 0 anything may lie; 0 where nothing does."""
    m = cases.batch_size + cases.rest
    return np.clip(np.log(4 * (m + 2 * power) + 10 * FAR) + cases.log_ratio, 1e-12, 600.0)


def _profile(cases: Cases, power: np.ndarray, side: int, tau: np.ndarray) -> np.ndarray:
    """The logarithm of the integrand in ln z = side * tau, at the most likely beta."""
    step = _step(cases, side, tau)
    value = _log_t(cases, side, tau)
    if not cases.rest.any():
        return value + power * _log_step(step)
    logit = _beta_mode(cases, power, step)
    return value + _log_beta(cases, logit) + power * _log_size(step, logit)


def _step(cases: Cases, side: int, tau: np.ndarray) -> np.ndarray:
    """|1 - z|, exact near z = 1."""
    return np.where(cases.sign > 0, np.abs(np.expm1(side * tau)), 1 + np.exp(side * tau))


def _log_step(step: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(step, 1e-300))


def _log_t(cases: Cases, side: int, tau: np.ndarray) -> np.ndarray:
    """The density of ln t, t ~ chi^2_m, relative to its value at t = m."""
    m = cases.batch_size + cases.rest
    eta = side * tau - (np.log(m) + cases.log_ratio)
    return m / 2 * (eta - np.expm1(np.minimum(eta, 700.0)))


def _beta_mode(cases: Cases, power: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Logit of the beta at which the joint density times |M v|^kappa is largest: one root of a quadratic in beta."""
    s, n = cases.batch_size, np.maximum(cases.rest, 1e-300)
    # With g = 1 - step^2: (s (1-b) - n b)(1 - b g) = kappa g b (1-b); in y = b / (1-b), q = 1 - g = step^2:
    # (s - n y)(1 + q y) = kappa (1 - q) y.
    q = step**2
    b = s * q - n - power * (1 - q)
    root = np.sqrt(b**2 + 4 * n * q * s)
    y = np.where(b > 0, (b + root) / np.maximum(2 * n * q, 1e-300), 2 * s / np.maximum(root - b, 1e-300))
    return np.log(np.clip(y, 1e-250, 1e250))


def _log_beta(cases: Cases, logit: np.ndarray) -> np.ndarray:
    """The density of logit beta relative to its value at beta = S / (S + D - 1)."""
    s, n = cases.batch_size, np.maximum(cases.rest, 1e-300)
    centre = s / (s + n)
    delta = logit - np.log(s / n)
    far = np.abs(delta) > 30
    near = np.where(far, 0, delta)
    total = s / 2 * near - (s + n) / 2 * np.log1p(centre * np.expm1(near))
    # ln((1-c) + c e^delta) without overflow
    tail = s / 2 * delta - (s + n) / 2 * np.logaddexp(np.log(n / (s + n)), np.log(centre) + delta)
    return np.where(far, tail, total)


def _log_size(step: np.ndarray, logit: np.ndarray) -> np.ndarray:
    """Half of ln((1 - beta) + beta step^2)."""
    spread = np.where(step < 1e100, step, 1e100)
    # beta (step^2 - 1) is small where the step is close to 1
    beta = scipy.special.expit(logit)
    direct = (spread - 1) * (spread + 1) * beta
    small = np.abs(direct) < 0.5
    exact = np.log(scipy.special.expit(-logit) + beta * spread**2 + 1e-300)
    return np.where(small, np.log1p(np.where(small, direct, 0)), exact) / 2


def _peak(cases: Cases, power: np.ndarray, side: int, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the profile is largest in tau in (0, end), and its value there, by scans that zoom in."""
    low, high = np.zeros_like(end), end
    grid = np.linspace(0, 1, _SCAN)
    for _ in range(4):
        tau = low + (high - low) * grid
        values = _profile(cases, power, side, tau)
        best = values.argmax(axis=1)[:, None]
        low, high = (np.take_along_axis(tau, np.clip(best + move, 0, _SCAN - 1), 1) for move in (-1, 1))
    return np.take_along_axis(tau, best, 1), np.take_along_axis(values, best, 1)


def _edges(
    cases: Cases, power: np.ndarray, side: int, peak: np.ndarray, end: np.ndarray, top: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The first tau that is not negligible, and the one beyond the maximum from which on all are."""
    # From the cusp outwards the first that matters, and from the maximum outwards the first that does not.
    inner = _first(cases, power, side, np.zeros_like(peak), peak, top, matters=True)
    outer = _first(cases, power, side, peak, np.maximum(end, peak), top, matters=False)
    return inner, outer


def _first(
    cases: Cases, power: np.ndarray, side: int, low: np.ndarray, high: np.ndarray, top: np.ndarray, matters: bool
) -> np.ndarray:
    grid, last = np.linspace(0, 1, _SCAN), _SCAN - 1
    for _ in range(3):
        tau = low + (high - low) * grid
        found = (_profile(cases, power, side, tau) >= top - FAR) == matters
        first = np.where(found.any(axis=1), found.argmax(axis=1), last)[:, None]
        low, high = (np.take_along_axis(tau, np.clip(first + move, 0, last), 1) for move in (-1, 0))
    return low if matters else high


def _piece(
    cases: Cases, power: np.ndarray, side: int, low: np.ndarray, high: np.ndarray, level: int
) -> tuple[np.ndarray, np.ndarray]:
    spacing = 2.0**-level
    u = np.arange(-3.6, 3.6 + spacing / 2, spacing)
    inner = np.pi / 2 * np.sinh(u)
    # Distances from the nearer end keep their relative accuracy at the cusp.
    share = scipy.special.expit(2 * inner)
    tau = low + (high - low) * share
    jacobian = spacing * np.pi * np.cosh(u) * share * scipy.special.expit(-2 * inner)
    with np.errstate(divide="ignore"):
        weight = np.log(high - low) + np.log(jacobian) + _log_t(cases, side, tau) - _log_gamma_norm(cases)
    step = _step(cases, side, tau)
    if not cases.rest.any():
        return _log_step(step), weight
    size, more = _beta_nodes(cases, power, step, level)
    flat = (len(low), -1)
    return size.reshape(flat), (weight[..., None] + more).reshape(flat)


def _beta_nodes(cases: Cases, power: np.ndarray, step: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in logit beta for each step: one smooth hump each, trapezoids stretched by a sinh."""
    logit = _beta_mode(cases, power, step)
    beta = scipy.special.expit(logit)
    s, n = cases.batch_size, np.maximum(cases.rest, 1e-300)
    share = scipy.special.expit(logit + 2 * _log_step(step))  # of |M v|^2 that the term with the step makes
    curvature = (s + n) / 2 * beta * (1 - beta) - power / 2 * (share * (1 - share) - beta * (1 - beta))
    width = np.minimum(1 / np.sqrt(np.maximum(curvature, 0.1)), 2.0)[..., None]
    spacing = 2.0 ** (0.5 - level)
    u = np.arange(-5.0, 5.0 + spacing / 2, spacing)
    nodes = logit[..., None] + width * np.sinh(u)
    wide = Cases(*(value[..., None] for value in cases))
    size = _log_size(step[..., None], nodes)
    weight = np.log(spacing * width * np.cosh(u)) + _log_beta(wide, nodes) - _log_beta_norm(cases)[..., None]
    return size, np.where(wide.rest > 0, weight, -np.inf)


def _log_gamma_norm(cases: Cases) -> np.ndarray:
    """The integral that makes `_log_t` a density: Gamma(a) e^a a^-a, a = m/2."""
    a = (cases.batch_size + cases.rest) / 2
    return np.log(2 * np.pi / a) / 2 + stirling_rest(a)


def _log_beta_norm(cases: Cases) -> np.ndarray:
    a, b = cases.batch_size / 2, np.maximum(cases.rest, 1) / 2
    return np.log(2 * np.pi * (a + b) / (a * b)) / 2 + stirling_rest(a) + stirling_rest(b) - stirling_rest(a + b)


def stirling_rest(a: np.ndarray) -> np.ndarray:
    """What Stirling's formula leaves of ln Gamma(a): from its series where the direct difference would cancel."""
    large = np.maximum(a, 8.0)
    y = 1 / large**2
    series = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y * (1 / 1188 - y * 691 / 360360))))) / large
    direct = scipy.special.gammaln(a) - ((a - 0.5) * np.log(a) - a + np.log(2 * np.pi) / 2)
    return np.where(a > 8, series, direct)
