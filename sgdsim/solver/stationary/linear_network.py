"""Where a two-layer linear network under label noise settles, up to the gauge of its layers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.optimizers import SGD, check_optimizer, is_heavy_ball
from sgdsim.optimizers.base import Optimizer, constant
from sgdsim.problems import TwoLayerLinear, check_sampling
from sgdsim.problems.base import Problem
from sgdsim.solver.linear_algebra.anderson import fixed_point
from sgdsim.solver.prediction import Prediction

WORST = 0.06  # relative error of the covariance beyond which the expansion does not speak

_SHARE = 0.5  # of the squared relative fluctuation: what the curvature of the minima costs (0.43 at most measured)
_CLOSE = 1e-7  # relative, to the largest learning rate
_RANK = 1e-12  # singular values below this share of the largest are 0


def predict_linear_network(
    problem: Problem,
    optimizer: Optimizer,
    *,
    batch_size: int,
    sampling: str | None = None,
    approximation: str = "exact",
) -> Prediction:
    r"""The law of the product P = W_2 W_1 of a `TwoLayerLinear` with label noise, to first order in its fluctuation.

    Only P settles: an invertible matrix may pass between the layers. Noise moves along the minima P = T = U S V' to
    a flat one, where, with K diagonal,

    $$W_1^\top W_1 = V K^2 S V^\top, \quad W_2 W_2^\top = U K^{-2} S U^\top, \qquad
      m_{ij} = s_i / k_i^2 + k_j^2 s_j,$$

    m_ij the curvature felt by the entry P_ij in the basis U, V. Its Ornstein-Uhlenbeck variance, with the
    batch's own inputs (Wishart) in the noise, where the drift along the minima ends, and the mean are

    $$v_{ij} = \frac{r_{ij}}{1 - r_{ij}} \Big(\sigma^2 + \sum_k v_{ik}\Big), \quad
      r_{ij} = \frac{\lambda m_{ij}}{b (1-\mu) (2 - \frac{\lambda m_{ij}}{1+\mu})}, \qquad
      k_i^4 = \frac{\sum_j v_{ij} / m_{ij}}{\sum_j v_{ji} / m_{ji}}, \quad
      (E P - T)_{ii} = - \frac{1}{k_i^2} \sum_j \frac{v_{ij}}{m_{ij}} .$$

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
        ([0.999392], [[0.001216]])
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
    u, s, vt = np.linalg.svd(np.asarray(problem.target))
    outputs, inputs = problem.target.shape
    network = _Network(s[s > _RANK * s[0]], outputs, inputs, size, mu)
    limit, modes = _climb(network, rate)
    if limit < rate:
        raise _checks.error("learning_rate", rate, f"below {limit:.6g}, where the product stops settling",
                            "lower it or raise batch_size")
    v = rate * noise * modes.curvature * modes.pull
    shift = np.zeros(len(s))
    shift[: len(network.s)] = -rate * noise * modes.pull[: len(network.s)].sum(axis=1) / modes.k2
    basis = np.kron(u, vt.T)
    small = float(v.sum() / network.s.min() ** 2) if network.s.size else np.inf
    error = _SHARE * small
    excess = float(v.sum() + shift @ shift) / 2
    return Prediction(
        mean=None,
        covariance=None,
        noise_covariance=None,
        product_mean=(problem.target + (u[:, : len(s)] * shift) @ vt[: len(s)]).ravel(),
        product_covariance=(basis * v.ravel()) @ basis.T,
        train_loss=excess + outputs * noise / 2,
        test_loss=excess,
        max_learning_rate=lambda: _climb(network, network.highest())[0],
        spectral_radius=_slowest(rate * modes.curvature, mu),
        approximation="first order",
        regime=f"small fluctuations of the product: relative error about {error:.2g} (at most {WORST:g})",
        reference="theory/linear-networks.md",
        configuration={"problem": repr(problem), "optimizer": repr(optimizer), "batch_size": size, "sampling": mode},
        theory_error=error,
        out_of_regime="" if error <= WORST else f"fluctuations too large for the expansion: error about {error:.2g}",
    )


def flattest_minimum(
    problem: TwoLayerLinear, optimizer: Optimizer | None = None, *, batch_size: int = 1
) -> Vector:
    r"""The weights, one vector (D,), of the minimum that label noise drifts to.

    $$W_1 = K S^{1/2} V^\top, \qquad W_2 = U S^{1/2} K^{-1},$$

    for the teacher's product U S V', with unused hidden units at 0. For small learning rates it is that of smallest
    Tr H, k^2 = (p / p_2)^{1/2}.

    Args:
        problem: a TwoLayerLinear; its label noise does not matter.
        optimizer: SGD as for `predict`, whose K is taken; None is that of small learning rates.
        batch_size: b of that optimizer.

    Raises:
        ValueError: a learning rate at or past the limit.
        NotImplementedError: another optimizer.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.TwoLayerLinear([[4.0]], [[1.0]])
        >>> ss.solver.stationary.flattest_minimum(problem).tolist()
        [2.0, 2.0]
    """
    outputs, inputs = problem.target.shape
    u, s, vt = np.linalg.svd(np.asarray(problem.target), full_matrices=False)
    rank, hidden = int(np.sum(s > _RANK * s[0])), problem.shapes[0][0]
    size, mu, rate = _checks.integer("batch_size", batch_size), 0.0, 0.0
    if optimizer is not None:
        known = _plain_sgd(optimizer, problem.dimension)
        rate, mu = constant(known.learning_rate), constant(known.momentum)
    limit, modes = _climb(_Network(s[:rank], outputs, inputs, size, mu), rate)
    if limit < rate:
        raise _checks.error("optimizer", rate, f"an SGD of learning rate below {limit:.6g}, where the product stops "
                            "settling", "lower it or raise batch_size")
    inner, outer = np.zeros((hidden, inputs)), np.zeros((outputs, hidden))
    inner[:rank] = np.sqrt(modes.k2 * s[:rank])[:, None] * vt[:rank]
    outer[:, :rank] = u[:, :rank] * np.sqrt(s[:rank] / modes.k2)
    return np.asarray(problem.flatten(inner, outer))


class _Modes(NamedTuple):
    """The entries of P in the basis of the teacher's singular vectors.

    Attributes:
        k2: how much of each singular value the first layer has, K^2, shape (rank,).
        curvature: m, shape (outputs, inputs).
        pull: v / (lambda m sigma^2), how strongly noise pushes towards a smaller m, same shape.
    """

    k2: Vector
    curvature: Matrix
    pull: Matrix


class _Network(NamedTuple):
    """What the modes depend on beside the learning rate; `s` are the singular values that are not 0."""

    s: Vector
    outputs: int
    inputs: int
    batch_size: int
    momentum: float

    def highest(self) -> float:
        """No learning rate above it: m_ii is at least 2 s_i."""
        return (1 + self.momentum) / float(self.s[0]) if self.s.size else np.inf

    def start(self) -> Vector:
        """Log k^4 for small learning rates, where Tr H is least."""
        return np.full(len(self.s), np.log(self.inputs / self.outputs))

    def modes(self, rate: float, logs: Vector) -> _Modes | None:
        """The modes for these log k^4; None where their variance does not exist."""
        k2, b, mu = np.exp(logs / 2), self.batch_size, self.momentum
        m = _padded(self.s / k2, self.outputs)[:, None] + _padded(self.s * k2, self.inputs)
        gap = b * (1 - mu) * (2 - rate * m / (1 + mu)) - rate * m
        if gap.min() <= 0:
            return None
        left = 1 - (rate * m / gap).sum(axis=1, keepdims=True)
        return _Modes(k2, m, 1 / (gap * left)) if left.min() > 0 else None

    def settled(self, rate: float, logs: Vector) -> _Modes | None:
        """Where the drift along the minima ends, searched from `logs`; None where it is not found."""
        rank = len(self.s)
        if not rank:  # nothing is curved at any rate
            return self.modes(0.0, logs)

        def image(modes: _Modes) -> Vector:
            return np.log(modes.pull[:rank].sum(axis=1)) - np.log(modes.pull[:, :rank].sum(axis=0))

        try:
            return fixed_point(lambda x: self.modes(rate, x), image, logs, climb=False)
        except _checks.NotConverged:
            return None


def _climb(network: _Network, top: float) -> tuple[float, _Modes]:
    """The largest learning rate up to `top` at which the product settles, and its modes there.

    A gauge that is stable at `top` may have to be approached through smaller rates, each from the one before.
    """
    rate, found = top, network.settled(top, network.start())
    while found is None:
        rate /= 2
        found = network.settled(rate, network.start())
    step, path = rate, [(rate, 2 * np.log(found.k2))]
    while rate < top and step > _CLOSE * rate:
        higher, (_, last) = min(top, rate + step), path[-1]
        ahead = (last - path[-2][1]) / (rate - path[-2][0]) * (higher - rate) if len(path) > 1 else 0.0
        there = network.settled(higher, last + ahead) or network.settled(higher, last)
        if there is None:
            step /= 2
        else:
            rate, found = higher, there
            path = [path[-1], (rate, 2 * np.log(found.k2))]
    return rate, found


def _plain_sgd(optimizer: Optimizer, dimension: int) -> SGD:
    known, _ = check_optimizer(optimizer, dimension)
    if not is_heavy_ball(known) or known.preconditioner is not None or callable(known.learning_rate):
        raise NotImplementedError("linear networks have a law for SGD with a constant scalar learning rate only: "
                                  "simulate it instead")
    return known


def _padded(s: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([s, np.zeros(length - len(s))])


def _slowest(lm: np.ndarray, mu: float) -> float:
    """The square of the slowest mode's contraction."""
    middle = (1 + mu - lm[lm > 1e-12 * lm.max(initial=0)]).astype(complex) / 2
    root = np.sqrt(middle**2 - mu)
    return float(np.abs([middle + root, middle - root]).max(initial=0)) ** 2
