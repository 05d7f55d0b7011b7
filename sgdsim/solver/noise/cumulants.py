"""Third and fourth cumulants of a minibatch gradient, and how they vary with the weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sgdsim._types import Matrix


class Cumulants(NamedTuple):
    """Cumulants of the gradient noise xi at the mean, with two indices equal, and derivatives by the weights.

    Attributes:
        variance_slope: d Var(xi_i) / d w_c, shape (D, D).
        variance_curvature: half the second derivatives of Var(xi_i), shape (D, D, D).
        third: kappa(xi_i, xi_i, xi_a), shape (D, D).
        third_slope: d kappa(xi_i, xi_i, xi_a) / d w_c, shape (D, D, D).
        fourth: kappa(xi_i, xi_i, xi_a, xi_b), shape (D, D, D).
    """

    variance_slope: Matrix
    variance_curvature: np.ndarray
    third: Matrix
    third_slope: np.ndarray
    fourth: np.ndarray
