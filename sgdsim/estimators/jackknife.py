"""An error bar for any function of measured numbers: the jackknife over independent groups."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy

MIN_GROUPS = 8  # with fewer, an error bar is itself uncertain by more than a quarter


class Estimate(NamedTuple):
    """A number or array worked out of measured ones, with its error.

    Attributes:
        value: corrected for bias.
        stderr: its standard error.
        interval: lower and upper end of a confidence interval, each of the shape of `value`.

    Examples:
        >>> import numpy as np, sgdsim as ss
        >>> problem = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
        >>> result = ss.simulate(problem, ss.SGD(0.3), batch_size=8, chains=500, steps=300, burn_in=100)
        >>> value, stderr, (low, high) = result.derive(lambda covariance: np.trace(covariance))
        >>> bool(low < value < high)
        True
        >>> print(ss.Estimate(0.0113, 0.0001, (0.0111, 0.0115)))
        0.0113 ± 0.0001
    """

    value: np.ndarray | float
    stderr: np.ndarray | float
    interval: tuple[np.ndarray | float, np.ndarray | float]

    def __str__(self) -> str:
        """Value and standard error, each as far as it means something."""
        if np.ndim(self.value):
            return f"{np.array2string(np.asarray(self.value), precision=4)} ± " \
                   f"{np.array2string(np.asarray(self.stderr), precision=1)}"
        return f"{self.value:.4g} ± {self.stderr:.1g}"


class Jackknife(NamedTuple):
    """A function of measured numbers with what each group does to it.

    Attributes:
        value: corrected for bias, shape (...).
        bias: what was taken off, shape (...).
        errors: independent errors, shape (K, ...): the sum of their squares is the variance.
        rounding: what arithmetic adds to it, independent for each entry, shape (...).
    """

    value: np.ndarray
    bias: np.ndarray
    errors: np.ndarray
    rounding: np.ndarray | float = 0.0

    @property
    def stderr(self) -> np.ndarray:
        """Standard error; what was taken off as bias counts as one error more."""
        return np.sqrt((self.errors**2).sum(axis=0) + self.bias**2 + np.square(self.rounding))

    def combined(self, weights: np.ndarray) -> Jackknife:
        """Linear combinations of the entries along the first axis of the value; `weights` has shape (M, P)."""
        errors = np.tensordot(self.errors, weights, (1, 1))
        rounding = np.broadcast_to(self.rounding, self.value.shape)
        return Jackknife(np.tensordot(weights, self.value, 1), np.tensordot(weights, self.bias, 1),
                         np.moveaxis(errors, -1, 1), np.sqrt(np.tensordot(weights**2, rounding**2, 1)))

    def covariance(self) -> np.ndarray:
        """Covariance of the errors of a vector, shape (P, P)."""
        return self.errors.T @ self.errors + np.diag(self.bias**2 + np.square(self.rounding))

    def estimate(self, confidence: float) -> Estimate:
        """With an interval by Student's t."""
        half = float(scipy.special.stdtrit(len(self.errors) - 1, (1 + confidence) / 2)) * self.stderr
        return Estimate(self.value[()], self.stderr[()], ((self.value - half)[()], (self.value + half)[()]))


def jackknife(value: np.ndarray, without: np.ndarray, sizes: np.ndarray) -> Jackknife:
    r"""$$\hat\theta_J = \sum_j \frac{m_j}{n} \tau_j, \quad
      \mathrm{se}^2 = \frac1K \sum_j \frac{(\tau_j - \hat\theta_J)^2}{h_j - 1}, \quad
      \tau_j = h_j \hat\theta - (h_j - 1)\,\hat\theta_{(j)}, \quad h_j = n / m_j.$$

    A function that is not smooth at the truth, such as the larger of two equal eigenvalues, has a bias as large as its
    error, of which this removes about half: so the correction is an error itself (`Jackknife.stderr`). Where the
    function is smooth, the correction is small against the error, and that makes no difference.

    Args:
        value: the function of all chains, shape (...).
        without: the function without each group, shape (K, ...).
        sizes: chains m_j of each group, shape (K,).

    Source: Busing, Meijer and van der Leeden, "Delete-m jackknife for unequal m" (1999).
    """
    share = (sizes.sum() / sizes).reshape((-1,) + (1,) * (without.ndim - 1))
    pseudo = share * value - (share - 1) * without
    corrected = (pseudo / share).sum(axis=0)
    return Jackknife(corrected, value - corrected, (pseudo - corrected) / np.sqrt(len(sizes) * (share - 1)))
