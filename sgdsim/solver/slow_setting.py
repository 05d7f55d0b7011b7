"""A problem and an optimizer as the slow dynamics along the minima sees them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.optimizers import SGD, Adalayer, Adam, AdamE, AdamMini, AdaptiveGradient, RMSProp, check_optimizer
from sgdsim.solver.minima import Minima, root_of

ADAPTIVE = (AdaptiveGradient, Adam, RMSProp, AdamE, AdamMini, Adalayer)
UNITS = ("slow", "steps")


_SHARPEST = 1e5  # times the least entry of S at the start: beyond it S is capped, where Adam meets a kink


@dataclasses.dataclass(frozen=True, eq=False)
class SlowSetting:
    """What the slow equations need of an optimizer.

    Attributes:
        problem: the problem.
        optimizer: the optimizer.
        rate: the rate eta that slow time t = k eta^2 counts in: lambda / (1 - mu) for heavy ball, lambda for an EMA.
        decay: c = (1 - beta_2) / eta^2, 0 for SGD.
        constant: R of a preconditioner R R' that never changes, or None.
        corrected: whether v is corrected for its start at 0.
        stable: eta times the largest eigenvalue of S H from which on the optimizer leaves a quadratic minimum.
    """

    problem: Any
    optimizer: Any
    rate: float
    decay: float
    constant: Matrix | None
    corrected: bool
    stable: float

    @property
    def adaptive(self) -> bool:
        """Whether v moves."""
        return self.constant is None

    def cap(self, v: Vector) -> float:
        """The largest entry of S that is told from infinity, for a run that starts at v."""
        return _SHARPEST * float(self.scale(v).min()) if self.adaptive else np.inf

    def scale(self, v: Vector, cap: float = np.inf) -> Vector:
        """The diagonal of S(v), no entry above the cap; ones for SGD, whose preconditioner is in `root`."""
        if not self.adaptive:
            return np.ones(len(v))
        with jax.enable_x64(True):
            return np.minimum(np.asarray(_scale(self.optimizer, np.maximum(v, 0.0))), cap)

    def slope(self, v: Vector) -> Vector:
        """The derivative of each entry of S(v)."""
        with jax.enable_x64(True):
            return np.asarray(_slope(self.optimizer, v)) if self.adaptive else np.zeros(len(v))

    def root(self, scale: Vector) -> Matrix:
        """R with S = R R'."""
        return np.diag(np.sqrt(scale)) if self.constant is None else self.constant

    def directions(self) -> Matrix:
        """D with S = D diag(scale) D'."""
        return np.eye(self.problem.dimension) if self.constant is None else self.constant

    def average(self, squares: Vector) -> Vector:
        """V(g^2); the squares themselves for SGD."""
        if not self.adaptive:
            return squares
        with jax.enable_x64(True):
            return np.asarray(_average(self.optimizer, squares))

    def check_stable(self, here: Minima) -> None:
        """Refuse a learning rate at which the optimizer does not stay at the minimum.

        Raises:
            ValueError: the learning rate is at or past the limit.
        """
        limit = self.stable / float(here.values[-1])
        if self.rate >= limit:
            given = float(self.optimizer.learning_rate)
            raise _checks.error("learning_rate", given,
                                f"below {given / self.rate * limit:.6g}, where this minimum stops being stable",
                                "lower it")


def slow_setting(problem: Any, optimizer: Any) -> SlowSetting:
    """Read an optimizer.

    Raises:
        ValueError: it does not fit the problem.
        NotImplementedError: there is no slow theory for it, or its learning rate is a schedule.
    """
    known, _ = check_optimizer(optimizer, problem.dimension)
    if not isinstance(known, (SGD, *ADAPTIVE)):
        name = type(optimizer).__name__ if known is not None else "an optax transformation"
        raise NotImplementedError(f"no slow dynamics for {name}; it is there for SGD, Adam, RMSProp, AdamE, AdamMini, "
                                  "Adalayer and AdaptiveGradient: simulate it instead")
    if callable(known.learning_rate):
        raise NotImplementedError("slow time k eta^2 needs a constant learning rate, not a schedule: pass one value")
    rate = float(known.learning_rate)
    if isinstance(known, SGD):
        mu = float(known.momentum)
        return SlowSetting(problem, known, rate / (1 - mu), 0.0, root_of(problem, known.preconditioner), False,
                           2 * (1 + mu) / (1 - mu))
    b1 = float(known.b1)
    return SlowSetting(problem, known, rate, (1 - float(known.b2)) / rate**2, None, known.bias_correction,
                       2 * (1 + b1) / (1 - b1))


def label_noise_strength(problem: Any, label_noise: Any, batch_size: Any) -> float:
    """The strength of the noise, alpha = sigma^2 / b.

    Raises:
        ValueError: sigma is not positive, or b is no batch size.
    """
    size = _checks.integer("batch_size", batch_size)
    given = getattr(problem, "label_noise", 0.0) if label_noise is None else label_noise
    sigma = _checks.non_negative("label_noise", np.asarray(given)[()], "it is a standard deviation")
    if sigma == 0:
        raise _checks.error("label_noise", 0.0, "positive: without it nothing moves along the minima",
                            "give the problem label noise, or pass label_noise=")
    return sigma**2 / size


def check_times(times: Any, unit: str, rate: float) -> Vector:
    """Increasing times as slow times t = k eta^2.

    Raises:
        ValueError: they are negative or do not increase, or the unit is unknown.
    """
    _checks.choice("unit", unit, UNITS)
    t = np.atleast_1d(_checks.finite_array("times", times))
    if t.ndim != 1 or t.size == 0 or t[0] < 0 or np.any(np.diff(t) <= 0):
        raise _checks.error("times", times, "increasing and not negative", "such as np.linspace(0, 10, 50)")
    return t * rate**2 if unit == "steps" else t


@jax.jit
def scale_and_average(optimizer: Any, v: Any, squares: Any) -> tuple[Any, Any]:
    """S(v) and V(g^2) in one call."""
    return optimizer.S(v), optimizer.V(squares)


@jax.jit
def _scale(optimizer: Any, v: Any) -> Any:
    return optimizer.S(v)


@jax.jit
def _slope(optimizer: Any, v: Any) -> Any:
    return jax.jvp(optimizer.S, (v,), (jnp.ones_like(v),))[1]


@jax.jit
def _average(optimizer: Any, squares: Any) -> Any:
    return optimizer.V(squares)
