"""The stationary covariance of heavy-ball descent under noise of any covariance, on the range of the Hessian."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, as_matrix
from sgdsim.solver.manifold.label_noise_regularizer import check_curvatures, check_rate

_FLAT = 1e-10  # of the largest curvature


def normalized_covariance(
    hessian: ArrayLike, normalized_noise: ArrayLike, learning_rate: float, momentum: float = 0.0
) -> Matrix:
    r"""The normalised covariance S under noise $\epsilon \sim N(0, \eta\lambda(1-\beta)\Sigma)$: Cov = lambda S.

    $$S = (I - \eta H) S (I - \eta H) + \eta \Sigma \quad (\beta = 0), \qquad
      S_{ij} = \frac{\Sigma_{ij}}{h_i + h_j - \frac{\eta h_i h_j}{1+\beta}
        + \frac{\eta \beta (h_i - h_j)^2}{(1-\beta)^2 (1+\beta)}}$$

    in the eigenbasis of H; 0 where h_i or h_j is. The drift along the minima is that of
    $\tfrac\lambda2 \nabla^3 L[S]$ (`potential_gradient`). Sigma = H gives back $\Pi (2 - \eta H / (1+\beta))^{-1}$.
    With the covariance C of the batch's gradient, $\lambda\Sigma = \eta C / (1-\beta)$.

    Args:
        hessian: H, positive semi-definite, D x D or a length-D diagonal.
        normalized_noise: Sigma, of the same dimension.
        learning_rate: eta, below 2(1+beta)/h_max.
        momentum: beta of the heavy ball, in [0, 1).

    Returns:
        S, shape (D, D).

    Raises:
        ValueError: H or Sigma is not positive semi-definite, or the learning rate is at or past the limit.

    Examples:
        >>> from sgdsim.solver.manifold import normalized_covariance
        >>> normalized_covariance([2.0, 0.0], [3.0, 1.0], 0.5).tolist()
        [[1.5, 0.0], [0.0, 0.0]]

    Source: Damian, Ma and Lee, section 5.3 and equation (176), where lambda stands twice (see the errata); beta > 0 is
    derived here.
    """
    h, vectors = check_curvatures(hessian)
    rate, beta = check_rate(learning_rate, momentum, h)
    sigma = as_matrix(_checks.positive_semidefinite("normalized_noise", normalized_noise, len(h)), len(h))
    rows, columns = h[:, None], h
    below = rows + columns - rate * rows * columns / (1 + beta)
    below += rate * beta * (rows - columns) ** 2 / ((1 - beta) ** 2 * (1 + beta))
    stiff = h > _FLAT * h.max(initial=0.0)
    both = np.outer(stiff, stiff)
    inside = np.divide(vectors.T @ sigma @ vectors, below, out=np.zeros_like(below), where=both)
    return vectors @ inside @ vectors.T
