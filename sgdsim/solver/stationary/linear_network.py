"""Where a two-layer linear network under label noise settles, up to the gauge of its layers."""

from __future__ import annotations

import numpy as np
import scipy

from sgdsim import _checks
from sgdsim._types import Vector
from sgdsim.optimizers import SGD, check_optimizer, is_heavy_ball
from sgdsim.optimizers.base import Optimizer, constant
from sgdsim.problems import TwoLayerLinear, check_sampling
from sgdsim.problems.base import Problem
from sgdsim.solver.prediction import Prediction

WORST = 0.06  # relative error of the covariance beyond which the expansion does not speak

_SHARE = 0.5  # of the squared relative fluctuation: what the curvature of the minima costs (0.43 at most measured)


def predict_linear_network(
    problem: Problem,
    optimizer: Optimizer,
    *,
    batch_size: int,
    sampling: str | None = None,
    approximation: str = "exact",
) -> Prediction:
    r"""The law of the product P = W_2 W_1 of a `TwoLayerLinear` with label noise, to first order in its fluctuation.

    Only P settles: an invertible matrix may pass between the layers. Label noise moves along the minima
    P = T = U S V' to the flattest one, where, with k^2 = (p/p_2)^{1/2},

    $$W_1^\top W_1 = k^2 V S V^\top, \quad W_2 W_2^\top = k^{-2} U S U^\top, \qquad m_{ij} = s_i / k^2 + k^2 s_j,$$

    m_ij the curvature felt by the entry P_ij in the basis U, V. Its Ornstein-Uhlenbeck variance, with the
    batch's own inputs (Wishart) in the noise, and its mean, moved by the label-noise regulariser R, are

    $$v_{ij} = \frac{r_{ij}}{1 - r_{ij}} \Big(\sigma^2 + \sum_k v_{ik}\Big), \quad
      r_{ij} = \frac{\lambda m_{ij}}{b (1-\mu) (2 - \frac{\lambda m_{ij}}{1+\mu})}, \qquad
      E P - T = - \frac{\lambda \sigma^2}{b(1-\mu)} \frac{\partial R}{\partial T}, \quad
      R = - \frac{1+\mu}{2\lambda} \sum_{ij} \log\Big(1 - \frac{\lambda m_{ij}}{2(1+\mu)}\Big).$$

    Args:
        problem: a TwoLayerLinear with label_noise > 0.
        optimizer: SGD with a constant scalar learning rate; heavy-ball momentum.
        batch_size: b >= 1.
        sampling: "online" or None.
        approximation: "exact" is the law above (its `theory_error` says how exact).

    Returns:
        A `Prediction` whose `mean`, `covariance` and `noise_covariance` are None, with `product_mean`, the entries
        of P row by row, and `product_covariance`.

    Raises:
        ValueError: no label noise, or a learning rate at or past the limit.
        NotImplementedError: a deeper network, another optimizer, a preconditioner or a schedule.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.TwoLayerLinear([[1.0]], [[1.0]], label_noise=0.3)
        >>> law = ss.predict(problem, ss.SGD(0.05), batch_size=4)
        >>> law.product_mean.round(6).tolist(), law.product_covariance.round(6).tolist()
        ([0.999408], [[0.001216]])
    """
    _checks.choice("approximation", approximation, ("exact",))
    size, mode = check_sampling(problem, batch_size, sampling)
    if not isinstance(problem, TwoLayerLinear):
        raise NotImplementedError(f"no stationary theory for {type(problem).__name__}; it is there for TwoLayerLinear "
                                  "with label noise: simulate it instead")
    if problem.label_noise == 0:
        raise _checks.error("label_noise", 0.0, "positive for a TwoLayerLinear",
                            "without label noise it settles at a minimum that depends on its start: simulate it")
    known = _plain_sgd(optimizer, problem.dimension)
    rate, mu, noise = constant(known.learning_rate), constant(known.momentum), float(problem.label_noise) ** 2
    outputs, inputs = problem.target.shape
    u, s, vt = np.linalg.svd(np.asarray(problem.target))
    rows, columns = _padded(s, outputs), _padded(s, inputs)
    k2 = np.sqrt(inputs / outputs)
    m = rows[:, None] / k2 + k2 * columns
    limit = _limit(m, size, mu)
    if rate >= limit:
        raise _checks.error("learning_rate", rate, f"below {limit:.6g}, where the product stops settling",
                            "lower it or raise batch_size")
    r = _gain(rate * m, size, mu)
    own = (r / (1 - r)).sum(axis=1, keepdims=True)
    v = r / (1 - r) * noise * (1 + own / (1 - own))
    slope = 1 / (4 * (1 - rate * m / (2 * (1 + mu))))  # of R, for each mode
    pull = slope.sum(axis=1)[: len(s)] / k2 + k2 * slope.sum(axis=0)[: len(s)]
    shift = -rate * noise / (size * (1 - mu)) * pull * (s > 0)
    modes = np.kron(u, vt.T)
    small = float(v.sum() / s[s > 1e-12 * s[0]].min() ** 2) if s[0] > 0 else np.inf
    error = _SHARE * small
    excess = float(v.sum() + shift @ shift) / 2
    return Prediction(
        mean=None,
        covariance=None,
        noise_covariance=None,
        product_mean=(problem.target + (u[:, : len(s)] * shift) @ vt[: len(s)]).ravel(),
        product_covariance=(modes * v.ravel()) @ modes.T,
        train_loss=excess + outputs * noise / 2,
        test_loss=excess,
        max_learning_rate=limit,
        spectral_radius=_slowest(rate * m, mu),
        approximation="first order",
        regime=f"small fluctuations of the product: relative error about {error:.2g} (at most {WORST:g})",
        reference="theory/linear-networks.md",
        configuration={"problem": repr(problem), "optimizer": repr(optimizer), "batch_size": size, "sampling": mode},
        theory_error=error,
        out_of_regime="" if error <= WORST else f"fluctuations too large for the expansion: error about {error:.2g}",
    )


def flattest_minimum(problem: TwoLayerLinear) -> Vector:
    r"""The weights, one vector (D,), of the minimum of smallest Tr H: where label noise drifts to.

    $$W_1 = k S^{1/2} V^\top, \qquad W_2 = k^{-1} U S^{1/2}, \qquad k^2 = (p / p_2)^{1/2},$$

    for the teacher's product U S V', with unused hidden units at 0.

    Args:
        problem: a TwoLayerLinear; its label noise does not matter.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.TwoLayerLinear([[4.0]], [[1.0]])
        >>> ss.solver.stationary.flattest_minimum(problem).tolist()
        [2.0, 2.0]
    """
    outputs, inputs = problem.target.shape
    u, s, vt = np.linalg.svd(np.asarray(problem.target), full_matrices=False)
    k, hidden = (inputs / outputs) ** 0.25, problem.shapes[0][0]
    rank = min(len(s), hidden)  # the teacher's own width bounds its rank
    inner, outer = np.zeros((hidden, inputs)), np.zeros((outputs, hidden))
    inner[:rank] = k * np.sqrt(s[:rank, None]) * vt[:rank]
    outer[:, :rank] = u[:, :rank] * np.sqrt(s[:rank]) / k
    return np.asarray(problem.flatten(inner, outer))


def _plain_sgd(optimizer: Optimizer, dimension: int) -> SGD:
    known, _ = check_optimizer(optimizer, dimension)
    if not is_heavy_ball(known) or known.preconditioner is not None or callable(known.learning_rate):
        raise NotImplementedError("linear networks have a law for SGD with a constant scalar learning rate only: "
                                  "simulate it instead")
    return known


def _padded(s: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([s, np.zeros(length - len(s))])


def _gain(lm: np.ndarray, size: int, mu: float) -> np.ndarray:
    """Variance of each mode under unit noise of one example."""
    return lm / (size * (1 - mu) * (2 - lm / (1 + mu)))


def _limit(m: np.ndarray, size: int, mu: float) -> float:
    """Where the variances of a row of P stop existing."""
    if m.max() == 0:
        return np.inf

    def unstable(rate: float) -> float:
        r = _gain(rate * m, size, mu)
        return -1.0 if r.max() < 1 and (r / (1 - r)).sum(axis=1).max() < 1 else 1.0

    return float(scipy.optimize.bisect(unstable, 0.0, 2 * (1 + mu) / m.max() * (1 - 1e-15), xtol=1e-15, rtol=1e-14))


def _slowest(lm: np.ndarray, mu: float) -> float:
    """The square of the slowest mode's contraction."""
    middle = (1 + mu - lm[lm > 1e-12 * lm.max(initial=0)]).astype(complex) / 2
    root = np.sqrt(middle**2 - mu)
    return float(np.abs([middle + root, middle - root]).max(initial=0)) ** 2
