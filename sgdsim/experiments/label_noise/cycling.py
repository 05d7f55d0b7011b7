"""Thirteen losses on which minibatch SGD turns for ever: its phase against the slow equation of motion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sgdsim._types import Vector
from sgdsim.comparisons.judge import judge
from sgdsim.engine import simulate
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale, Table, Verdict, share
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import matched, panels
from sgdsim.problems import CyclingToy
from sgdsim.results import Result
from sgdsim.solver.manifold import phase_drift
from sgdsim.statistics import Moments

TOY = CyclingToy()
SMALL = 1e-6  # a learning rate whose law is that of the limit
RELAXED, WINDOW = 50.0, 65.0  # eta k, in which the slowest z (curvature 2/13) has forgotten its start: e^(-15)
EARLY = (0.04, 0.02)
RATES = {
    "smoke": (0.1414, 0.1, 0.0707, 0.05),
    "laptop": (0.1, 0.0707, 0.05, 0.0354),
    "full": (0.1, 0.0707, 0.05, 0.0354, 0.025),
}


class Turn(NamedTuple):
    """Phases of many chains at one learning rate.

    Attributes:
        rate: eta.
        times: slow times eta^2 k at which the circular mean was taken.
        course: the circular mean there, unwrapped.
        course_stderr: its standard error.
        phase: mean of the unwrapped phases at the end.
        stderr: its standard error.
        spread: standard deviation of the phases at the end.
        radius: mean distance from the origin at the end.
        result: of `simulate`.
    """

    rate: float
    times: np.ndarray
    course: np.ndarray
    course_stderr: np.ndarray
    phase: float
    stderr: float
    spread: float
    radius: float
    result: Result


def turn(rate: float, time: float, chains: int, seed: int) -> Turn:
    """Simulate from (1, 0) for the slow time `time`."""
    steps = round(time / rate**2)
    record = np.linspace(0, steps - 1, 9).round().astype(int)[1:].tolist()
    result = simulate(TOY, SGD(rate), batch_size=1, chains=chains, steps=steps, burn_in=steps - 1, record=record,
                      seed=seed, statistics=[Moments()], progress=False)
    x, y = result.final[:, 0].astype(np.float64), result.final[:, 1].astype(np.float64)
    seen = result.record
    assert seen is not None
    (mx, my), (ex, ey) = seen["mean"][:, :2].T, seen["mean_stderr"][:, :2].T
    course = np.unwrap(np.concatenate([[0.0], np.arctan2(my, mx)]))[1:]
    error = np.hypot(np.sin(course) * ex, np.cos(course) * ey) / np.hypot(mx, my)
    # The angle of every chain next to their common direction, which the recorded course has counted the turns of.
    common = np.angle(np.exp(1j * np.arctan2(y, x)).mean())
    common += 2 * np.pi * np.round((course[-1] - common) / (2 * np.pi))
    apart = np.angle(np.exp(1j * (np.arctan2(y, x) - common)))
    return Turn(rate, rate**2 * seen["step"], course, error, float(common + apart.mean()),
                float(apart.std(ddof=1) / np.sqrt(chains)), float(apart.std(ddof=1)), float(np.hypot(x, y).mean()),
                result)


class Fit(NamedTuple):
    """A weighted polynomial in the learning rate: coefficients from the constant on, and the constant's error."""

    coefficients: np.ndarray
    stderr: float
    chi_square: float


def extrapolate(rates: Sequence[float], values: Vector, stderr: Vector, degree: int) -> Fit:
    """Fit values = c_0 + c_1 eta + ... by weighted least squares."""
    weight = 1 / np.asarray(stderr)
    design = np.vander(rates, degree + 1, increasing=True) * weight[:, None]
    covariance = np.linalg.inv(design.T @ design)
    coefficients = covariance @ design.T @ (weight * values)
    left = design @ coefficients - weight * values
    return Fit(coefficients, float(np.sqrt(covariance[0, 0])), float(left @ left))


def early_variances(chains: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances of z_1, ..., z_4 over eta/2 near (1, 0), extrapolated to eta = 0, and their standard errors."""
    found = []
    for seed, rate in enumerate(EARLY):
        result = simulate(TOY, SGD(rate), batch_size=1, chains=chains, steps=round(WINDOW / rate),
                          burn_in=round(RELAXED / rate), seed=40 + seed, statistics=[Moments()], progress=False)
        found.append(np.array([np.diag(m)[2:] / (rate / 2) for m in (result.covariance, result.covariance_stderr)]))
    (whole, whole_error), (half, half_error) = found
    return 2 * half - whole, np.hypot(2 * half_error, whole_error)


@experiment("cycling", "Minibatch SGD turns for ever: no potential explains its bias",
            "Label Noise SGD Provably Prefers Flat Global Minimizers, appendix F.2 and figure 5")  # fmt: skip
def cycling(scale: Scale) -> Findings:
    """Hold the mean phase, extrapolated to small learning rates, against the slow equation of motion."""
    smoke = scale.name == "smoke"
    limit = phase_drift(TOY, learning_rate=SMALL)
    period = limit.period * SMALL**2
    time = period / 4 if smoke else period
    rates = RATES[scale.name]
    chains = 2048 if smoke else 4096
    turns = [turn(rate, time, chains, seed) for seed, rate in enumerate(rates)]
    phases, errors = np.array([t.phase for t in turns]), np.array([t.stderr for t in turns])
    fit = extrapolate(rates, phases, errors, 2)
    times = np.linspace(0.0, time, 60)
    course = limit.phase(times / SMALL**2)
    predicted = float(course[-1])
    each = share(4)
    variances, variance_errors = early_variances(chains)
    expected = np.diag(limit.covariance[0])[2:] / (SMALL / 2)
    row = judge("phase, eta to 0", float(fit.coefficients[0]), fit.stderr, predicted, error_rate=each)
    verdicts = [Verdict(f"after {time / period:g} turns", row)]
    for i in (0, 1, 3):  # that of z_3 vanishes faster than eta: nothing to extrapolate
        row = judge(f"variance of z_{i + 1} over eta/2, eta to 0", float(variances[i]), float(variance_errors[i]),
                    float(expected[i]), error_rate=each)
        verdicts.append(Verdict("at (1, 0)", row))

    def draw() -> Drawing:
        figure, ax = panels(1, 2, (10.5, 4.2))
        shown = {f"simulated, η = {t.rate:g}": (t.times, t.course, t.course_stderr) for t in turns[::3 if smoke else 2]}
        matched({"slow equation, η → 0": (times, course)}, shown, ax=ax[0, 0], xlabel="slow time η²k",
                ylabel="phase of the mean direction", title="counter-clockwise from (1, 0)")
        fine = np.linspace(0, max(rates), 50)
        matched({"quadratic fit": (fine, np.polynomial.polynomial.polyval(fine, fit.coefficients))},
                {"simulated": (rates, phases, errors),
                 "extrapolated": ([0.0], [fit.coefficients[0]], [fit.stderr]),
                 "slow equation": ([0.0], [predicted], [0.0])}, ax=ax[0, 1], xlabel="learning rate η",
                ylabel=f"mean phase at η²k = {time:.1f}", title="what is of order η")
        return figure

    return Findings(
        verdicts=verdicts,
        data={
            "learning_rate": (("learning_rate",), np.array(rates)),
            "phase": (("learning_rate",), phases),
            "phase_stderr": (("learning_rate",), errors),
            "spread": (("learning_rate",), np.array([t.spread for t in turns])),
            "radius": (("learning_rate",), np.array([t.radius for t in turns])),
            "fit": (("power",), fit.coefficients),
            "time": (("time",), times),
            "slow_phase": (("time",), course),
            "period": ((), period),
            "early_variance": (("z",), variances),
            "early_variance_stderr": (("z",), variance_errors),
            "early_variance_predicted": (("z",), expected),
        },
        figures=[
            Figure(
                "figure",
                "Left: phase of the mean direction of many chains over slow time, and the solution of the slow "
                "equation. Right: mean phase at the end over the learning rate; the deviation from the slow equation "
                "is of order eta. Bars are 2 standard errors.",
                draw,
            )
        ],
        summary=[
            f"The slow equation turns once in {period:.4f}/eta^2 steps, by {limit.speed[0] / SMALL**2:.5f} eta^2 a "
            "step at first (10/117).",
            f"At eta = {rates[-1]:g} the simulated phase is {phases[-1] / predicted - 1:+.1%} off, at {rates[0]:g} "
            f"{phases[0] / predicted - 1:+.1%}; extrapolated to 0 {fit.coefficients[0] / predicted - 1:+.1%} with a "
            f"standard error of {fit.stderr / predicted:.1%} (chi-square of the fit {fit.chi_square:.1f} for "
            f"{len(rates) - 3} degrees of freedom).",
            "At (1, 0) not only z_1 fluctuates, as the paper says, but z_2 and z_4 too.",
        ],
        tables=[
            Table("Variance of z over eta/2 near (1, 0)", ["z", "extrapolated to eta = 0", "slow equation"],
                  [[str(i + 1), f"{variances[i]:.4f} ± {variance_errors[i]:.4f}", f"{expected[i]:.4f}"]
                   for i in range(4)]),
            Table("Chains at the end", ["learning rate", "steps", "mean phase", "spread", "mean radius"],
                  [[f"{t.rate:g}", str(t.result.provenance["steps"]), f"{t.phase:.4f} ± {t.stderr:.4f}",
                    f"{t.spread:.3f}", f"{t.radius:.3f}"] for t in turns]),
        ],
        provenance=short_provenance(turns[-1].result, problem="CyclingToy"),
    )
