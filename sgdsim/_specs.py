"""Specs: frozen dataclasses that are pytrees, registered with JAX's own `register_dataclass`."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, Generic, ParamSpec, TypeVar, dataclass_transform, overload

import jax
import numpy as np

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
_MARK = "_rebuilt"


def own_settings(function: Callable[P, R]) -> Callable[P, R]:
    """A function that promotes dtypes and ranks and moves its arguments to the device, as JAX does by default.

    `jax_numpy_dtype_promotion="strict"`, `jax_numpy_rank_promotion="raise"` and `jax_transfer_guard="disallow"` are a
    user's checks of the user's own code: inside the call they do not hold.
    """

    @functools.wraps(function)
    def inside(*args: P.args, **given: P.kwargs) -> R:
        with ExitStack() as settings:
            settings.enter_context(jax.numpy_dtype_promotion("standard"))
            settings.enter_context(jax.numpy_rank_promotion("allow"))
            settings.enter_context(jax.transfer_guard("allow"))
            return function(*args, **given)

    return inside


def data(*, alias: str | None = None, **options: Any) -> Any:
    """A field that holds arrays, or pytrees of them; `alias` is what the constructor calls it."""
    return dataclasses.field(metadata={"alias": alias}, **options)


def static(*, alias: str | None = None, **options: Any) -> Any:
    """A field of a `spec` that is part of its structure: text, functions, whole numbers that are shapes.

    Anything with a hash; another value is another compiled program.

    Args:
        alias: what the constructor calls the field, if it is not its name.
        options: as for `dataclasses.field`, such as `default`.
    """
    return dataclasses.field(metadata={"static": True, "alias": alias}, **options)


@dataclasses.dataclass
class _Rebuild:
    """What JAX hands to a constructor beside the fields of a spec."""

    _rebuilt: bool = static(default=True)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(dataclasses.field, data, static))
def spec(cls: type[T]) -> type[T]:
    """Make a frozen dataclass that is a pytree: fields are data, arrays or trees of them, unless declared `static()`.

    It is registered with `jax.tree_util.register_dataclass`. `__init__` and `__post_init__` run when a user builds an
    instance, also with `dataclasses.replace`, and not when JAX rebuilds one. A subclass without fields of its own is
    built as its parent is.

    Examples:
        >>> import jax
        >>> import sgdsim as ss
        >>> @ss.spec
        ... class Decay:
        ...     rate: float
        ...     kind: str = ss.static(default="linear")
        >>> jax.tree.map(lambda leaf: 2 * leaf, Decay(0.25))
        Decay(rate=0.5, kind='linear')
    """
    described = "__repr__" in vars(cls)
    inherits = dataclasses.is_dataclass(cls) and not inspect.get_annotations(cls)
    cls = dataclasses.dataclass(frozen=True, eq=False, repr=False, init=not inherits)(cls)
    _register(cls)
    aliases = {f.name: f.metadata.get("alias") or f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    fields = {alias: name for name, alias in aliases.items()}
    build = own_settings(cls.__init__)
    shown = [name for name in inspect.signature(build).parameters if name in fields]

    @functools.wraps(build)
    def __init__(self: T, *args: object, **given: object) -> None:
        if given.pop(_MARK, False):  # by JAX, from what was checked when it was built
            vars(self).update(given)
        else:
            build(self, *args, **{aliases.get(name, name): value for name, value in given.items()})

    def describe(self: T) -> str:
        return f"{cls.__name__}({', '.join(f'{name}={summary(getattr(self, fields[name]))}' for name in shown)})"

    cls.__init__ = __init__  # type: ignore[method-assign, assignment]
    if not described:
        cls.__repr__ = describe  # type: ignore[method-assign, assignment]
    return cls


def summary(value: object) -> str:
    """One short line for `value`; large arrays show their shape and a digest of their content."""
    if isinstance(value, np.ndarray | np.generic):
        if value.size <= 16:
            return repr(value.tolist())
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:12]
        return f"<{'x'.join(map(str, value.shape))} array {digest}>"
    if isinstance(value, jax.Array):
        return f"<{'x'.join(map(str, value.shape))} array>"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(summary, value))}]"
    if isinstance(value, functools.partial) and not (value.args or value.keywords):
        value = value.func
    return getattr(value, "__name__", None) or repr(value)


def _register(cls: type) -> None:
    # JAX rebuilds with every field by keyword, as `dataclasses.replace` does; one that only JAX knows tells them apart.
    fields = vars(cls)["__dataclass_fields__"]
    fields[_MARK] = vars(_Rebuild)["__dataclass_fields__"][_MARK]
    jax.tree_util.register_dataclass(cls)
    del fields[_MARK]
    setattr(cls, _MARK, True)


def set_field(instance: object, **values: object) -> None:
    """Normalise fields of a frozen spec while it is built."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


class derived(Generic[T]):
    """A property of a spec that is worked out once and kept outside the tree; anew where a field is traced."""

    def __init__(self, function: Callable[[Any], T]):
        self.function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> derived[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        value = self.function(instance)
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            vars(instance)[self.name] = value  # Python looks here first
        return value


def share_derived(known: object, other: object, names: Iterable[str]) -> None:
    """Let a spec know what is derived from fields that it shares with another."""
    vars(other).update({name: getattr(known, name) for name in names})


@spec
class Remembered(Generic[T]):
    """A spec and what is derived from it, side by side: a compiled program takes both as they were on the host."""

    thing: T
    values: dict[str, Any]

    def recall(self) -> T:
        """The spec, which knows its derived properties already."""
        thing = copy.copy(self.thing)
        vars(thing).update(self.values)
        return thing


def remember(thing: T) -> Remembered[T]:
    """Work out every derived property of a spec."""
    names = {name for cls in type(thing).__mro__ for name, value in vars(cls).items() if isinstance(value, derived)}
    mine = [name for name in sorted(names) if isinstance(inspect.getattr_static(type(thing), name), derived)]
    return Remembered(thing, {name: getattr(thing, name) for name in mine})
