"""The memory correction at the end of an epoch, averaged over the order of the examples."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import Vector, apply
from sgdsim.optimizers import SGD, Adam, check_optimizer
from sgdsim.solver.adam_second_order import adam_second_order, noise_moments
from sgdsim.solver.adam_weights import finite_sums
from sgdsim.solver.batch_order import check_order, mean_gradient
from sgdsim.solver.memory import memoryless_terms, unit_transformation

METHODS = ("exact", "second_order", "monte_carlo")
_CHUNK = 64  # permutations taken together


class PermutationCoefficients(NamedTuple):
    """E Corr_n = full_batch * grad |g|^2 + noise * grad tr Sigma."""

    full_batch: float
    noise: float


class PermutationAverage(NamedTuple):
    """E Corr_n over the order of the examples.

    Attributes:
        correction: the average, shape (D,).
        stderr: its standard error, shape (D,); 0 for a formula.
        method: how it was found.
    """

    correction: Vector
    stderr: Vector
    method: str


def momentum_permutation_coefficients(
    momentum: float, batch_size: int, n: int | None = None
) -> PermutationCoefficients:
    r"""Heavy-ball SGD's correction at the end of an epoch, averaged over all orders; exact for every n.

    $$E\,\mathrm{Corr}_n = \tfrac12 a_n \nabla\|g\|^2
      + \tfrac12 \frac{n d_n - (a_n - d_n)}{N-1} \nabla \mathrm{tr}\Sigma, \quad N = (n+1) b,$$

    $$a_n = \sum_{k=1}^n \beta^k \sum_{s=n-k}^{n-1} \frac{1-\beta^{s+1}}{1-\beta}, \quad
      d_n = \sum_{k=1}^n \beta^k \frac{1-\beta^k}{1-\beta}.$$

    Sigma is the covariance of ONE example's gradient with 1/N. The limits are beta / (2 (1-beta)^3), reached
    exponentially, and beta / (2 b (1-beta)^2 (1+beta)), reached like 1/n.

    Args:
        momentum: beta in [0, 1), of the trace m <- beta m + g.
        batch_size: b.
        n: index of the last step of an epoch of n + 1 batches; None means n -> infinity.

    Raises:
        ValueError: an argument is outside its range.

    Examples:
        >>> import sgdsim as ss
        >>> found = ss.solver.momentum_permutation_coefficients(0.9, batch_size=4, n=100)
        >>> round(found.full_batch, 10), round(found.noise, 10)
        (449.7597518613, 4.8194163555)

    Source: Cattaneo and Shigida, section 2.1 (limits); docs/theory/adam-bias.md (finite n).
    """
    beta = _checks.fraction("momentum", momentum)
    b = _checks.integer("batch_size", batch_size)
    if n is None:
        return PermutationCoefficients(beta / (2 * (1 - beta) ** 3), beta / (2 * b * (1 - beta) ** 2 * (1 + beta)))
    steps = np.arange(1, _checks.integer("n", n, remedy="an epoch has n + 1 >= 2 batches") + 1)
    travelled = np.cumsum((1 - beta ** steps[::-1]) / (1 - beta))
    a = float(np.sum(beta**steps * travelled))
    d = float(np.sum(beta**steps * (1 - beta**steps) / (1 - beta)))
    return PermutationCoefficients(a / 2, (n * d - (a - d)) / (2 * ((n + 1) * b - 1)))


def permutation_average(
    problem: Any,
    optimizer: Any,
    w: Any,
    *,
    batch_size: int,
    method: str | None = None,
    permutations: int = 1024,
    seed: int = 0,
    learning_rate: float | None = None,
) -> PermutationAverage:
    r"""Average Corr_n at `w`, n the last step of an epoch, over the order of the N = (n+1) b examples of a data set.

    - "exact" (`SGD`, any n): see `momentum_permutation_coefficients`; a preconditioner is allowed.
    - "second_order" (`Adam` with eps=0; its eps_root counts): $c_0 + \frac{n+1}{N-1}\,\mathrm{diag} -
      \frac1{N-1}\,\mathrm{const}$. Here c_0 is the full-batch correction, diag the five noise terms of Theorem B.2
      without their prefactor n/(N-1), and const the second-order term when every batch is the same example, averaged
      over examples: noise of different batches is anticorrelated, which the theorem drops as O(1/n).
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

    Raises:
        ValueError: an argument is out of range, or the method does not go with the optimizer.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DatasetRegression([[1.0], [2.0], [0.5], [1.5]], [1.0, 1.0, 0.0, 2.0])
        >>> found = ss.solver.permutation_average(problem, ss.SGD(0.1, momentum=0.5), [2.0], batch_size=2)
        >>> round(float(found.correction[0]), 6)
        2.59375

    Source: Cattaneo and Shigida, Theorem B.2, corrected at finite n (docs/errata.md).
    """
    b = _checks.integer("batch_size", batch_size)
    examples = problem.n_examples
    check_order(problem, np.zeros((1, 1), int))
    if examples % b or examples < 2 * b:
        raise _checks.error("batch_size", batch_size, f"a divisor of the {examples} examples, at most half of them",
                            "an epoch consists of whole batches")
    known, _ = check_optimizer(optimizer, problem.dimension)
    point = _checks.vector("w", w, problem.dimension)
    chosen = ("exact" if isinstance(known, SGD) else "monte_carlo") if method is None else method
    _checks.choice("method", chosen, METHODS)
    n = examples // b - 1
    with jax.enable_x64(True):
        if chosen == "monte_carlo":
            count = _checks.integer("permutations", permutations, low=2)
            rng = np.random.default_rng(_checks.integer("seed", seed, low=0))
            orders = rng.permuted(np.tile(np.arange(examples), (count, 1)), axis=1).reshape(count, n + 1, b)
            transformation, _ = unit_transformation(problem, optimizer, learning_rate)
            found = corrections_of_orders(problem, transformation, point, orders)
            return PermutationAverage(found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(count), chosen)
        if chosen == "exact":
            if not isinstance(known, SGD):
                raise _checks.error("method", method, "'second_order' or 'monte_carlo' for this optimizer",
                                    "the exact average is known for SGD")
            value = _exact_momentum(problem, known, point, n, b)
        else:
            if not isinstance(known, Adam) or known.eps != 0 or not known.bias_correction:
                raise _checks.error("optimizer", optimizer, "Adam with eps=0 and bias correction for 'second_order'",
                                    "the expansion has epsilon inside the root: give Adam eps_root")
            sums = finite_sums(float(known.b1), float(known.b2), n)
            value = adam_second_order(*noise_moments(problem, point), b=b, sums=sums, eps=float(known.eps_root))
    return PermutationAverage(np.asarray(value), np.zeros(problem.dimension), chosen)


def corrections_of_orders(problem: Any, transformation: Any, w: Vector, orders: np.ndarray) -> np.ndarray:
    """Corr_n at `w` for each order of the examples, shape (orders, D); `orders` has shape (orders, n + 1, b)."""
    length = orders.shape[1]

    @jax.jit
    def every(point: Any, rows: Any) -> Any:
        def one(order: Any) -> Any:
            def gradient(v: Any, k: Any) -> Any:
                return mean_gradient(problem, v, order[k])

            return memoryless_terms(gradient, transformation, point, length - 1, length).correction

        return jax.lax.map(one, rows, batch_size=_CHUNK)

    return np.asarray(every(jnp.asarray(w), jnp.asarray(orders)))


def _exact_momentum(problem: Any, optimizer: SGD, w: Vector, n: int, b: int) -> Vector:
    """P (2 full_batch H P g + 2 noise E[H_p P h_p]), h_p and H_p the noise of an example's gradient and Hessian."""
    found = momentum_permutation_coefficients(float(optimizer.momentum), b, n)
    rows = jnp.arange(problem.n_examples)

    def precondition(x: Any) -> Any:
        return x if optimizer.preconditioner is None else apply(jnp.asarray(optimizer.preconditioner), x)

    def example(v: Any, row: Any) -> Any:
        return mean_gradient(problem, v, row[None])

    def full(v: Any) -> Any:
        return mean_gradient(problem, v, rows)

    @jax.jit
    def pushes(v: Any) -> Any:
        g, along = jax.jvp(full, (v,), (precondition(full(v)),))

        def noise_push(row: Any) -> Any:
            h = precondition(example(v, row) - g)
            return jax.jvp(lambda u: example(u, row), (v,), (h,))[1]

        # The noise of the examples sums to 0, so that the full Hessian drops out of the average.
        return along, jax.lax.map(noise_push, rows, batch_size=_CHUNK).mean(axis=0)

    steady, noisy = pushes(jnp.asarray(w))
    return precondition(2 * found.full_batch * steady + 2 * found.noise * noisy)
