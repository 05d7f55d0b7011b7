"""The random step matrices M of SGD, as they act on one direction: v <- M v, for many directions at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy

from sgdsim._types import Matrix
from sgdsim.solver.noise.gaussian import GaussianNoise
from sgdsim.solver.noise.subset import SubsetNoise
from sgdsim.solver.stationary.linearized import LinearizedSGD

_SHARES = np.array([0.0, 0.5, 1.0])  # of kappa, in the mixture that rare large batches are drawn from

_PREFERENCES = (0.0, 1.0, 3.0, 8.0)  # powers of the squared length with which rows are drawn


Draw = tuple[np.ndarray, np.ndarray | float]  # K_hat v, and ln of (true density / density drawn from)


@dataclasses.dataclass(frozen=True, eq=False)
class StepLaw:
    r"""Heavy-ball SGD without its additive noise, in the range of the Hessian.

    $$m \leftarrow \mu m + (\hat K + \Gamma) v, \qquad v \leftarrow v - \lambda P m.$$

    Attributes:
        noise: what the batch's K_hat is drawn from.
        decay: Gamma, the deterministic part of the curvature, shape (r, r).
        preconditioner: P, shape (r, r).
        momentum: mu.
        batch_size: S.
        sampling: the sampling mode.
    """

    noise: GaussianNoise | SubsetNoise
    decay: Matrix
    preconditioner: Matrix
    momentum: float
    batch_size: int
    sampling: str

    @property
    def rank(self) -> int:
        """The number r of directions that move."""
        return len(self.preconditioner)

    def start(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        """Random unit states (v, m), shape (*shape, r) or (*shape, 2r) with momentum."""
        state = rng.standard_normal((*shape, self.rank * (2 if self.momentum else 1)))
        return state / np.linalg.norm(state, axis=-1, keepdims=True)

    def step(self, state: np.ndarray, pull: np.ndarray, rate: float) -> np.ndarray:
        """The next state, from `pull` = K_hat v."""
        v = state[..., : self.rank]
        pull = pull + v @ self.decay
        if not self.momentum:
            return v - rate * (pull @ self.preconditioner.T)
        m = self.momentum * state[..., self.rank :] + pull
        return np.concatenate([v - rate * (m @ self.preconditioner.T), m], axis=-1)


def step_law(setting: LinearizedSGD) -> StepLaw:
    """The law of the step matrices of a described problem and optimizer with multiplicative noise."""
    noise, dynamics = setting.feedback.noise, setting.dynamics
    assert isinstance(noise, GaussianNoise | SubsetNoise)
    mean = noise.data_hessian
    decay = np.diag(dynamics.curvatures) - mean
    if np.abs(decay).max() < 1e-12 * np.abs(mean).max():
        decay = np.zeros_like(decay)
    p = dynamics.preconditioner
    # The index is that of any norm: parameters are measured in the units in which they move.
    pace = np.sqrt(np.abs(np.diag(p)))
    scale = np.exp2(np.round(np.log2(np.where(pace > 0, pace, 1.0))))
    units, inverse = np.diag(scale), np.diag(1 / scale)
    return StepLaw(noise.restrict(units), units @ decay @ units, inverse @ p @ inverse, dynamics.momentum,
                   setting.batch_size, setting.sampling)


def isotropic_step(setting: LinearizedSGD) -> tuple[float, float] | None:
    """(lambda a, c) of step matrices c I - (lambda a / S) X'X with standard normal X; None if they are not."""
    noise, dynamics = setting.feedback.noise, setting.dynamics
    if not isinstance(noise, GaussianNoise) or dynamics.momentum:
        return None
    p, k, h = dynamics.preconditioner, noise.data_hessian, np.diag(dynamics.curvatures)
    pull, decay = p @ k, p @ (h - k)
    # P X'X is similar to P^1/2 X'X P^1/2, whose rows have the covariance of P K.
    symmetric = np.abs(p - p.T).max() <= 1e-13 * np.abs(p).max() and np.linalg.eigvalsh(p)[0] > 0
    a, g = pull[0, 0], decay[0, 0]
    scale = 1e-12 * max(abs(a), abs(g))
    same = all(np.abs(m - m[0, 0] * np.eye(len(m))).max() <= scale for m in (pull, decay))
    return (setting.rate * a, 1 - setting.rate * g) if symmetric and same else None


def never_expands(setting: LinearizedSGD) -> bool:
    """Whether it is certain that no step matrix of a data set lengthens any vector (in the metric of P^-1)."""
    noise, dynamics = setting.feedback.noise, setting.dynamics
    p = dynamics.preconditioner
    if not isinstance(noise, SubsetNoise) or dynamics.momentum or np.abs(p - p.T).max() > 1e-13 * np.abs(p).max():
        return False
    values, vectors = np.linalg.eigh(p)
    if values[0] <= 0:
        return False
    root = vectors * np.sqrt(values) @ vectors.T
    decay = root @ (np.diag(dynamics.curvatures) - noise.data_hessian) @ root
    weights = np.linalg.eigvalsh((decay + decay.T) / 2)
    # No batch has more curvature than copies of its longest row.
    most = float(np.max(np.sum((noise.features @ root) ** 2, axis=1)))
    return bool(weights[0] >= -1e-12 * most and setting.rate * (most + max(weights[-1], 0.0)) <= 2)


def draw_pull(law: StepLaw, v: np.ndarray, rng: np.random.Generator, power: float = 0.0) -> Draw:
    """K_hat v for fresh batches, and ln of (true density / density drawn from), which is 0 for power 0.

    Args:
        law: the step matrices.
        v: directions, shape (..., r).
        rng: random numbers; they are used alike whatever v, so that a seed is common to several rates.
        power: kappa; where it is not 0, batches (unless without replacement) are drawn from a mixture in which
            the large ones that dominate E |M v|^kappa are common.
    """
    if isinstance(law.noise, SubsetNoise):
        return _draw_rows(law, law.noise, v, rng, power)
    return _draw_gaussian(law, law.noise.data_hessian, v, rng, power)


def _draw_gaussian(
    law: StepLaw, k: Matrix, v: np.ndarray, rng: np.random.Generator, power: float
) -> Draw:
    r"""K_hat v = (s/S) K^{1/2} (q e + sqrt(q) z), e = K^{1/2} v / s, q ~ chi^2_S, z ~ N(0, I - e e')."""
    root = _root(k)
    y = v @ root
    s = np.linalg.norm(y, axis=-1, keepdims=True)
    e = y / np.maximum(s, 1e-300)
    z = rng.standard_normal(v.shape)
    z -= np.sum(z * e, axis=-1, keepdims=True) * e
    shape, b, rest = v.shape[:-1], law.batch_size, law.rank - 1
    log_ratio: np.ndarray | float = 0.0
    if power == 0:
        q = rng.chisquare(b, shape)
    else:
        shares = power * _SHARES
        extra = shares[rng.integers(len(shares), size=shape)]
        t = rng.chisquare(b + rest + 2 * extra)
        beta = np.ones(shape)
        if rest:
            own, across = rng.chisquare(b + extra), np.sum(z * z, axis=-1)
            beta = own / (own + across)
            z *= np.sqrt(t * (1 - beta) / across)[..., None]
        q = t * beta
        log_ratio = -_mixture(t, beta, b, rest, shares)
    return s * ((q[..., None] * e + np.sqrt(q)[..., None] * z) @ root) / b, log_ratio


def _mixture(t: np.ndarray, beta: np.ndarray, b: int, rest: int, shares: np.ndarray) -> np.ndarray:
    """Logarithm of the mixture's density over the true one of t = q + |z|^2 and beta = q / t."""
    half = (b + rest) / 2
    log_t, log_beta = np.log(t / 2), np.log(beta)
    parts = []
    for k in shares:
        part = k * log_t - (scipy.special.gammaln(half + k) - scipy.special.gammaln(half))
        if rest:
            betaln = scipy.special.betaln
            part = part + k / 2 * log_beta - (betaln((b + k) / 2, rest / 2) - betaln(b / 2, rest / 2))
        parts.append(part)
    return scipy.special.logsumexp(parts, axis=0) - np.log(len(shares))


def _root(k: Matrix) -> Matrix:
    if not np.any(k - np.diag(np.diag(k))):
        return np.diag(np.sqrt(np.diag(k)))
    values, vectors = np.linalg.eigh(k)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def _draw_rows(
    law: StepLaw, noise: SubsetNoise, v: np.ndarray, rng: np.random.Generator, power: float
) -> Draw:
    """X_B' X_B v / S: by gathered rows where a batch is a small part of the data, else by counts."""
    x = noise.features
    n, b, flat = len(x), law.batch_size, v.reshape(-1, law.rank)
    log_ratio: np.ndarray | float = 0.0
    if law.sampling == "with_replacement":
        if power:
            rows, log_ratio = _long_rows(np.sum((x @ law.preconditioner.T) * x, axis=1), len(flat), b, rng)
            log_ratio = log_ratio.reshape(v.shape[:-1])
        elif 4 * b >= n:
            counts = rng.multinomial(b, np.full(n, 1 / n), size=len(flat))
            return ((counts * (flat @ x.T)) @ x / b).reshape(v.shape), 0.0
        else:
            rows = rng.integers(n, size=(len(flat), b))
    else:
        rows = rng.random((len(flat), n)).argpartition(b - 1, axis=1)[:, :b]
    chosen = x[rows]
    along = np.einsum("cbr,cr->cb", chosen, flat)
    return (np.einsum("cbr,cb->cr", chosen, along) / b).reshape(v.shape), log_ratio


def _long_rows(length: np.ndarray, count: int, b: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows from a mixture of batches: uniform ones, and ones that prefer long rows; and ln (uniform / mixture)."""
    share = np.maximum(length / length.max(), 1e-12)
    chances = np.array([share**a / np.sum(share**a) for a in _PREFERENCES])
    which = rng.integers(len(chances), size=count)
    edges = np.cumsum(chances, axis=1)
    edges /= edges[:, -1:]
    places = rng.random((count, b)) + which[:, None]
    found = np.searchsorted((edges + np.arange(len(chances))[:, None]).ravel(), places.ravel()).reshape(count, b)
    rows = np.clip(found - which[:, None] * len(share), 0, len(share) - 1)
    over = np.log(len(share) * chances)[:, rows].sum(axis=-1)
    return rows, np.log(len(chances)) - scipy.special.logsumexp(over, axis=0)
