"""A fitted polynomial in 1/b or c_b: its curve, its confidence band, and which coefficients the data identify."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy
from numpy.typing import ArrayLike

from sgdsim import _checks, _html
from sgdsim.estimators.non_negative import NonNegative
from sgdsim.estimators.weighted_least_squares import LeastSquares

_REAL = 1e-9
# A fit this bad by chance: once in ten thousand.
_POOR = 1e-4


def basis_value(batch_sizes: ArrayLike, basis: str, n: int | None) -> np.ndarray:
    """x_b: 1/b, or c_b = (n-b)/(b(n-1))."""
    b = np.asarray(batch_sizes, np.float64)
    return 1 / b if n is None or basis == "1/b" else (n - b) / (b * (n - 1))


@dataclasses.dataclass(frozen=True, eq=False)
class PolynomialFit:
    """What `fit_polynomial` returns; call it on batch sizes for the curve.

    Attributes:
        batch_sizes: b of the data, (m,).
        variance: the data, (m,).
        variance_stderr: their standard errors, (m,).
        basis: "1/b" or "c_b".
        n_examples: n for "c_b".
        degree: K, the number of coefficients of the curve.
        selected_degree: what AICc prefers, the lowest that will do for the measured batch sizes; `degree` where none
            was chosen.
        selected_coefficients: those of the polynomial of that degree, for `b0`.
        aicc: (degree, chi-square, AICc) of the candidates.
        non_negative: whether beta >= 0 was required.
        chi_square: squared misses in units of their errors.
        degrees_of_freedom: data less free coefficients: those at the bound 0 are not free, and one of bounded size
            is free in part.
        solution: the least-squares solution behind it.
        constant: whether there is a constant term beta_0, before the K others.
    """

    batch_sizes: np.ndarray
    variance: np.ndarray
    variance_stderr: np.ndarray
    basis: str
    n_examples: int | None
    degree: int
    selected_degree: int
    selected_coefficients: np.ndarray
    aicc: tuple[tuple[int, float, float], ...]
    non_negative: bool
    chi_square: float
    degrees_of_freedom: float
    solution: LeastSquares | NonNegative
    constant: bool = False

    @property
    def powers(self) -> np.ndarray:
        """The powers of 1/b or c_b: 1 to K, from 0 with a constant term."""
        return np.arange(0 if self.constant else 1, self.degree + 1)

    def __repr__(self) -> str:
        return (f"PolynomialFit(degree={self.degree}, basis={self.basis!r}, chi_square={self.chi_square:.4g}, "
                f"degrees_of_freedom={self.degrees_of_freedom:.3g})")

    def _repr_html_(self) -> str:
        title, *remarks = self._heading()
        cells = [(k, f"{beta:.5g}" if known else "-", error, "" if known else "not identified")
                 for k, beta, error, known in self._listed()]  # fmt: skip
        notes = (*remarks, f"decreasing from b0 = {self.b0:.4g}")
        return _html.table(title, ("k", "beta_k", "stderr", ""), cells, notes=notes)

    def __call__(self, b: ArrayLike) -> np.ndarray | float:
        """The fitted variance at `b`, any shape; whole numbers are not required."""
        return (self._rows(b) @ self.solution.coefficients)[()]

    def band(self, b: ArrayLike, level: float = 0.95) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Pointwise confidence limits (low, high) of the variance at `b`, each of its shape.

        Args:
            b: batch sizes.
            level: of confidence at each b (not for all b at once), between 0 and 1.
        """
        z = _normal(level)
        rows = self._rows(b)
        if isinstance(self.solution, LeastSquares):
            half = z * self.solution.error(rows)
            middle = rows @ self.solution.coefficients
            return (middle - half)[()], (middle + half)[()]
        flat = rows.reshape(-1, len(self.powers))
        limits = np.array([self.solution.limits(row, z) for row in flat]).reshape(*rows.shape[:-1], 2)
        return limits[..., 0][()], limits[..., 1][()]

    @property
    def p_value(self) -> float:
        """Chance of a chi-square as large, were the curve right; NaN without degrees of freedom."""
        if self.degrees_of_freedom < 1:
            return math.nan
        return float(scipy.special.chdtrc(self.degrees_of_freedom, self.chi_square))

    @property
    def misses(self) -> bool:
        """Whether chance does not explain, once in ten thousand, how far the data lie from the curve.

        Judged at the degree that AICc prefers, too: the terms added for the band absorb part of a misfit. Few batch
        sizes and small errors may leave no candidate high enough; then terms of the assumed sizes must reach the data.
        """
        chi_square, freedom = self.at_selected_degree()
        poor = self.p_value < _POOR and scipy.special.chdtrc(freedom, chi_square) < _POOR
        surprise = self.solution.surprise if isinstance(self.solution, LeastSquares) else self.chi_square
        return bool(poor or scipy.special.chdtrc(len(self.batch_sizes), surprise) < _POOR)

    def at_selected_degree(self) -> tuple[float, float]:
        """Chi-square and degrees of freedom of the degree that AICc prefers; of the curve where none was chosen."""
        chosen = {k: chi_square for k, chi_square, _ in self.aicc}
        if self.selected_degree not in chosen:
            return self.chi_square, self.degrees_of_freedom
        return chosen[self.selected_degree], len(self.batch_sizes) - self.selected_degree - int(self.constant)

    @property
    def stderr(self) -> np.ndarray:
        """Standard error of each coefficient, bias included; with `non_negative` half the 95% interval / 1.96."""
        if isinstance(self.solution, LeastSquares):
            return self.solution.error(np.eye(len(self.powers)))
        low, high = self._coefficient_limits()
        return (high - low) / (2 * _normal(0.95))

    @property
    def identified(self) -> np.ndarray:
        """Which coefficients the data tell from 0 at 95%, one for each of `powers`."""
        low, high = self._coefficient_limits()
        return (low > 0) | (high < 0)

    @property
    def coefficients(self) -> np.ndarray:
        """beta_1, ..., beta_K, after beta_0 if there is one; NaN for each that the data do not identify."""
        return np.where(self.identified, self.solution.coefficients, np.nan)

    def coefficient(self, k: int) -> tuple[float, float]:
        """beta_k and its standard error.

        Raises:
            ValueError: there is no such coefficient, or the data do not identify it.
        """
        first = int(self.powers[0])
        k = _checks.integer("k", k, low=first, high=self.degree,
                            remedy=f"the coefficients are beta_{first} to beta_{self.degree}")
        if not self.identified[k - first]:
            known = ", ".join(f"beta_{i}" for i in self.powers[self.identified]) or "none"
            raise _checks.error("k", k, f"an identified coefficient ({known}): 0 is within the error of beta_{k}",
                                "read the curve and its band, which the data do determine, or measure more")
        return float(self.solution.coefficients[k - first]), float(self.stderr[k - first])

    @property
    def b0(self) -> float:
        """The batch size from which the curve decreases; the smallest measured one if it always does.

        Infinite if it increases at the largest batch sizes. Read from the polynomial of degree `selected_degree`, which
        is smoother than the curve. It has no error of its own: look at the band.
        """
        beta = self.selected_coefficients[1 if self.constant else 0 :]
        reach = float(basis_value(self.batch_sizes.min(), self.basis, self.n_examples))
        slope = np.arange(1, len(beta) + 1) * beta * reach ** np.arange(len(beta))  # of u = x / reach
        if slope[np.flatnonzero(slope)[0] if slope.any() else 0] <= 0:
            return math.inf
        roots = np.roots(slope[::-1])
        turns = roots.real[(np.abs(roots.imag) < _REAL) & (roots.real > 0) & (roots.real < 1)]
        if not turns.size:
            return float(self.batch_sizes.min())
        x = reach * float(turns.min())
        n = self.n_examples
        return 1 / x if n is None or self.basis == "1/b" else n / (1 + x * (n - 1))

    def table(self) -> str:
        """The coefficients, which of them mean something, and how good the fit is."""
        lines = [*self._heading(), f"{'k':>5}  {'beta_k':>12}  {'stderr':>12}"]
        for k, value, error, known in self._listed():
            note = "" if known else "  not identified"
            number = f"{value:12.5g}" if known else f"{'-':>12}"
            lines.append(f"{k:>5}  {number}  {error:>12}{note}")
        lines.append(f"decreasing from b0 = {self.b0:.4g}")
        return "\n".join(lines)

    def _listed(self) -> list[tuple[str, float, str, bool]]:
        """Rows of a table (k, beta_k, stderr, identified); those after the last that means something share one."""
        known, stderr = self.identified, self.stderr
        last = int(np.flatnonzero(known).max(initial=-1)) + 1
        rows = [(str(self.powers[i]), float(self.solution.coefficients[i]), f"{stderr[i]:.3g}", bool(known[i]))
                for i in range(last)]  # fmt: skip
        if last < len(self.powers):
            low = int(self.powers[last])
            rows.append((f"{low}-{self.degree}" if low < self.degree else f"{low}", math.nan, "", False))
        return rows

    def _heading(self) -> list[str]:
        shown = "1/b" if self.basis == "1/b" else f"c_b, n = {self.n_examples}"
        lines = [f"polynomial of degree {self.degree} in {shown}; chi-square {self.chi_square:.4g} on "
                 f"{self.degrees_of_freedom:.3g} degrees of freedom (p = {self.p_value:.3g})"]
        if self.selected_degree != self.degree:
            lines.append(f"AICc prefers degree {self.selected_degree}; the band allows for all terms")
        return lines

    def _rows(self, batch_sizes: ArrayLike) -> np.ndarray:
        b = _checks.finite_array("b", batch_sizes)
        high = np.inf if self.n_examples is None or self.basis == "1/b" else self.n_examples
        if b.size and (b.min() < 1 or b.max() > high):
            bad = b.min() if b.min() < 1 else b.max()
            raise _checks.error("b", float(bad), f"from 1 to {high:g}", "a batch has at least one example, at most all")
        return basis_value(b, self.basis, self.n_examples)[..., None] ** self.powers

    def _coefficient_limits(self) -> tuple[np.ndarray, np.ndarray]:
        z = _normal(0.95)
        if isinstance(self.solution, LeastSquares):
            half = z * self.solution.error(np.eye(len(self.powers)))
            return self.solution.coefficients - half, self.solution.coefficients + half
        limits = np.array([self.solution.limits(row, z) for row in np.eye(len(self.powers))])
        return limits[:, 0], limits[:, 1]


def _normal(level: float) -> float:
    level = _checks.real("level", level, "between 0 and 1", "try level=0.95")
    if not 0 < level < 1:
        raise _checks.error("level", level, "between 0 and 1", "try level=0.95")
    return -float(scipy.special.ndtri((1 - level) / 2))
