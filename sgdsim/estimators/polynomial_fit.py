"""Fit a polynomial in 1/b (or c_b) to variances, or other numbers, measured at several batch sizes."""

from __future__ import annotations

import functools
import warnings

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim.estimators.bounded_bias import bounded_bias_least_squares
from sgdsim.estimators.non_negative import NonNegative
from sgdsim.estimators.polynomial_curve import PolynomialFit, basis_value
from sgdsim.estimators.weighted_least_squares import LeastSquares, weighted_least_squares, whiten, whitener

BASES = ("1/b", "c_b")
# AICc never wants more at any noise tried; the columns beyond are alike to 1e-8.
_HIGHEST = 9
# Terms of the curve when no degree is given; those beyond would add less than 3% at the smallest batch size.
_TERMS = 16
# What is assumed of them: at the smallest batch size the k-th is of size _DECAY^(k-1) times the whole variance.
# Regression on diabetes from b = 1 at unstable rates has up to .75^(k-1), two-layer networks after a step .79^(k-1).
_DECAY = 0.8
# Where the bias of the curve is held small, between the smallest and the largest batch size.
_POINTS = 48
# The smallest eigenvalue of a correlation matrix that rounding cannot explain.
_SINGULAR = 1e-10
# AICc lower by this much in the other basis is no chance: 150 to 1.
_BETTER = 10.0
# Times the largest value: of a constant term's size nothing is assumed.
_FREE = 1e3


@functools.singledispatch
def fit_polynomial(
    batch_sizes: object,
    variance: ArrayLike,
    stderr: ArrayLike | None = None,
    degree: int | None = None,
    basis: str | None = None,
    *,
    n_examples: int | None = None,
    non_negative: bool = False,
    covariance: ArrayLike | None = None,
    constant: bool = False,
) -> PolynomialFit:
    r"""The variance of the gradient as a polynomial in 1/b, with an honest confidence band.

    $$f(b) = \sum_{k=1}^{K} \beta_k x_b^k, \qquad x_b = \frac1b \ \text{ or } \ c_b = \frac{n-b}{b(n-1)},$$

    by weighted least squares. A degree chosen on the same data is often a little too small, and its 95% band then
    covers the truth at some b only 40 to 90% of the time. Without `degree`, therefore, no term is left out: K is 16,
    and the sizes that theory lets beta_k x_b^k have at the smallest b, .8^(k-1) of the variance there, keep them in
    bounds, so weakly that the bias is at most .3 of the noise; the band counts both. What AICc prefers is reported.
    With five batch sizes or more the band covers 95 to 96% at every b between them (docs/gradient-variance.md).

    Args:
        batch_sizes: b, distinct, shape (m,).
        variance: the measured variance at each, shape (m,).
        stderr: its standard error (not its square), shape (m,); errors are taken to be independent.
        degree: K, with its textbook band, which takes terms beyond to be 0; None is the band described above.
        basis: "1/b" (online, or with replacement) or "c_b" (subsets without replacement; needs `n_examples`);
            None is "1/b".
        n_examples: n of the data set.
        non_negative: require every beta_k >= 0. Theory guarantees it for SGD on linear regression in the right
            basis, and for nothing else here.
        covariance: covariance (not correlation) of the errors, shape (m, m), in the place of `stderr`: for common
            random numbers.
        constant: add beta_0, for what does not vanish as b grows, such as a loss; not with `non_negative`.

    Of a `SweepResult` over batch sizes, any quantity: `fit_polynomial(sweep, "trace(noise_covariance)")`, see
    `fit_polynomial_of_sweep`.

    Returns:
        A `PolynomialFit`.

    Raises:
        ValueError: shapes differ, an error is not positive, batch sizes repeat, lie below 1 or beyond n, or are
            fewer than the degree.

    Warns:
        UserWarning: chi-square says that the curve misses the data, as in the wrong basis.

    Examples:
        >>> import numpy as np, sgdsim as ss
        >>> b = np.array([1, 2, 4, 8, 16, 32, 64])
        >>> exact = 3.0 / b + 2.0 / b**2
        >>> fit = ss.fit_polynomial(b, exact, stderr=0.01 * exact, degree=2)
        >>> print(np.round(fit.coefficients, 6), round(float(fit(5)), 6))
        [3. 2.] 0.68
        >>> low, high = fit.band(5)
        >>> bool(low < 0.68 < high)
        True
        >>> fit.b0  # it decreases over all of the measured range
        1.0

    Source: Qian and Klabjan, "The Impact of the Mini-batch Size on the Variance of Gradients", section 5
        (least squares there: unweighted, degree 6 fixed).
    """
    b, y, errors = _check_data(batch_sizes, variance, stderr, covariance)
    basis, n = _check_basis(basis, n_examples, b)
    spread = errors if errors.ndim == 1 else np.sqrt(np.diagonal(errors))
    if constant and non_negative:
        raise _checks.error("constant", constant, "False with non_negative=True", "leave one of them out")
    weights, x, extra = whitener(errors), basis_value(b, basis, n), int(constant)
    design = whiten(weights, _powers(x, max(len(b), _TERMS), constant))
    target = whiten(weights, y)
    # One error is added: a value that happens to be small must not pass for a small variance.
    sizes = _assumed_sizes((np.abs(y) + spread).max(), float(x.max()))
    if constant:  # what varies is what lies above the value at infinite b; of that value nothing is assumed
        varies = (np.ptp(y) + spread.max()) / max(1 - x.min() / x.max(), np.finfo(float).eps)
        sizes = np.append(_FREE * (np.abs(y) + spread).max(), _assumed_sizes(varies, float(x.max())))
    aicc: tuple[tuple[int, float, float], ...] = ()
    solution: LeastSquares | NonNegative
    if degree is not None:
        chosen = _checks.integer("degree", degree, high=len(b) - extra,
                                 remedy=f"{len(b)} batch sizes determine at most {len(b)} coefficients")
        solution = (NonNegative if non_negative else weighted_least_squares)(design[:, : chosen + extra], target)
        preferred = solution.coefficients
    elif non_negative:
        chosen, solution = _TERMS, NonNegative(design[:, :_TERMS], target, sizes)
        preferred = solution.coefficients
    else:
        aicc = _candidates(design, target, b, constant)
        chosen = min(aicc, key=lambda row: row[2])[0]
        preferred = weighted_least_squares(design[:, : chosen + extra], target).coefficients
        between = _powers(basis_value(np.geomspace(b.min(), b.max(), _POINTS), basis, n), _TERMS, constant)
        solution = bounded_bias_least_squares(design[:, : len(sizes)], target, between, sizes)
    fit = PolynomialFit(
        batch_sizes=b,
        variance=y,
        variance_stderr=spread,
        basis=basis,
        n_examples=n,
        degree=len(solution.coefficients) - extra,
        selected_degree=chosen,
        selected_coefficients=preferred,
        aicc=aicc,
        non_negative=non_negative,
        chi_square=solution.chi_square,
        degrees_of_freedom=len(b) - solution.parameters,
        solution=solution,
        constant=constant,
    )
    _warn_if_poor(fit, weights, target)
    return fit


def _powers(x: np.ndarray, degree: int, constant: bool) -> np.ndarray:
    return x[:, None] ** np.arange(0 if constant else 1, degree + 1)


def _assumed_sizes(variance: float, x: float) -> np.ndarray:
    return variance * _DECAY ** np.arange(_TERMS) / x ** np.arange(1, _TERMS + 1)


def _candidates(
    design: np.ndarray, target: np.ndarray, b: np.ndarray, constant: bool
) -> tuple[tuple[int, float, float], ...]:
    """(degree, chi-square, AICc) of every degree that leaves AICc a degree of freedom."""
    m, extra = len(b), int(constant)
    if m < 3 + extra:
        raise _checks.error("batch_sizes", b, f"at least {3 + extra} batch sizes to choose a degree from",
                            "give degree=1")
    rows = []
    highest = min(m - 2, _HIGHEST + extra)  # coefficients
    q, _ = np.linalg.qr(design[:, :highest] / np.linalg.norm(design[:, :highest], axis=0))
    rest = target
    for k in range(1, highest + 1):
        rest = rest - q[:, k - 1] * (q[:, k - 1] @ rest)
        chi_square = float(rest @ rest)
        rows.append((k - extra, chi_square, chi_square + 2 * k + 2 * k * (k + 1) / (m - k - 1)))
    return tuple(rows[extra:])


def _check_data(
    batch_sizes: object, variance: ArrayLike, stderr: ArrayLike | None, covariance: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    b = _checks.finite_array("batch_sizes", batch_sizes)
    if b.ndim != 1 or b.size == 0:
        raise _checks.error("batch_sizes", batch_sizes, f"a list (got shape {b.shape})", "try [1, 2, 4, 8]")
    if b.min() < 1:
        raise _checks.error("batch_sizes", b.min(), "at least 1", "leave the others out")
    if len(np.unique(b)) < len(b):
        raise _checks.error("batch_sizes", batch_sizes, "distinct", "merge repeated measurements into one")
    y = _checks.vector("variance", variance, len(b))
    if (stderr is None) == (covariance is None):
        raise _checks.error("stderr", stderr, "given, or else covariance, and not both",
                            "a fit without errors has no band: measure them over independent runs")
    if covariance is not None:
        matrix = _checks.symmetric("covariance", covariance, len(b))
        spread = np.sqrt(np.abs(np.diagonal(matrix))) if matrix.ndim == 2 else np.zeros(len(b))
        if spread.min() <= 0 or np.linalg.eigvalsh(matrix / spread / spread[:, None]).min() <= _SINGULAR:
            raise _checks.error("covariance", covariance, "a positive definite m x m matrix",
                                "estimate it from more groups of runs than there are batch sizes")
        return b, y, matrix
    errors = _checks.vector("stderr", stderr, len(b))
    if errors.min() <= 0:
        bad = int(errors.argmin())
        raise _checks.error("stderr", errors[bad], f"positive (batch size {b[bad]:g})",
                            "leave out batch sizes whose variance is known exactly, such as b = n")
    return b, y, errors


def _check_basis(basis: str | None, n_examples: int | None, b: np.ndarray) -> tuple[str, int | None]:
    n = None if n_examples is None else _checks.integer("n_examples", n_examples, low=2)
    name = "1/b" if basis is None else _checks.choice("basis", basis, BASES)
    if name == "c_b":
        if n is None:
            raise _checks.error("n_examples", n_examples, "the number of examples for basis 'c_b'",
                                "c_b = (n-b)/(b(n-1)) needs n_examples=n")
        if b.max() >= n:
            raise _checks.error("batch_sizes", b.max(), f"below n = {n} in basis 'c_b'",
                                "without replacement the gradient of b = n has no noise: leave it out")
    return name, n


def _warn_if_poor(fit: PolynomialFit, weights: np.ndarray, target: np.ndarray) -> None:
    chosen, degree, extra = bool(fit.aicc), fit.selected_degree, int(fit.constant)
    chi_square, freedom = fit.at_selected_degree()
    n, other, better, text = fit.n_examples, BASES[1 - BASES.index(fit.basis)], False, ""
    if n is not None and fit.batch_sizes.max() < n:
        columns = max(len(target), degree)
        design = whiten(weights, _powers(basis_value(fit.batch_sizes, other, n), columns, fit.constant))
        if chosen:
            rivals = {k: (chi, aicc) for k, chi, aicc in _candidates(design, target, fit.batch_sizes, fit.constant)}
            rival = min(rivals, key=lambda k: rivals[k][1])
            better = rivals[rival][1] + _BETTER < min(row[2] for row in fit.aicc)
            found = rivals[rival][0]
        else:
            rival = degree
            solve = NonNegative if fit.non_negative else weighted_least_squares
            found = solve(design[:, : degree + extra], target).chi_square
            better = found < chi_square
        text = f"; in {other} it is {found:.4g} at degree {rival}" + (f": use basis={other!r}" if better else "")
    elif fit.basis == "1/b":
        text = "; if the batches are subsets without replacement, use basis='c_b' and n_examples=n"
    if not (fit.misses or (chosen and better)):
        return
    low = "coefficients below 0" if fit.non_negative else "too low a degree"
    cause = low if not chosen and not better else "the wrong basis"
    if not fit.constant:
        cause += ", a number that does not vanish as b grows (constant=True)"
    warnings.warn(
        f"the polynomial of degree {degree} in {fit.basis} misses the data: chi-square {chi_square:.4g} on {freedom} "
        f"degrees of freedom{text}. It may be {cause}, or the errors are too small.", stacklevel=4,
    )
