"""How mini-batch noise enters Adam's memory correction, at second order in the noise."""

from __future__ import annotations

from typing import NamedTuple

from sgdsim import _checks
from sgdsim.solver.adam_bias.weight_sums import Number, WeightSums, finite_sums, limit_sums


class NoiseCoefficients(NamedTuple):
    """C_1, ..., C_5 of the five noise terms of Adam's averaged correction."""

    c1: Number
    c2: Number
    c3: Number
    c4: Number
    c5: Number


def adam_noise_coefficients(b1: float, b2: float, *, n: int | None = None, eps: float = 0.0) -> NoiseCoefficients:
    r"""The coefficients of Adam's correction at second order in mini-batch noise.

    Averaged over the order of the batches, with Sigma the covariance of ONE example's gradient,

    $$|g_j|\,E\,\mathrm{Corr}_j = \Big(\tfrac{\beta_1}{1-\beta_1} - \tfrac{\beta_2}{1-\beta_2}\Big)
        \partial_j \|g\|_1 + \frac1b \Big\{ C_1 \partial_j \|g\|_1 \frac{\Sigma_{jj}}{g_j^2}
        + C_2 \sum_i \partial_j |g_i| \frac{\Sigma_{ii}}{g_i^2}
        + C_3 \frac1{g_j} \sum_i \mathrm{sgn}(g_i)\,\partial_i \Sigma_{jj}
        + C_4 \sum_i \frac{\partial_j \Sigma_{ii}}{|g_i|}
        + C_5 \frac1{g_j} \sum_i \frac{\partial_i g_j\,\Sigma_{ij}}{|g_i|} \Big\}.$$

    Args:
        b1: beta_1 in [0, 1).
        b2: beta_2 in [0, 1).
        n: the correction of step n (the last of an epoch of n + 1 batches); None means n -> infinity.
        eps: epsilon INSIDE the root, in units of g^2, taken the same for all parameters: then A g_j^2, B / g_i^2, T_3,
            D/2 and E of Theorem B.2 in place of C_1, ..., C_5.

    Returns:
        (c1, c2, c3, c4, c5). The prefactor 1/b is for n -> infinity; for finite n see `permutation_average`.

    Raises:
        ValueError: a beta is outside [0, 1), n < 1 or eps < 0.

    Examples:
        >>> import sgdsim as ss
        >>> [round(c, 4) for c in ss.solver.adam_bias.adam_noise_coefficients(0.9, 0.99)]
        [143.7289, 45.1473, -49.2038, -0.0098, -0.1869]

    Source: Cattaneo and Shigida, "The Effect of Mini-Batch Noise on the Implicit Bias of Adam", Theorems B.2 and B.3,
    equation (13).
    """
    sums = checked_sums(b1, b2, n)
    share = 1 / (1 + _checks.non_negative("eps", eps, "it is epsilon / g^2, inside the root"))
    found = general_coefficients(sums, share, share)
    return NoiseCoefficients(
        float(found.c1 * share), float(found.c2 / share), *(float(c) for c in found[2:])
    )


def checked_sums(b1: float, b2: float, n: int | None = None) -> WeightSums:
    """The sums of weights of two betas, checked.

    Raises:
        ValueError: a beta is outside [0, 1), or n < 1.
    """
    first, second = _checks.fraction("b1", b1), _checks.fraction("b2", b2, "0.999 is common")
    if n is None:
        return limit_sums(first, second)
    return finite_sums(first, second, _checks.integer("n", n, remedy="an epoch has n + 1 >= 2 batches"))


def general_coefficients(sums: WeightSums, r_i: Number, r_j: Number) -> NoiseCoefficients:
    r"""$(A_j (g_j^2 + \epsilon),\; B_{ij} / (g_i^2 + \epsilon),\; T_{3,j},\; D_{ij}/2,\; E_{ij})$ of Theorem B.2.

    Args:
        sums: of the weights.
        r_i: g_i^2 / (g_i^2 + eps), broadcasts against `r_j`.
        r_j: g_j^2 / (g_j^2 + eps).
    """
    s = sums
    a = (
        s.drift_M * (3 * r_j * s.NN - 1) / 2
        - r_j * s.drift_N * (4 * r_j * s.NN - 1 - 2 * s.MN)
        - (s.drift_MN - 2 * r_j * s.drift_NN)
        + r_j * s.drift_N * (s.MN - 2 * r_j * s.NN)
        - r_j * s.drift_N * (3 * r_j * s.NN - 1) / 2
        + r_j * s.drift_NN
    )
    b = (3 * r_i * s.M_nn - s.drift_M - 2 * s.M_mn) / 2 - r_j * (3 * r_i * s.N_nn - s.drift_N - 2 * s.N_mn) / 2
    t = (-2 * s.drift_MN - s.drift_N + 3 * r_j * s.drift_NN) / 2
    d = (s.Mm - r_i * s.Mn) - r_j * (s.Nm - r_i * s.Nn)
    e = (
        -(s.M_Nm - r_i * s.M_Nn)
        - (s.N_Mm - r_i * s.N_Mn)
        + 3 * r_j * (s.N_Nm - r_i * s.N_Nn)
        - (s.Nm - r_i * s.Nn)
    )
    return NoiseCoefficients(a, b, t, d / 2, e)
