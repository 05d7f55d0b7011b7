"""Least squares with non-negative coefficients, and the profile-likelihood limits of what they predict."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy

# The predicted value is held this many times more firmly than the data would.
_HOLD = 1e5
_DOUBLINGS = 60


class NonNegative:
    r"""A fit with beta >= 0 of whitened data: coefficients (K,), chi-square, parameters (those above 0), limits.

    A coefficient on its bound has no Gaussian error, so limits of linear combinations come from the profile of
    chi-square instead:

    $$\{v : \min_{\beta \ge 0,\, a^\top \beta = v} |A\beta - y|^2 \le \min_{\beta \ge 0} |A\beta - y|^2 + z^2\}.$$

    With `sizes` s (K,) the coefficients are those of the least $|A\beta - y|^2 + \sum_k (\beta_k / s_k)^2$. The least
    chi-square alone would rather put a little too much into the highest power, between data a poor guess; chi-square
    and limits are still those of the data alone.
    """

    def __init__(self, design: np.ndarray, target: np.ndarray, sizes: np.ndarray | None = None):
        self._scale = np.linalg.norm(design, axis=0)
        self._design, self._target = design / self._scale, target
        self._scaled, norm = scipy.optimize.nnls(self._design, target)
        self.chi_square = float(norm) ** 2
        self.parameters = int((self._scaled > 0).sum())
        if sizes is None:
            self.coefficients = self._scaled / self._scale
        else:
            augmented = np.vstack([design * sizes, np.eye(len(sizes))])
            self.coefficients = sizes * scipy.optimize.nnls(augmented, np.append(target, np.zeros(len(sizes))))[0]

    def limits(self, row: np.ndarray, z: float) -> tuple[float, float]:
        """The lowest and the highest value of `row` @ beta whose chi-square is within z^2 of the least."""
        row = row / self._scale
        best = float(row @ self._scaled)
        # The error that the positive coefficients alone would give: a first guess, and the scale of the search.
        active = self._scaled > 0
        design = self._design[:, active] if active.any() else self._design
        pull = np.linalg.lstsq(design.T, row[active] if active.any() else row, rcond=None)[0]
        step = float(np.linalg.norm(pull)) or float(np.linalg.norm(row)) / float(np.linalg.norm(self._design))

        def excess(value: float) -> float:
            hold = _HOLD / step
            augmented = np.vstack([self._design, hold * row])
            beta, _ = scipy.optimize.nnls(augmented, np.append(self._target, hold * value))
            return float(((self._design @ beta - self._target) ** 2).sum()) - self.chi_square - z**2

        return self._edge(excess, best, -z * step), self._edge(excess, best, z * step)

    def _edge(self, excess: Callable[[float], float], best: float, step: float) -> float:
        inside = best
        for _ in range(_DOUBLINGS):
            outside = inside + step
            if outside <= 0:
                # Non-negative combinations: nothing lies below 0.
                if excess(0.0) <= 0:
                    return 0.0
                outside = 0.0
                break
            if excess(outside) > 0:
                break
            inside, step = outside, 2 * step
        else:
            return float(np.inf)
        return float(scipy.optimize.brentq(excess, inside, outside, xtol=1e-5 * abs(step), rtol=1e-10))
