"""The first coefficient of a variance in 1/b, at any time: small fluctuations around the noiseless path."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.problems import DatasetRegression, LinearRegression, Quadratic
from sgdsim.solver.variance.arguments import layers_of, learning_rates
from sgdsim.solver.variance.conditional import around, check_linear_network
from sgdsim.solver.variance.gradient_polynomial import gradient_variance_polynomial

_LARGEST = 2000  # parameters: the covariance is this squared


def leading_variance_coefficient(
    problem: Any, learning_rate: Any, *, step: int, initial: Any = None, sampling: str | None = None
) -> np.ndarray:
    r"""The coefficient beta_1 of Var(g_t) = beta_1 x + O(x^2), exactly, for every layer.

    Along the noiseless path w_t, with Hessian H_t and one example's gradient covariance N_t there,

    $$S_{t+1} = (I - \alpha_t H_t) S_t (I - \alpha_t H_t) + \alpha_t^2 N_t, \quad S_0 = 0, \qquad
      \beta_1 = \mathrm{Tr}[N_t] + \mathrm{Tr}[H_t S_t H_t],$$

    each trace over the layer's own parameters.

    Args:
        problem: a TwoLayerLinear or DeepLinear with at most 2000 parameters; or a problem with quadratic loss, which
            counts as one layer.
        learning_rate: alpha, or a function of t = 0, 1, ... called with integers.
        step: t >= 0, the number of updates done.
        initial: the start, (D,) or one matrix a layer; None means the problem's default start.
        sampling: as for `gradient_variance_polynomial`; x is c_b without replacement and 1/b otherwise.

    Returns:
        beta_1 of every layer, shape (layers,).

    Raises:
        ValueError: an argument is out of range, or the network is too large for a D x D covariance.
        NotImplementedError: another problem.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.TwoLayerLinear([[1.0]], [[2.0]])
        >>> ss.solver.leading_variance_coefficient(problem, 0.1, step=1, initial=([[1.0]], [[0.5]])).round(6).tolist()
        [1.437686, 3.946376]

    Source: theory sheet section 3.
    """
    if isinstance(problem, Quadratic | LinearRegression | DatasetRegression):
        whole: Any = gradient_variance_polynomial(
            problem, learning_rate, step=step, initial=initial, sampling=sampling, order=1
        )
        return whole.coefficients[1:2]
    step = _checks.integer("step", step, low=0)
    check_linear_network(problem)
    dimension = problem.dimension
    if dimension > _LARGEST:
        raise _checks.error("problem", problem, f"of at most {_LARGEST} parameters (it has {dimension})",
                            "simulate large batches instead: b Var(g_t) tends to this number")
    w = problem.flatten(*layers_of(problem, initial))
    covariance = np.zeros((dimension, dimension))
    for rate in map(float, learning_rates(learning_rate, step)):
        descent = np.eye(dimension) - rate * problem.hessian(w)
        covariance = descent @ covariance @ descent.T + rate**2 * example_covariance(problem, w)
        w = w - rate * problem.gradient(w)
    hessian = problem.hessian(w)
    spread = np.diag(example_covariance(problem, w)) + np.einsum("ij,jk,ik->i", hessian, covariance, hessian)
    ends = np.cumsum([rows * columns for rows, columns in problem.shapes])[:-1]
    return np.array([part.sum() for part in np.split(spread, ends)])


def example_covariance(problem: Any, w: Vector) -> Matrix:
    r"""Covariance of one example's gradient at w, J' M J, with J the derivative of the product W_L ... W_1.

    $$M = \mathrm{Cov}[\mathrm{vec}(E x x^\top - \sigma \varepsilon x^\top)], \qquad
      M_{ij,kl} = [(E E^\top)_{ik} + \sigma^2 \delta_{ik}] \delta_{jl} + E_{il} E_{kj} .$$
    """
    layers = list(problem.unflatten(w))
    before, after = around(layers)
    error = after[0] @ layers[0] - problem.target
    outputs, inputs = error.shape
    jacobian = np.hstack([np.kron(a, b.T) for a, b in zip(after, before, strict=True)])
    directions = jacobian.T.reshape(-1, outputs, inputs)
    across = error @ error.T + float(problem.label_noise) ** 2 * np.eye(outputs)
    moved = across @ directions + error @ directions.swapaxes(1, 2) @ error
    return moved.reshape(len(directions), -1) @ jacobian
