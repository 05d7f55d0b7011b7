"""Gradient noise and fluctuations near a minimum of any differentiable model (Theorem 5 and its corollaries)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sgdsim import _checks
from sgdsim._types import Matrix, Vector, as_matrix
from sgdsim.optimizers import SGD
from sgdsim.problems import FlaxNetwork, check_sampling
from sgdsim.problems.flax_modules import Network
from sgdsim.problems.network_losses import check_targets, find_loss
from sgdsim.solver.heavy_ball import stationary_covariance
from sgdsim.solver.noise import spread, subset_factor

FORMS = ("loss", "fisher")
_TOGETHER = 64  # examples, or Hessian columns, differentiated side by side
_FLAT = 1e-8  # of the largest curvature
_FAR = 0.1  # of the loss, which one Newton step may still gain
_ROUNDING = 1e-16


class Model(NamedTuple):
    """A model on its data at a point.

    Attributes:
        w: the parameters as one vector, float64, shape (D,).
        example_loss: (w, x, y) -> loss of one example.
        features: of every example.
        targets: of every example.
        outputs: how many numbers one prediction has.
        form: which form of the law its loss has by default.
        weight_decay: gamma.
    """

    w: Vector
    example_loss: Callable[[Any, Any, Any], Any]
    features: Any
    targets: Any
    outputs: int
    form: str
    weight_decay: float

    @property
    def n_examples(self) -> int:
        """Number of examples n."""
        return len(self.features)


@dataclasses.dataclass(frozen=True)
class NetworkLoss:
    """Loss of one example under a `FlaxNetwork`; equal for equal networks, so that it is compiled once."""

    network: Network
    loss: Any

    def __call__(self, w: Any, x: Any, y: Any) -> Any:
        """The loss at w."""
        return find_loss(self.loss)(self.network.predict(w, x[None])[0], y)


@functools.partial(jax.jit, static_argnums=0)
def _example_gradients(example_loss: Any, w: Any, x: Any, y: Any) -> Any:
    one = jax.grad(example_loss)
    return jax.lax.map(lambda xy: one(w, *xy), (x, y), batch_size=_TOGETHER)


@functools.partial(jax.jit, static_argnums=0)
def _derivatives(example_loss: Any, w: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """L_0, its gradient, and its Hessian column by column."""

    def mean_loss(v: Any) -> Any:
        return jnp.mean(jax.vmap(example_loss, (None, 0, 0))(v, x, y))

    slope = jax.grad(mean_loss)
    columns = jax.lax.map(lambda v: jax.jvp(slope, (w,), (v,))[1], jnp.eye(len(w)), batch_size=_TOGETHER)
    return mean_loss(w), slope(w), columns


def derivatives(at: Model) -> tuple[float, Vector, Matrix]:
    """L_0, its gradient and its Hessian H_0 at the point."""
    level, slope, h = _derivatives(at.example_loss, at.w, at.features, at.targets)
    return float(level), np.asarray(slope), (np.asarray(h) + np.asarray(h).T) / 2


def read_model(model: Any, params: Any, features: Any, targets: Any, loss: Any, weight_decay: float) -> Model:
    """A `FlaxNetwork` at w, or a function (params, features) -> predictions with its data and loss.

    Raises:
        ValueError: something is missing, given twice, or does not fit.
    """
    if params is None:
        raise _checks.error("params", None, "the point where the noise is wanted", "pass w, e.g. a row of result.final")
    if isinstance(model, FlaxNetwork):
        return _read_network(model, params, features, targets)
    if not callable(model):
        raise _checks.error("model", type(model).__name__, "a FlaxNetwork or a function (params, features)",
                            "pass module.apply, or describe the problem with ss.FlaxNetwork")
    if features is None or targets is None:
        raise _checks.error("features" if features is None else "targets", None, "given beside a function",
                            "pass features=X, targets=y")
    if isinstance(params, list) and all(np.ndim(number) == 0 for number in params):
        params = np.array(params, np.float64)
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params))
    x = _checks.finite_array("features", features)
    output = jax.eval_shape(lambda v: model(unravel(v), jnp.asarray(x[:2])), flat).shape[1:]
    function = find_loss(loss)

    def example_loss(w: Any, xi: Any, yi: Any) -> Any:
        return function(model(unravel(w), xi[None])[0], yi)

    gamma = _checks.real("weight_decay", weight_decay, "a number", "use 0 for none")
    return Model(np.asarray(flat), example_loss, x, check_targets("targets", targets, len(x), loss, output),
                 int(np.prod(output)), default_form(loss), gamma)


def _read_network(problem: FlaxNetwork, params: Any, features: Any, targets: Any) -> Model:
    if features is not None or targets is not None:
        raise _checks.error("features", "given", "left out for a FlaxNetwork", "it brings its own data")
    if problem.label_noise > 0:
        raise _checks.error("label_noise", float(problem.label_noise), "0 here: this law is of the noise of drawing",
                            "use solver.gradient_covariance, or label_noise_covariance where every example is fitted")
    w = params if np.ndim(params) == 1 else ravel_pytree(params)[0]
    w = _checks.vector("params", w, problem.dimension)

    output = jax.eval_shape(lambda v: problem.network.predict(v, jnp.asarray(problem.features[:1])), w).shape[1:]
    example_loss = NetworkLoss(problem.network, problem.loss_name)
    return Model(w, example_loss, problem.features, problem.targets, int(np.prod(output)),
                 default_form(problem.loss_name), float(problem.weight_decay))


def default_form(loss: Any) -> str:
    """The form "fisher" for cross-entropy, whose loss is a log-likelihood; "loss" otherwise."""
    return "fisher" if loss == "cross_entropy" else "loss"


def _check_request(model: Model, batch_size: Any, sampling: str | None, form: str | None) -> tuple[float, str]:
    size, mode = check_sampling(model, batch_size, sampling)  # type: ignore[arg-type]
    if mode == "epochs":
        raise NotImplementedError("no theory for sampling='epochs': batches of one pass are dependent; "
                                  "use 'without_replacement'")
    chosen = model.form if form is None else _checks.choice("form", form, FORMS)
    return subset_factor(model.n_examples, size, mode), chosen


def _law(at: Model, level: float, slope: Vector, hessian: Matrix, factor: float, form: str) -> Matrix:
    strength = 1.0 if form == "fisher" else 2 * level / at.outputs
    return factor * (strength * hessian - np.outer(slope, slope))


def noise_covariance_near_minimum(
    model: Any,
    params: Any = None,
    *,
    batch_size: int,
    sampling: str | None = None,
    form: str | None = None,
    features: Any = None,
    targets: Any = None,
    loss: Any = "mse",
) -> Matrix:
    r"""Gradient noise near a minimum of small loss, approximately (Theorem 5 [14]).

    $$C(w) \approx f \Big( \frac{2 L_0(w)}{k} H_0(w) - \nabla L_0(w) \nabla L_0(w)^\top \Big), \qquad f = \tfrac1S.$$

    L_0 and H_0 are the data's loss and Hessian WITHOUT weight decay, and so is the gradient (the paper writes the
    gradient of the full loss, which vanishes at the minimum: see the errata). k is the number of outputs: the
    paper has one. Without replacement f = (n-S)/(S(n-1)). It needs residuals whose size does not depend on where
    the gradients are large. For cross-entropy the squared slope of the loss is not twice the loss; where the model
    is calibrated the noise is Fisher's information, and form "fisher" puts 1 for 2 L_0/k.

    Args:
        model: a `FlaxNetwork`, or a function (params, features) -> predictions of shape (n, ...).
        params: where: a vector (D,), or for a function any tree of arrays (flattened by `ravel_pytree`).
        batch_size: S.
        sampling: "with_replacement" (None) or "without_replacement".
        form: "loss" as above, or "fisher"; None is "fisher" for "cross_entropy" and "loss" for all else.
        features: X, beside a function.
        targets: y, beside a function.
        loss: as for `FlaxNetwork`, beside a function.

    Returns:
        C, shape (D, D); not necessarily positive semi-definite, as H_0 need not be.

    Raises:
        ValueError: an argument does not fit.
        NotImplementedError: sampling is "epochs".

    Examples:
        >>> import numpy as np
        >>> from sgdsim.solver import minibatch_covariance, noise_covariance_near_minimum
        >>> x, y = np.array([[1.0], [-1.0]]), np.array([1.5, -0.5])  # residuals of w = 1: both 0.5 in size
        >>> how = {"batch_size": 4, "features": x, "targets": y}
        >>> line = lambda w, x: x @ w
        >>> float(noise_covariance_near_minimum(line, [1.0], **how)[0, 0])
        0.0625
        >>> float(minibatch_covariance(line, [1.0], **how)[0, 0])
        0.0625
    """
    with jax.enable_x64(True):
        at = read_model(model, params, features, targets, loss, 0.0)
        factor, chosen = _check_request(at, batch_size, sampling, form)
        return _law(at, *derivatives(at), factor, chosen)


def minibatch_covariance(
    model: Any,
    params: Any = None,
    *,
    batch_size: int,
    sampling: str | None = None,
    features: Any = None,
    targets: Any = None,
    loss: Any = "mse",
) -> Matrix:
    r"""Gradient noise of any differentiable model, exactly, from the gradient of every example [99, 108, 116].

    $$C(w) = f \Big( \tfrac1n \sum_i g_i g_i^\top - \bar g \bar g^\top \Big).$$

    Args:
        model: as for `noise_covariance_near_minimum`.
        params: as there.
        batch_size: S.
        sampling: "with_replacement" (None) or "without_replacement".
        features: X, beside a function.
        targets: y, beside a function.
        loss: as for `FlaxNetwork`, beside a function.

    Raises:
        ValueError: an argument does not fit.
        NotImplementedError: sampling is "epochs".

    Examples:
        >>> from sgdsim.solver import minibatch_covariance
        >>> how = {"batch_size": 1, "features": [[1.0], [1.0]], "targets": [1.0, -1.0]}
        >>> float(minibatch_covariance(lambda w, x: x @ w, [0.0], **how)[0, 0])
        1.0
    """
    with jax.enable_x64(True):
        at = read_model(model, params, features, targets, loss, 0.0)
        factor, _ = _check_request(at, batch_size, sampling, None)
        return spread(np.asarray(_example_gradients(at.example_loss, at.w, at.features, at.targets)), factor)


def covariance_near_minimum(
    model: Any,
    optimizer: SGD,
    params: Any = None,
    *,
    batch_size: int,
    sampling: str | None = None,
    form: str | None = None,
    features: Any = None,
    targets: Any = None,
    loss: Any = "mse",
    weight_decay: float = 0.0,
) -> Matrix:
    r"""Stationary covariance around a minimum, to leading order, on the range of its Hessian (Corollary 3).

    $$P\Sigma = \frac{2 L_0}{S(1-\mu)} P L \Big( 2I - \frac{L H_0}{1+\mu} \Big)^{-1} \quad (\Gamma = 0).$$

    It solves the generalised Lyapunov equation [3] for the noise of `noise_covariance_near_minimum` at w*, of which
    this is the solution where L and H_0 commute; with weight decay the Hessian is H_0 + gamma I and the noise
    2 L_0 H_0 / S less the square of gamma w* (Corollary 2 [15]). At L_0 = 0 it is 0. Along flat directions, where
    Sigma is arbitrary, it is 0 too.

    Args:
        model: as for `noise_covariance_near_minimum`.
        optimizer: an `SGD` with a constant learning rate; its preconditioner must keep the range of the Hessian.
        params: the minimum w*.
        batch_size: S.
        sampling: "with_replacement" (None) or "without_replacement".
        form: as there.
        features: X, beside a function.
        targets: y, beside a function.
        loss: as for `FlaxNetwork`, beside a function.
        weight_decay: gamma, beside a function.

    Raises:
        ValueError: `params` is no minimum, or training around it is unstable.
        NotImplementedError: the optimizer is not SGD at a constant rate.

    Examples:
        >>> import sgdsim as ss
        >>> from sgdsim.solver import covariance_near_minimum
        >>> how = {"batch_size": 4, "features": [[1.0], [-1.0]], "targets": [1.5, -0.5]}
        >>> round(float(covariance_near_minimum(lambda w, x: x @ w, ss.SGD(0.1), [1.0], **how)[0, 0]), 6)
        0.003289
    """
    if not isinstance(optimizer, SGD) or callable(optimizer.learning_rate):
        raise NotImplementedError("the law near a minimum is there for SGD with a constant learning rate: simulate "
                                  "other optimizers instead")
    with jax.enable_x64(True):
        at = read_model(model, params, features, targets, loss, weight_decay)
        factor, chosen = _check_request(at, batch_size, sampling, form)
        level, slope, h0 = derivatives(at)
    noise = _law(at, level, slope, h0, factor, chosen)
    full = h0 + at.weight_decay * np.eye(len(h0))
    values, vectors = np.linalg.eigh(full)
    _check_minimum(at, level, slope, values, vectors)
    basis = vectors[:, values > _FLAT * values.max()]
    p = np.eye(len(h0)) if optimizer.preconditioner is None else as_matrix(optimizer.preconditioner, len(h0))
    rate = float(optimizer.learning_rate) * p @ basis
    inside = basis.T @ rate
    if np.linalg.norm(rate - basis @ inside) > _FLAT * np.linalg.norm(rate):
        raise _checks.error("preconditioner", optimizer.preconditioner, "one that keeps the range of the Hessian",
                            "add a little weight decay, so that no direction is flat")
    sigma = stationary_covariance(basis.T @ full @ basis, basis.T @ noise @ basis, inside, float(optimizer.momentum))
    return basis @ sigma @ basis.T


def _check_minimum(at: Model, level: float, slope: Vector, values: Vector, vectors: Matrix) -> None:
    if values.max() <= 0 or values.min() < -1e-6 * values.max():
        raise _checks.error("params", f"a point with curvature {values.min():.3g}", "a minimum",
                            "train on with a small learning rate and the full batch")
    inside = values > _FLAT * values.max()
    pull = vectors.T @ (slope + at.weight_decay * at.w)
    gain = 0.5 * float(np.sum(pull[inside] ** 2 / values[inside]))
    rounding = _ROUNDING * float(values.max()) * (1 + float(at.w @ at.w))
    if gain > _FAR * abs(level) + rounding:
        raise _checks.error("params", f"a point where a Newton step would lower the loss {level:.3g} by {gain:.3g}",
                            "a minimum", "train on with a small learning rate and the full batch")
