"""How large the learning rate may be."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from sgdsim._specs import own_settings
from sgdsim.optimizers.base import Optimizer
from sgdsim.problems.base import Problem
from sgdsim.solver.limits.stability_limit import almost_sure_limit
from sgdsim.solver.stationary.linearized import LinearizedSGD, linearize


@dataclasses.dataclass(frozen=True)
class Stability:
    """The two limits of the learning rate of SGD, at fixed preconditioner and momentum.

    For a `NaturalGradient` that estimates its own Fisher matrix both are infinite wherever the noise grows with the
    fluctuation: larger steps make more noise, which makes the steps smaller again.

    Attributes:
        learning_rate: the one asked about.
        max_learning_rate: at and above it the second moment of the parameters does not exist.
        deterministic: at and above it full-batch descent does not converge.
        stable: whether the second moment exists at `learning_rate`.
        setting: what the limit below is computed from.
    """

    learning_rate: float
    max_learning_rate: float
    deterministic: float
    stable: bool
    setting: LinearizedSGD = dataclasses.field(repr=False, compare=False)

    @cached_property
    def _almost_sure(self) -> tuple[float, float]:
        return almost_sure_limit(self.setting, self.max_learning_rate)

    @property
    def almost_sure(self) -> float:
        """At and above it there is no stationary law; below it, past `max_learning_rate`, one of infinite variance.

        Computed when first read: by quadrature for isotropic inputs, by enumeration for data sets with one moving
        direction and few batches, else by simulated products of step matrices.
        """
        return self._almost_sure[0]

    @property
    def almost_sure_stderr(self) -> float:
        """Its standard error, 0 where it is exact."""
        return self._almost_sure[1]


@own_settings
def stability(problem: Problem, optimizer: Optimizer, *, batch_size: int, sampling: str | None = None) -> Stability:
    r"""Both stability limits, exactly; a learning rate beyond them is no error.

    The second moment exists iff the step contracts, rho(T) < 1, and the noise feeds back less than it gets,
    rho(S C1) < 1, where S maps gradient noise to covariance and C1 covariance to gradient noise.
    For isotropic inputs of variance a, without momentum, this is $\lambda a < 2b/(b + D + 1)$.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression.
        optimizer: an SGD, DampedNewton or NaturalGradient with a constant learning rate.
        batch_size: b >= 1.
        sampling: as for `predict`.

    Raises:
        ValueError: an argument is out of range or the loss has no minimum.
        NotImplementedError: there is no theory for this problem, optimizer or sampling.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0, 1.0], label_noise=0.5)
        >>> limits = stability(problem, ss.SGD(learning_rate=0.3), batch_size=1)
        >>> round(limits.max_learning_rate, 12), round(limits.deterministic, 12)
        (0.5, 2.0)
    """
    setting = linearize(problem, optimizer, batch_size, sampling)
    rate, limit = setting.rate, setting.limit()
    deterministic = np.inf if limit == np.inf else setting.dynamics.descent_limit()
    return Stability(rate, limit, deterministic, setting.feedback.settles(rate), setting)
