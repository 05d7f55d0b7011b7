"""From far away onto the minima: the rates of the convergence theorems, and how far the conventional SDE goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Array
from scipy import stats

from sgdsim._types import Vector
from sgdsim.comparisons.judge import judge
from sgdsim.engine import simulate
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale, Table, Verdict, share
from sgdsim.experiments.framework.measure import extrapolate, short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD, Adam, Optimizer
from sgdsim.optimizers.adaptive import AdaptiveState
from sgdsim.plots import panels, slow_paths
from sgdsim.problems import Ellipse
from sgdsim.results import Result
from sgdsim.solver.manifold import flow_to_minimum, slow_ode
from sgdsim.statistics import Losses

PROBLEM = Ellipse(a=2.0, b=1.0, label_noise=0.5, noise="gaussian")
NOISE = 0.5
ALPHA = NOISE**2  # batch size 1
START = 1.5 * PROBLEM.point(1.0)
LEFT = 1e-7  # of the loss at the start, where the neighbourhood is judged
SECOND_MOMENT = np.array([0.04, 0.25])  # Adam's v at the start; on the way it hardly moves
CHANCES = (0.1, 0.01)  # delta of the theorems
GROUPS = 64
HALVED = 0.5 ** np.arange(3)
SUBSTEPS = 4  # of the SDE, in the time of one step
ALONG = np.array([0.08, 0.04, 0.02])  # learning rates of the SDE along the minima
SLOW = (0.5, 2.0)  # t = k eta^2 there
FEW = 8192  # paths of the SDE
MEASURED = ("mean excess loss", "mean squared distance", *(f"excess loss exceeded with chance {c:g}" for c in CHANCES))


class Run(NamedTuple):
    """An optimizer as a function of eta, the diagonal of its S, its largest eta, and its state at the start."""

    make: Callable[[float], Optimizer]
    scale: Vector
    coarsest: float
    state: AdaptiveState | None = None


RUNS = {
    "SGD": Run(SGD, np.ones(2), 0.08),
    "Adam": Run(lambda eta: Adam(eta, b1=0.5, b2=1 - eta**2, bias_correction=False), 1 / np.sqrt(SECOND_MOMENT), 0.008,
                AdaptiveState(np.zeros(2, np.float32), SECOND_MOMENT.astype(np.float32), np.int32(0))),
}  # fmt: skip


@experiment("convergence", "How near to the minima SGD and Adam come, and how far the conventional SDE goes",
            "Slow dynamics of Adam, theorems C.1 and C.2, figure 3")  # fmt: skip
def convergence(scale: Scale) -> Findings:
    """Hold excess loss and distance over eta, extrapolated to 0, against their limits; and the SDE along the minima."""
    chains = scale.chains * (16 if scale.name == "smoke" else 8)
    verdicts: list[Verdict] = []
    found, limits, fall = {}, {}, np.empty(0)
    results: dict[str, Result] = {}
    rate = share(len(RUNS) * len(MEASURED) + len(SLOW))
    for number, (name, run) in enumerate(RUNS.items()):
        limits[name], steepest = limits_of(run.scale)
        steps = math.ceil(math.log(1 / LEFT) / (2 * steepest * run.coarsest))  # with half the eta, twice as many
        values = []
        for k, eta in enumerate(run.coarsest * HALVED):
            drawn = name == "SGD" and k == 2
            results[name] = simulate(PROBLEM, run.make(eta), batch_size=1, chains=chains, steps=steps * 2**k,
                                     burn_in=steps * 2**k - 1, seed=10 * number + k, initial=START,
                                     initial_state=run.state, statistics=[Losses()],
                                     record=1 if drawn else None, progress=False)
            values.append(measured(np.asarray(results[name].final, np.float64).T, run.scale, eta))
            if drawn:
                fall = (results[name].record or {})["train_loss"] - ALPHA / 2
        found[name] = np.array(values)  # (rates, mean or error, quantities)
        best, error = extrapolate(found[name][:, 0], found[name][:, 1])
        verdicts += [Verdict(f"{name}, η → 0", judge(f"{what} / η", *triple, error_rate=rate, groups=GROUPS))
                     for what, *triple in zip(MEASURED, best, error, limits[name], strict=True)]
    angle, doubt = along_the_minima()
    slow = slow_ode(PROBLEM, SGD(ALONG[-1]), PROBLEM.point(1.0), np.union1d(np.linspace(0, SLOW[-1], 30), SLOW))
    line = PROBLEM.angle(slow.positions.T)
    best, error = extrapolate(angle, doubt)
    verdicts += [Verdict(f"conventional SDE, t = {t:g}, η → 0",
                         judge("angle", *triple, error_rate=rate))
                 for t, *triple in zip(SLOW, best, error, line[np.searchsorted(slow.times, SLOW)], strict=True)]

    def draw() -> Drawing:
        figure, ax = panels(1, 3, (14.0, 4.2))
        eta = RUNS["SGD"].coarsest * HALVED[-1]
        times = eta * np.arange(len(fall))
        _, sde = _conventional(np.tile(START[:, None], FEW), eta, 0, len(fall))
        lines = {"SGD": (times, fall), "gradient flow": (times, gradient_flow(times)), "conventional SDE": (times, sde)}
        slow_paths(lines, {}, ax=ax[0, 0], log="y", xlabel="τ = k η", ylabel="mean excess loss",
                   title=f"onto the minima, η = {eta:g}")
        slow_paths({}, {f"{name}, {what}": (HALVED, *(found[name][:, :, k] / limits[name][k]).T)
                        for name in RUNS for k, what in enumerate(("excess loss", "squared distance"))},
                   ax=ax[0, 1], level=1.0, xlabel="η / largest η", ylabel="over η, relative to the limit",
                   title="in the neighbourhood")
        slow_paths({"slow equation": (slow.times, line)},
                   {"conventional SDE at η → 0": (np.array(SLOW), best, error)}, ax=ax[0, 2],
                   ylabel="angle on the ellipse", title="along the minima")
        return figure

    return Findings(
        verdicts=verdicts,
        data={
            "optimizer": (("optimizer",), np.array(list(RUNS))),
            "quantity": (("quantity",), np.array(MEASURED)),
            "learning_rate": (("optimizer", "rate"), np.array([r.coarsest * HALVED for r in RUNS.values()])),
            "over_rate": (("optimizer", "rate", "quantity"), np.array([v[:, 0] for v in found.values()])),
            "over_rate_stderr": (("optimizer", "rate", "quantity"), np.array([v[:, 1] for v in found.values()])),
            "limit": (("optimizer", "quantity"), np.array(list(limits.values()))),
            "sde_angle": (("sde_rate", "time"), angle),
            "sde_angle_stderr": (("sde_rate", "time"), doubt),
        },
        figures=[Figure("figure", "The ellipse of `ellipse` with Gaussian label noise, from 1.5 times the minimum at "
                        "angle 1. Left: the fall of the loss and the level the noise leaves, which gradient flow has "
                        "not. Middle: both measures over η, relative to the limits of the theory, at three learning "
                        "rates. Right: the conventional SDE in the time of the slow equation.", draw)],
        tables=[Table("Over η, by learning rate", ["optimizer", "quantity", "η₀", "η₀/2", "η₀/4", "limit"], [
            [name, what, *(f"{v:.4g} ± {e:.2g}" for v, e in found[name][:, :, k]), f"{limits[name][k]:.4g}"]
            for name in RUNS for k, what in enumerate(MEASURED)])],
        summary=[
            "Theorems C.1 and C.2 bound the excess loss by O(η log 1/δ) and the distance by O(η log 1/δ)^(1/2) with "
            "probability 1 − δ after O(log(1/η)/η) steps. Here the constants are known: the excess loss is "
            "(η α/4) tr(SH) χ²₁, so that both rates are reached and not better.",
            "The conventional SDE follows the fall, and at η → 0 the slow equation too: what it misses are terms of "
            "relative size η, not the motion along the minima.",
        ],
        provenance=short_provenance(results["SGD"], optimizer=", ".join(RUNS)),
    )


def limits_of(scale: Vector) -> tuple[Vector, float]:
    """The limits of what `measured` returns, and the largest eigenvalue of SH where the flow of S from the start ends.

    Along sqrt(S) n the noise leaves a variance of eta alpha / 2; the excess loss is half its square times tr(SH).
    """
    h = PROBLEM.hessian(flow_to_minimum(PROBLEM, START, scale))
    steepest = float(np.sum(scale * np.diag(h)))
    mean = ALPHA / 4 * steepest
    distance = ALPHA / 2 * float(np.trace(scale[:, None] * h * scale)) / steepest
    return np.array([mean, distance, *(mean * stats.chi2.isf(CHANCES, 1))]), steepest


def measured(w: np.ndarray, scale: Vector, eta: float) -> tuple[Vector, Vector]:
    """The quantities of MEASURED over eta at positions (2, chains), and their standard errors by groups of chains."""
    loss = PROBLEM.data_loss(w)
    there = w
    for _ in range(4):  # Newton's steps along S n: the flow's end up to the square of the distance
        f, n = PROBLEM.residuals(there), PROBLEM.vjp(there, np.ones(1))
        there = there - scale[:, None] * n * f / np.sum(scale[:, None] * n**2, axis=0)
    distance = np.sum((w - there) ** 2, axis=0)
    groups = loss.reshape(GROUPS, -1)
    each = np.stack([groups.mean(axis=1), distance.reshape(GROUPS, -1).mean(axis=1),
                     *np.quantile(groups, 1 - np.array(CHANCES), axis=1)]) / eta
    return each.mean(axis=1), each.std(axis=1, ddof=1) / math.sqrt(GROUPS)


def gradient_flow(times: Vector) -> Vector:
    """The excess loss along it."""
    moved = scipy.integrate.solve_ivp(lambda t, w: -PROBLEM.gradient(w), (0.0, times[-1]), START, t_eval=times,
                                      rtol=1e-8, atol=1e-10)  # fmt: skip
    return np.asarray(PROBLEM.data_loss(moved.y))


@partial(jax.jit, static_argnames=("steps",))
def _conventional(w: Array, eta: ArrayLike, seed: int, steps: int) -> tuple[Array, Array]:
    """Go on along dw = -grad L dtau + (eta Sigma)^(1/2) dW, by Euler and Maruyama, from w (2, chains).

    Where it is after so many steps' time, and the mean excess loss at the begin of each.
    """
    dt = eta / SUBSTEPS

    def step(w: Array, k: Array) -> tuple[Array, Array]:
        f, n = PROBLEM.residuals(w), PROBLEM.vjp(w, jnp.ones_like(w[:1]))
        walk = jax.random.normal(jax.random.fold_in(jax.random.key(seed), k), f.shape)
        return w - dt * f * n + jnp.sqrt(eta * dt) * NOISE * n * walk, PROBLEM.data_loss(w).mean()  # Sigma = alpha n n'

    end, losses = jax.lax.scan(step, w, jnp.arange(SUBSTEPS * steps))
    return end, losses[::SUBSTEPS]


def along_the_minima() -> tuple[np.ndarray, np.ndarray]:
    """Mean angle of the conventional SDE from the minimum at angle 1, and its standard error: (rates, times)."""
    mean, error = np.zeros((2, len(ALONG), len(SLOW)))
    for i, eta in enumerate(ALONG):
        w, done = np.tile(PROBLEM.point(1.0)[:, None], FEW), 0
        for k, t in enumerate(SLOW):
            steps = round(t / eta**2)
            w, _ = _conventional(w, eta, 10 * i + k + 1, steps - done)
            done, angles = steps, PROBLEM.angle(np.asarray(w, np.float64))
            mean[i, k], error[i, k] = angles.mean(), angles.std() / math.sqrt(FEW)
    return mean, error
