"""What every learning problem offers: the only thing that engine and solver both look at."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import PyTree

from sgdsim._types import AnyArray, ArrayT, Matrix, Vector


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

    def loss(self, w: ArrayT) -> ArrayT:
        """Expected loss being minimised, label noise and weight-decay penalty included."""
        ...

    def test_loss(self, w: ArrayT) -> ArrayT:
        """Excess error of `w`: no label noise, no penalty."""
        ...

    def gradient(self, w: ArrayT) -> ArrayT:
        """Gradient of `loss`."""
        ...

    def hessian(self, w: AnyArray | None = None) -> Matrix:
        """Hessian of `loss` at `w`, shape (D, D)."""
        ...

    def example_gradient(self, w: ArrayT, example: PyTree) -> ArrayT:
        """Gradient of the loss of one example."""
        ...
