"""What is kept of independent groups of chains: every quantity as it would be without each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

MOST_BYTES = 2**26
MOST_GROUPS = 64


class Groups(Mapping[str, np.ndarray]):
    """Every quantity as it would be without each of up to 64 groups of chains, shape (K, ...), by name.

    Args:
        sizes: chains of each group, shape (K,).
        without: the arrays, or what works them out when one is first read.
    """

    def __init__(self, sizes: np.ndarray, without: Mapping[str, np.ndarray] | Callable[[], Mapping[str, np.ndarray]]):
        self.sizes = sizes
        self._without = without

    def _known(self) -> Mapping[str, np.ndarray]:
        if callable(self._without):
            self._without = self._without()
        return self._without

    def __getitem__(self, name: str) -> np.ndarray:
        return self._known()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Groups) and np.array_equal(self.sizes, other.sizes) and self.keys() == other.keys() \
            and all(np.array_equal(self[name], other[name], equal_nan=True) for name in self)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Groups({len(self.sizes)} groups of chains)"

    def __getstate__(self) -> dict[str, object]:
        return {"sizes": self.sizes, "_without": dict(self)}  # what works them out may have no pickle
