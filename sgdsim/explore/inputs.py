"""What the page may ask for: every value is checked here, whatever the browser sends."""

from __future__ import annotations

import dataclasses

from sgdsim import _checks
from sgdsim.optimizers import SGD
from sgdsim.problems import LinearRegression

# (lowest, highest) of what the page offers; the sliders and the checks share them.
RANGES = {
    "eigenvalue": (0.01, 10.0),
    "label_noise": (0.05, 5.0),  # at 0 there is no noise at the minimum, and nothing to see
    "momentum": (0.0, 0.99),
    "fraction": (0.01, 2.0),
    "learning_rate": (1e-4, 1e3),
}
MAX_BATCH, MIN_CHAINS, MAX_CHAINS = 1024, 256, 16_384


@dataclasses.dataclass(frozen=True)
class Inputs:
    r"""A linear regression in two dimensions, $x \sim N(0, \mathrm{diag}(a_1, a_2))$, and SGD on it.

    Args:
        eigenvalues: a_1 and a_2, each from 0.01 to 10.
        label_noise: the standard deviation sigma, from 0.05 to 5.
        momentum: mu of the heavy ball, from 0 to 0.99.
        batch_size: b, from 1 to 1024.
        rate: what the learning rate is told by, see `unit`.
        unit: "limit" where `rate` is in units of the mean-square stability limit (0.01 to 2), "absolute" where it is
            the learning rate itself.
        chains: independent runs, from 256 to 16384.
        seed: of the simulation.

    Raises:
        ValueError: a value is outside its range.

    Examples:
        >>> Inputs(rate=0.25).batch_size
        8
    """

    eigenvalues: tuple[float, float] = (1.0, 0.25)
    label_noise: float = 0.5
    momentum: float = 0.0
    batch_size: int = 8
    rate: float = 0.5
    unit: str = "limit"
    chains: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.eigenvalues, tuple | list) or len(self.eigenvalues) != 2:
            raise _checks.error("eigenvalues", self.eigenvalues, "two numbers", "the page draws a plane")
        values = tuple(_within(f"eigenvalues[{i}]", a, "eigenvalue") for i, a in enumerate(self.eigenvalues))
        _checks.choice("unit", self.unit, ("limit", "absolute"))
        checked = {
            "eigenvalues": values,
            "label_noise": _within("label_noise", self.label_noise, "label_noise"),
            "momentum": _within("momentum", self.momentum, "momentum"),
            "batch_size": _checks.integer("batch_size", self.batch_size, high=MAX_BATCH),
            "rate": _within("rate", self.rate, "fraction" if self.unit == "limit" else "learning_rate"),
            "chains": _checks.integer("chains", self.chains, low=MIN_CHAINS, high=MAX_CHAINS),
            "seed": _checks.integer("seed", self.seed, low=0, high=2**32 - 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def problem(self) -> LinearRegression:
        """The regression; its teacher, and so its minimum, is 0."""
        return LinearRegression(covariance=list(self.eigenvalues), label_noise=self.label_noise)

    def optimizer(self, learning_rate: float) -> SGD:
        """SGD at a learning rate."""
        return SGD(learning_rate, momentum=self.momentum)


def _within(argument: str, value: object, kind: str) -> float:
    low, high = RANGES[kind]
    allowed, remedy = f"from {low:g} to {high:g}", "move its slider"
    number = _checks.real(argument, value, allowed, remedy)
    slack = 1e-9 * high  # the sliders hold logarithms
    if not low - slack <= number <= high + slack:
        raise _checks.error(argument, value, allowed, remedy)
    return min(max(number, low), high)
