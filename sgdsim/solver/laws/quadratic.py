"""The noisy quadratic bowl."""

from __future__ import annotations

import numpy as np

from sgdsim._types import Matrix, Vector, as_matrix
from sgdsim.problems import Quadratic
from sgdsim.solver.laws.law import QuadraticLaw
from sgdsim.solver.laws.second_moments import SecondMoments, axes, eigenbasis, square
from sgdsim.solver.noise.additive import AdditiveNoise
from sgdsim.solver.noise.factor import NoiseFactor


class NoisyQuadratic(QuadraticLaw[Quadratic]):
    """Additive noise C/b."""

    exact = "exact for additive noise", "stationary.md section 2, equation [3]"

    def averaged_noise(self, mean: Vector, batch_size: int, factor: NoiseFactor) -> AdditiveNoise:
        """C/b wherever the weights are."""
        return AdditiveNoise(as_matrix(self.problem.example_noise_covariance, self.problem.dimension) / batch_size)

    def hessian_noise(self, mean: Vector, batch_size: int, factor: NoiseFactor) -> Matrix:
        """H/b, as if the loss at the minimum were 1/2."""
        return self.problem.hessian() / batch_size

    @property
    def test_hessian(self) -> Matrix:
        """H."""
        return self.problem.hessian()

    def moments(self, whole: bool = False) -> SecondMoments:
        """Only the diagonal of C in the eigenbasis of the Hessian matters, unless V is wanted whole."""
        problem = self.problem
        curvatures, basis = eigenbasis(problem.hessian_operator)
        c = problem.example_noise_covariance
        if whole:
            c = as_matrix(c, problem.dimension)
            c = (c if basis is None else basis.T @ c @ basis).ravel()
        elif basis is not None:
            c = np.einsum("ij,ij->j", basis, as_matrix(c, problem.dimension) @ basis)
        elif c.ndim == 2:
            c = np.diag(c)
        rows, columns = (square if whole else axes)(problem.dimension)
        return SecondMoments(
            curvatures, basis, problem.minimum, np.zeros(problem.dimension), rows, columns,
            respond=np.zeros_like, inject=lambda _: np.zeros(len(rows)), additive=c,
        )  # fmt: skip
