"""Sums of products of Adam's weights, for an epoch of n + 1 steps and in the limit of many."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np

Number: TypeAlias = float | np.ndarray


class WeightSums(NamedTuple):
    r"""What the noise expansion needs of mu_{t,k} and nu_{t,k}, the bias-corrected EMA weights of the two betas.

    Sums run over 0 <= p, k <= l < n, those over r over 0..n. The names spell the factors: capitals are weights of
    the last step (M = mu_n, N = nu_n), small letters those of an earlier step l.

    Attributes:
        drift_M: sum_k mu_{n,k} (n - k).
        drift_N: the same of nu.
        NN: sum_r nu_{n,r}^2.
        MN: sum_r mu_{n,r} nu_{n,r}.
        drift_MN: sum_k mu_{n,k} nu_{n,k} (n - k).
        drift_NN: sum_k nu_{n,k}^2 (n - k).
        M_nn: sum_l sum_k mu_{n,k} sum_p nu_{l,p}^2.
        M_mn: sum_l sum_k mu_{n,k} sum_p mu_{l,p} nu_{l,p}.
        N_nn: as M_nn with nu_{n,k}.
        N_mn: as M_mn with nu_{n,k}.
        Mm: sum_l sum_k mu_{n,k} mu_{l,k}.
        Mn: sum_l sum_k mu_{n,k} nu_{l,k}.
        Nm: sum_l sum_k nu_{n,k} mu_{l,k}.
        Nn: sum_l sum_k nu_{n,k} nu_{l,k}.
        M_Nm: sum_l sum_k mu_{n,k} sum_p nu_{n,p} mu_{l,p}.
        M_Nn: sum_l sum_k mu_{n,k} sum_p nu_{n,p} nu_{l,p}.
        N_Mm: sum_l sum_k nu_{n,k} sum_p mu_{n,p} mu_{l,p}.
        N_Mn: sum_l sum_k nu_{n,k} sum_p mu_{n,p} nu_{l,p}.
        N_Nm: sum_l sum_k nu_{n,k} sum_p nu_{n,p} mu_{l,p}.
        N_Nn: sum_l sum_k nu_{n,k} sum_p nu_{n,p} nu_{l,p}.
    """

    drift_M: Number
    drift_N: Number
    NN: Number
    MN: Number
    drift_MN: Number
    drift_NN: Number
    M_nn: Number
    M_mn: Number
    N_nn: Number
    N_mn: Number
    Mm: Number
    Mn: Number
    Nm: Number
    Nn: Number
    M_Nm: Number
    M_Nn: Number
    N_Mm: Number
    N_Mn: Number
    N_Nm: Number
    N_Nn: Number


def finite_sums(b1: float, b2: float, n: int) -> WeightSums:
    r"""The sums after n + 1 steps, in O(n).

    With $G_x(l) = \sum_{k \le l} x^k$, the weights are $x^{t-k} / G_x(t)$, and

    $$\sum_{k \le l} x_{n,k} = x^{n-l} \frac{G_x(l)}{G_x(n)}, \qquad
      \sum_{k \le l} x_{n,k} y_{l,k} = x^{n-l} \frac{G_{xy}(l)}{G_x(n) G_y(l)}.$$
    """
    earlier = np.arange(n)

    def geometric(x: float, last: Number) -> Number:
        return (1 - x ** (last + 1)) / (1 - x)

    def mass(x: float) -> np.ndarray:
        return x ** (n - earlier) * geometric(x, earlier) / geometric(x, n)

    def across(x: float, y: float) -> np.ndarray:
        return x ** (n - earlier) * geometric(x * y, earlier) / (geometric(x, n) * geometric(y, earlier))

    def within(x: float, y: float, last: Number) -> Number:
        return geometric(x * y, last) / (geometric(x, last) * geometric(y, last))

    def drift(x: float, y: float) -> Number:
        return np.sum((x * y) ** (n - earlier) * geometric(x * y, earlier)) / (geometric(x, n) * geometric(y, n))

    return WeightSums(
        drift_M=mass(b1).sum(),
        drift_N=mass(b2).sum(),
        NN=within(b2, b2, n),
        MN=within(b1, b2, n),
        drift_MN=drift(b1, b2),
        drift_NN=drift(b2, b2),
        M_nn=np.dot(mass(b1), within(b2, b2, earlier)),
        M_mn=np.dot(mass(b1), within(b1, b2, earlier)),
        N_nn=np.dot(mass(b2), within(b2, b2, earlier)),
        N_mn=np.dot(mass(b2), within(b1, b2, earlier)),
        Mm=across(b1, b1).sum(),
        Mn=across(b1, b2).sum(),
        Nm=across(b2, b1).sum(),
        Nn=across(b2, b2).sum(),
        M_Nm=np.dot(mass(b1), across(b2, b1)),
        M_Nn=np.dot(mass(b1), across(b2, b2)),
        N_Mm=np.dot(mass(b2), across(b1, b1)),
        N_Mn=np.dot(mass(b2), across(b1, b2)),
        N_Nm=np.dot(mass(b2), across(b2, b1)),
        N_Nn=np.dot(mass(b2), across(b2, b2)),
    )


def limit_sums(b1: Number, b2: Number) -> WeightSums:
    r"""The limits n -> infinity, approached like max(b1, b2)^n."""

    def drift(x: Number) -> Number:
        return x / (1 - x)

    def within(x: Number, y: Number) -> Number:
        return (1 - x) * (1 - y) / (1 - x * y)

    def across(x: Number, y: Number) -> Number:
        return x * (1 - y) / (1 - x * y)

    def both(x: Number, y: Number, z: Number) -> Number:  # sum over steps of (xy)^(n-l) times the weight shared with z
        return (1 - y) * (1 - z) / (1 - y * z) * x * y / (1 - x * y)

    return WeightSums(
        drift_M=drift(b1),
        drift_N=drift(b2),
        NN=within(b2, b2),
        MN=within(b1, b2),
        drift_MN=within(b1, b2) * drift(b1 * b2),
        drift_NN=within(b2, b2) * drift(b2 * b2),
        M_nn=drift(b1) * within(b2, b2),
        M_mn=drift(b1) * within(b1, b2),
        N_nn=drift(b2) * within(b2, b2),
        N_mn=drift(b2) * within(b1, b2),
        Mm=across(b1, b1),
        Mn=across(b1, b2),
        Nm=across(b2, b1),
        Nn=across(b2, b2),
        M_Nm=both(b1, b2, b1),
        M_Nn=both(b1, b2, b2),
        N_Mm=both(b2, b1, b1),
        N_Mn=both(b2, b1, b2),
        N_Nm=both(b2, b2, b1),
        N_Nn=both(b2, b2, b2),
    )
