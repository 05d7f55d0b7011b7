"""The covariance of a minibatch gradient, derived from a problem's data law: at a point, and averaged."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, Vector, as_matrix
from sgdsim.problems import DatasetRegression, FlaxNetwork, FromLoss, LinearRegression, Quadratic, check_sampling

_TOGETHER = 64  # examples differentiated side by side


_ROUNDING = 1e-11  # residuals below this share of the targets: the model fits every example


class AveragedNoise(Protocol):
    """C(Sigma) = C0 + C1(Sigma): the gradient noise averaged over deviations of covariance Sigma from the mean."""

    @property
    def additive(self) -> Matrix:
        """C0, the noise at the mean itself, shape (D, D)."""
        ...

    @property
    def carrier(self) -> Matrix:
        """A positive semi-definite matrix whose range holds the noise, shape (D, D)."""
        ...

    def linear(self, sigma: Any) -> Any:
        """C1(Sigma), a positive linear map; leading axes of `sigma` (..., D, D) are a stack."""
        ...

    def restrict(self, basis: Matrix) -> AveragedNoise:
        """The same noise in coordinates v = V'w, for a basis V of shape (D, rank)."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class AdditiveNoise:
    """Noise of a fixed covariance C0."""

    additive: Matrix

    @property
    def carrier(self) -> Matrix:
        """C0."""
        return self.additive

    def linear(self, sigma: Any) -> Any:
        """0."""
        return np.zeros_like(sigma)

    def restrict(self, basis: Matrix) -> AdditiveNoise:
        """V' C0 V."""
        return AdditiveNoise(basis.T @ self.additive @ basis)


@dataclasses.dataclass(frozen=True, eq=False)
class GaussianNoise:
    r"""Regression on fresh Gaussian inputs [5, 132, 151], in one form for label noise, input noise and decay.

    $$C = \tfrac1b (K E K + \mathrm{Tr}[K E] K + s^2 K), \qquad E = \Sigma + d_0 d_0^\top.$$

    K is the inputs' covariance as the learner sees it, d0 the bias w* - K^{-1} A u, s^2 the residual variance.
    """

    second_moment: Matrix
    bias: Vector
    residual_variance: float
    batch_size: int

    @cached_property
    def additive(self) -> Matrix:
        """C at Sigma = 0."""
        k = self.second_moment
        return self.linear(np.outer(self.bias, self.bias)) + self.residual_variance * k / self.batch_size

    @property
    def carrier(self) -> Matrix:
        """K."""
        return self.second_moment

    def linear(self, sigma: Any) -> Any:
        """(K Sigma K + Tr[K Sigma] K) / b."""
        k = self.second_moment
        trace = np.sum(k * sigma, axis=(-2, -1))
        return (k @ sigma @ k + trace[..., None, None] * k) / self.batch_size

    def restrict(self, basis: Matrix) -> GaussianNoise:
        """V' K V and V' d0."""
        k = basis.T @ self.second_moment @ basis
        return GaussianNoise(k, basis.T @ self.bias, self.residual_variance, self.batch_size)


@dataclasses.dataclass(frozen=True, eq=False)
class SubsetNoise:
    r"""Batches of a finite data set of any distribution [99, 108, 116].

    $$C = f \Big( \tfrac1n \sum_i (r_i^2 + x_i^\top \Sigma x_i) x_i x_i^\top - \hat A \Sigma \hat A
          - \bar g \bar g^\top \Big) + \tfrac{\sigma^2}{b} \hat A .$$

    r_i are the residuals at the mean, gbar the data gradient there, f = 1/b with replacement and
    (n-b)/(b(n-1)) without; fresh label noise sigma is not thinned by f. Applied in O(n D^2).
    """

    features: np.ndarray
    residuals: Vector
    factor: float
    label_variance: float

    @cached_property
    def gram(self) -> Matrix:
        """A^ = X'X / n."""
        return self.features.T @ self.features / len(self.features)

    @cached_property
    def additive(self) -> Matrix:
        """C at Sigma = 0."""
        x, r = self.features, self.residuals
        bar = x.T @ r / len(x)
        spread = (x * r[:, None] ** 2).T @ x / len(x) - np.outer(bar, bar)
        return self.factor * spread + self.label_variance * self.gram

    @property
    def carrier(self) -> Matrix:
        """A^, or 0 when every batch is the whole data set."""
        return self.gram * float(self.factor > 0 or self.label_variance > 0)

    def linear(self, sigma: Any) -> Any:
        """The factor f times X' diag(x_i' Sigma x_i) X / n - A^ Sigma A^."""
        if self.factor == 0:
            return np.zeros_like(sigma)
        x = self.features
        flat = np.reshape(sigma, (-1, *np.shape(sigma)[-2:]))
        spread = np.stack([(x * np.sum((x @ s) * x, axis=1)[:, None]).T @ x for s in flat]) / len(x)
        return self.factor * (np.reshape(spread, np.shape(sigma)) - self.gram @ sigma @ self.gram)

    def restrict(self, basis: Matrix) -> SubsetNoise:
        """X V."""
        return SubsetNoise(self.features @ basis, self.residuals, self.factor, self.label_variance)


def check_theory(problem: Any, batch_size: Any, sampling: str | None) -> tuple[int, str]:
    """The batch size and the sampling mode of a request that there is a theory for.

    Raises:
        ValueError: the batch size or the mode does not fit the problem.
        NotImplementedError: "epochs", or a problem without a theory.
    """
    if not isinstance(problem, Quadratic | LinearRegression | DatasetRegression):
        raise NotImplementedError(
            f"no stationary theory for {type(problem).__name__}; it is there for Quadratic, LinearRegression and "
            "DatasetRegression: simulate it instead"
        )
    size, mode = check_sampling(problem, batch_size, sampling)
    _refuse_epochs(mode)
    return size, mode


def _refuse_epochs(mode: str) -> None:
    if mode == "epochs":
        raise NotImplementedError(
            "no theory for sampling='epochs': batches of one shuffled pass are dependent; "
            "use 'without_replacement' (a fresh subset each step) or simulate it"
        )


def subset_factor(n: int, batch_size: int, mode: str) -> float:
    """f: 1/b with replacement, (n-b)/(b(n-1)) without [99, 108]."""
    if mode == "with_replacement":
        return 1 / batch_size
    return (n - batch_size) / (batch_size * (n - 1)) if n > 1 else 0.0


def averaged_noise(problem: Any, w: Vector, batch_size: int, mode: str) -> AveragedNoise:
    """The noise averaged over deviations from the mean `w`, as an affine map of their covariance."""
    if isinstance(problem, Quadratic):
        return AdditiveNoise(as_matrix(problem.noise_covariance, problem.dimension) / batch_size)
    if isinstance(problem, LinearRegression):
        return GaussianNoise(
            as_matrix(problem.second_moment, problem.dimension),
            w - problem.effective_teacher,
            float(problem.residual_variance),
            batch_size,
        )
    residuals = problem.features @ w - problem.targets
    if np.linalg.norm(residuals) <= _ROUNDING * np.linalg.norm(problem.targets):
        residuals = np.zeros_like(residuals)
    return SubsetNoise(
        problem.features,
        residuals,
        subset_factor(problem.n_examples, batch_size, mode),
        float(problem.label_noise**2) / batch_size,
    )


def gradient_covariance(problem: Any, w: Any, batch_size: int, sampling: str | None = None) -> Matrix:
    r"""Exact covariance of a minibatch-mean gradient at the point w [99, 108, 116].

    $$C(w) = f \Big( \tfrac1n \sum_i g_i g_i^\top - \bar g \bar g^\top \Big) + \text{label noise}.$$

    Args:
        problem: a Quadratic, LinearRegression, DatasetRegression, FlaxNetwork or FromLoss.
        w: the point, shape (D,).
        batch_size: b >= 1.
        sampling: "online", "with_replacement" or "without_replacement"; None for the problem's default.

    Raises:
        ValueError: `w` or `batch_size` is out of range, or `sampling` does not fit the problem.
        NotImplementedError: another problem, or "epochs".

    Examples:
        >>> import sgdsim as ss
        >>> from sgdsim.solver import gradient_covariance
        >>> problem = ss.DatasetRegression(features=[[1.0], [1.0]], targets=[1.0, -1.0])
        >>> float(gradient_covariance(problem, [0.0], batch_size=1)[0, 0])
        1.0
    """
    if isinstance(problem, FlaxNetwork | FromLoss):
        b, mode = check_sampling(problem, batch_size, sampling)
        _refuse_epochs(mode)
        point = _checks.vector("w", w, problem.dimension)
        drawn = spread(_example_gradients(problem, point), subset_factor(problem.n_examples, b, mode))
        if isinstance(problem, FlaxNetwork) and problem.label_noise > 0:
            return drawn + _label_noise(problem, point) / b
        return drawn
    b, mode = check_theory(problem, batch_size, sampling)
    return averaged_noise(problem, _checks.vector("w", w, problem.dimension), b, mode).additive


def _example_gradients(problem: FlaxNetwork | FromLoss, w: Vector) -> np.ndarray:
    """The gradient of every example, shape (n, D)."""
    with jax.enable_x64(True):
        data = (jnp.asarray(problem.features), jnp.asarray(problem.targets))
        return np.asarray(jax.lax.map(lambda xy: problem.example_gradient(w, xy), data, batch_size=_TOGETHER))


def _label_noise(problem: FlaxNetwork, w: Vector) -> Matrix:
    """The share of fresh label noise for one example: sigma^2 times the mean square of the outputs' gradients."""
    with jax.enable_x64(True):

        def slopes(x: Any) -> Any:
            return jax.jacrev(lambda v: problem.network.predict(v, x[None]).ravel())(jnp.asarray(w))

        j = np.asarray(jax.lax.map(slopes, jnp.asarray(problem.features), batch_size=_TOGETHER)).reshape(-1, len(w))
    return float(problem.label_noise) ** 2 * j.T @ j / problem.n_examples


def spread(gradients: np.ndarray, factor: float) -> Matrix:
    """The factor f times the covariance of the rows of `gradients` (n, D)."""
    centred = gradients - gradients.mean(axis=0)
    return factor * centred.T @ centred / len(centred)
