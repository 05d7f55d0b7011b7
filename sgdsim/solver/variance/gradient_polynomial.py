"""The exact polynomial of a variance, for every problem that has one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.optimizers.base import Optimizer
from sgdsim.problems import TwoLayerLinear, check_sampling
from sgdsim.problems.base import Problem
from sgdsim.solver.laws.table import quadratic_law_of
from sgdsim.solver.noise.factor import factor_of
from sgdsim.solver.variance.arguments import layers_of, learning_rates, start_of
from sgdsim.solver.variance.expansion import QUANTITIES, expand
from sgdsim.solver.variance.polynomial import VariancePolynomial
from sgdsim.solver.variance.recursion import observed_moments
from sgdsim.solver.variance.two_layer import LayerPolynomials, two_layer_polynomials


def gradient_variance_polynomial(
    problem: Problem,
    optimizer: Optimizer,
    *,
    step: int,
    initial: ArrayLike | None = None,
    sampling: str | None = None,
    order: int | None = None,
    quantity: str = "gradient",
    projection: ArrayLike | None = None,
) -> VariancePolynomial | LayerPolynomials:
    r"""The variance of the batch gradient after `step` updates of plain SGD, as a polynomial in 1/b or c_b.

    $$\mathrm{Var}(g_t) = \sum_{k \ge 1} v_k x^k .$$

    For quadratic losses the degree is at most t + 1 and every v_k >= 0, so the variance never rises with b; nor does
    the expected loss, unless weight decay is so negative that the Hessian has a negative eigenvalue. For
    the two-layer network it is at most 3^{t+1} - t - 2 = 1, 6, 23, 76 and signs vary: t = 0 and 1 are
    computed for any shape, t = 2 and 3 for one unit in every layer, in fractions.

    Args:
        problem: a Quadratic, LinearRegression, DatasetRegression or TwoLayerLinear.
        optimizer: SGD without momentum and preconditioner; its rate alpha may be a schedule, called with t = 0, 1, ...
            For exact scalar networks it may return a `Fraction`; a float stands for the shortest decimal that denotes
            it (0.1 is 1/10).
        step: t >= 0, the number of updates done.
        initial: the start, (D,) or (W1, W2); None means the problem's default start.
        sampling: "online"; "with_replacement" or "without_replacement" for a data set; None means online, or with
            replacement.
        order: keep powers up to this one only (`truncation_bound` says what that costs); None keeps all.
        quantity: "gradient", "full_gradient" (the variance of the whole loss's gradient at w_t) or "loss" (E L(w_t)).
        projection: B as for `gradient_variance`, for quadratic losses.

    Returns:
        A `VariancePolynomial`; for TwoLayerLinear a pair `.inner`, `.outer`, one for each layer (for the loss, which
        has no layers, twice the same).

    Raises:
        ValueError: an argument is out of range, or coefficients exceed double precision.
        NotImplementedError: there is no exact polynomial for the problem, the optimizer, the step or "epochs".

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.TwoLayerLinear([[1.0]], [[2.0]])
        >>> start = ([[1.0]], [[0.5]])
        >>> exact = ss.solver.gradient_variance_polynomial(problem, ss.SGD(0.1), step=1, initial=start)
        >>> exact.inner.coefficients[:3].round(6).tolist(), exact.inner.degree
        ([0.0, 1.437686, -0.275618], 6)

    Source: theory sheet sections 1 to 3; theorems 2 and 4 of "The Impact of the Mini-batch Size on the Variance of
    Gradients in SGD", the latter corrected (see the errata).
    """
    step = _checks.integer("step", step, low=0)
    _checks.choice("quantity", quantity, QUANTITIES)
    if order is not None:
        order = _checks.integer("order", order)
    rates = learning_rates(optimizer, problem, step)
    if isinstance(problem, TwoLayerLinear):
        check_sampling(problem, 1, sampling)
        if projection is not None:
            raise _checks.error("projection", projection, "None for a two-layer network", "its layers come apart")
        if order is not None:
            raise _checks.error("order", order, "None for a two-layer network", "its coefficients come all at once")
        return two_layer_polynomials(problem, rates, layers_of(problem, initial), quantity)
    law = quadratic_law_of(problem, "closed moment equations", "simulate it instead")
    moments = observed_moments(law, problem, projection)
    _, mode = check_sampling(problem, 1, sampling)
    factor, start = factor_of(problem, mode), start_of(problem, initial)
    numbers = np.array([*map(float, rates), 0.0])
    return expand(problem, moments, factor, numbers, start, order, quantity)
