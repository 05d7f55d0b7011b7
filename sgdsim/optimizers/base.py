"""What an optimizer description offers, and how a learning rate is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import spec
from sgdsim._types import Params, Scalar, Schedule
from sgdsim.problems.base import Problem
from sgdsim.problems.parts.traced import traced

_LOOKED = 1000  # steps at which a schedule is tried


@runtime_checkable
class Optimizer(Protocol):
    """An optimizer as a frozen pytree whose hyperparameters are arrays, so that a sweep compiles once.

    Its transformation acts along the first axis of (D, ...) arrays: one call updates every chain.
    """

    @property
    def learning_rate(self) -> Scalar | Schedule:
        """Lambda, or a schedule."""
        ...

    def as_optax(self, problem: Problem | None = None) -> optax.GradientTransformation:
        """The same optimizer as an optax transformation."""
        ...


@runtime_checkable
class AdaptiveOptimizer(Optimizer, Protocol):
    """An optimizer that scales its step by a moving average of squared gradients, as `AdaptiveGradient`."""

    @property
    def b1(self) -> Scalar | None:
        """Decay of the first moment; None carries none."""
        ...

    @property
    def b2(self) -> Scalar:
        """Decay of the second moment."""
        ...

    @property
    def bias_correction(self) -> bool:
        """Whether moments are corrected for their start at 0."""
        ...

    @property
    def V(self) -> Callable[[Params], Params]:
        """From squared gradients to what the second moment averages; linear."""
        ...

    @property
    def S(self) -> Callable[[Params], Params]:
        """From the second moment to what multiplies the step; elementwise."""
        ...


@spec
class Tabulated:
    """A schedule given as one value for each step; the last one stays."""

    values: Any

    def __call__(self, count: jax.Array) -> jax.Array:
        """The value of step `count`."""
        return jnp.asarray(self.values)[jnp.minimum(count, len(self.values) - 1)]


def _tabulated(name: str, values: object, low: float, high: float) -> Tabulated:
    """A list of numbers in [low, high) as a schedule."""
    numbers = _checks.finite_array(name, values)
    if numbers.ndim != 1 or numbers.size == 0 or not ((numbers >= low) & (numbers < high)).all():
        raise _checks.error(name, values, f"one number, or a flat list of numbers in [{low:g}, {high:g})",
                            "a list is a schedule, one number for each step")
    return Tabulated(numbers)


def check_schedules(optimizer: object, steps: int = 1) -> None:
    """Refuse schedules that a compiled step cannot call; theories with exact rates take any function of 0, 1, ...

    Args:
        optimizer: whose learning rate and momentum may be functions.
        steps: so many will be taken; of long runs, 1,000 are looked at.

    Raises:
        ValueError: JAX cannot trace a schedule, or a value is not one number in range.
    """
    for name, high in (("learning_rate", np.inf), ("momentum", 1.0)):
        schedule = getattr(optimizer, name, None)
        if callable(schedule) and not isinstance(schedule, Tabulated):
            _check_schedule(name, schedule, high, steps)


def _check_schedule(name: str, schedule: Schedule, high: float, steps: int) -> None:
    called = getattr(getattr(schedule, "func", schedule), "__name__", type(schedule).__name__)
    found = traced(name, schedule, jax.ShapeDtypeStruct((), jnp.int32), wanted="a function of the step",
                   remedy="write it with jnp, as lambda t: jnp.where(t < 10, .2, .1), or give a list")
    if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.number) or jnp.iscomplexobj(found):
        raise _checks.error(name, called, f"a function whose value is one real number (got {found})",
                            "return a scalar for each step")
    looked = np.linspace(0, steps - 1, _LOOKED).astype(np.int32)  # of one length, with repetitions: compiled once
    with np.errstate(all="ignore"), jax.disable_jit():  # nothing is compiled but single operations
        first = schedule(np.int32(0))
        if isinstance(first, jax.core.Tracer):
            return
        values = np.asarray(jax.vmap(schedule)(looked) if steps > 1 else [first], np.float64)
    bad = np.flatnonzero(~((values >= 0) & (values < high)))
    if bad.size:
        raise _checks.error(name, float(values[bad[0]]), f"finite and in [0, {high:g}) at every step, the first of "
                            f"which is 0 (this one is {looked[bad[0]]})",
                            "count from 1 where 0 is excluded: lambda t: schedule(t + 1)")


def _first_line(failed: Exception) -> str:
    return str(failed).split("\n", 1)[0][:160]


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | range) or (not isinstance(value, str) and np.ndim(value) > 0)  # type: ignore[arg-type]


def check_learning_rate(learning_rate: object) -> np.ndarray | Schedule | jax.core.Tracer:
    """A positive float64 array, or a schedule; what JAX traces has no value to check."""
    if isinstance(learning_rate, jax.core.Tracer):
        return learning_rate
    if callable(learning_rate):
        return as_tree(learning_rate)
    if _is_list(learning_rate):
        return _tabulated("learning_rate", learning_rate, 0.0, np.inf)
    return np.asarray(_checks.positive("learning_rate", learning_rate, "try 0.1, or a schedule step -> rate"))


def check_momentum(momentum: object) -> np.ndarray | Schedule | jax.core.Tracer | None:
    """A float64 array in (0, 1), a schedule, or None for 0: then no momentum array is ever carried."""
    if isinstance(momentum, jax.core.Tracer):
        return momentum
    if callable(momentum):
        return as_tree(momentum)
    if _is_list(momentum):
        return _tabulated("momentum", momentum, 0.0, 1.0)
    mu = 0.0 if momentum is None else _checks.fraction("momentum", momentum)
    return np.asarray(mu) if mu else None


def as_tree(function: Schedule) -> Schedule:
    """A function as a pytree without leaves; one that is a pytree already, with its own leaves, stays."""
    return jax.tree_util.Partial(function) if jax.tree_util.all_leaves([function]) else function


def is_traced(value: object) -> bool:
    """Whether `value` is known to JAX alone."""
    return isinstance(value, jax.Array)


def resolve(optimizer: Any, problem: Problem, batch_size: int) -> Any:
    """The optimizer with what it takes from the problem and the batch size worked out, on the host in float64.

    `DampedNewton` becomes `SGD` with a preconditioner; most optimizers stay as they are.
    """
    method = getattr(optimizer, "resolve", None)
    return optimizer if method is None else method(problem, batch_size)


def constant(number: Scalar | Schedule | None) -> float:
    """A learning rate or momentum that is known to be no schedule; None is 0."""
    assert not callable(number), "schedules are refused before"
    return 0.0 if number is None else float(number)


def rate_at(learning_rate: Any, count: ArrayLike) -> Any:
    """The learning rate of step `count` (the first step is 0)."""
    return learning_rate(count) if callable(learning_rate) else learning_rate


def check_optimizer(
    optimizer: object, dimension: int
) -> tuple[Optimizer | None, optax.GradientTransformation | None]:
    """Tell a described optimizer from an optax transformation: one of the two returned is None.

    Raises:
        ValueError: it is neither, or its preconditioner, Fisher matrix or blocks have another dimension than
            the problem.
    """
    if isinstance(optimizer, Optimizer):
        for name in ("preconditioner", "fisher"):
            p = getattr(optimizer, name, None)
            if p is not None and p.shape[0] != dimension:
                raise _checks.error(name, p, f"of dimension {dimension} like the problem (got {p.shape})",
                                    "give it one row and column for each parameter")
        if getattr(optimizer, "dimension", dimension) != dimension:
            name = next(n for n in ("blocks", "layers", "shapes") if hasattr(optimizer, n))
            raise _checks.error(name, getattr(optimizer, name),
                                f"of {dimension} parameters in all, like the problem",
                                "give every parameter one block")
        return optimizer, None
    if isinstance(optimizer, optax.GradientTransformation):
        _check_transformation(optimizer, dimension)
        return None, optimizer
    remedy = "try ss.SGD(learning_rate=0.1)"
    if isinstance(optimizer, optax.MultiSteps):
        remedy = "pass its .gradient_transformation()"
    elif isinstance(optimizer, type) or getattr(optimizer, "__module__", "").startswith("optax"):
        remedy = f"call it first: {getattr(optimizer, '__name__', 'the function')}(0.1)"
    raise _checks.error("optimizer", optimizer, "a sgdsim optimizer or an optax.GradientTransformation", remedy)


def _check_transformation(transformation: optax.GradientTransformation, dimension: int) -> None:
    """Refuse what cannot step one vector of parameters by its gradient alone, before anything is compiled."""
    w = jax.ShapeDtypeStruct((dimension,), jnp.float32)

    def run(point: jax.Array, gradient: jax.Array) -> tuple[PyTree, PyTree]:
        def step(_: int, carry: tuple[jax.Array, PyTree]) -> tuple[jax.Array, PyTree]:
            update, state = transformation.update(gradient, carry[1], carry[0])
            return carry[0] + update, state

        state = transformation.init(point)
        moved = transformation.update(gradient, state, point)[0]
        if getattr(moved, "shape", None) == point.shape:
            jax.lax.fori_loop(0, 2, step, (point, state))
        return moved, state

    try:
        program, (moved, state) = jax.make_jaxpr(run, return_shape=True)(w, w)
    except Exception as failed:
        pairs = "no attribute 'fast'" in str(failed) or "no attribute fast" in str(failed)
        raise _checks.error(
            "optimizer", "an optax transformation", f"one that steps a vector of {dimension} parameters by its "
            f"gradient alone ({_first_line(failed)})",
            "for optax.lookahead pass ss.lookahead, with the same arguments" if pairs else
            "leave out what needs the loss or trees of parameters: line searches, plateaus, masks of trees"
        ) from failed
    if getattr(moved, "shape", None) != (dimension,):
        raise _checks.error("optimizer", "an optax transformation", f"one whose updates have shape ({dimension},) "
                            f"(got {moved})", "it must keep the shape of the gradient")
    if "random_bits" in str(program) and not any(map(_is_key, jax.tree.leaves(state))):
        raise _checks.error("optimizer", "an optax transformation that draws random numbers",
                            "one with its random key in its state", "else all chains draw the same: begin with the key "
                            "in init, and split it in update, as optax.add_noise does")


def _is_key(leaf: jax.ShapeDtypeStruct) -> bool:
    """A random key, of the new kind or as raw words of Threefry's or the hardware's generator."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or (leaf.dtype == jnp.uint32 and leaf.shape in ((2,), (4,)))
