"""What the engine knows of each type of problem beside its loss and gradient: one row for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jax.typing import DTypeLike

from sgdsim import _checks
from sgdsim._types import Matrix
from sgdsim.kernels.base import Kernel
from sgdsim.kernels.conditional_variance import ConditionalMoments
from sgdsim.kernels.cycling import cycling_kernel
from sgdsim.kernels.dataset import dataset_kernel, dataset_moments, dataset_noise
from sgdsim.kernels.ellipse import ellipse_kernel
from sgdsim.kernels.gaussian import gaussian_kernel, gaussian_law, gaussian_moments, gaussian_noise
from sgdsim.kernels.linear_network import linear_network_kernel
from sgdsim.kernels.linear_network_moments import linear_network_moments
from sgdsim.kernels.network import network_kernel
from sgdsim.kernels.pallas_laws import Law
from sgdsim.kernels.quadratic import quadratic_kernel, quadratic_law, quadratic_moments, quadratic_noise
from sgdsim.kernels.reparametrized import diagonal_kernel, matrix_kernel
from sgdsim.problems import (
    CyclingToy,
    DatasetRegression,
    DeepLinear,
    DiagonalNetwork,
    Ellipse,
    FlaxNetwork,
    FromLoss,
    LinearRegression,
    MatrixFactorization,
    Problem,
    Quadratic,
    TwoLayerLinear,
)

INDEPENDENT = ("online", "with_replacement", "without_replacement")  # steps, and batches of one size


class Row(NamedTuple):
    """What is known of one type of problem; None where nothing is.

    Attributes:
        kernel: (problem, batch_size, sampling, dtype) -> its kernel.
        moments: problem -> what evaluates Var(g | w).
        noise_at_minimum: (problem, batch_size, sampling) -> covariance of the minibatch-mean gradient at the minimum.
            Where it is known, the gradient of one example is linear in the weights.
        pallas_law: kernel -> its law for one chain, on a GPU.
    """

    kernel: Callable[[Any, int, str, DTypeLike], Kernel]
    moments: Callable[[Any], ConditionalMoments] | None = None
    noise_at_minimum: Callable[[Any, int, str], Matrix] | None = None
    pallas_law: Callable[[Kernel], Law | None] | None = None


TABLE: dict[type, Row] = {
    Quadratic: Row(quadratic_kernel, quadratic_moments, quadratic_noise, quadratic_law),
    LinearRegression: Row(gaussian_kernel, gaussian_moments, gaussian_noise, gaussian_law),
    DatasetRegression: Row(dataset_kernel, dataset_moments, dataset_noise),
    FlaxNetwork: Row(network_kernel),
    FromLoss: Row(network_kernel),
    TwoLayerLinear: Row(linear_network_kernel, linear_network_moments),
    DeepLinear: Row(linear_network_kernel, linear_network_moments),
    Ellipse: Row(ellipse_kernel),
    CyclingToy: Row(cycling_kernel),
    DiagonalNetwork: Row(diagonal_kernel),
    MatrixFactorization: Row(matrix_kernel),
}


def row_of(problem: Problem) -> Row | None:
    """The row of a problem; one of a user has none."""
    return next((row for kind, row in TABLE.items() if isinstance(problem, kind)), None)


def make_kernel(problem: Problem, batch_size: int, sampling: str, dtype: DTypeLike) -> Kernel:
    """The fastest kernel that has exactly the law of the minibatch-mean gradient; a problem may bring its own."""
    make = getattr(problem, "make_kernel", None)
    if make is not None:
        return make(batch_size, sampling, dtype)
    row = row_of(problem)
    if row is None:
        names = ", ".join(kind.__name__ for kind in TABLE)
        raise _checks.error("problem", type(problem).__name__, f"one of {names}",
                            "or give it a method make_kernel(batch_size, sampling, dtype)")
    return row.kernel(problem, batch_size, sampling, dtype)


def conditional_moments(problem: Problem, sampling: str) -> ConditionalMoments | None:
    """What evaluates the moments of a problem; None where no formula is known, or batches depend on each other.

    Given the weights, Var(g) is `noise_factor(...)` times the variance from the inputs plus 1/b times that from
    fresh labels.
    """
    row = row_of(problem)
    if row is None or row.moments is None or sampling not in INDEPENDENT:
        return None
    return row.moments(problem)


def noise_at_minimum(problem: Problem, batch_size: int, sampling: str) -> Matrix:
    r"""Covariance of the minibatch-mean gradient at the minimum, shape (D, D).

    Raises:
        ValueError: the problem has none that is known, or batches depend on each other.
    """
    if sampling not in INDEPENDENT:
        raise _checks.error("control_variate", True, f"False with sampling={sampling!r}",
                            "its noise is not known: use 'without_replacement'")
    row = row_of(problem)
    if row is None or row.noise_at_minimum is None:
        names = " or ".join(kind.__name__ for kind, row in TABLE.items() if row.noise_at_minimum is not None)
        raise _checks.error("control_variate", True, f"False for {type(problem).__name__}",
                            f"it needs a known minimum: {names}")
    return row.noise_at_minimum(problem, batch_size, sampling)


def pallas_law(kernel: Kernel) -> Law | None:
    """`law(kernel, pairs, w)`, the gradient of every chain at `w`; None where this kernel has no such form."""
    laws = (row.pallas_law(kernel) for row in TABLE.values() if row.pallas_law is not None)
    return next((law for law in laws if law is not None), None)
