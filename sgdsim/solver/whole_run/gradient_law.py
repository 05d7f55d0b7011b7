"""Mean and covariance of a minibatch gradient as traceable functions of the law of the parameters."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim._types import as_matrix
from sgdsim.problems import DatasetRegression, LinearRegression, Problem, Quadratic
from sgdsim.solver.noise.factor import factor_of

LinearProblem = Quadratic | LinearRegression | DatasetRegression


def linear_problem(problem: Problem) -> LinearProblem:
    """The problem, if its gradients are linear in the parameters.

    Raises:
        NotImplementedError: they are not.
    """
    if not isinstance(problem, LinearProblem):
        raise NotImplementedError(
            f"no theory of linear optimizers for {type(problem).__name__}; it is there for Quadratic, LinearRegression "
            "and DatasetRegression: simulate it instead"
        )
    return problem


class GradientLaw(Protocol):
    """E g = H w - h, and Cov(g) averaged over parameters of mean w and covariance Sigma: C0(w) + C1(Sigma)."""

    @property
    def hessian(self) -> Array:
        """H, shape (D, D)."""
        ...

    @property
    def pull(self) -> Array:
        """H = H w*, shape (D,)."""
        ...

    def additive(self, w: Array) -> Array:
        """C0: the covariance of the gradient at w."""
        ...

    @property
    def strength(self) -> Array:
        """What C1 is a multiple of: the part that depends on the batch size."""
        ...

    def spread(self, sigma: Array) -> Array:
        """C1 over its strength."""
        ...

    def linear(self, sigma: Array) -> Array:
        """C1, a positive linear map, its own transpose."""
        ...

    def rotated(self, q: Array) -> GradientLaw:
        """The law of Q'g as a function of Q'w, with Q orthogonal."""
        ...


class AdditiveLaw(NamedTuple):
    """Noise of a fixed covariance."""

    hessian: Array
    pull: Array
    noise: Array

    def additive(self, w: Array) -> Array:
        """C / b."""
        return self.noise

    @property
    def strength(self) -> Array:
        """Of nothing."""
        return jnp.ones(())

    def spread(self, sigma: Array) -> Array:
        """0."""
        return jnp.zeros_like(sigma)

    def linear(self, sigma: Array) -> Array:
        """0."""
        return self.spread(sigma)

    def rotated(self, q: Array) -> AdditiveLaw:
        """In another orthonormal basis."""
        return AdditiveLaw(q.T @ self.hessian @ q, q.T @ self.pull, q.T @ self.noise @ q)


class GaussianLaw(NamedTuple):
    r"""Gaussian inputs: $$C = \tfrac1b (K E K + \mathrm{Tr}[K E] K + s^2 K), \qquad E = \Sigma + (w-u)(w-u)^\top.$$"""

    hessian: Array
    pull: Array
    second_moment: Array
    teacher: Array
    residual_variance: Array
    batch_size: Array

    def additive(self, w: Array) -> Array:
        """C at Sigma = 0."""
        d = w - self.teacher
        return self.linear(jnp.outer(d, d)) + self.residual_variance * self.second_moment / self.batch_size

    @property
    def strength(self) -> Array:
        """1 / b."""
        return 1 / self.batch_size

    def spread(self, sigma: Array) -> Array:
        """K Sigma K + Tr[K Sigma] K."""
        k = self.second_moment
        return k @ sigma @ k + jnp.sum(k * sigma) * k

    def linear(self, sigma: Array) -> Array:
        """(K Sigma K + Tr[K Sigma] K) / b."""
        return self.spread(sigma) / self.batch_size

    def rotated(self, q: Array) -> GaussianLaw:
        """In another orthonormal basis."""
        return self._replace(hessian=q.T @ self.hessian @ q, pull=q.T @ self.pull,
                             second_moment=q.T @ self.second_moment @ q, teacher=q.T @ self.teacher)


class SubsetLaw(NamedTuple):
    r"""$$C = f \Big( \tfrac1n \sum_i (r_i^2 + x_i^\top \Sigma x_i) x_i x_i^\top - \hat A \Sigma \hat A
    - \bar g \bar g^\top \Big) + \tfrac{\sigma^2}{b} \hat A,$$ with residuals r and data gradient at w.

    Away from the minimum r depends on w: this is where L(m) of the second moment about the minimum comes from.
    """

    hessian: Array
    pull: Array
    features: Array
    targets: Array
    factor: Array
    label_variance: Array

    @property
    def gram(self) -> Array:
        """A^ = X'X / n."""
        return self.features.T @ self.features / len(self.features)

    def additive(self, w: Array) -> Array:
        """C at Sigma = 0."""
        x, r = self.features, self.features @ w - self.targets
        bar = x.T @ r / len(x)
        spread = (x * r[:, None] ** 2).T @ x / len(x) - jnp.outer(bar, bar)
        return self.factor * spread + self.label_variance * self.gram

    @property
    def strength(self) -> Array:
        """The factor f."""
        return self.factor

    def spread(self, sigma: Array) -> Array:
        """X' diag(x_i' Sigma x_i) X / n - A^ Sigma A^."""
        x, a = self.features, self.gram
        return (x * jnp.sum((x @ sigma) * x, axis=1)[:, None]).T @ x / len(x) - a @ sigma @ a

    def linear(self, sigma: Array) -> Array:
        """The factor f times X' diag(x_i' Sigma x_i) X / n - A^ Sigma A^."""
        return self.factor * self.spread(sigma)

    def rotated(self, q: Array) -> SubsetLaw:
        """In another orthonormal basis."""
        return self._replace(hessian=q.T @ self.hessian @ q, pull=q.T @ self.pull, features=self.features @ q)


def gradient_law(
    problem: LinearProblem, batch_size: ArrayLike, sampling: str
) -> GradientLaw:
    """The law of the batch-mean gradient of a problem; `batch_size` may be any real number, or traced."""
    d, b = problem.dimension, jnp.asarray(batch_size, float)
    hessian = jnp.asarray(problem.hessian())
    pull = -jnp.asarray(problem.gradient(jnp.zeros(d)))
    if isinstance(problem, Quadratic):
        return AdditiveLaw(hessian, pull, as_matrix(jnp.asarray(problem.example_noise_covariance), d) / b)
    if isinstance(problem, LinearRegression):
        k = as_matrix(jnp.asarray(problem.input_second_moment), d)
        return GaussianLaw(hessian, pull, k, jnp.asarray(problem.effective_teacher),
                           jnp.asarray(problem.residual_variance), b)
    return SubsetLaw(hessian, pull, jnp.asarray(problem.features), jnp.asarray(problem.targets),
                     factor_of(problem, sampling).of(b), jnp.asarray(problem.label_noise) ** 2 / b)


def commutes(problem: LinearProblem) -> bool:
    """Whether the Hessian is known to commute with the covariance of Gaussian inputs, by its form alone."""
    return isinstance(problem, LinearRegression) and jnp.ndim(problem.weight_decay) == 0
