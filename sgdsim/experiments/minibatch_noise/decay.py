"""Test loss over the strength of weight decay in 1-D: figures 3 (right) and 5."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq

from sgdsim.comparisons.regime import heavy_tails
from sgdsim.engine import simulate
from sgdsim.experiments.framework.curve import Curve, Point
from sgdsim.experiments.framework.findings import Scale
from sgdsim.experiments.framework.measure import settling_steps, try_predict
from sgdsim.optimizers import SGD
from sgdsim.problems import LinearRegression
from sgdsim.solver import predict


def decayed(a: float, gamma: float) -> LinearRegression:
    """Return 1-D regression with curvature a, teacher 1, no label noise and weight decay gamma."""
    return LinearRegression(covariance=[a], teacher=[1.0], weight_decay=gamma)


def loss_over_decay(
    a: float, rate: float, batch_size: int, gammas: Sequence[float], scale: Scale, seed: int
) -> Curve:
    """Return the test loss at each strength, from chains that start at the minimum, and the exact line."""
    optimizer = SGD(rate)
    theory = [predict(decayed(a, gamma), optimizer, batch_size=batch_size) for gamma in gammas]
    burn_in = settling_steps(*theory)
    points = []
    for gamma, law in zip(gammas, theory, strict=True):
        problem = decayed(a, gamma)
        result = simulate(problem, optimizer, batch_size=batch_size, chains=scale.chains, steps=burn_in + scale.steps,
                          burn_in=burn_in, seed=seed, initial=problem.minimum, progress=False)
        points.append(Point(gamma, result, law))
    fine = np.linspace(*stable_interval(a, rate, batch_size), 203)[1:-1]
    line = np.array([predicted_test_loss(a, rate, batch_size, gamma) for gamma in fine])
    return Curve.of("test_loss", points, fine, {"exact": line})


def predicted_test_loss(a: float, rate: float, batch_size: int, gamma: float) -> float:
    """Return the predicted test loss, infinite where unstable."""
    theory = try_predict(decayed(a, gamma), SGD(rate), batch_size=batch_size)
    return np.inf if theory is None else theory.test_loss


def stable_interval(a: float, rate: float, batch_size: int) -> tuple[float, float]:
    """Return the strengths between which 2(a+g) - rate((a+g)^2 + 2a^2/S) is positive."""
    centre, half = 1 / rate, np.sqrt(max(0.0, 1 / rate**2 - 2 * a**2 / batch_size))
    return centre - half - a, centre + half - a


def optimum_by_closed_form(a: float, rate: float, batch_size: int) -> float:
    """Return the strength other than 0 at which the derivative of the closed form vanishes.

    The closed form is L(g) = a g^2 / (2k) (2 - l k) / (2 k - l (k^2 + 2 a^2/S)) with k = a + g: section 5 of the
    theory sheet. Its logarithmic derivative is found by bisection inside the stable interval.
    """
    low, high = stable_interval(a, rate, batch_size)

    def slope(g: float) -> float:
        k = a + g
        return (
            2 / g - 1 / k - rate / (2 - rate * k) - (2 - 2 * rate * k) / (2 * k - rate * (k**2 + 2 * a**2 / batch_size))
        )

    margin = 1e-6 * (high - low)
    return float(brentq(slope, low + margin, high - margin, xtol=1e-12))


def fitted_minimum(curve: Curve, seed: int = 0, draws: int = 400) -> tuple[float, float, str]:
    """Return where a cubic through the measured log losses is smallest, its standard error, and a warning or "".

    The standard error comes from redrawing every loss from its own standard error.
    """
    gamma, loss = curve.x, curve.simulated
    rng = np.random.default_rng(seed)
    noise = np.vstack([np.zeros(len(gamma)), rng.standard_normal((draws, len(gamma)))])
    centre, width = gamma.mean(), np.ptp(gamma) / 2
    x = (gamma - centre) / width
    fine = np.linspace(-1, 1, 2001)
    coefficients = np.polyfit(x, (np.log(loss) + noise * curve.stderr / loss).T, 3)
    curves = np.stack([np.polyval(c, fine) for c in coefficients.T])
    where = centre + width * fine[curves.argmin(axis=1)]
    heavy = next((text for point in curve.points if (text := heavy_tails(point.result))), "")
    return float(where[0]), float(where[1:].std(ddof=1)), heavy
