"""Linear networks on Gaussian inputs."""

from __future__ import annotations

import numpy as np

from sgdsim._types import Matrix, Vector
from sgdsim.problems.parts.linear_layers import LinearLayers
from sgdsim.solver.laws.law import DataLaw
from sgdsim.solver.noise.factor import NoiseFactor


class LinearNetworks(DataLaw[LinearLayers]):
    """Layers W_1, ..., W_L with the error E = W_L ... W_1 - T."""

    @property
    def noise_floor(self) -> float:
        """sigma^2 / 2 for each output."""
        return self.problem.shapes[-1][0] * float(self.problem.label_noise) ** 2 / 2

    def noise_covariance(self, w: Vector, batch_size: int, factor: NoiseFactor) -> Matrix:
        r"""J' M J / b, with J the derivative of the product W_L ... W_1.

        $$M = \mathrm{Cov}[\mathrm{vec}(E x x^\top - \sigma \varepsilon x^\top)], \qquad
          M_{ij,kl} = [(E E^\top)_{ik} + \sigma^2 \delta_{ik}] \delta_{jl} + E_{il} E_{kj} .$$
        """
        layers = list(self.problem.unflatten(w))
        before, after = around(layers)
        error = after[0] @ layers[0] - self.problem.target
        outputs, inputs = error.shape
        jacobian = np.hstack([np.kron(a, b.T) for a, b in zip(after, before, strict=True)])
        directions = jacobian.T.reshape(-1, outputs, inputs)
        across = error @ error.T + float(self.problem.label_noise) ** 2 * np.eye(outputs)
        moved = across @ directions + error @ directions.swapaxes(1, 2) @ error
        return moved.reshape(len(directions), -1) @ jacobian / batch_size


def around(layers: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For every l, W_{l-1} ... W_1 and W_L ... W_{l+1}; matrices on the last two axes."""
    before, after = [np.eye(layers[0].shape[-1])], [np.eye(layers[-1].shape[-2])]
    for layer in layers[:-1]:
        before.append(layer @ before[-1])
    for layer in layers[:0:-1]:
        after.append(after[-1] @ layer)
    return before, after[::-1]
