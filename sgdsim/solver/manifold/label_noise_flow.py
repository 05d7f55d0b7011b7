"""The slow motion of label-noise SGD along the global minima, as an ordinary differential equation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._types import Vector
from sgdsim.problems.base import Problem
from sgdsim.problems.sampling import check_sampling
from sgdsim.solver.laws.table import law_of
from sgdsim.solver.manifold.derivatives import (
    Landscape,
    Loss,
    LossFunction,
    expand,
    potential_gradient,
    read_landscape,
    read_point,
)
from sgdsim.solver.manifold.label_noise_regularized_loss import regularizer_slope
from sgdsim.solver.manifold.minimum import Minima, local, path_size, return_rate, settle, spectrum
from sgdsim.solver.manifold.slow_setting import check_times, noise_level
from sgdsim.solver.noise.factor import factor_of
from sgdsim.solver.noise.subset import SubsetNoise
from sgdsim.solver.stationary.dynamics import Dynamics
from sgdsim.solver.stationary.generalized_lyapunov import GeneralizedLyapunov


def label_noise_flow(
    problem: Problem | Loss,
    initial: ArrayLike,
    times: ArrayLike,
    *,
    learning_rate: float,
    label_noise: float | None = None,
    batch_size: int = 1,
    sampling: str | None = None,
    momentum: float = 0.0,
    curvature: float = 1.0,
    unit: str = "slow",
    tolerance: float = 1e-8,
) -> np.ndarray:
    r"""The limit of label-noise SGD for lambda to 0, in slow time: its path along the global minima.

    $$\frac{d\theta}{dt} = -\frac{\sigma^2}{\alpha B} P\, \tfrac12 \nabla^3 L[S], \qquad
      t = \Big(\frac{\eta}{1-\beta}\Big)^2 k,$$

    with P the projector on the null space of the Hessian, the tangent space of the global minima, k the steps of SGD,
    and S the covariance of the fluctuations over lambda. Where every batch has all examples
    $S = \Pi (2 - \frac{\eta}{1+\beta} H)^{-1}$ and this is the gradient flow of the regulariser R. Drawn batches also
    draw the residuals that the fluctuations leave: S solves the equation of least squares on the predictions'
    gradients [stationary.md section 7], whatever sigma, and for one example drawn from many $1/(2-\eta h)$ becomes
    $1/(2 - \eta h(1 + 1/B))$. Both are tr H / 4 at small eta: there it is `slow_ode`.

    The error of SGD's mean against it is of order lambda. Needs the OU process to settle in every stiff direction long
    before the flow moves: the smallest curvature that is not 0 much above lambda. Directions with less than 1e-8 of the
    largest curvature count as tangent.

    Args:
        problem: a problem, or a function w -> loss that JAX can differentiate three times. D x D matrices are kept.
        initial: a global minimum, shape (D,).
        times: increasing, shape (T,).
        learning_rate: eta.
        label_noise: the STANDARD DEVIATION sigma of the noise on a label; None takes the problem's.
        batch_size: B.
        sampling: "with_replacement" or "without_replacement"; None for the problem's default. The batches of a function
            w -> loss are always whole.
        momentum: beta of the heavy ball, in [0, 1).
        curvature: alpha, for classification (`label_flip_constants`); 1 for the squared error.
        unit: of `times`: "slow" for t, "steps" for k.
        tolerance: error of a step of the solver, relative to the largest parameter of the start.

    Returns:
        theta at those times, shape (T, D), to some tens of times `tolerance`.

    Raises:
        ValueError: `initial` is not a minimum, times do not increase, or the fluctuations there are unbounded: a
            curvature reaches 2(1+beta)/eta, or with drawn batches less.
        NotImplementedError: the gradients of the problem's predictions are not known and batches are drawn.
        NotConverged: the path comes to where the fluctuations are unbounded.

    Examples:
        >>> from sgdsim.solver.manifold import label_noise_flow
        >>> valley = lambda w: 0.5 * (1 + w[1] ** 2) * w[0] ** 2
        >>> path = label_noise_flow(valley, [0.0, 1.0], [0.0, 2.0], learning_rate=1e-9, label_noise=1.0)
        >>> path.round(4).tolist()  # e^(-t/2)
        [[0.0, 1.0], [0.0, 0.3679]]
    """
    landscape = read_landscape(problem)
    start = read_point("initial", initial, landscape)
    rate, beta = _checks.positive("learning_rate", learning_rate), _checks.fraction("momentum", momentum)
    alpha, error = _checks.positive("curvature", curvature), _checks.positive("tolerance", tolerance)
    level = noise_level(landscape, label_noise, batch_size) / alpha
    tau = level * check_times(times, unit, rate / (1 - beta))
    batches = _drawn(landscape, batch_size, sampling, alpha)
    start, here = settle(landscape, "initial", start, np.eye(len(start)), interpolating=False)
    span = max(float(tau[-1]), 1e-300)

    def whole(_: float, w: Vector, pull: float) -> Vector:
        with jax.enable_x64(True):
            return np.asarray(_drift(landscape, jnp.asarray(w), rate, beta, pull, here.rank))

    def drawn(_: float, w: Vector, pull: float) -> Vector:
        assert batches is not None
        _, slope, hessian = local(landscape, w)
        minima = Minima.at(hessian, np.eye(len(w)), here.rank)
        stiff = minima.vectors[:, minima.values != 0]
        dynamics = Dynamics(stiff, minima.values[minima.values != 0], np.eye(here.rank), stiff, beta)
        equation = GeneralizedLyapunov(dynamics, batches(w).restrict(stiff))
        if not equation.settles(rate):
            return np.full(len(w), np.nan)
        fluctuation = (1 - beta) / rate * stiff @ equation.solve(rate) @ stiff.T
        downhill = potential_gradient(problem, w, fluctuation)
        return -(downhill - stiff @ (stiff.T @ downhill)) - pull * minima.inverse @ slope

    drift = whole if batches is None else drawn
    velocity = drift(0.0, start, 0.0)
    if not np.isfinite(velocity).all():
        limit = f"2(1+momentum)/learning_rate = {2 * (1 + beta) / rate:.6g}"
        less = "" if batches is None else ", less where batches are drawn"
        raise _checks.error("learning_rate", rate, f"such that every curvature is below {limit}{less}",
                            "lower it, or start at a flatter minimum")
    size = path_size(float(np.abs(start).max()), velocity, span)
    # Where fluctuations have no limit the drift is NaN: a shorter trial step follows.
    with np.errstate(invalid="ignore"):
        found = scipy.integrate.solve_ivp(drift, (0.0, span), start, "LSODA", tau, rtol=error,
                                          atol=error * size, args=(return_rate(size, velocity, span),))
    if not found.success:
        raise _checks.NotConverged("the path ends where fluctuations grow without bound: lower learning_rate",
                                   np.reshape(found.y, (len(start), -1)).T)
    return found.y.T


def _drawn(
    landscape: Landscape, batch_size: int, sampling: str | None, curvature: float
) -> Callable[[Vector], SubsetNoise] | None:
    """The noise of least squares on the predictions' gradients at w, for sigma^2 = B; None where batches are whole."""
    if isinstance(landscape, LossFunction):
        if sampling is not None:
            raise _checks.error("sampling", sampling, "None for a function, whose examples are not known",
                                "pass a problem")
        return None
    size, mode = check_sampling(landscape, batch_size, sampling)
    factor = factor_of(landscape, mode)
    if factor.of(float(size)) == 0 or landscape.n_examples == 1:
        return None
    law = law_of(landscape)

    def noise(w: Vector) -> SubsetNoise:
        features = np.sqrt(curvature) * law.slopes(w)  # whose mean square is the Hessian
        return SubsetNoise(features, np.zeros(len(features)), np.sqrt(size), size, factor)

    return noise


@partial(jax.jit, static_argnames="rank")
def _drift(landscape: Landscape, w: Array, rate: float, beta: float, pull: float, rank: int) -> Array:
    """Down R along the minima, and back onto them from what integration errors put off."""
    _, slope, h = expand(landscape.loss, w)
    _, inverse, vectors = spectrum(h, jnp.eye(len(w)), rank)
    downhill = vectors.T @ regularizer_slope(landscape.loss, w, h, rate, beta)
    off = inverse * (vectors.T @ slope)
    return -vectors @ jnp.where(inverse != 0, pull * off, downhill)
