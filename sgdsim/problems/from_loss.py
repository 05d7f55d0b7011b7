"""Any loss of one example, as a plain JAX function, on a finite data set."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import data, set_field, spec, static, summary
from sgdsim._types import AnyArray
from sgdsim.problems.parts.example_losses import ExampleLosses
from sgdsim.problems.parts.traced import traced

_TRIED = 64  # examples whose loss is computed at the start

# l(w, x, y) of one example, one number.
ExampleLoss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@spec
class FromLoss(ExampleLosses):
    r"""Your own loss on n given examples; gradients are taken automatically.

    $$L(w) = \frac1n \sum_i \ell(w, x_i, y_i) + \tfrac12 \gamma \|w\|^2 .$$

    Args:
        example_loss: l, a function (w, x, y) -> scalar of ONE example in `jax.numpy`, w of shape (D,). Define it once:
            two equal functions are compiled twice.
        features: x_1 ... x_n, shape (n, ...).
        targets: y_1 ... y_n, shape (n, ...); whole numbers stay whole numbers.
        start: where chains start, shape (D,).
        weight_decay: gamma, one number; may be negative.
        test_features: held-out examples for `test_loss`; None tests on the training examples.
        test_targets: their targets.

    `minimum` is None, because it is not known; `test_loss` is the loss itself, without the penalty.

    Raises:
        ValueError: the shapes do not fit, the function does not give one real number, or a value is not finite.

    Examples:
        >>> import jax.numpy as jnp
        >>> import sgdsim as ss
        >>> logistic = lambda w, x, y: jnp.log1p(jnp.exp(-y * (x @ w)))
        >>> problem = ss.FromLoss(logistic, [[1.0, 0.2], [-0.5, 1.0]], [1.0, -1.0], start=[0.0, 0.0])
        >>> round(float(problem.loss(problem.default_start)), 4)
        0.6931
    """

    example_loss: ExampleLoss = static()
    features: np.ndarray
    targets: np.ndarray
    default_start: np.ndarray = data(alias="start")
    weight_decay: np.ndarray
    test_features: np.ndarray | None
    test_targets: np.ndarray | None

    def __init__(
        self,
        example_loss: ExampleLoss,
        features: ArrayLike,
        targets: ArrayLike,
        start: ArrayLike,
        weight_decay: float = 0.0,
        test_features: ArrayLike | None = None,
        test_targets: ArrayLike | None = None,
    ):
        if not callable(example_loss):
            raise _checks.error("example_loss", example_loss, "a function (w, x, y) -> scalar", "write it in jax.numpy")
        x, y = _checks.example_array("features", features), _checks.example_array("targets", targets)
        if len(x) != len(y):
            raise _checks.error("targets", f"{len(y)} rows", f"{len(x)} rows, one for each row of features",
                                "drop the examples that lack one of them")
        w = _checks.finite_array("start", start)
        if w.ndim != 1 or w.size == 0:
            raise _checks.error("start", start, f"of shape (D,) (got shape {w.shape})", "flatten the parameters")
        gamma = _checks.real("weight_decay", weight_decay, "a number", "use 0 for none; it may be negative")
        _checks.finite_array("weight_decay", gamma, "use 0 for none")
        _check_loss(example_loss, w, x, y)
        if (test_features is None) != (test_targets is None):
            missing = "test_features" if test_features is None else "test_targets"
            raise _checks.error(missing, None, "given where the other is", "pass both, or neither")
        set_field(
            self,
            example_loss=example_loss,
            features=x,
            targets=y,
            default_start=w,
            weight_decay=np.float64(gamma),
            test_features=None if test_features is None else _checks.example_array("test_features", test_features, x),
            test_targets=None if test_targets is None else _checks.example_array("test_targets", test_targets, y),
        )

    def __repr__(self) -> str:
        return (f"FromLoss({getattr(self.example_loss, '__name__', 'function')}, {self.dimension} parameters, "
                f"features={summary(self.features)}, targets={summary(self.targets)}, "
                f"weight_decay={float(self.weight_decay):g})")

    @property
    def dimension(self) -> int:
        """Number of parameters D."""
        return self.default_start.shape[-1]

    @property
    def slice_numbers(self) -> int:
        """Numbers made by one example of one chain."""
        return _numbers_per_example(self.example_loss, *_shapes(self.default_start, self.features, self.targets))

    @property
    def label_noise(self) -> float:
        """0: noise belongs into the loss."""
        return 0.0

    def batch_loss(self, w: AnyArray, features: AnyArray, targets: AnyArray) -> jax.Array:
        """Losses of the examples of a batch from one vector w, shape (b,); no penalty."""
        return jax.vmap(self.example_loss, in_axes=(None, 0, 0))(*map(jnp.asarray, (w, features, targets)))


def _shapes(w: AnyArray, x: AnyArray, y: AnyArray) -> tuple[jax.ShapeDtypeStruct, ...]:
    """One example as JAX sees it: real numbers in its default precision."""
    return tuple(
        jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(a.dtype))
        for shape, a in ((w.shape, w), (x.shape[1:], x), (y.shape[1:], y))
    )


def _check_loss(example_loss: ExampleLoss, w: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    arguments = _shapes(w, x, y)
    name = getattr(example_loss, "__name__", example_loss)
    shapes = ", ".join(str(a.shape) for a in arguments)
    made = traced("example_loss", example_loss, *arguments, wanted=f"a function of w, x, y of shapes {shapes}",
                  remedy="it takes ONE example")
    if getattr(made, "shape", None) != () or not jnp.issubdtype(made.dtype, jnp.floating):
        raise _checks.error("example_loss", name, f"a function with one real number as value (got {made})",
                            "sum over outputs: the mean over examples is taken later")
    with jax.disable_jit(), np.errstate(all="ignore"):
        first = jax.vmap(example_loss, in_axes=(None, 0, 0))(*(jnp.asarray(a) for a in (w, x[:_TRIED], y[:_TRIED])))
    if not isinstance(first, jax.core.Tracer) and not np.isfinite(first).all():
        raise _checks.error("example_loss", float(np.asarray(first)[~np.isfinite(first)][0]),
                            f"finite where chains start (example {int(np.argmin(np.isfinite(first)))})",
                            "start elsewhere, or guard logarithms, roots and divisions")


@functools.lru_cache(maxsize=64)
def _numbers_per_example(example_loss: ExampleLoss, *arguments: jax.ShapeDtypeStruct) -> int:
    program = jax.make_jaxpr(example_loss)(*arguments)
    made = (math.prod(getattr(out.aval, "shape", ())) for line in program.eqns for out in line.outvars)
    return 1 + math.prod(arguments[1].shape) + sum(made)
