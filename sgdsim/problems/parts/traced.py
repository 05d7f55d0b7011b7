"""What JAX makes of a function that a user wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from sgdsim import _checks


def traced(argument: str, function: Callable[..., object], *given: object, wanted: str, remedy: str) -> Any:
    """The shapes of what a user's function makes of such arrays; nothing is computed.

    Raises:
        ValueError: JAX cannot trace it.
    """
    try:
        return jax.eval_shape(function, *given)
    except Exception as failed:
        named = getattr(function, "func", function)
        name = getattr(named, "__name__", type(named).__name__)
        said = str(failed).split("\n", 1)[0][:160]
        raise _checks.error(argument, name, f"{wanted} that JAX can trace ({said})", remedy) from failed
