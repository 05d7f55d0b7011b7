"""The variance of a batch gradient given the weights, layer by layer, for linear networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.problems.base import Problem
from sgdsim.problems.parts.linear_layers import LinearLayers
from sgdsim.solver.laws.linear_layers import around


def layer_gradient_variance(problem: Problem, w: ArrayLike) -> np.ndarray:
    r"""The variance, times b, of each layer's batch gradient at given weights: exact for Gaussian inputs.

    With E = W_L ... W_1 - T, A = W_L ... W_{l+1} and B = W_{l-1} ... W_1 (products of nothing are I),

    $$b \, \mathrm{Var}(g_l \mid W) = \|A^\top E B^\top\|^2 + (\|A^\top E\|^2 + \sigma^2 \|A\|^2) \|B\|^2 .$$

    For two layers, Q = W_2'E and R = E W_1', this is (p + 1) ||Q||^2 and ||R||^2 + ||E||^2 ||W_1||^2. The law of
    total variance then reads, for weights that are random themselves,

    $$\mathrm{Var}(g_{t,1}) = \tfrac{p+1}{b} E\|Q_t\|^2 + \mathrm{Var}(Q_t), \qquad
      \mathrm{Var}(g_{t,2}) = \tfrac1b E[\|R_t\|^2 + \|E_t\|^2 \|W_{t,1}\|^2] + \mathrm{Var}(R_t) .$$

    Args:
        problem: a TwoLayerLinear or DeepLinear.
        w: parameters, (D,) or (D, chains).

    Returns:
        One row a layer: shape (layers,) or (layers, chains). A sum over the layer's parameters.

    Raises:
        ValueError: `w` has not D rows.
        NotImplementedError: another problem.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.TwoLayerLinear([[1.0]], [[2.0]])
        >>> ss.solver.variance.layer_gradient_variance(problem, [1.0, 0.5]).tolist()
        [1.125, 4.5]

    Source: theory sheet section 3; corrects the proof of theorem 4 (see the errata).
    """
    network = linear_network(problem)
    point = _checks.finite_array("w", w)
    if point.ndim not in (1, 2) or len(point) != network.dimension:
        raise _checks.error("w", w, f"of shape ({problem.dimension},) or ({problem.dimension}, chains)",
                            "problem.flatten(W1, W2) makes it")
    layers = [np.moveaxis(layer, (0, 1), (-2, -1)) for layer in network.unflatten(point)]
    before, after = around(layers)
    error = after[0] @ layers[0] - network.target
    sigma2 = float(network.label_noise) ** 2
    rows = []
    for a, b in zip(after, before, strict=True):
        inside = np.swapaxes(a, -2, -1) @ error
        rows.append(_norm(inside @ np.swapaxes(b, -2, -1)) + (_norm(inside) + sigma2 * _norm(a)) * _norm(b))
    return np.stack(np.broadcast_arrays(*rows))


def linear_network(problem: Problem) -> LinearLayers:
    """The problem, if it is a linear network; anything else is refused by name."""
    if not isinstance(problem, LinearLayers):
        raise NotImplementedError(
            f"layers are those of TwoLayerLinear and DeepLinear, not of {type(problem).__name__}; "
            "use gradient_covariance or gradient_variance_polynomial"
        )
    return problem


def _norm(matrix: np.ndarray) -> np.ndarray:
    return np.sum(matrix**2, axis=(-2, -1))
