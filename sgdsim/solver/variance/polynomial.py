"""A variance as a polynomial in 1/b or c_b."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks, _html
from sgdsim.references import cite
from sgdsim.solver.noise.factor import NoiseFactor
from sgdsim.solver.variance.bernstein import non_negative

_SHOWN = 12  # coefficients in a table


@dataclasses.dataclass(frozen=True, eq=False)
class VariancePolynomial:
    r"""An exact expectation after a fixed number of steps, as a function of the batch size b.

    $$\mathrm{Var}_b = \sum_k v_k x^k, \qquad x = \tfrac1b \;\text{or}\; c_b = \frac{n-b}{b(n-1)} .$$

    Call it on batch sizes: numbers from 1 on (to n without replacement), which need not be whole.

    Attributes:
        coefficients: v_0, v_1, ..., float64; v_0 is the limit of large batches.
        factor: the variable x.
        exact: the same numbers as fractions where they were computed so, else None.
        tail: (x', what the kept terms miss there) for the truncation bound; None if nothing was cut off.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([2.0, 1.0, 0.5], label_noise=0.5)
        >>> variance = ss.solver.gradient_variance_polynomial(problem, ss.SGD(0.1), step=1, initial=[1, -1, 2])
        >>> variance.coefficients.round(7).tolist(), variance.variable, variance.degree
        ([0.0, 19.4315625, 1.94875], '1/b', 2)
        >>> round(variance(2), 7), round(variance.derivative(2), 7), variance.is_decreasing()
        (10.2029688, -5.3450781, True)
    """

    coefficients: np.ndarray
    factor: NoiseFactor
    exact: tuple[Fraction, ...] | None = None
    tail: tuple[np.ndarray, np.ndarray] | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.6g}" for value in self.coefficients[:7])
        more = ", ..." if len(self.coefficients) > 7 else ""
        return f"VariancePolynomial([{shown}{more}] in {self.variable})"

    def _repr_html_(self) -> str:
        """One row a coefficient, the first twelve of them."""
        exact = self.exact or ()
        header = ("k", "v_k", *(("exact",) if exact else ()))
        rows = []
        for k, value in enumerate(self.coefficients[:_SHOWN]):
            fraction = str(exact[k]) if k < len(exact) else ""
            row = (str(k), f"{value:.8g}", fraction if len(fraction) <= 40 else "known exactly")
            rows.append(row[: len(header)])
        more = len(self.coefficients) - _SHOWN
        notes = (f"and {more} more" if more > 0 else "", f"variance = sum of v_k x^k, x = {self.variable}")
        return _html.table(f"VariancePolynomial of degree {self.degree} in {self.variable}", header, rows, notes=notes)

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` with the coefficients along `power` (needs `pip install 'sgdsim[results]'`)."""
        xr = _checks.need("xarray", "results")
        units = {"description": f"coefficients of the powers of {self.variable}", "units": "loss^2 w^-2"}
        attributes: dict[str, object] = {"kind": "VariancePolynomial", "variable": self.variable, "degree": self.degree}
        if self.factor.n_examples is not None:
            attributes["n_examples"] = self.factor.n_examples
        if self.exact is not None:
            attributes["exact"] = json.dumps([str(value) for value in self.exact])
        powers = np.arange(len(self.coefficients))
        return xr.Dataset({"coefficients": ("power", self.coefficients, units)}, {"power": powers}, attributes)

    def cite(self) -> str:
        """BibTeX of the paper about this polynomial."""
        return cite("docs/theory/variance-polynomial.md")

    @property
    def variable(self) -> str:
        """"1/b", or "c_b" without replacement."""
        return self.factor.name

    @property
    def degree(self) -> int:
        """The highest power with a non-zero coefficient."""
        kept = np.flatnonzero(self.coefficients)
        return int(kept[-1]) if kept.size else 0

    def _sizes(self, b: ArrayLike) -> np.ndarray:
        sizes = _checks.finite_array("b", b, "pass a batch size or several")
        high = self.factor.n_examples or np.inf
        if sizes.size == 0 or (sizes < 1).any() or (sizes > high).any():
            raise _checks.error("b", b, "from 1" + ("" if np.isinf(high) else f" to {high}"),
                                "a batch has at least one example, and none twice without replacement")
        return sizes

    def __call__(self, b: ArrayLike) -> Any:
        """The value at batch sizes b, a number or an array of the same shape."""
        sizes = self._sizes(b)
        if self.exact is None:
            return _plain(np.polynomial.polynomial.polyval(self.factor.of(sizes), self.coefficients))
        values = [_horner(self.exact, 1 / Fraction(float(size))) for size in sizes.ravel()]
        return _plain(np.reshape([float(value) for value in values], sizes.shape))

    def derivative(self, b: ArrayLike) -> Any:
        """The derivative with respect to b (not x) at batch sizes b."""
        sizes = self._sizes(b)
        powers = np.arange(1, len(self.coefficients))
        inner = np.polynomial.polynomial.polyval(self.factor.of(sizes), np.append(powers * self.coefficients[1:], 0.0))
        return _plain(inner * self.factor.slope(sizes))

    def truncation_bound(self, b: ArrayLike) -> Any:
        r"""How much the terms beyond `order` add at most; 0 where there are none.

        $$\sum_{k>K} v_k x^k \le (x/x')^{K+1} \Big( V(x') - \sum_{k \le K} v_k x'^k \Big),
          \qquad x \le x',\; v_k \ge 0,$$

        with V(x') from the recursion at a few x', the best of which counts.
        """
        sizes = self._sizes(b)
        if self.tail is None:
            return _plain(np.zeros(sizes.shape))
        anchors, missed = self.tail
        x = np.asarray(self.factor.of(sizes))[..., None]
        share = (x / anchors) ** len(self.coefficients)
        bounds = np.full(share.shape, np.inf)
        np.multiply(share, missed, out=bounds, where=(x <= anchors) & np.isfinite(missed))
        return _plain(np.where(x[..., 0] == 0, 0.0, bounds.min(axis=-1)))

    def is_decreasing(self) -> bool:
        """Whether the value never rises with b, over all real batch sizes allowed, for the kept coefficients.

        Non-negative coefficients prove it; where signs differ, the derivative's sign on 0 <= x <= 1 is decided in
        exact arithmetic for the coefficients as they are: where one is zero, its rounding decides.
        """
        if (self.coefficients[1:] >= 0).all():
            return True
        exact = self.exact or tuple(Fraction(float(value)) for value in self.coefficients)
        return non_negative([k * value for k, value in enumerate(exact)][1:])


def _plain(values: np.ndarray) -> Any:
    return float(values) if np.ndim(values) == 0 else values


def _horner(coefficients: tuple[Fraction, ...], x: Fraction) -> Fraction:
    total = Fraction(0)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total
