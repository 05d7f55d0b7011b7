"""The tail index of a setting, by the route that fits it."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from sgdsim.solver.growth import TailIndexEstimate, estimate
from sgdsim.solver.kesten import isotropic_exponent, isotropic_index
from sgdsim.solver.setting import Setting
from sgdsim.solver.step_matrices import isotropic_step


@dataclasses.dataclass(frozen=True, eq=False)
class Tail:
    """Computed once, when first asked for.

    Attributes:
        setting: a described problem and optimizer.
        quick: be content with a rough estimate where one is needed.
    """

    setting: Setting
    quick: bool = False

    @cached_property
    def estimate(self) -> TailIndexEstimate:
        """By quadrature for isotropic step matrices, else by particles."""
        step = isotropic_step(self.setting)
        if step is None:
            effort = {"particles": 128, "steps": 40, "tolerance": 0.2} if self.quick else {
                "particles": 512, "steps": 100, "tolerance": 0.01}
            return estimate(self.setting, seed=0, **effort)  # type: ignore[arg-type]
        arguments = isotropic_arguments(self.setting, *step)
        index, exponent = isotropic_index(*arguments)[0], isotropic_exponent(*arguments)[0]
        return TailIndexEstimate(float(index), 0.0, float(exponent), True, np.inf, "quadrature")

    def index(self) -> float:
        """Kappa."""
        return self.estimate.index

    def stderr(self) -> float:
        """Its standard error; 0 where it is exact."""
        return self.estimate.stderr

    def beyond(self) -> str:
        """What is left where the second moment does not exist, in words."""
        found = self.estimate
        if found.index == 0:
            return "no stationary law exists there"
        about = "" if found.stderr == 0 else f" ± {found.stderr:.2g}"
        return f"a stationary law of infinite variance still exists there, of tail index {found.index:.4g}{about}"


def isotropic_arguments(setting: Setting, curvature: float, centre: float) -> tuple[np.ndarray, ...]:
    """The arguments of `isotropic_index`, each of shape (1,)."""
    rank = len(setting.dynamics.curvatures)
    return tuple(np.array([value], np.float64) for value in (curvature, setting.batch_size, rank, centre))
