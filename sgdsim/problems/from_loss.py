"""Any loss of one example, as a plain JAX function, on a finite data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgdsim import _checks
from sgdsim._types import set_field, spec, summary
from sgdsim.problems._example_losses import ExampleLosses


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

    example_loss: Callable[..., Any]
    features: Any
    targets: Any
    default_start: Any
    weight_decay: Any
    test_features: Any
    test_targets: Any
    slice_numbers: int

    def __init__(
        self,
        example_loss: Callable[..., Any],
        features: Any,
        targets: Any,
        start: Any,
        weight_decay: float = 0.0,
        test_features: Any = None,
        test_targets: Any = None,
    ):
        if not callable(example_loss):
            raise _checks.error("example_loss", example_loss, "a function (w, x, y) -> scalar", "write it in jax.numpy")
        x, y = _examples("features", features), _examples("targets", targets)
        if len(x) != len(y):
            raise _checks.error("targets", f"{len(y)} rows", f"{len(x)} rows, one for each row of features",
                                "drop the examples that lack one of them")
        w = _checks.finite_array("start", start)
        if w.ndim != 1 or w.size == 0:
            raise _checks.error("start", start, f"of shape (D,) (got shape {w.shape})", "flatten the parameters")
        gamma = _checks.real("weight_decay", weight_decay, "a number", "use 0 for none; it may be negative")
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
            test_features=None if test_features is None else _like("test_features", test_features, x),
            test_targets=None if test_targets is None else _like("test_targets", test_targets, y),
            slice_numbers=_numbers_per_example(example_loss, w, x, y),
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
    def label_noise(self) -> float:
        """0: noise belongs into the loss."""
        return 0.0

    def batch_loss(self, w: Any, features: Any, targets: Any) -> Any:
        """Losses of the examples of a batch from one vector w, shape (b,); no penalty."""
        return jax.vmap(self.example_loss, in_axes=(None, 0, 0))(w, features, targets)


def _examples(argument: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    whole = np.issubdtype(array.dtype, np.integer)
    checked = array.astype(np.int32) if whole else _checks.finite_array(argument, values)
    if checked.ndim < 1 or checked.size == 0:
        raise _checks.error(argument, values, f"of shape (n, ...) (got shape {checked.shape})", "one row an example")
    return checked


def _like(argument: str, values: Any, training: np.ndarray) -> np.ndarray:
    held = _examples(argument, values)
    if held.shape[1:] != training.shape[1:]:
        raise _checks.error(argument, f"rows of shape {held.shape[1:]}", f"rows of shape {training.shape[1:]}",
                            "prepare them like the training examples")
    return held.astype(training.dtype)


def _shapes(w: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[Any, ...]:
    """One example as JAX sees it: real numbers in its default precision."""
    real = jnp.result_type(float)
    return tuple(
        jax.ShapeDtypeStruct(shape, real if np.issubdtype(a.dtype, np.floating) else a.dtype)
        for shape, a in ((w.shape, w), (x.shape[1:], x), (y.shape[1:], y))
    )


def _check_loss(example_loss: Callable[..., Any], w: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    arguments = _shapes(w, x, y)
    name = getattr(example_loss, "__name__", example_loss)
    try:
        made = jax.eval_shape(example_loss, *arguments)
    except (TypeError, ValueError, IndexError) as failed:
        allowed = "applicable to w, x, y of shapes {}, {}, {} ({})".format(*(a.shape for a in arguments), failed)
        raise _checks.error("example_loss", name, allowed, "it takes ONE example") from failed
    if getattr(made, "shape", None) != () or not jnp.issubdtype(made.dtype, jnp.floating):
        raise _checks.error("example_loss", name, f"a function with one real number as value (got {made})",
                            "sum over outputs: the mean over examples is taken later")


def _numbers_per_example(example_loss: Callable[..., Any], w: np.ndarray, x: np.ndarray, y: np.ndarray) -> int:
    program = jax.make_jaxpr(example_loss)(*_shapes(w, x, y))
    return 1 + x[0].size + sum(int(np.prod(out.aval.shape)) for line in program.eqns for out in line.outvars)
