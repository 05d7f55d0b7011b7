"""Regression on fresh Gaussian inputs."""

from __future__ import annotations

import numpy as np

from sgdsim._types import Matrix, Vector, as_matrix
from sgdsim.problems import LinearRegression
from sgdsim.solver.laws.law import QuadraticLaw
from sgdsim.solver.laws.second_moments import SecondMoments, axes, eigenbasis, square
from sgdsim.solver.linear_algebra.graded import graded_eigh
from sgdsim.solver.noise.factor import NoiseFactor
from sgdsim.solver.noise.gaussian import GaussianNoise


class GaussianRegression(QuadraticLaw[LinearRegression]):
    """Inputs of covariance K as the learner sees them, a teacher u, residuals of variance s^2."""

    exact = "exact for Gaussian inputs", "stationary.md sections 3 to 5, equations [5, 132, 151] in [3]"

    def averaged_noise(self, mean: Vector, batch_size: int, factor: NoiseFactor) -> GaussianNoise:
        """By Isserlis' theorem."""
        problem = self.problem
        return GaussianNoise(
            as_matrix(problem.input_second_moment, problem.dimension),
            mean - problem.effective_teacher,
            float(problem.residual_variance),
            batch_size,
        )

    def hessian_noise(self, mean: Vector, batch_size: int, factor: NoiseFactor) -> Matrix:
        """(d'Kd + s^2) K / b."""
        noise = self.averaged_noise(mean, batch_size, factor)
        k, d = noise.data_hessian, noise.bias
        return (d @ k @ d + noise.residual_variance) / batch_size * k

    @property
    def test_hessian(self) -> Matrix:
        """A, of clean inputs."""
        return as_matrix(self.problem.covariance, self.problem.dimension)

    @property
    def noise_floor(self) -> float:
        """s^2 / 2."""
        return float(self.problem.residual_variance) / 2

    def moments(self, whole: bool = False) -> SecondMoments:
        r"""Noise of fresh inputs.

        $$x = \tfrac1b, \qquad H(S) = K S K + \mathrm{Tr}[K S] K, \qquad G(d) = H(d d^\top) + s^2 K .$$

        Where the weight decay commutes with K this needs the diagonal of S only: O(p) a step.
        """
        problem = self.problem
        k, gamma = problem.input_second_moment, problem.weight_decay
        dimension, residual = problem.dimension, float(problem.residual_variance)
        if gamma.ndim == 0 or (gamma.ndim == 1 and k.ndim == 1):
            # the eigenvectors of K, also where the decay cancels curvature
            inputs, basis = eigenbasis(k)
            curvatures = inputs + gamma
        else:
            curvatures, basis = graded_eigh(as_matrix(k, dimension) + as_matrix(gamma, dimension))
            inputs = basis.T @ as_matrix(k, dimension) @ basis
            off = inputs - np.diag(np.diag(inputs))
            if np.abs(off).max() <= 1e-14 * np.abs(inputs).max():
                inputs = np.diag(inputs)
        drift = problem.gradient(problem.effective_teacher)
        if basis is not None:
            drift = basis.T @ drift
        if inputs.ndim == 1 and whole:
            inputs = np.diag(inputs)
        if inputs.ndim == 1:
            rows, columns = axes(dimension)

            def respond(v: np.ndarray) -> np.ndarray:
                return inputs**2 * v + (v @ inputs)[..., None] * inputs

            def inject(d: Vector) -> np.ndarray:
                return respond(d**2) + residual * inputs

        else:
            rows, columns = square(dimension)

            def respond(v: np.ndarray) -> np.ndarray:
                s = v.reshape(*v.shape[:-1], dimension, dimension)
                trace = np.sum(inputs * s, axis=(-2, -1))
                return (inputs @ s @ inputs + trace[..., None, None] * inputs).reshape(v.shape)

            def inject(d: Vector) -> np.ndarray:
                return respond(np.outer(d, d).ravel()) + residual * inputs.ravel()

        return SecondMoments(
            curvatures, basis, problem.effective_teacher, drift, rows, columns, respond, inject,
            additive=np.zeros(len(rows)),
        )  # fmt: skip
