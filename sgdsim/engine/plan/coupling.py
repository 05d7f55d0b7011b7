"""A problem and its companion as one problem: what a run with a control variate simulates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import Remembered, derived, remember, set_field, spec
from sgdsim._types import AnyArray, ArrayT, Matrix, Params, Vector, apply, as_matrix, backend_of
from sgdsim.engine.plan.grid import Grid
from sgdsim.engine.plan.request import Request
from sgdsim.kernels import make_kernel, noise_at_minimum
from sgdsim.kernels.coupled import CoupledKernel
from sgdsim.optimizers import SGD, is_heavy_ball, resolve
from sgdsim.problems import Problem
from sgdsim.statistics import Moments, Statistic
from sgdsim.statistics.base import Measurement
from sgdsim.statistics.moments import CentralMoments


@spec
class Coupled:
    """A problem and its companion as one problem of 2D parameters: w, then v."""

    remembered: Remembered[Problem]

    def __init__(self, problem: Problem):
        set_field(self, remembered=remember(problem))

    @property
    def problem(self) -> Problem:
        """The problem itself."""
        return self.remembered.recall()

    @derived
    def hessian_matrix(self) -> Matrix:
        """Its Hessian, shape (D, D)."""
        return self.problem.hessian()

    @property
    def dimension(self) -> int:
        """2D."""
        return 2 * self.problem.dimension

    @property
    def n_examples(self) -> int | None:
        """Number of examples of the problem."""
        return self.problem.n_examples

    @property
    def minimum(self) -> Vector:
        """The minimum, and 0."""
        return np.concatenate([self.problem.minimum, np.zeros(self.problem.dimension)])

    @property
    def default_start(self) -> Vector:
        """The start of the problem, and 0."""
        return np.concatenate([self.problem.default_start, np.zeros(self.problem.dimension)])

    def first(self, w: ArrayT) -> ArrayT:
        """The parameters of the problem itself."""
        return w[: self.problem.dimension]

    def loss(self, w: ArrayT) -> ArrayT:
        """The loss of the problem."""
        return self.problem.loss(self.first(w))

    def test_loss(self, w: ArrayT) -> ArrayT:
        """The test loss of the problem."""
        return self.problem.test_loss(self.first(w))

    def gradient(self, w: ArrayT) -> ArrayT:
        """Both gradients, (2D, ...)."""
        v = w[self.problem.dimension :]
        return backend_of(w).concatenate([self.problem.gradient(self.first(w)), apply(self.hessian_matrix, v)])

    def hessian(self, w: AnyArray | None = None) -> Matrix:
        """The Hessian twice, block by block."""
        return np.kron(np.eye(2), self.hessian_matrix)

    def example_gradient(self, w: ArrayT, example: PyTree) -> ArrayT:
        """Not of one example: the companion knows batches only."""
        raise NotImplementedError("the companion of a problem knows batches only")

    def make_kernel(self, batch_size: int, sampling: str, dtype: DTypeLike) -> CoupledKernel:
        """The kernel of the problem, drawn twice with one key."""
        kernel = make_kernel(self.problem, batch_size, sampling, dtype)
        return CoupledKernel(kernel, np.asarray(self.problem.minimum, np.float64), self.hessian_matrix)


@spec
class OnFirst:
    """A statistic of the problem itself, measured on the coupled one."""

    statistic: Statistic

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> PyTree:
        """Zero sums of D parameters."""
        return self.statistic.init(dimension // 2, groups, dtype)

    def update(self, sums: PyTree, at: Measurement) -> PyTree:
        """Add one step of w."""
        problem: Coupled = at.problem
        params, gradient, centre = (problem.first(x) for x in (at.params, at.gradient, at.centre))
        mine = Measurement(params, gradient, at.weight, centre, problem.problem, at.memory)
        return self.statistic.update(sums, mine)

    def begin(self, params: Params) -> PyTree:
        """What the statistic remembers of w, if anything."""
        return self.statistic.begin(params[: len(params) // 2]) if hasattr(self.statistic, "begin") else ()

    def remember(self, memory: PyTree, params: Params) -> PyTree:
        """And after one more step."""
        if not hasattr(self.statistic, "remember"):
            return memory
        return self.statistic.remember(memory, params[: len(params) // 2])

    def collect(self, sums: PyTree, centre: np.ndarray) -> PyTree:
        """Totals of w."""
        return self.statistic.collect(sums, centre[:, : centre.shape[1] // 2])

    def merge(self, a: PyTree, b: PyTree) -> PyTree:
        """Join two stretches of steps."""
        return self.statistic.merge(a, b)

    def finalize(self, totals: PyTree) -> Mapping[str, tuple[ArrayLike, ArrayLike]]:
        """The quantities of the statistic."""
        return self.statistic.finalize(totals)


@spec
class CoupledMoments(Moments):
    """Moments of (w, v); those of w are reported, both are kept for the control."""

    def finalize(self, totals: CentralMoments) -> dict[str, tuple[ArrayLike, ArrayLike]]:
        """Mean, covariance and kurtosis of w, without control."""
        d = totals.mean.shape[1] // 2
        second = totals.second[:, :d, :d]
        mine = CentralMoments(totals.n, totals.mean[:, :d], second, totals.third[:, :d], totals.fourth[:, :d])
        return super().finalize(mine)


def couple_run(problem: Problem, request: Request, grid: Grid) -> tuple[Coupled, Request, Grid, SGD]:
    """The run of a problem as one of it and its companion, and the optimizer of each of the two.

    Raises:
        ValueError: the problem, the optimizer, the sampling mode or the statistics leave nothing to control.
    """
    if len(grid.batches[0]) > 1:
        raise _checks.error("control_variate", True, "False for a schedule of batch sizes", "leave it out")
    batch_size = int(grid.batches[0][0])
    noise_at_minimum(problem, batch_size, grid.sampling)
    alone = None if request.optimizer is None else resolve(request.optimizer, problem, batch_size)
    if not is_heavy_ball(alone):
        raise _checks.error("control_variate", True, "False unless the optimizer is SGD or DampedNewton",
                            "the companion of other optimizers has no known covariance")
    if not any(isinstance(s, Moments) and s.full for s in request.statistics):
        raise _checks.error("control_variate", True, "False without the statistic Moments()",
                            "add ss.statistics.Moments() to statistics")
    statistics = tuple(
        CoupledMoments() if isinstance(s, Moments) and s.full else OnFirst(s) for s in request.statistics
    )
    initial = np.concatenate([request.initial, np.zeros_like(request.initial)], axis=-1)
    both = couple(alone, problem.dimension)
    coupled = request._replace(optimizer=both, statistics=statistics, initial=initial)
    return Coupled(problem), coupled, grid._replace(optimizers=[both]), alone


def couple(optimizer: SGD, dimension: int) -> SGD:
    """The optimizer of (w, v): the same for both."""
    p = optimizer.preconditioner
    if p is not None:
        p = np.tile(p, 2) if np.ndim(p) == 1 else np.kron(np.eye(2), as_matrix(p, dimension))
    return SGD(optimizer.learning_rate, optimizer.momentum, p)
