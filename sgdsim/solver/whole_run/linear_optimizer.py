"""Any linear optax transformation as a state-space system, read off by differentiation."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from sgdsim.optimizers import SGD, Optimizer, check_optimizer, check_schedules, resolve
from sgdsim.problems import Problem

_ROUNDING = 1e-9  # relative: a difference below it is no non-linearity
_SINGLE = 1e-5  # the same where it accumulates in single precision
_SCALES = (1e-4, 1.0, 1e4)  # clipping and saturation show at one of them
_STEPS = 48  # clocks looked at; a period is at most half as long
_LATE = 2**22  # what a counter is set to, for a bias correction to have faded

Clock = list[Array]


class Affine(NamedTuple):
    """One step of z = (w, s_1, ..., s_{k-1}) at gradient g: z' = A z + B g + c.

    A is (k, k) where all parameters are treated alike, (k, k, D) where each is on its own, (k, D, k, D) else; B and c
    follow. Without the identity of w: `a` is A less 1 in its first entry, so that slow directions keep their digits.
    """

    a: Array
    b: Array
    c: Array


class LinearOptimizer(NamedTuple):
    """A transformation whose update is affine in gradient, state and parameters.

    Attributes:
        transform: the optax transformation.
        kind: "alike", "apart" or "mixed": how it treats parameters, see `Affine`.
        clock: what its state holds besides vectors (counters, rates), before the first step.
        blocks: k, the number of vectors it carries, w included.
        dimension: D.
        constant: whether every step is known to be the same.
    """

    transform: optax.GradientTransformation
    kind: str
    clock: Clock
    blocks: int
    dimension: int
    constant: bool = False

    def at(self, clock: Clock) -> tuple[Affine, Clock]:
        """A, B and c at a clock, and the next clock; traceable."""
        d = 1 if self.kind == "alike" else self.dimension
        step = _stepper(self.transform, d)

        def move(z: Array, g: Array) -> tuple[Array, Clock]:
            return step(clock, z, g)

        z, g = jnp.zeros((self.blocks, d)), jnp.zeros(d)
        if self.kind == "mixed":
            (a, b), c = jax.jacfwd(lambda z, g: move(z, g)[0], (0, 1))(z, g), move(z, g)[0]
        else:
            ones = jnp.concatenate([jnp.eye(self.blocks), jnp.zeros((1, self.blocks))])[:, :, None] * jnp.ones(d)
            pushes = jnp.zeros((self.blocks + 1, d)).at[-1].set(1.0)
            moved = jax.vmap(lambda dz, dg: jax.jvp(lambda z, g: move(z, g)[0], (z, g), (dz, dg))[1])(ones, pushes)
            a, b, c = jnp.moveaxis(moved[:-1], 0, 1), moved[-1], move(z, g)[0]
        if self.kind == "alike":
            a, b, c = a[..., 0], b[..., 0], c[..., 0]
        return Affine(a, b, c), move(z, g)[1]


def described(optimizer: SGD, problem: Problem) -> LinearOptimizer:
    """What the description of `SGD` says by itself, without a trial; traceable."""
    p, transform = optimizer.preconditioner, optimizer.as_optax(problem)
    kind = "alike" if p is None else ("alike", "apart", "mixed")[p.ndim]
    constant = not callable(optimizer.learning_rate) and not callable(optimizer.momentum)
    return LinearOptimizer(transform, kind, *clock_of(transform, problem.dimension), problem.dimension, constant)


def as_sgd(
    optimizer: Optimizer | optax.GradientTransformation, problem: Problem, batch_size: int
) -> SGD | optax.GradientTransformation:
    """The optimizer as `SGD`, where it is or becomes that, else as an optax transformation."""
    if not isinstance(optimizer, Optimizer):
        return optimizer
    known = resolve(optimizer, problem, batch_size)
    return known if isinstance(known, SGD) else known.as_optax(problem)


def read_optimizer(
    optimizer: Optimizer | optax.GradientTransformation, problem: Problem, batch_size: int
) -> LinearOptimizer:
    """A linear optimizer, described or an optax transformation.

    Raises:
        ValueError: it is neither, or does not fit the problem.
        NotImplementedError: it is not linear.
    """
    check_optimizer(optimizer, problem.dimension)
    check_schedules(optimizer)
    with jax.enable_x64(True):
        known = as_sgd(optimizer, problem, batch_size)
        return described(known, problem) if isinstance(known, SGD) else read_linear(known, problem.dimension)


def _stepper(transform: optax.GradientTransformation, d: int) -> Callable[[Clock, Array, Array], tuple[Array, Clock]]:
    """(clock, z, g) -> (update of w, next s_1, ...), next clock."""
    leaves, structure = jax.tree.flatten(transform.init(jnp.zeros(d)))
    carried = [_carries(leaf, d) for leaf in leaves]

    def step(clock: Clock, z: Array, g: Array) -> tuple[Array, Clock]:
        blocks, ticks = iter(z[1:]), iter(clock)
        state = jax.tree.unflatten(structure, [
            next(blocks).astype(jnp.result_type(leaf)) if is_block else next(ticks)
            for leaf, is_block in zip(leaves, carried, strict=True)
        ])
        update, state = transform.update(g, state, z[0])
        after = jax.tree.leaves(state)
        moved = [leaf for leaf, is_block in zip(after, carried, strict=True) if is_block]
        ticked = [leaf for leaf, is_block in zip(after, carried, strict=True) if not is_block]
        return jnp.stack([update, *moved]), ticked

    return step


def _carries(leaf: Array, d: int) -> bool:
    return jnp.ndim(leaf) == 1 and jnp.shape(leaf) == (d,) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def clock_of(transform: optax.GradientTransformation, d: int) -> tuple[Clock, int]:
    """What a fresh state holds besides vectors, and how many vectors there are, w included."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(transform.init(jnp.zeros(d)))]
    clock = [leaf for leaf in leaves if not _carries(leaf, d)]
    return clock, 1 + len(leaves) - len(clock)


def read_linear(transform: optax.GradientTransformation, dimension: int) -> LinearOptimizer:
    """Check that a transformation is linear, and find out how it treats parameters.

    Raises:
        NotImplementedError: it is not linear in (gradient, state, parameters); the part that is not is named.
    """
    with jax.enable_x64(True):
        kind = _kind(transform, dimension)
        if kind is None:
            names = ", ".join(dict.fromkeys(culprits(transform, dimension)))
            raise NotImplementedError(
                f"no exact theory for an optax transformation with {names}: it is not linear in gradient, state and "
                "parameters; simulate it instead, or use ss.Adam and its relatives for their approximate theory"
            )
        clock, blocks = clock_of(transform, dimension)
        return LinearOptimizer(transform, kind, clock, blocks, dimension)


def _kind(transform: optax.GradientTransformation, d: int) -> str | None:
    """How parameters are treated; None where the step is not affine, at any of the clocks looked at."""
    clock, k = clock_of(transform, d)
    step = _stepper(transform, d)
    rng = np.random.default_rng(0)
    z, g = jnp.asarray(rng.normal(size=(2, k, d))), jnp.asarray(rng.normal(size=(2, d)))

    def look(clock: Clock, _: None) -> tuple[Clock, PyTree]:
        def move(z: Array, g: Array) -> Array:
            return step(clock, z, g)[0]

        origin, ticked = step(clock, jnp.zeros((k, d)), jnp.zeros(d))
        tangents = [jax.jvp(move, (z[0] * s, g[0] * s), (z[1], g[1]))[1] for s in _SCALES]
        straight = [move(s * z[1], s * g[1]) - origin - s * tangents[0] for s in _SCALES]
        # the response to a push in one vector, along two directions: how one parameter's push moves the others
        slots = jnp.eye(k + 1)[:, :, None]
        pushes = [slots * direction for direction in (g[0], g[1])]
        reply = jnp.stack([jax.vmap(lambda p: jax.jvp(move, (z[0], g[0]), (p[:-1], p[-1]))[1])(push)
                           for push in pushes])
        size = jnp.abs(tangents[0]).max() + 1e-300
        bends = [jnp.abs(t - tangents[0]).max() for t in tangents]
        bends += [jnp.abs(x).max() / s for x, s in zip(straight, _SCALES, strict=True)]
        return ticked, (jnp.stack(bends) / (size + jnp.abs(origin).max()), reply / g[:, None, None], origin)

    leaves = [leaf for leaf in jax.tree.leaves(transform.init(jnp.zeros(d))) if _carries(leaf, d)]
    rounding = _ROUNDING if all(jnp.result_type(leaf) == np.float64 for leaf in leaves) else _SINGLE
    with np.errstate(all="ignore"):
        try:
            _, (crooked, reply, origin) = jax.jit(lambda c: jax.lax.scan(look, c, None, _STEPS))(clock)
        except (TypeError, AttributeError, jax.errors.JAXTypeError):  # it asks for a loss, or for parameters in pairs
            return None
    if not np.all(np.asarray(crooked) <= rounding):
        return None
    if _spread(reply, axis=1) > rounding:
        return "mixed"
    differ = max(_spread(reply, axis=-1), _spread(origin, axis=-1)) > rounding
    return "apart" if differ or not _fits_one(transform) else "alike"


def _fits_one(transform: optax.GradientTransformation) -> bool:
    """Whether it takes a single parameter too: numbers of its own, one for each parameter, may all be equal."""
    clock, k = clock_of(transform, 1)
    try:
        shape = jax.eval_shape(_stepper(transform, 1), clock, jnp.zeros((k, 1)), jnp.zeros(1))[0].shape
    except (TypeError, ValueError):
        return False
    return shape == (k, 1)


def _spread(values: Array, axis: int) -> float:
    there = np.asarray(values)
    return float(np.ptp(there, axis=axis).max(initial=0.0) / max(float(np.abs(there).max(initial=0.0)), 1e-300))


def culprits(transform: optax.GradientTransformation, d: int) -> Iterator[str]:
    """The names of the innermost parts that are not linear."""
    found = False
    for part in _parts(transform):
        if _kind(part, d) is None:
            found = True
            yield from culprits(part, d)
    if not found:
        yield transform.update.__qualname__.split(".<locals>")[0]


def _parts(transform: optax.GradientTransformation) -> Iterator[optax.GradientTransformation]:
    """The transformations that this one is made of, as its functions remember them."""
    begins, moves = (inspect.getclosurevars(f).nonlocals for f in (transform.init, transform.update))
    for init, update in zip(begins.get("init_fns", ()), moves.get("update_fns", ()), strict=False):
        yield optax.GradientTransformation(init, update)
    owner = getattr(transform.update, "__self__", None)  # `MultiSteps`
    for inner in (*moves.values(), *(vars(owner).values() if hasattr(owner, "__dict__") else ())):
        if isinstance(inner, optax.GradientTransformation):
            yield inner


def cycle(optimizer: LinearOptimizer) -> tuple[list[Affine], bool]:
    """The steps that repeat for ever (one, or one period of several), and whether they are a limit only.

    A bias correction has faded in the limit; a schedule that ends in a constant counts by what it ends in.

    Raises:
        NotImplementedError: the steps go on changing.
    """
    with jax.enable_x64(True):
        if optimizer.constant:
            return [jax.tree.map(np.asarray, optimizer.at(optimizer.clock)[0])], False
        for late in (False, True):
            clock = _later(optimizer) if late else optimizer.clock
            _, steps = jax.jit(lambda c: jax.lax.scan(lambda c, _: optimizer.at(c)[::-1], c, None, _STEPS))(clock)
            rows = [jax.tree.map(lambda leaf, t=t: np.asarray(leaf[t]), steps) for t in range(_STEPS)]
            for period in range(1, _STEPS // 2 + 1):
                if all(_same(rows[t], rows[t + period]) for t in range(_STEPS - period)):
                    return rows[:period], late
    raise NotImplementedError(
        "the optimizer goes on changing with the step (a schedule, or noise of its own): a stationary law needs a "
        "constant rate; pass its final value, or ask ss.predict_run for the whole run"
    )


def _same(one: Affine, other: Affine) -> bool:
    return all(np.allclose(x, y, rtol=1e-12, atol=1e-12 * max(np.abs(x).max(initial=0.0), 1e-300))
               for x, y in zip(one, other, strict=True))


def _later(optimizer: LinearOptimizer) -> Clock:
    """The clock with every counter (a whole number that grows by 1 at each step) far on."""
    ticks = [optimizer.clock]
    for _ in range(3):
        ticks.append(optimizer.at(ticks[-1])[1])

    def jump(*leaves: Array) -> Array:
        whole = jnp.issubdtype(leaves[0].dtype, jnp.integer)
        grows = whole and all(np.all(np.asarray(y) - np.asarray(x) == 1) for x, y in itertools.pairwise(leaves))
        return leaves[-1] + _LATE if grows else leaves[-1]  # a first step may be another one

    return [jump(*leaves) for leaves in zip(*ticks, strict=True)]
