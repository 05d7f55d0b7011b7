"""Least squares with more coefficients than data tell apart: their likely size is known, and its effect is counted."""

from __future__ import annotations

import numpy as np

from sgdsim.estimators.weighted_least_squares import LeastSquares

# At 0.3 a 95% band whose bias is nil covers 95.9%, one whose bias is as assumed 95.0%, 1.8 times as large 93%.
_BIAS = 0.3
# The range over which the pull to 0 is weakened: 32 sufficed for five batch sizes with errors from 0.1%, and for eight
# from 0.001%.
_KAPPA = 2.0 ** np.arange(0, 6.5, 0.5)

# Coefficients so many times as large as assumed are no surprise: their bands still cover 93%.
_LARGER = 4


def bounded_bias_least_squares(design: np.ndarray, target: np.ndarray, rows: np.ndarray,
                               sizes: np.ndarray) -> LeastSquares:
    r"""Least squares with a pull to 0 so weak that it hardly biases any `rows` @ beta, and its bias in the error.

    $$\hat\beta = \arg\min |A\beta - y|^2 + \sum_k \Bigl(\frac{\beta_k}{\kappa s_k}\Bigr)^2 = H y, \qquad
    e^2(a) = |a^\top H|^2 + |a^\top (HA - I)\,\mathrm{diag}(s)|^2$$

    e(a) is the root mean square error of a' beta for coefficients of unrelated signs and of root mean square s_k:
    noise, then bias. kappa is the smallest of 1, sqrt 2, 2, ... with the bias at most 0.3 of the noise for every row.
    It depends on A, the rows and s, not on y: the error is that of a linear estimator, nothing having been selected.
    If no kappa will do (fewer data than matter), it is 1, which makes e smallest.

    Were the beta_k normal of size 4 s_k, $y^\top (I + 16 A \, \mathrm{diag}(s)^2 A^\top)^{-1} y$ would be chi-square
    with m degrees of freedom: it comes back as `surprise`.

    Args:
        design: A, whitened, shape (m, K); K may exceed m.
        target: y, whitened, shape (m,).
        rows: combinations a whose bias is to be small, shape (points, K).
        sizes: s_k, root mean square (not its square) of each coefficient, shape (K,).

    Source: Armstrong and Kolesár, "Simple and honest confidence intervals in nonparametric regression", for
        intervals that count the bias; the ridge is the posterior mean under independent normal beta_k at kappa = 1.
    """
    scaled = rows * sizes
    u, d, vt = np.linalg.svd(design * sizes, full_matrices=False)
    inside = scaled @ vt.T
    outside = ((scaled - inside @ vt) ** 2).sum(axis=1)
    pull = _KAPPA[:, None] ** -2
    shrink, lost = d / (d**2 + pull), pull / (d**2 + pull)
    noise, bias = shrink**2 @ inside.T**2, lost**2 @ inside.T**2 + outside
    best = (bias <= _BIAS**2 * noise).all(axis=1).argmax()  # the first; 0 if there is none
    shrink, lost = shrink[best], lost[best]
    beta = sizes * (vt.T @ (shrink * (u.T @ target)))
    off = np.eye(len(sizes)) - vt.T @ vt + (vt.T * lost) @ vt
    root = sizes[:, None] * np.hstack([vt.T * shrink, off])
    chi_square = float(((target - design @ beta) ** 2).sum())
    seen = u.T @ target
    surprise = float(target @ target - seen @ seen + (seen**2 / (1 + (_LARGER * d) ** 2)).sum())
    return LeastSquares(beta, root, chi_square, float(len(d) - (lost**2).sum()), surprise)
