"""What every learning problem offers: the only thing that engine and solver both look at."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from sgdsim._types import Vector


@runtime_checkable
class Problem(Protocol):
    """A loss landscape and a data law, as a frozen pytree.

    Parameters `w` have shape (D,) or (D, ...): the parameter axis first, any number of chains behind it.
    Losses are 1/2 r^2 averaged over examples; weight decay adds 1/2 w' Gamma w.
    """

    @property
    def dimension(self) -> int:
        """Number of parameters D."""
        ...

    @property
    def n_examples(self) -> int | None:
        """Number of examples, or None for a population."""
        ...

    @property
    def minimum(self) -> Vector:
        """The minimiser of the training loss, shape (D,)."""
        ...

    @property
    def default_start(self) -> Vector:
        """Where chains start unless told otherwise, shape (D,)."""
        ...

    def loss(self, w: Any) -> Any:
        """Expected loss being minimised, label noise and weight-decay penalty included."""
        ...

    def test_loss(self, w: Any) -> Any:
        """Excess error of `w`: no label noise, no penalty."""
        ...

    def gradient(self, w: Any) -> Any:
        """Gradient of `loss`."""
        ...

    def hessian(self, w: Any = None) -> Any:
        """Hessian of `loss` at `w`, shape (D, D)."""
        ...

    def example_gradient(self, w: Any, example: Any) -> Any:
        """Gradient of the loss of one example."""
        ...
