"""The first coefficient of a variance in 1/b, at any time: small fluctuations around the noiseless path."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.optimizers.base import Optimizer
from sgdsim.problems.base import Problem
from sgdsim.solver.laws.law import QuadraticLaw
from sgdsim.solver.laws.table import law_of
from sgdsim.solver.noise.factor import NoiseFactor
from sgdsim.solver.variance.arguments import layers_of, learning_rates
from sgdsim.solver.variance.conditional import linear_network
from sgdsim.solver.variance.gradient_polynomial import gradient_variance_polynomial
from sgdsim.solver.variance.polynomial import VariancePolynomial

_LARGEST = 2000  # parameters: the covariance is this squared


def leading_variance_coefficient(
    problem: Problem,
    optimizer: Optimizer,
    *,
    step: int,
    initial: ArrayLike | None = None,
    sampling: str | None = None,
) -> np.ndarray:
    r"""The coefficient beta_1 of Var(g_t) = beta_1 x + O(x^2), exactly, for every layer.

    Along the noiseless path w_t, with Hessian H_t and one example's gradient covariance N_t there,

    $$S_{t+1} = (I - \alpha_t H_t) S_t (I - \alpha_t H_t) + \alpha_t^2 N_t, \quad S_0 = 0, \qquad
      \beta_1 = \mathrm{Tr}[N_t] + \mathrm{Tr}[H_t S_t H_t],$$

    each trace over the layer's own parameters.

    Args:
        problem: a TwoLayerLinear or DeepLinear with at most 2000 parameters; or a problem with quadratic loss, which
            counts as one layer.
        optimizer: SGD without momentum and preconditioner; its rate alpha may be a schedule, called with t = 0, 1, ...
        step: t >= 0, the number of updates done.
        initial: the start, (D,) or one matrix a layer; None means the problem's default start.
        sampling: as for `gradient_variance_polynomial`; x is c_b without replacement and 1/b otherwise.

    Returns:
        beta_1 of every layer, shape (layers,).

    Raises:
        ValueError: an argument is out of range, or the network is too large for a D x D covariance.
        NotImplementedError: another problem or optimizer.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.TwoLayerLinear([[1.0]], [[2.0]])
        >>> start = ([[1.0]], [[0.5]])
        >>> ss.solver.variance.leading_variance_coefficient(problem, ss.SGD(0.1), step=1, initial=start).round(4)
        array([1.4377, 3.9464])

    Source: theory sheet section 3.
    """
    law = law_of(problem)
    if isinstance(law, QuadraticLaw):
        polynomial = gradient_variance_polynomial(
            problem, optimizer, step=step, initial=initial, sampling=sampling, order=1
        )
        assert isinstance(polynomial, VariancePolynomial)
        return polynomial.coefficients[1:2]
    step = _checks.integer("step", step, low=0)
    network = linear_network(problem)
    dimension = problem.dimension
    if dimension > _LARGEST:
        raise _checks.error("problem", problem, f"of at most {_LARGEST} parameters (it has {dimension})",
                            "simulate large batches instead: b Var(g_t) tends to this number")
    w = network.flatten(*layers_of(network, initial))
    covariance = np.zeros((dimension, dimension))
    for rate in map(float, learning_rates(optimizer, problem, step)):
        descent = np.eye(dimension) - rate * problem.hessian(w)
        covariance = descent @ covariance @ descent.T + rate**2 * law.noise_covariance(w, 1, NoiseFactor())
        w = w - rate * problem.gradient(w)
    hessian = problem.hessian(w)
    spread = np.diag(law.noise_covariance(w, 1, NoiseFactor())) + np.einsum("ij,jk,ik->i", hessian, covariance, hessian)
    ends = np.cumsum([rows * columns for rows, columns in network.shapes])[:-1]
    return np.array([part.sum() for part in np.split(spread, ends)])
