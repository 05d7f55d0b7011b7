"""The moment equations of a problem and the noise factor of a batch size."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sgdsim.problems import DatasetRegression, LinearRegression, Quadratic
from sgdsim.solver.variance.fixed_data import dataset_moments
from sgdsim.solver.variance.online import online_moments, quadratic_moments
from sgdsim.solver.variance.second_moments import SecondMoments

_MOMENTS = {
    Quadratic: quadratic_moments,
    LinearRegression: online_moments,
    DatasetRegression: dataset_moments,
}


@dataclasses.dataclass(frozen=True)
class NoiseFactor:
    r"""The variable x in which variances are polynomials with non-negative coefficients.

    $$x = \tfrac1b \;\text{(online, with replacement)}, \qquad x = c_b = \frac{n-b}{b(n-1)} \;\text{(without)}.$$

    Attributes:
        n_examples: n where examples are drawn without replacement, None otherwise.
    """

    n_examples: int | None = None

    @property
    def name(self) -> str:
        """"1/b" or "c_b"."""
        return "1/b" if self.n_examples is None else "c_b"

    def of(self, b: Any) -> Any:
        """The variable x of batch size b, which need not be whole."""
        n = self.n_examples
        if n is None:
            return 1 / b
        return (n - b) / (b * (n - 1)) if n > 1 else 0 * b

    def slope(self, b: Any) -> Any:
        """The derivative dx/db."""
        n = self.n_examples
        if n is None:
            return -1 / b**2
        return -n / (b**2 * (n - 1)) if n > 1 else 0 * b

    @property
    def inverse(self) -> tuple[float, float]:
        """(a, c) of 1/b = a + c x: both non-negative."""
        n = self.n_examples
        return (0.0, 1.0) if n is None else (1 / n, (n - 1) / n)


def moments_of(problem: Any) -> SecondMoments:
    """The moment equations.

    Raises:
        NotImplementedError: a problem whose moments do not close.
    """
    for kind, moments in _MOMENTS.items():
        if isinstance(problem, kind):
            return moments(problem)  # type: ignore[operator]
    raise NotImplementedError(
        f"no closed moment equations for {type(problem).__name__}; they are there for Quadratic, LinearRegression "
        "and DatasetRegression, polynomials also for TwoLayerLinear (gradient_variance_polynomial): simulate it instead"
    )


def factor_of(problem: Any, mode: str) -> NoiseFactor:
    """The variable x of a sampling mode.

    Raises:
        NotImplementedError: "epochs".
    """
    if mode == "epochs":
        raise NotImplementedError(
            "no closed recursion for sampling='epochs': batches of one shuffled pass are dependent; "
            "use solver.epoch_gradient_variance for n <= 12, or simulate it"
        )
    return NoiseFactor(problem.n_examples if mode == "without_replacement" else None)


def noise_factors(factor: NoiseFactor, sizes: Any) -> tuple[Any, Any]:
    """X and 1/b for batch sizes, as columns (B, 1)."""
    b = np.asarray(sizes, dtype=np.float64)[:, None]
    return factor.of(b), 1 / b
