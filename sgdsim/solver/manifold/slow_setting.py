"""A problem and an optimizer as the slow dynamics along the minima sees them."""

from __future__ import annotations

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.optimizers import SGD, AdaptiveOptimizer, Optimizer, check_optimizer, is_heavy_ball
from sgdsim.optimizers.base import constant
from sgdsim.problems.base import Problem
from sgdsim.solver.manifold.derivatives import Landscape, expand, third
from sgdsim.solver.manifold.minimum import root_of

_HEAVIEST = 0.9  # beta_1 of the paper's assumption C.6
UNITS = ("slow", "steps")
_SHARPEST = 1e5  # times the least entry of S at the start: beyond it S is capped, where Adam meets a kink


@dataclasses.dataclass(frozen=True, eq=False)
class SlowSetting:
    """What the slow equations need of an optimizer.

    Attributes:
        problem: the problem.
        optimizer: the optimizer where its preconditioner moves, None for SGD.
        learning_rate: lambda.
        rate: the rate eta that slow time t = k eta^2 counts in: lambda / (1 - mu) for heavy ball, lambda for an EMA.
        decay: c = (1 - beta_2) / eta^2, 0 for SGD.
        constant: R of SGD's preconditioner R R', None for the identity: a diagonal network is too large for its matrix.
        corrected: whether v is corrected for its start at 0.
        stable: eta times the largest eigenvalue of S H from which on the optimizer leaves a quadratic minimum.
    """

    problem: Problem
    optimizer: AdaptiveOptimizer | None
    learning_rate: float
    rate: float
    decay: float
    constant: Matrix | None
    corrected: bool
    stable: float

    @property
    def adaptive(self) -> bool:
        """Whether v moves."""
        return self.optimizer is not None

    def cap(self, v: Vector) -> float:
        """The largest entry of S that is told from infinity, for a run that starts at v."""
        return _SHARPEST * float(self.scale(v).min()) if self.adaptive else np.inf

    def scale(self, v: Vector, cap: float = np.inf) -> Vector:
        """The diagonal of S(v), no entry above the cap; ones for SGD, whose preconditioner is in `root`."""
        if self.optimizer is None:
            return np.ones(len(v))
        with jax.enable_x64(True):
            return np.minimum(np.asarray(_scale(self.optimizer, jnp.asarray(np.maximum(v, 0.0)))), cap)

    def slope(self, v: Vector) -> Vector:
        """The derivative of each entry of S(v)."""
        if self.optimizer is None:
            return np.zeros(len(v))
        with jax.enable_x64(True):
            return np.asarray(_slope(self.optimizer, jnp.asarray(v)))

    def average(self, squares: Vector) -> Vector:
        """V(g^2); the squares themselves for SGD."""
        if self.optimizer is None:
            return squares
        with jax.enable_x64(True):
            return np.asarray(_average(self.optimizer, jnp.asarray(squares)))

    def root(self, scale: Vector) -> Matrix:
        """R with S = R R'."""
        return np.diag(np.sqrt(scale)) if self.adaptive else self.directions

    @property
    def directions(self) -> Matrix:
        """D with S = D diag(scale) D'."""
        return np.eye(self.problem.dimension) if self.constant is None else self.constant

    def check_stable(self, steepest: float) -> None:
        """Refuse a learning rate at which the optimizer does not stay at the minimum.

        Raises:
            ValueError: the learning rate is at or past the limit.
        """
        limit = self.stable / steepest
        if self.rate >= limit:
            raise _checks.error("learning_rate", self.learning_rate,
                                f"below {self.learning_rate / self.rate * limit:.6g}, where this minimum stops being "
                                "stable", "lower it")


def slow_setting(problem: Problem, optimizer: Optimizer) -> SlowSetting:
    """Read an optimizer.

    Raises:
        ValueError: it does not fit the problem.
        NotImplementedError: there is no slow theory for it, or its learning rate is a schedule.
    """
    known, _ = check_optimizer(optimizer, problem.dimension)
    if not is_heavy_ball(known) and not isinstance(known, AdaptiveOptimizer):
        name = type(optimizer).__name__ if known is not None else "an optax transformation"
        name = "SGD with Nesterov's step or a schedule of momentum" if isinstance(known, SGD) else name
        raise NotImplementedError(f"no slow dynamics for {name}; it is there for SGD, Adam, RMSProp, AdamE, AdamMini, "
                                  "Adalayer, AdaSGD, Adafactor and AdaptiveGradient: simulate it instead")
    if getattr(known, "weight_decay", None) is not None:
        raise NotImplementedError("no slow dynamics with decoupled weight_decay: pass drift= to slow_sde, or simulate")
    if callable(known.learning_rate):
        raise NotImplementedError("slow time k eta^2 needs a constant learning rate, not a schedule: pass one value")
    given = constant(known.learning_rate)
    if isinstance(known, AdaptiveOptimizer):
        if float(known.b1 or 0) > _HEAVIEST:
            warnings.warn(f"b1 = {float(known.b1 or 0):g} is above {_HEAVIEST}: the slow theory is proved up to there, "
                          "and needs smaller learning rates the larger b1 is", stacklevel=3)
        b1, decay = float(known.b1 or 0), (1 - float(known.b2)) / given**2
        return SlowSetting(problem, known, given, given, decay, None, known.bias_correction,
                           2 * (1 + b1) / (1 - b1))
    mu, metric = constant(known.momentum), known.preconditioner
    root = None if metric is None else root_of(problem.dimension, metric)
    return SlowSetting(problem, None, given, given / (1 - mu), 0.0, root, False, 2 * (1 + mu) / (1 - mu))


def bends_at(setting: SlowSetting, w: Vector) -> tuple[Vector, Matrix, Matrix]:
    """The gradient, the Hessian, and as column k the third derivative against d_k d_k', d_k the directions of S."""
    with jax.enable_x64(True):
        slope, hessian, bends = _bends(setting.problem, jnp.asarray(w), jnp.asarray(setting.directions))
        return np.asarray(slope), np.asarray(hessian), np.asarray(bends)


@jax.jit
def _bends(problem: Problem, w: Array, directions: Array) -> tuple[Array, Array, Array]:
    _, slope, hessian = expand(problem.loss, w)
    return slope, hessian, third(problem.loss, w, directions, directions)


def noise_level(problem: Landscape, label_noise: float | None, batch_size: int) -> float:
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


def check_times(times: ArrayLike, unit: str, rate: float) -> Vector:
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
def scale_and_average(optimizer: AdaptiveOptimizer, v: Array, squares: Array) -> tuple[Array, Array]:
    """S(v) and V(g^2) in one call."""
    return optimizer.S(v), optimizer.V(squares)


@jax.jit
def _scale(optimizer: AdaptiveOptimizer, v: Array) -> Array:
    return optimizer.S(v)


@jax.jit
def _slope(optimizer: AdaptiveOptimizer, v: Array) -> Array:
    return jax.jvp(optimizer.S, (v,), (jnp.ones_like(v),))[1]


@jax.jit
def _average(optimizer: AdaptiveOptimizer, squares: Array) -> Array:
    return optimizer.V(squares)
