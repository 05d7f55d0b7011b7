"""Any gradient noise: drift and diffusion along the minima, and paths of the slow stochastic equation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Matrix, Vector
from sgdsim.optimizers import AdaptiveOptimizer, Optimizer
from sgdsim.problems.base import Problem
from sgdsim.problems.parts.traced import traced
from sgdsim.solver.manifold.derivatives import expand, third
from sgdsim.solver.manifold.minimum import root_of, settle, spectrum
from sgdsim.solver.manifold.slow_ode import SlowPath
from sgdsim.solver.manifold.slow_setting import check_times, slow_setting

Noise: TypeAlias = Callable[[Array], Array]
Pull: TypeAlias = Callable[[Array], Array]


class SlowCoefficients(NamedTuple):
    """The slow stochastic equation at a point.

    Attributes:
        drift: mean displacement per slow time, the Ito correction that keeps to a curved manifold included, (D,).
        diffusion: covariance of the displacement per slow time, tangent to the manifold, (D, D).
    """

    drift: Vector
    diffusion: Matrix


def slow_coefficients(
    problem: Problem, w: ArrayLike, noise_covariance: Noise, *, preconditioner: ArrayLike | None = None,
    drift: Pull | None = None,
) -> SlowCoefficients:
    r"""Drift and diffusion along the minima for gradient noise of any covariance, at a fixed preconditioner.

    $$d\zeta = \partial\Phi_S \bigl( S\,\Sigma^{1/2} dW - \tfrac12 S\,\nabla^3 L[\hat\Sigma]\,dt \bigr)
      - \tfrac12 N\,\nabla^3 L[\Sigma_\parallel]\,dt, \qquad
      \Sigma_\parallel = \partial\Phi_S S\Sigma S\,\partial\Phi_S^\top,$$

    in time t = k eta^2, N = R (R'HR)^+ R', S = RR'. In the eigenbasis of R'HR the part of the noise that is not tangent
    is divided by the sum of the two eigenvalues: this is Sigma^, the covariance around the manifold over eta.

    Args:
        problem: a problem with a manifold of minima; they need not fit every example.
        w: one of them, shape (D,).
        noise_covariance: a function of w (D,), traceable by JAX, to the covariance (D, D) of the gradient that
            the optimizer sees: that of one example divided by the batch size.
        preconditioner: S, a diagonal or a symmetric positive definite matrix; None is the identity.
        drift: what a step adds beside the gradient, over eta^2, a function of w (D,), traceable by JAX: of it
            $\partial\Phi_S$ is left. Decoupled decay gamma takes eta gamma w off a step: `lambda w: -gamma / eta * w`.

    Raises:
        ValueError: an argument does not fit, or w is no minimum.

    Examples:
        >>> import jax.numpy as jnp
        >>> import sgdsim as ss
        >>> problem = ss.Ellipse(a=1.0, b=1.0)  # a circle: isotropic noise spreads along it
        >>> law = ss.solver.manifold.slow_coefficients(problem, problem.point(0.0), lambda w: 0.04 * jnp.eye(2))
        >>> law.diffusion.round(6).tolist()
        [[0.02, -0.02], [-0.02, 0.02]]

    Source: "Slow dynamics of Adam" (paper 004), definition 4.3 and equation 2.
    """
    root = root_of(problem.dimension, preconditioner)
    _check_function("noise_covariance", noise_covariance, problem.dimension)
    _check_drift(drift, problem.dimension)
    point, here = settle(problem, "w", w, root, interpolating=False)
    with jax.enable_x64(True):
        sigma, w_here = _covariance("noise_covariance", noise_covariance, point), jnp.asarray(point)
        found = _coefficients(problem, w_here, jnp.asarray(root), sigma, _pull(drift, w_here), here.rank)
    mean, factor = map(np.asarray, found)
    return SlowCoefficients(mean, factor @ factor.T)


def slow_sde(
    problem: Problem,
    optimizer: Optimizer,
    initial: ArrayLike,
    times: ArrayLike,
    example_noise_covariance: Noise,
    *,
    batch_size: int = 1,
    chains: int = 1000,
    step: float = 0.01,
    seed: int = 0,
    unit: str = "slow",
    second_moment: ArrayLike | None = None,
    drift: Pull | None = None,
) -> SlowPath:
    """Sample paths along the minima for any gradient noise, by the Euler-Maruyama method.

    The equation is that of `slow_coefficients` with S = S(v) and v' = c (V(diag Sigma) - v); each step ends with two of
    Newton's onto the manifold. Distributions at fixed times have an error of the order of `step`.

    Args:
        problem: a problem with a manifold of minima of few parameters: every chain takes D x D eigenvectors a step.
        optimizer: as for `slow_ode`; v starts at V(diag Sigma), and bias correction is not followed.
        initial: a minimum, shape (D,).
        times: increasing, shape (T,); rounded to whole steps.
        example_noise_covariance: a function of w (D,), traceable by JAX, to the covariance (D, D) of ONE example's
            gradient.
        batch_size: b, which divides it.
        chains: independent paths.
        step: in slow time, whatever the unit.
        seed: of the random numbers.
        unit: of `times`: "slow" for t = k eta^2, "steps" for k.
        second_moment: v at time 0, shape (D,).
        drift: as for `slow_coefficients`.

    Returns:
        A `SlowPath` with positions (T, chains, D).

    Raises:
        ValueError: an argument does not fit.
        NotImplementedError: there is no slow dynamics for the optimizer.

    Examples:
        >>> import jax.numpy as jnp
        >>> import sgdsim as ss
        >>> circle = ss.Ellipse(a=1.0, b=1.0)
        >>> path = ss.solver.manifold.slow_sde(
        ...     circle, ss.SGD(0.1), circle.point(0.0), [0.5], lambda w: jnp.eye(2), chains=50)
        >>> path.positions.shape
        (1, 50, 2)

    Source: "Slow dynamics of Adam" (paper 004), definition 4.3 and theorem 4.1 (weak error of the order eta^{1/4}).
    """
    setting = slow_setting(problem, optimizer)
    t = check_times(times, unit, setting.rate)
    size, count = _checks.integer("batch_size", batch_size), _checks.integer("chains", chains)
    length = _checks.positive("step", step, "0.01 is common")
    seed = _checks.integer("seed", seed, low=0, high=2**32 - 1, remedy="try seed=0")
    _check_function("example_noise_covariance", example_noise_covariance, problem.dimension)
    _check_drift(drift, problem.dimension)
    start, here = settle(problem, "initial", initial, np.eye(problem.dimension), interpolating=False)
    with jax.enable_x64(True):
        noise = np.asarray(_covariance("example_noise_covariance", example_noise_covariance, start)) / size
    v = setting.average(np.diag(noise))
    if second_moment is not None:
        v = _checks.vector("second_moment", second_moment, problem.dimension)
    stops = np.rint(t / length).astype(int)
    with jax.enable_x64(True):
        state = jnp.tile(start, (count, 1)), jnp.tile(v, (count, 1))
        key, done, points, moments, levels = jax.random.key(seed), 0, [], [], []
        for stop in stops:
            for begin in range(done, stop):
                state = _euler(problem, setting.optimizer, setting.directions, state, jax.random.fold_in(key, begin),
                               length, setting.decay, size, example_noise_covariance, drift, here.rank)
            done = int(stop)
            points.append(np.asarray(state[0]))
            moments.append(np.asarray(state[1]))
            levels.append(np.asarray(_levels(problem, state[0])) - float(_levels(problem, jnp.asarray(start[None]))[0]))
    return SlowPath(stops * length, stops * length / setting.rate**2, np.stack(points),
                    np.stack(moments) if setting.adaptive else None, np.stack(levels))


@jax.jit
def _levels(problem: Problem, points: Array) -> Array:
    return jax.vmap(problem.loss)(points)


def _check_function(argument: str, given: object, size: int) -> None:
    if not callable(given):
        raise _checks.error(argument, given, f"a function of w to a ({size}, {size}) covariance",
                            "such as lambda w: jnp.eye(2)")


def _covariance(argument: str, function: Noise, w: Vector) -> Array:
    """The covariance at w, checked for its shape.

    Raises:
        ValueError: it has another shape.
    """
    sigma = function(jnp.asarray(w))
    if np.shape(sigma) != (len(w), len(w)):
        _check_function(argument, f"of shape {np.shape(sigma)}", len(w))
    return sigma


def _check_drift(drift: Pull | None, size: int) -> None:
    remedy, allowed = "such as lambda w: -0.1 * w", f"a function of w to an array of shape ({size},)"
    if drift is not None and not callable(drift):
        raise _checks.error("drift", drift, allowed, remedy)
    if drift is not None:
        made = traced("drift", drift, jax.ShapeDtypeStruct((size,), jnp.float32), wanted=allowed, remedy=remedy)
        if getattr(made, "shape", None) != (size,):
            raise _checks.error("drift", f"of value {made}", allowed, remedy)


def _pull(drift: Pull | None, w: Array) -> Array:
    """What steps add beside gradients, at w."""
    return jnp.zeros_like(w) if drift is None else jnp.asarray(drift(w), w.dtype)


@functools.partial(jax.jit, static_argnames="rank")
def _coefficients(problem: Problem, w: Array, root: Array, sigma: Array, pull: Array, rank: int) -> tuple[Array, Array]:
    """The drift, and a factor F of the diffusion F F'."""
    _, _, hessian = expand(problem.loss, w)
    values, inverse, vectors = spectrum(hessian, root, rank)
    curved = values != 0
    noise = vectors.T @ (root.T @ sigma @ root) @ vectors
    sums = values[:, None] + values
    around = jnp.where(sums > 0, noise / jnp.where(sums > 0, sums, 1.0), 0.0)
    along = jnp.where(curved[:, None] | curved, 0.0, noise)
    lift = root @ vectors

    # both contractions of the third derivative at once
    identity = jnp.eye(len(w))
    spreads = jnp.concatenate([lift @ around @ lift.T, lift @ along @ lift.T], axis=1)
    bends = third(problem.loss, w, jnp.concatenate([identity, identity], axis=1), spreads)
    tangent = (lift * ~curved) @ lift.T  # the projection times S
    normal = (lift * inverse) @ lift.T
    drift = -0.5 * (tangent @ bends[:, : len(w)].sum(axis=1) + normal @ bends[:, len(w) :].sum(axis=1))
    drift += tangent @ jnp.linalg.solve(root @ root.T, pull)
    weights, axes = jnp.linalg.eigh(along)
    return drift, lift @ (axes * jnp.sqrt(jnp.maximum(weights, 0.0)))


@functools.partial(jax.jit, static_argnames=("example_noise_covariance", "drift", "rank"))
def _euler(
    problem: Problem,
    optimizer: AdaptiveOptimizer | None,
    constant: Array,
    state: tuple[Array, Array],
    key: Array,
    length: float,
    decay: float,
    size: int,
    example_noise_covariance: Noise,
    drift: Pull | None,
    rank: int,
) -> tuple[Array, Array]:
    """One step of every chain, and two of Newton's back onto the manifold."""

    def back(w: Array, root: Array) -> Array:
        _, slope, hessian = expand(problem.loss, w)
        _, inverse, vectors = spectrum(hessian, root, rank)
        lift = root @ vectors
        return w - (lift * inverse) @ (lift.T @ slope)

    def one(w: Array, v: Array, normal: Array) -> tuple[Array, Array]:
        sigma = example_noise_covariance(w) / size
        root = constant if optimizer is None else jnp.diag(jnp.sqrt(optimizer.S(v)))
        mean, factor = _coefficients(problem, w, root, sigma, _pull(drift, w), rank)
        w = w + length * mean + jnp.sqrt(length) * (factor @ normal)
        w = jax.lax.fori_loop(0, 2, lambda _, at: back(at, root), w)
        if optimizer is not None:
            v = v + (1 - jnp.exp(-decay * length)) * (optimizer.V(jnp.diag(sigma)) - v)
        return w, v

    points, moments = state
    return jax.vmap(one)(points, moments, jax.random.normal(key, points.shape, points.dtype))
