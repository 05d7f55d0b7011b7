"""Standard errors that a run may stop at, and when it looks at them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sgdsim import _checks
from sgdsim.engine.plan.request import Request
from sgdsim.engine.run.quantities import empty_totals
from sgdsim.statistics import GradientNoise, LargestDeviations, Losses, Moments, ProductMoments, Statistic

_LOOKS = 6
_MIN_MEASUREMENTS = 32


def check_target(target: object, request: Request) -> dict[str, float] | None:
    """Quantity -> relative standard error, of what a user asked for; None where nothing was."""
    if target is None:
        return None
    measured = [name for statistic in request.statistics for name in _names(statistic, request.dimension)]
    first = next((name for name in ("covariance", "variance", "test_loss") if name in measured), None)
    if not isinstance(target, Mapping):
        error = _checks.positive("target_stderr", target, "try 0.01")
        if first is None:
            raise _checks.error("target_stderr", target, "a mapping from measured quantities to relative errors",
                                "measure ss.statistics.Moments(), to which a number refers")
        return {first: error}
    if not target:
        raise _checks.error("target_stderr", target, "a number or a mapping that is not empty", "try 0.01")
    if not measured:
        raise _checks.error("target_stderr", target, "None where nothing with a standard error is measured",
                            "measure ss.statistics.Moments()")
    return {_checks.choice("target_stderr", name, measured): _checks.positive("target_stderr", value, "try 0.01")
            for name, value in target.items()}


def look_times(request: Request) -> list[int]:
    """Steps at which errors are looked at: the measured stretch doubles from one to the next."""
    window = request.steps - request.burn_in
    times = [window >> k for k in range(_LOOKS - 1, 0, -1)]
    return [request.burn_in + t for t in times if t >= _MIN_MEASUREMENTS * request.thin]


def _names(statistic: Statistic, dimension: int) -> list[str]:
    """What a statistic gives; only one that is not ours is asked, since asking compiles something."""
    if isinstance(statistic, Moments):
        return ["mean", "covariance" if statistic.full else "variance", "kurtosis"]
    for ours, names in ((Losses, ["train_loss", "test_loss"]), (GradientNoise, ["noise_covariance"]),
                        (ProductMoments, ["product_mean", "product_covariance"]), (LargestDeviations, [])):
        if isinstance(statistic, ours):
            return names
    with np.errstate(all="ignore"):
        return list(statistic.finalize(empty_totals((statistic,), dimension, 2)[0]))
