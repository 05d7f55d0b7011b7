"""Moments of SGD on population problems: Gaussian regression and the noisy quadratic."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim._types import Matrix, as_matrix
from sgdsim.problems import LinearRegression, Quadratic
from sgdsim.solver.variance.second_moments import SecondMoments, axes, square


def quadratic_moments(problem: Quadratic) -> SecondMoments:
    """Additive noise C/b: only the diagonal of C in the eigenbasis of the Hessian matters."""
    curvatures, basis = _eigen(problem.hessian_operator)
    c = problem.noise_covariance
    if basis is not None:
        c = np.einsum("ij,ij->j", basis, as_matrix(c, problem.dimension) @ basis)
    elif c.ndim == 2:
        c = np.diag(c)
    rows, columns = axes(problem.dimension)
    return SecondMoments(
        curvatures, basis, problem.minimum, np.zeros(problem.dimension), rows, columns,
        respond=np.zeros_like, inject=np.zeros_like, additive=c,
    )  # fmt: skip


def online_moments(problem: LinearRegression) -> SecondMoments:
    r"""Noise of fresh Gaussian inputs of covariance K, teacher u, residual variance s^2.

    $$x = \tfrac1b, \qquad H(S) = K S K + \mathrm{Tr}[K S] K, \qquad G(d) = H(d d^\top) + s^2 K .$$

    Where the weight decay commutes with K this needs the diagonal of S only: O(p) a step.
    """
    k, gamma = problem.second_moment, problem.weight_decay
    dimension, residual = problem.dimension, float(problem.residual_variance)
    if gamma.ndim == 0 or (gamma.ndim == 1 and k.ndim == 1):
        # the eigenvectors of K, also where the decay cancels curvature
        values, basis = _eigen(k)
        curvatures = values + gamma
        inputs: Any = values
    else:
        curvatures, vectors = np.linalg.eigh(as_matrix(k, dimension) + as_matrix(gamma, dimension))
        basis, inputs = vectors, vectors.T @ as_matrix(k, dimension) @ vectors
        off = inputs - np.diag(np.diag(inputs))
        if np.abs(off).max() <= 1e-14 * np.abs(inputs).max():
            inputs = np.diag(inputs)
    drift = problem.gradient(problem.effective_teacher)
    if basis is not None:
        drift = basis.T @ drift
    if inputs.ndim == 1:
        rows, columns = axes(dimension)

        def respond(v: Any) -> Any:
            return inputs**2 * v + (v @ inputs)[..., None] * inputs

        def inject(d: Any) -> Any:
            return respond(d**2) + residual * inputs

    else:
        rows, columns = square(dimension)

        def respond(v: Any) -> Any:
            s = v.reshape(*v.shape[:-1], dimension, dimension)
            trace = np.sum(inputs * s, axis=(-2, -1))
            return (inputs @ s @ inputs + trace[..., None, None] * inputs).reshape(v.shape)

        def inject(d: Any) -> Any:
            return respond(np.outer(d, d).ravel()) + residual * inputs.ravel()

    return SecondMoments(
        curvatures, basis, problem.effective_teacher, drift, rows, columns, respond, inject,
        additive=np.zeros(len(rows)),
    )  # fmt: skip


def _eigen(operator: Any) -> tuple[np.ndarray, Matrix | None]:
    """Eigenvalues and eigenvectors; None for a diagonal, whose eigenvectors are the axes."""
    if operator.ndim == 1:
        return operator, None
    return np.linalg.eigh(operator)
