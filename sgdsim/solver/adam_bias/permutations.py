"""The memory correction at the end of an epoch, averaged over the order of the examples."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim._types import Vector, apply
from sgdsim.optimizers import SGD, Adam, Optimizer, check_optimizer, is_heavy_ball
from sgdsim.optimizers.base import constant
from sgdsim.problems.base import Problem
from sgdsim.solver.adam_bias.batch_order import DataProblem, check_data_set, mean_gradient
from sgdsim.solver.adam_bias.memoryless import memoryless_terms, unit_transformation
from sgdsim.solver.adam_bias.second_order import NoiseMoments, adam_main, adam_second_order, noise_moments
from sgdsim.solver.adam_bias.sharpness import SMALL_NOISE
from sgdsim.solver.adam_bias.weight_sums import finite_sums

METHODS = ("exact", "second_order", "monte_carlo")
_CHUNK = 64  # permutations taken together, of few parameters
_NUMBERS = 2**22  # gradients of so many entries side by side


class PermutationCoefficients(NamedTuple):
    """E Corr_n = full_batch * grad |g|^2 + noise * grad tr Sigma."""

    full_batch: float
    noise: float


class PermutationAverage(NamedTuple):
    """E Corr_n and E Main_n over the order of the examples.

    Attributes:
        correction: the average of Corr, shape (D,).
        stderr: its standard error, shape (D,); 0 for a formula.
        method: how it was found.
        truncation: estimate of what a series leaves out, shape (D,): the next term, as large as the share that
            1 / (1 + lambda)^2 would have, lambda the largest noise ratio of a parameter; 0 for the other methods.
        main: the average of Main, the direction had the chain stood at `w` all along, shape (D,).
        main_stderr: its standard error, shape (D,); 0 for a formula.
    """

    correction: Vector
    stderr: Vector
    method: str
    truncation: Vector
    main: Vector
    main_stderr: Vector


def momentum_permutation_coefficients(
    momentum: float, batch_size: int, n: int | None = None, *, epochs: int = 1
) -> PermutationCoefficients:
    r"""Heavy-ball SGD's correction at the end of an epoch, averaged over all orders; exact for every n.

    $$E\,\mathrm{Corr}_n = \tfrac12 a_n \nabla\|g\|^2
      + \tfrac12 \frac{n d_n - (a_n - d_n)}{N-1} \nabla \mathrm{tr}\Sigma, \quad N = (n+1) b,$$

    $$a_n = \sum_{k=1}^n \beta^k \sum_{s=n-k}^{n-1} \frac{1-\beta^{s+1}}{1-\beta}, \quad
      d_n = \sum_{k=1}^n \beta^k \frac{1-\beta^k}{1-\beta}.$$

    Sigma is the covariance of ONE example's gradient with 1/N. The limits are beta / (2 (1-beta)^3), reached
    exponentially, and beta / (2 b (1-beta)^2 (1+beta)), reached like 1/n. In later epochs the same sums run over all
    steps, and only batches of one epoch are anticorrelated.

    Args:
        momentum: beta in [0, 1), of the trace m <- beta m + g.
        batch_size: b.
        n: index of the last step of an epoch of n + 1 batches; None means n -> infinity.
        epochs: at the end of how many epochs, each in an order of its own.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> found = ss.solver.adam_bias.momentum_permutation_coefficients(0.9, batch_size=4, n=100)
        >>> round(found.full_batch, 10), round(found.noise, 10)
        (449.7597518613, 4.8194163555)

    Source: Cattaneo and Shigida, section 2.1 (limits); docs/theory/adam-bias.md (finite n).
    """
    beta = _checks.fraction("momentum", momentum)
    b = _checks.integer("batch_size", batch_size)
    if n is None:
        return PermutationCoefficients(beta / (2 * (1 - beta) ** 3), beta / (2 * b * (1 - beta) ** 2 * (1 + beta)))
    batches = _checks.integer("n", n, remedy="an epoch has n + 1 >= 2 batches") + 1
    last = _checks.integer("epochs", epochs) * batches - 1
    p = np.arange(last)  # the earlier batches; T_p = sum_{s=p}^{last-1} F_s has the weight `own` on batch p itself
    own = (1 - beta ** (last - p)) / (1 - beta)
    travelled = np.cumsum((1 - beta ** (p[::-1] + 1)) / (1 - beta))[::-1]
    before = p % batches  # batches of its epoch before p
    later = np.append(np.cumsum(own[::-1])[::-1], 0.0)
    end = np.minimum(p - before + batches, last)
    same_epoch = later[p] - later[end] + beta * (1 - beta**before) / (1 - beta) * own
    a, d, inside = (float(np.sum(beta ** (last - p) * weight)) for weight in (travelled, own, same_epoch))
    return PermutationCoefficients(a / 2, (n * d - (inside - d)) / (2 * (batches * b - 1)))


@own_settings
def permutation_average(
    problem: Problem,
    optimizer: Optimizer | optax.GradientTransformation,
    w: ArrayLike,
    *,
    batch_size: int,
    method: str | None = None,
    permutations: int = 1024,
    seed: int = 0,
    learning_rate: float | None = None,
    epochs: int = 1,
) -> PermutationAverage:
    r"""Average Corr_n and Main_n at `w` over the order of the N = (n+1) b examples of a data set, n the last step.

    - "exact" (`SGD`, any n): see `momentum_permutation_coefficients`; a preconditioner is allowed.
    - "second_order" (`Adam` with eps=0; its eps_root counts): $c_0 + \frac{n+1}{N-1}\,\mathrm{diag} -
      \frac1{N-1}\,\mathrm{const}$. Here c_0 is the full-batch correction, diag the five noise terms of Theorem B.2
      without their prefactor n/(N-1), and const the second-order term when every batch is the same example, averaged
      over examples: noise of different batches is anticorrelated, which the theorem drops as O(1/n). A series in
      the noise ratio $\lambda_i = \Sigma_{ii} / (b (g_i^2 + \epsilon))$, which ends at 1; `.truncation` estimates
      what it leaves out.
    - "monte_carlo" (any optimizer): random orders.

    Args:
        problem: a `DatasetRegression` or `FlaxNetwork`; "second_order" builds D x D matrices for every example.
        optimizer: as for `memoryless`.
        w: the point, shape (D,).
        batch_size: b, a divisor of the number of examples with at least two batches.
        method: None is "exact" for `SGD` and "monte_carlo" for all others.
        permutations: how many orders are drawn.
        seed: of the orders.
        learning_rate: with an optax transformation only (it does not enter the correction).
        epochs: n is the last step of so many epochs, each in an order of its own; 1 for "second_order".

    Raises:
        ValueError: an argument is out of range, the method does not go with the optimizer, a parameter without a
            gradient meets eps = 0, or "second_order" meets a noise ratio of 1 or more.

    Warns:
        UserWarning: "second_order" beyond a noise ratio of 0.05.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DatasetRegression([[1.0], [2.0], [0.5], [1.5]], [1.0, 1.0, 0.0, 2.0])
        >>> found = ss.solver.adam_bias.permutation_average(problem, ss.SGD(0.1, momentum=0.5), [2.0], batch_size=2)
        >>> round(float(found.correction[0]), 6)
        2.59375

    Source: Cattaneo and Shigida, Theorem B.2, corrected at finite n (docs/errata.md).
    """
    b = _checks.integer("batch_size", batch_size)
    data = check_data_set(problem, "in random order")
    examples = len(data.features)
    if examples % b or examples < 2 * b:
        raise _checks.error("batch_size", batch_size, f"a divisor of the {examples} examples, at most half of them",
                            "an epoch consists of whole batches")
    known, _ = check_optimizer(optimizer, problem.dimension)
    point = _checks.vector("w", w, problem.dimension)
    chosen = ("exact" if is_heavy_ball(known) else "monte_carlo") if method is None else method
    _checks.choice("method", chosen, METHODS)
    n, passes = examples // b - 1, _checks.integer("epochs", epochs)
    nothing = np.zeros(problem.dimension)
    with jax.enable_x64(True):
        if isinstance(known, Adam) and known.eps == 0 and known.eps_root == 0:
            _refuse_dead(data, point)
        if chosen == "monte_carlo":
            count = _checks.integer("permutations", permutations, low=2)
            rng = np.random.default_rng(_checks.integer("seed", seed, low=0))
            orders = rng.permuted(np.tile(np.arange(examples), (count * passes, 1)), axis=1)
            transformation, _ = unit_transformation(problem, optimizer, learning_rate)
            main, found = terms_of_orders(data, transformation, point, orders.reshape(count, passes * (n + 1), b))
            stderr, main_stderr = (x.std(axis=0, ddof=1) / np.sqrt(count) for x in (found, main))
            return PermutationAverage(found.mean(axis=0), stderr, chosen, nothing, main.mean(axis=0), main_stderr)
        if chosen == "exact":
            if not is_heavy_ball(known):
                raise _checks.error("method", method, "'second_order' or 'monte_carlo' for this optimizer",
                                    "the exact average is known for SGD")
            steady, value = _exact_momentum(data, known, point, n, b, passes)
            return PermutationAverage(value, nothing, chosen, nothing, steady, nothing)
        else:
            if not isinstance(known, Adam) or known.eps != 0 or not known.bias_correction:
                raise _checks.error("optimizer", optimizer, "Adam with eps=0 and bias correction for 'second_order'",
                                    "the expansion has epsilon inside the root: give Adam eps_root")
            if passes > 1:
                raise _checks.error("epochs", epochs, "1 for method='second_order'", "use method='monte_carlo'")
            sums = finite_sums(float(known.b1 or 0), float(known.b2), n)
            eps, moments = float(known.eps_root), noise_moments(data, point)
            ratio = _noise_ratio(moments, b, eps)
            value = adam_second_order(*moments, b=b, sums=sums, eps=eps)
            steady = adam_second_order(moments.g, moments.hessian, 0 * moments.h, 0 * moments.turn,
                                       b=b, sums=sums, eps=eps)
            main = adam_main(moments.g, moments.h, b=b, sums=sums, eps=eps)
    # Of 1 / (1 + x)^2 = 1 - 2x + 3x^2 - ... the third term over the second is 3x / 2; twice that, for Adam is not it.
    return PermutationAverage(value, nothing, chosen, 3 * ratio * np.abs(value - steady), main, nothing)


def _noise_ratio(moments: NoiseMoments, b: int, eps: float) -> float:
    """The largest noise ratio of a parameter that has noise.

    Raises:
        ValueError: it is 1 or more, where a series in it has ended.
    """
    variance = np.mean(moments.h**2, axis=0) / b
    with np.errstate(divide="ignore"):
        ratio = float(np.max(variance[variance > 0] / (moments.g**2 + eps)[variance > 0], initial=0.0))
    if ratio >= 1:
        raise _checks.error("method", "second_order", f"used below a noise ratio of 1 (here {ratio:.3g})",
                            "take method='monte_carlo', a larger batch or a larger eps_root")
    if ratio > SMALL_NOISE:
        warnings.warn(f"second order in the noise at a noise ratio of {ratio:.3g}: beyond {SMALL_NOISE} the terms left "
                      "out count (see .truncation); try method='monte_carlo'", UserWarning, stacklevel=4)
    return ratio


def _refuse_dead(data: DataProblem, w: Vector) -> None:
    """Adam divides 0 by 0 where no example has a gradient and nothing is added to the root."""
    gradients = jax.vmap(lambda row: mean_gradient(data, jnp.asarray(w), row[None]))(jnp.arange(data.n_examples))
    dead = np.flatnonzero(~np.any(np.asarray(gradients), axis=0))
    if len(dead):
        raise _checks.error("optimizer", "eps = eps_root = 0", "with eps above 0 where parameters have no gradient in "
                            f"any example (here parameter {dead[0]})", "drop the parameter, or give eps or eps_root")


def terms_of_orders(
    problem: DataProblem, transformation: optax.GradientTransformation, w: Vector, orders: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Main_n and Corr_n at `w` for each order of the examples (orders, n + 1, b), each of shape (orders, D)."""
    length = orders.shape[1]

    @jax.jit
    def every(point: Array, rows: Array) -> tuple[Array, Array]:
        def one(order: Array) -> tuple[Array, Array]:
            def gradient(v: Array, k: Array) -> Array:
                return mean_gradient(problem, v, order[k])

            return memoryless_terms(gradient, transformation, point, length - 1, length)

        return jax.lax.map(one, rows, batch_size=max(1, min(_CHUNK, _NUMBERS // (length * len(w)))))

    main, correction = every(jnp.asarray(w), jnp.asarray(orders))
    return np.asarray(main), np.asarray(correction)


def _exact_momentum(
    problem: DataProblem, optimizer: SGD, w: Vector, n: int, b: int, epochs: int
) -> tuple[Vector, Vector]:
    """Main, and P (2 full_batch H P g + 2 noise E[H_p P h_p]), h_p, H_p the noise of an example's gradient, Hessian."""
    beta = constant(optimizer.momentum)
    found = momentum_permutation_coefficients(beta, b, n, epochs=epochs)
    rows = jnp.arange(problem.n_examples)

    def precondition(x: Array) -> Array:
        return x if optimizer.preconditioner is None else apply(jnp.asarray(optimizer.preconditioner), x)

    def example(v: Array, row: Array) -> Array:
        return mean_gradient(problem, v, row[None])

    def full(v: Array) -> Array:
        return mean_gradient(problem, v, rows)

    @jax.jit
    def pushes(v: Array) -> tuple[Array, Array, Array]:
        g, along = jax.jvp(full, (v,), (precondition(full(v)),))

        def noise_push(row: Array) -> Array:
            h = precondition(example(v, row) - g)
            return jax.jvp(lambda u: example(u, row), (v,), (h,))[1]

        # The noise of the examples sums to 0, so that the full Hessian drops out of the average.
        return g, along, jax.lax.map(noise_push, rows, batch_size=_CHUNK).mean(axis=0)

    g, steady, noisy = pushes(jnp.asarray(w))
    main = precondition(g) * (1 - beta ** (epochs * (n + 1))) / (1 - beta)
    return np.asarray(main), np.asarray(precondition(2 * found.full_batch * steady + 2 * found.noise * noisy))
