"""Networks and a user's own loss of one example, on a finite data set: by automatic differentiation."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim._types import Matrix, Params, Vector
from sgdsim.problems import FlaxNetwork, FromLoss
from sgdsim.problems.parts.example_losses import ExampleLosses
from sgdsim.problems.parts.flax_modules import output_shape
from sgdsim.solver.laws.law import DataLaw
from sgdsim.solver.noise.factor import NoiseFactor
from sgdsim.solver.noise.subset import spread

TOGETHER = 64  # examples differentiated side by side

L = TypeVar("L", bound=ExampleLosses)


class DifferentiatedLosses(DataLaw[L], Generic[L]):
    """The gradient of every example."""

    @property
    def outputs(self) -> int:
        """How many numbers one prediction has."""
        return 1

    @property
    def likelihood(self) -> bool:
        """Whether the loss is a negative log-likelihood."""
        return False

    def label_covariance(self, w: Vector) -> Matrix | float:
        """The share of fresh label noise in the noise of one example."""
        return 0.0

    def noise_covariance(self, w: Vector, batch_size: int, factor: NoiseFactor) -> Matrix:
        """The factor f times the covariance of the examples' gradients, and the labels' share over b."""
        with jax.enable_x64(True):
            drawn = spread(np.asarray(_example_gradients(self.problem, w)))
        return factor.of(float(batch_size)) * drawn + self.label_covariance(w) / batch_size


class OwnLoss(DifferentiatedLosses[FromLoss]):
    """All noise is in the loss."""


class NetworkLoss(DifferentiatedLosses[FlaxNetwork]):
    """A network's outputs and targets are known apart, so that labels can be noisy."""

    @property
    def noise_floor(self) -> float:
        """sigma^2 / 2 for each output."""
        return float(self.problem.noise_floor)

    @property
    def outputs(self) -> int:
        """As the network has."""
        return math.prod(output_shape(self.problem.network, self.problem.features))

    @property
    def likelihood(self) -> bool:
        """Cross-entropy is one."""
        return self.problem.loss_name == "cross_entropy"

    def slopes(self, w: Vector) -> Matrix:
        """Of a network with one output."""
        if self.outputs != 1:
            return super().slopes(w)
        with jax.enable_x64(True):
            return np.asarray(_output_gradients(self.problem, w))[:, 0]

    def label_covariance(self, w: Vector) -> Matrix | float:
        """The mean of J'CJ, J an example's outputs and C the covariance of their residuals over its labels.

        sigma^2 I for noise; for a label with chances q, diag(q) - q q' of the logits, p (1 - p) of one output.
        """
        problem, sigma, p = self.problem, float(self.problem.label_noise), self.problem.label_flip
        if sigma == 0 and p == 0:
            return 0.0
        with jax.enable_x64(True):
            j = np.asarray(_output_gradients(problem, w))
        rows = j.reshape(-1, len(w))
        if problem.loss_name != "cross_entropy":
            return (sigma**2 or p * (1 - p)) * rows.T @ rows / problem.n_examples
        kept = np.arange(self.outputs) == problem.targets[:, None]
        chances = np.where(kept, 1 - p, p / (self.outputs - 1))
        mean = np.einsum("nk,nkd->nd", chances, j)
        return ((chances.reshape(-1, 1) * rows).T @ rows - mean.T @ mean) / problem.n_examples


@jax.jit
def _example_gradients(problem: ExampleLosses, w: Params) -> jax.Array:
    """Shape (n, D)."""
    data = (problem.features, problem.targets)
    return jax.lax.map(lambda xy: problem.example_gradient(w, xy), data, batch_size=TOGETHER)


@jax.jit
def _output_gradients(problem: FlaxNetwork, w: Params) -> jax.Array:
    """The derivatives of every example's outputs, shape (n, outputs, D)."""

    def slopes(x: jax.Array) -> jax.Array:
        return jax.jacrev(lambda v: problem.network.predict(v, x[None]).ravel())(w)

    return jax.lax.map(slopes, jnp.asarray(problem.features), batch_size=TOGETHER)
