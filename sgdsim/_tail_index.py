"""A tail index and how well it is known: the same record for what theory predicts and for what a sample shows."""

from __future__ import annotations

import dataclasses
import math
from typing import Self

_CONFIDENCE_95 = 1.959964


@dataclasses.dataclass(frozen=True)
class TailIndex:
    r"""kappa in $P(|w| > t) \sim t^{-\kappa}$, the exponent of the SURVIVAL function; `float` gives its value.

    Attributes:
        value: kappa; 0 where there is no law, infinite where every moment exists, NaN where only bounds are known.
        stderr: its standard error; 0 where it is exact, NaN where only the bounds are known.
        low: lower end of an interval, of 95 % unless said otherwise.
        high: upper end; infinite where a light tail is not excluded.

    Examples:
        >>> import sgdsim as ss
        >>> law = ss.predict(ss.LinearRegression([1.0], label_noise=1.0), ss.SGD(0.6), batch_size=2)
        >>> law.tail_index.stderr, round(float(law.tail_index), 3)
        (0.0, 4.24)
    """

    value: float
    stderr: float
    low: float
    high: float

    @classmethod
    def between(cls, low: float, high: float) -> Self:
        """Known to lie there, and no more."""
        return cls(math.nan, math.nan, low, high)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"from {self.low:.4g} to {self.high:.4g}"
        return f"{self.value:.4g}" + (f" ± {self.stderr:.2g}" if self.stderr else "")


def interval(value: float, stderr: float) -> tuple[float, float]:
    """The 95 % interval of a normal error, not below 0."""
    return max(0.0, value - _CONFIDENCE_95 * stderr), value + _CONFIDENCE_95 * stderr
