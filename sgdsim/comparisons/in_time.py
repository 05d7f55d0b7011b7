"""What a prediction says of the quantities that `statistics.in_time` measures, by their names."""

from __future__ import annotations

import re

import numpy as np

from sgdsim.solver.prediction import Prediction

_NAME = re.compile(r"autocovariance_(?P<lag>\d+)|average_(?P<steps>\d+)_(?P<of>mean|covariance)"
                   r"|ema_(?P<decay>[\d.e-]+)_(?P<in>mean|covariance)")


def predicted_in_time(prediction: Prediction, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The value of a quantity, and what its standard error has to be small against; None for another name."""
    found = _NAME.fullmatch(name)
    if found is None or prediction.process is None:
        return None
    if found["lag"]:
        spread = np.sqrt(prediction.variance)
        return prediction.autocovariance([int(found["lag"])])[0], np.outer(spread, spread)
    law = prediction.averaged(int(found["steps"])) if found["steps"] else prediction.ema(float(found["decay"]))
    spread = np.sqrt(np.diag(law.covariance))
    if "mean" in (found["of"], found["in"]):
        return law.mean, spread
    return law.covariance, np.outer(spread, spread)
