"""A neural network (flax linen or nnx) on a finite data set."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import data, set_field, spec, static, summary
from sgdsim._types import AnyArray
from sgdsim.problems.parts.example_losses import ExampleLosses
from sgdsim.problems.parts.flax_modules import Network, numbers_per_example, output_shape, read_module
from sgdsim.problems.parts.network_losses import LossFunction, check_targets, find_loss, flipped
from sgdsim.problems.parts.residuals import NOISE_LAWS
from sgdsim.problems.parts.traced import traced


@spec
class FlaxNetwork(ExampleLosses):
    r"""A network f on n given examples, with parameters as one vector w.

    $$L(w) = \frac1n \sum_i \ell(f(w, x_i), y_i) + \tfrac12 \gamma \|w\|^2 \;(+ \tfrac12 k \sigma^2).$$

    Args:
        module: a flax linen module; an nnx module (its values are the start); or a function from `nnx.Rngs` to an
            nnx module, which can be initialised anew for every chain. It maps a batch (b, ...) to (b, ...), has no
            state beside its parameters (no batch normalisation, no dropout), and linen attributes are hashable.
        features: shape (n, ...), used as real numbers.
        targets: shape (n,) or (n, outputs); class labels 0, 1, ... for "cross_entropy", -1 or 1 for "logistic".
        loss: "mse" (HALF the squared error, summed over outputs), "cross_entropy" (of logits and labels, in nats),
            "logistic" (log(1 + exp(-y f)) of one output), or a function (prediction, target) -> scalar of ONE example.
            Every loss is averaged over examples.
        weight_decay: gamma, one number for all parameters, biases included; may be negative.
        seed: of the default start.
        test_features: held-out examples for `test_loss`; None tests on the training examples.
        test_targets: their targets.
        label_noise: STANDARD DEVIATION sigma of noise drawn afresh at every step for each of the k numbers of
            every target; for "mse" only. It adds 1/2 k sigma^2 to the expected loss.
        start: where chains start, shape (D,); None is what `seed` initialises, or the values of an nnx module.
        noise: the law of the label noise: "gaussian", or "sign" for +-sigma with equal chances.
        label_flip: p, 0 <= p < 1, for "cross_entropy" and "logistic": at every step the label of every example is
            another one with probability p, each of the others with equal chances. `loss` is the expected one.

    The minimum of a network is not known: `minimum` is None. Nor is the excess over it, so `test_loss` is the
    loss of the held-out examples itself, without the penalty.

    Raises:
        ValueError: module, features, targets and loss do not fit each other, or a value is not finite.

    Examples:
        >>> import flax.linen as nn
        >>> import numpy as np
        >>> import sgdsim as ss
        >>> x = np.linspace(-1.0, 1.0, 8)[:, None]
        >>> problem = ss.FlaxNetwork(nn.Sequential([nn.Dense(3), nn.tanh, nn.Dense(1)]), x, x[:, 0] ** 2, "mse")
        >>> problem.dimension, problem.random_start(seed=1, chains=5).shape
        (10, (5, 10))
    """

    network: Network = static(alias="module")
    features: Any
    targets: Any
    loss_name: Any = static(alias="loss")
    weight_decay: Any
    default_start: Any = data(alias="start")
    test_features: Any
    test_targets: Any
    label_noise: Any
    noise: str = static()
    label_flip: float = static()

    def __init__(
        self,
        module: object,
        features: ArrayLike,
        targets: ArrayLike,
        loss: str | LossFunction = "mse",
        weight_decay: float = 0.0,
        seed: int = 0,
        test_features: ArrayLike | None = None,
        test_targets: ArrayLike | None = None,
        label_noise: float = 0.0,
        start: ArrayLike | None = None,
        noise: str = "gaussian",
        label_flip: float = 0.0,
    ):
        x = _examples("features", features)
        find_loss(loss)
        gamma = _checks.real("weight_decay", weight_decay, "a number", "use 0 for none; it may be negative")
        _checks.finite_array("weight_decay", gamma, "use 0 for none")
        _checks.integer("seed", seed, low=0, high=2**32 - 1, remedy="try seed=0")
        sigma = _checks.non_negative("label_noise", label_noise, "it is a standard deviation: pass |sigma|")
        if sigma > 0 and loss != "mse":
            raise _checks.error("label_noise", label_noise, "0 for this loss", "only targets of loss='mse' take noise")
        flip = _checks.non_negative("label_flip", label_flip, "it is a probability")
        if flip >= 1 or (flip > 0 and loss not in ("cross_entropy", "logistic")):
            raise _checks.error("label_flip", label_flip, "from 0 to below 1, for loss='cross_entropy' or 'logistic'",
                                f"other losses have no labels to flip (got loss={loss!r})")
        network, given = read_module(module, jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.float32))
        output = output_shape(network, x)
        y = check_targets("targets", targets, len(x), loss, output)
        _check_function(loss, output, y)
        if start is not None:
            given = _checks.vector("start", start, network.dimension)
        set_field(
            self,
            network=network,
            features=x,
            targets=y,
            loss_name=loss,
            weight_decay=np.float64(gamma),
            label_noise=np.float64(sigma),
            noise=_checks.choice("noise", noise, NOISE_LAWS),
            label_flip=flip,
            default_start=_starts(network, seed, 1, x)[0] if given is None else given,
            **_held_out(test_features, test_targets, x, loss, output, y),
        )

    def __repr__(self) -> str:
        loss = self.loss_name if isinstance(self.loss_name, str) else getattr(self.loss_name, "__name__", "function")
        return (f"FlaxNetwork({self.network.name}, {self.dimension} parameters, features={summary(self.features)}, "
                f"targets={summary(self.targets)}, loss={loss!r}, weight_decay={float(self.weight_decay):g}, "
                f"label_noise={float(self.label_noise):g})")

    @property
    def dimension(self) -> int:
        """Number of parameters D."""
        return self.network.dimension

    @property
    def slice_numbers(self) -> int:
        """Numbers made by one example of one chain."""
        return numbers_per_example(self.network, self.features.shape[1:])

    @property
    def classes(self) -> int:
        """How many classes the labels have: outputs of the network, 2 for one output; 0 without labels."""
        if self.loss_name == "logistic":
            return 2
        return output_shape(self.network, self.features)[0] if self.loss_name == "cross_entropy" else 0

    def random_start(self, seed: int, chains: int) -> np.ndarray:
        """Freshly initialised parameters for every chain, shape (chains, D); chain k does not depend on `chains`.

        Raises:
            ValueError: the problem was made from an nnx instance, which cannot be initialised anew.
        """
        if not self.network.linen and self.network.constructor is None:
            raise _checks.error("module", "an nnx instance", "a linen module or a function nnx.Rngs -> module",
                                "pass lambda rngs: MLP(32, rngs=rngs) instead of MLP(32, rngs=nnx.Rngs(0))")
        seed = _checks.integer("seed", seed, low=0, high=2**32 - 1, remedy="try seed=0")
        return _starts(self.network, seed, _checks.integer("chains", chains), self.features)

    def unflatten(self, w: AnyArray) -> PyTree:
        """The module's own tree of parameters (linen: the "params" collection; nnx: its state) from w, shape (D,)."""
        return self.network.unflatten(jnp.asarray(w))

    @jax.jit
    def predict(self, w: AnyArray, features: AnyArray) -> jax.Array:
        """Outputs of the network for features (b, ...), shape (b, ..., *chains) for w of shape (D, *chains)."""
        return self.each_chain(lambda v: self.network.predict(v, features), jnp.asarray(w), len(features))

    def batch_loss(self, w: AnyArray, features: AnyArray, targets: AnyArray) -> jax.Array:
        """Losses of the examples of a batch from one vector w, shape (b,); no penalty."""
        return jax.vmap(find_loss(self.loss_name))(self.network.predict(w, features), jnp.asarray(targets))

    def expected_loss(self, w: AnyArray, features: AnyArray, targets: AnyArray) -> jax.Array:
        """`batch_loss`, averaged over flips of the labels."""
        if not self.label_flip:
            return self.batch_loss(w, features, targets)
        loss = flipped(self.loss_name, self.label_flip)
        return jax.vmap(loss)(self.network.predict(w, features), jnp.asarray(targets))

    def relabel(self, targets: jax.Array, fresh: jax.Array) -> jax.Array:
        """Targets with fresh noise: a class `fresh` further on, a label times `fresh`, a number plus `fresh`."""
        if self.loss_name == "cross_entropy":
            return (targets + fresh) % self.classes
        return targets * fresh if self.loss_name == "logistic" else targets + fresh

    @property
    def noise_floor(self) -> float:
        """What the label noise adds to the expected loss."""
        outputs = math.prod(self.targets.shape[1:])
        return 0.5 * outputs * self.label_noise**2


def _examples(argument: str, features: ArrayLike) -> np.ndarray:
    x = _checks.finite_array(argument, features)
    if x.ndim < 2 or x.size == 0:
        raise _checks.error(argument, features, f"of shape (n, ...) (got shape {x.shape})", "one row an example")
    return x


def _check_function(loss: str | LossFunction, output: tuple[int, ...], y: np.ndarray) -> None:
    if isinstance(loss, str):
        return
    kind = jax.dtypes.canonicalize_dtype(y.dtype)  # as JAX will see it
    shapes = jax.ShapeDtypeStruct(output, jnp.float32), jax.ShapeDtypeStruct(y.shape[1:], kind)
    made = traced("loss", loss, *shapes, wanted=f"a function of a prediction of shape {output} and a target of shape "
                  f"{y.shape[1:]}", remedy="it takes ONE example")
    if getattr(made, "shape", None) != ():
        raise _checks.error("loss", loss, f"a function with a scalar value (got {made})",
                            "sum over outputs: the mean over examples is taken later")


def _held_out(features: Any, targets: Any, x: np.ndarray, loss: Any, output: tuple[int, ...], y: np.ndarray) -> Any:
    if features is None and targets is None:
        return {"test_features": None, "test_targets": None}
    if features is None or targets is None:
        missing = "test_features" if features is None else "test_targets"
        raise _checks.error(missing, None, "given where the other is", "pass both, or neither")
    held = _examples("test_features", features)
    if held.shape[1:] != x.shape[1:]:
        raise _checks.error("test_features", f"examples of shape {held.shape[1:]}", f"of shape {x.shape[1:]}",
                            "prepare them like the training features")
    checked = check_targets("test_targets", targets, len(held), loss, output, like=y)
    return {"test_features": held, "test_targets": checked}


def _starts(network: Network, seed: int, chains: int, x: np.ndarray) -> np.ndarray:
    example = x[:1].astype(np.float32)
    # One at a time: one chain and many are the same program.
    starts = [_start(network, np.uint32(seed), np.uint32(chain), example) for chain in range(chains)]
    return np.asarray(jax.device_get(starts), np.float64)


# Runs for microseconds: optimising it would take two seconds.
@functools.partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def _start(network: Network, seed: Any, chain: Any, example: Any) -> Any:
    return network.start(jax.random.fold_in(jax.random.key(seed), chain), example)
