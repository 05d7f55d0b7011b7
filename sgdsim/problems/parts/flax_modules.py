"""A flax module as a pure function of one parameter vector: linen modules, nnx modules, nnx constructors."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import math
import pickle
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sgdsim import _checks
from sgdsim._types import AnyArray

_HOMES = ("flax.linen", "jax.numpy", "jax.nn")


class Network(NamedTuple):
    """What the rest of the package sees of a module; hashable, and equal for equal modules.

    Attributes:
        name: of the module's class.
        module: a linen module, or the graph definition of an nnx module.
        constructor: makes an nnx module from `nnx.Rngs`; None for linen, or where an instance was given.
        tree: structure of the parameters.
        shapes: shapes of the parameters, in the order in which they lie in the vector.
    """

    name: str
    module: Hashable
    constructor: Callable[[Any], Any] | None
    tree: Any
    shapes: tuple[tuple[int, ...], ...]

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        """Itself: it is immutable, and copies of modules are not equal."""
        return self

    def __reduce__(self) -> tuple[Callable[[bytes], Network], tuple[bytes]]:
        """Pickled with linen modules as their class and what was chosen: flax's default initialisers are closures."""
        buffer = io.BytesIO()
        _ModulePickler(buffer).dump(tuple(self))
        return _unpickle, (buffer.getvalue(),)

    @property
    def linen(self) -> bool:
        """Whether it is a linen module."""
        return _is_linen(self.module)

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes)

    def unflatten(self, w: AnyArray) -> PyTree:
        """The parameters that lie in the vector `w`, as the module's own tree."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1].tolist()
        leaves = [part.reshape(shape) for part, shape in zip(jnp.split(w, ends), self.shapes, strict=True)]
        return jax.tree.unflatten(self.tree, leaves)

    def predict(self, w: AnyArray, features: AnyArray) -> jax.Array:
        """Predictions for a batch of features (b, ...), from one parameter vector."""
        parameters = self.unflatten(w)
        if self.linen:
            return self.module.apply({"params": parameters}, features)  # type: ignore[attr-defined]
        return _nnx().merge(self.module, parameters)(features)

    def start(self, key: jax.Array, example: AnyArray) -> jax.Array:
        """Freshly initialised parameters as one vector; `example` is a batch of one."""
        if self.linen:
            tree = self.module.init(key, example)["params"]  # type: ignore[attr-defined]
        else:
            assert self.constructor is not None
            tree = _nnx().split(self.constructor(_nnx().Rngs(key)), _nnx().Param, ...)[1]
        return flatten(tree)


class _ModulePickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if not _is_linen(value):
            name = getattr(value, "__name__", None)  # compiled functions, such as tanh, say no home to pickle
            homes = [home for home in _HOMES if name and getattr(importlib.import_module(home), name, None) is value]
            return (_named, (homes[0], name)) if homes else NotImplemented
        fields = [f for f in dataclasses.fields(value) if f.init and f.name != "parent"]
        chosen = {f.name: getattr(value, f.name) for f in fields if getattr(value, f.name) is not f.default}
        kind: Callable[..., object] = type(value)
        return functools.partial(kind, **chosen), ()


def _named(home: str, name: str) -> Any:
    return getattr(importlib.import_module(home), name)


def _unpickle(data: bytes) -> Network:
    return Network(*pickle.loads(data))


def flatten(tree: PyTree) -> jax.Array:
    """The leaves of a tree one behind the other, shape (D,)."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _nnx() -> Any:
    # A third of a second that only users of networks should pay.
    from flax import nnx

    return nnx


def _is_linen(module: object) -> bool:
    from flax import linen

    return isinstance(module, linen.Module)


def read_module(module: Any, example: jax.ShapeDtypeStruct) -> tuple[Network, np.ndarray | None]:
    """A module's pure function, and the parameters of an nnx instance (None where they are drawn).

    Args:
        module: a linen module, an nnx module, a function from `nnx.Rngs` to an nnx module, or what was read already.
        example: a batch of one example's features.

    Raises:
        ValueError: it is none of these, it has state beside its parameters, or it does not fit the features.
    """
    if isinstance(module, Network):
        return module, None
    if _is_linen(module):
        return _read_linen(module, example), None
    nnx = _nnx()
    if isinstance(module, nnx.Module):
        network, state = _split(module, None)
        return network, np.asarray(flatten(state), np.float64)
    if not callable(module) or isinstance(module, type):
        raise _checks.error("module", module, "a flax linen module, an nnx module or a function nnx.Rngs -> nnx module",
                            "pass an instance: MLP(width=32), or lambda rngs: MLP(32, rngs=rngs)")
    made = nnx.eval_shape(lambda: module(nnx.Rngs(0)))
    if not isinstance(made, nnx.Module):
        raise _checks.error("module", made, "a function that returns an nnx module",
                            "pass lambda rngs: MLP(32, rngs=rngs)")
    return _split(made, module)[0], None


def _read_linen(module: Any, example: jax.ShapeDtypeStruct) -> Network:
    # `nn.Sequential([...])` keeps a list, which has no hash.
    fields = {f.name: getattr(module, f.name, None) for f in dataclasses.fields(module) if f.init}
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    module = module.clone(**lists) if lists else module
    try:
        hash(module)
    except TypeError:
        raise _checks.error("module", type(module).__name__, "hashable",
                            "make its attributes numbers, strings, functions or tuples, not arrays or dictionaries"
                            ) from None
    variables = _attempt(type(module).__name__, lambda: jax.eval_shape(module.init, jax.random.key(0), example))
    _refuse_state([name for name in variables if name != "params"])
    if not jax.tree.leaves(variables.get("params", {})):
        raise _checks.error("module", type(module).__name__, "a network with parameters", "add a layer such as Dense")
    leaves, tree = jax.tree.flatten(variables["params"])
    _refuse_complex(type(module).__name__, leaves)
    return Network(type(module).__name__, module, None, tree, tuple(leaf.shape for leaf in leaves))


def _split(module: Any, constructor: Any) -> tuple[Network, Any]:
    nnx = _nnx()
    graph, state, rest = nnx.split(module, nnx.Param, ...)
    _refuse_state(sorted({type(variable).__name__ for _, variable in nnx.to_flat_state(rest)}))
    leaves, tree = jax.tree.flatten(state)
    if not leaves:
        raise _checks.error("module", type(module).__name__, "a network with parameters", "add a layer such as Linear")
    _refuse_complex(type(module).__name__, leaves)
    shapes = tuple(leaf.shape for leaf in leaves)
    return Network(type(module).__name__, graph, constructor, tree, shapes), state


def _refuse_complex(name: str, leaves: list[jax.Array]) -> None:
    kinds = sorted({str(leaf.dtype) for leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.floating)})
    if kinds:
        raise _checks.error("module", name, f"one with real parameters (got {', '.join(kinds)})",
                            "give real and imaginary parts parameters of their own")


def _refuse_state(kinds: list[str]) -> None:
    if kinds:
        raise _checks.error("module", ", ".join(kinds), "free of state beside its parameters",
                            "take out batch normalisation, dropout and caches (layer normalisation is fine)")


def _attempt(name: str, action: Callable[[], Any]) -> Any:
    """Run what calls the user's module; its complaint becomes ours."""
    from flax.errors import FlaxError, InvalidRngError

    try:
        return action()
    except InvalidRngError as missing:
        raise _checks.error("module", str(missing).split(" (http")[0], "deterministic",
                            "take out dropout, or give it deterministic=True") from missing
    except (TypeError, ValueError, FlaxError) as failed:
        text = " ".join(str(failed).split(" (http")[0].split())[:160]
        raise _checks.error("module", name, f"applicable to a batch of features ({text})",
                            "give it the shape of the features and defaults for every other argument") from failed


def output_shape(network: Network, features: np.ndarray) -> tuple[int, ...]:
    """Shape of the prediction of one example.

    Raises:
        ValueError: the module does not keep the batch axis, or cannot be applied to the features.
    """
    w = jax.ShapeDtypeStruct((network.dimension,), jnp.float32)
    # A batch of 3 and one of 2: an axis that happens to be 2 long is not the batch.
    made = [
        _attempt(network.name, functools.partial(jax.eval_shape, network.predict, w, batch))
        for batch in (jax.ShapeDtypeStruct((n, *features.shape[1:]), jnp.float32) for n in (2, 3))
    ]
    if not all(isinstance(output, jax.ShapeDtypeStruct) and jnp.issubdtype(output.dtype, jnp.floating)
               for output in made):
        raise _checks.error("module", f"an output that is {made[0]}", "one array of real numbers",
                            "wrap it in a module that returns the prediction alone")
    shapes = [output.shape for output in made]
    if shapes[0][:1] != (2,) or shapes[1][:1] != (3,):
        raise _checks.error("module", f"an output of shape {shapes[0]} for a batch of 2",
                            "one prediction for each example, batch first", "keep the first axis of the features")
    return shapes[0][1:]


@functools.lru_cache(maxsize=64)
def numbers_per_example(network: Network, shape: tuple[int, ...]) -> int:
    """How many intermediate numbers the forward pass makes for each further example of a batch."""
    w = jax.ShapeDtypeStruct((network.dimension,), jnp.float32)

    def made(n: int) -> int:
        x = jax.ShapeDtypeStruct((n, *shape), jnp.float32)
        program = jax.make_jaxpr(network.predict)(w, x)
        return sum(math.prod(getattr(out.aval, "shape", ())) for line in program.eqns for out in line.outvars)

    return max(1, made(2) - made(1)) + math.prod(shape)
