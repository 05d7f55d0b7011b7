"""How large the learning rate may be."""

from __future__ import annotations

import dataclasses
from typing import Any

from sgdsim.solver.setting import describe


@dataclasses.dataclass(frozen=True)
class Stability:
    """The two limits of the learning rate of SGD, at fixed preconditioner and momentum.

    Attributes:
        learning_rate: the one asked about.
        mean_square: at and above it the second moment of the parameters does not exist.
        deterministic: at and above it full-batch descent does not converge.
        stable: whether the second moment exists at `learning_rate`.
    """

    learning_rate: float
    mean_square: float
    deterministic: float
    stable: bool


def stability(problem: Any, optimizer: Any, *, batch_size: int, sampling: str | None = None) -> Stability:
    r"""Both stability limits, exactly; a learning rate beyond them is no error.

    The second moment exists iff the step contracts, rho(T) < 1, and the noise feeds back less than it gets,
    rho(S C1) < 1, where S maps gradient noise to covariance and C1 covariance to gradient noise.
    For isotropic inputs of variance a, without momentum, this is $\lambda a < 2b/(b + D + 1)$.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression.
        optimizer: an SGD with a constant learning rate.
        batch_size: b >= 1.
        sampling: as for `predict`.

    Raises:
        ValueError: an argument is out of range or the loss has no minimum.
        NotImplementedError: there is no theory for this problem, optimizer or sampling.

    Example:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[1.0, 1.0], label_noise=0.5)
        >>> limits = stability(problem, ss.SGD(learning_rate=0.3), batch_size=1)
        >>> round(limits.mean_square, 12), round(limits.deterministic, 12)
        (0.5, 2.0)
    """
    setting = describe(problem, optimizer, batch_size, sampling)
    rate, deterministic = setting.rate, setting.dynamics.descent_limit()
    stable = rate < deterministic and setting.feedback.radius(rate) < 1
    return Stability(rate, setting.feedback.limit(), deterministic, stable)
