"""What a problem's law tells the theories."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, Generic, TypeVar

from sgdsim._types import Matrix, Vector
from sgdsim.solver.laws.second_moments import SecondMoments
from sgdsim.solver.noise.averaged import AveragedNoise
from sgdsim.solver.noise.factor import NoiseFactor

P = TypeVar("P")


@dataclasses.dataclass(frozen=True, eq=False)
class DataLaw(abc.ABC, Generic[P]):
    """How the gradients of a problem's minibatches are distributed, derived from its description alone."""

    problem: P

    @abc.abstractmethod
    def noise_covariance(self, w: Vector, batch_size: int, factor: NoiseFactor) -> Matrix:
        """Covariance of the minibatch-mean gradient at w (D,), shape (D, D)."""

    @property
    def noise_floor(self) -> float:
        """What fresh label noise adds to the expected loss."""
        return 0.0

    def slopes(self, w: Vector) -> Matrix:
        """The gradients of the n predictions at w (D,), shape (n, D).

        Raises:
            NotImplementedError: there are none, or several predictions for each example.
        """
        raise NotImplementedError(
            f"no theory of drawn batches for {type(self.problem).__name__}, whose examples have no prediction of one "
            "number: let every batch be the whole data set, or pass the loss as a function w -> loss"
        )


class QuadraticLaw(DataLaw[P]):
    """Of a quadratic loss: the noise is affine in the second moment of the weights, so that moments close.

    Attributes:
        exact: where its stationary law holds, and where it is derived.
    """

    exact: ClassVar[tuple[str, str]]

    @abc.abstractmethod
    def averaged_noise(self, mean: Vector, batch_size: int, factor: NoiseFactor) -> AveragedNoise:
        """The noise averaged over deviations from the mean (D,), as an affine map of their covariance."""

    @abc.abstractmethod
    def hessian_noise(self, mean: Vector, batch_size: int, factor: NoiseFactor) -> Matrix:
        """What the literature puts for the noise: 2 L_0 f H_0, loss and Hessian of the data at the mean, (D, D)."""

    @property
    @abc.abstractmethod
    def test_hessian(self) -> Matrix:
        """The Hessian of the test loss, (D, D)."""

    @abc.abstractmethod
    def moments(self, whole: bool = False) -> SecondMoments:
        """The equations for the first two moments along training; every entry of V if `whole`."""

    def noise_covariance(self, w: Vector, batch_size: int, factor: NoiseFactor) -> Matrix:
        """The averaged noise where nothing deviates."""
        return self.averaged_noise(w, batch_size, factor).additive
