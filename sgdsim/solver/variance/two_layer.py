"""The two-layer linear network: exact polynomials in 1/b at the start and after one step."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sgdsim._types import Matrix
from sgdsim.problems import TwoLayerLinear
from sgdsim.solver.noise.factor import NoiseFactor
from sgdsim.solver.variance.polynomial import VariancePolynomial
from sgdsim.solver.variance.scalar_network import scalar_polynomials
from sgdsim.solver.variance.wick import Factor, mean_of_traces, squared_norm, variance_of


class LayerPolynomials(NamedTuple):
    """One polynomial for the gradient of W_1, one for that of W_2."""

    inner: VariancePolynomial
    outer: VariancePolynomial


def two_layer_polynomials(
    problem: TwoLayerLinear, rates: list[Any], layers: tuple[np.ndarray, ...], quantity: str
) -> LayerPolynomials:
    """Polynomials after len(rates) steps.

    Raises:
        NotImplementedError: later than t = 1 for matrices, than t = 3 for one unit in every layer.
    """
    step = len(rates)
    scalar = problem.shapes == ((1, 1), (1, 1)) and problem.label_noise == 0
    if scalar and step <= 3:
        exact = scalar_polynomials(layers, problem.layers, rates, quantity)
        inner, outer = (
            VariancePolynomial(np.array([float(value) for value in values]), NoiseFactor(), tuple(values))
            for values in exact
        )
        return LayerPolynomials(inner, outer)
    if step > 1:
        raise NotImplementedError(
            f"no exact polynomial at step {step} for this network: step <= 1 for any shape, step <= 3 for one unit "
            "in every layer without label noise; leading_variance_coefficient gives the first coefficient at any step"
        )
    network = _Words(problem, layers, float(rates[0]) if step else None)
    inner, outer = (VariancePolynomial(values, NoiseFactor()) for values in network.coefficients(quantity))
    return LayerPolynomials(inner, outer)


class _Words:
    r"""Q = W_2'E, R = E W_1' and E = W_2 W_1 - T as words in the Wishart matrix of the step before.

    Label noise is part of the inputs: (x, noise) is one Gaussian vector, T becomes (T, sigma I), W_1 (W_1, 0), and
    the projector P keeps the noise's columns of W_1 at zero. Then

    $$g_1 = Q \hat\Sigma P, \qquad g_2 = R_{\hat\Sigma} = E \hat\Sigma W_1^\top .$$
    """

    def __init__(self, problem: TwoLayerLinear, layers: tuple[np.ndarray, ...], rate: float | None):
        w1, w2 = layers
        target, self.inputs = problem.target, w1.shape[1]
        hidden, outputs = len(w1), len(w2)
        if problem.label_noise:
            target = np.hstack([target, float(problem.label_noise) * np.eye(outputs)])
            w1 = np.hstack([w1, np.zeros((hidden, outputs))])
        size = target.shape[1]
        self.projector = np.diag((np.arange(size) < self.inputs).astype(float))
        error = w2 @ w1 - target
        self.w1, self.w2 = Factor(w1), Factor(w2)
        # E = (W_2, -T) (W_1; I)
        outer, inner = Factor(np.hstack([w2, -target])), Factor(np.vstack([w1, np.eye(size)]))
        if rate is not None:
            move1, move2, none = -rate * w2.T @ error, -rate * error, np.zeros((size, size))
            self.w1, self.w2 = Factor(w1, move1, self.projector), Factor(w2, move2, w1.T)
            outer = Factor(outer.fixed, move2, np.hstack([w1.T, none]))
            inner = Factor(inner.fixed, np.vstack([move1, none]), self.projector)
        self.error = [outer, inner]

    def coefficients(self, quantity: str) -> tuple[np.ndarray, np.ndarray]:
        r"""Ascending in s = 1/b, for both layers.

        $$\mathrm{Var}(g_1) = s\, E[\|QP\|^2 + p \|Q\|^2] + \mathrm{Var}(QP), \qquad
          \mathrm{Var}(g_2) = s\, E[\|R\|^2 + \|E\|^2 \|W_1\|^2] + \mathrm{Var}(R).$$

        The second terms are the variances of the conditional means: without them this is the paper's theorem 4.
        """
        if quantity == "loss":
            loss = 0.5 * mean_of_traces(squared_norm(self.error))
            return loss, loss
        q = [self.w2.transposed, *self.error]
        r = [*self.error, self.w1.transposed]
        seen = [*q[:-1], _times(q[-1], self.projector)]
        shared = variance_of(seen), variance_of(r)
        if quantity == "full_gradient":
            return shared
        norm = mean_of_traces(squared_norm(q))
        noise1 = self.inputs * norm + (norm if self.projector.diagonal().all() else mean_of_traces(squared_norm(seen)))
        noise2 = _add(
            mean_of_traces(squared_norm(r)), mean_of_traces(squared_norm(self.error), squared_norm([self.w1]))
        )
        return _add(np.append(0.0, noise1), shared[0]), _add(np.append(0.0, noise2), shared[1])


def _times(factor: Factor, matrix: Matrix) -> Factor:
    right = None if factor.right is None else factor.right @ matrix
    return factor._replace(fixed=factor.fixed @ matrix, right=right)


def _add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total = np.zeros(max(len(a), len(b)))
    total[: len(a)] += a
    total[: len(b)] += b
    return np.trim_zeros(total, "b") if total.any() else total[:1]
