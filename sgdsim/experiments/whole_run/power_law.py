"""One-pass SGD on power laws: expected loss curves in up to 100,000 dimensions, and what to spend compute on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
import optax

from sgdsim._types import Vector
from sgdsim.comparisons.run import compare_run
from sgdsim.engine import simulate
from sgdsim.experiments.framework.findings import Data, Drawing, Figure, Findings, Scale, Verdict, share
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import panels, styled
from sgdsim.plots.style import COLORS, INK, LINESTYLES, set_log
from sgdsim.problems import LinearRegression
from sgdsim.results import Result
from sgdsim.solver.whole_run import RunPrediction, predict_run, run_law
from sgdsim.statistics import Losses

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPACITY, SOURCE, NOISE, RATE = 1.5, 1.8, 0.1, 0.2
DIMENSIONS = (100, 1_000, 10_000, 100_000)
STEPS = {"smoke": 200, "laptop": 2_000, "full": 10_000}
SIMULATED = {"smoke": 10_000, "laptop": 10_000, "full": 100_000}  # the largest dimension
NUMBERS = {"smoke": 3e7, "laptop": 4e8, "full": 1e10}  # random ones, of each simulation
# Losses of single chains are skewed: over 60 seeds the z-scores of means of 64 have skewness -.9, and 2 are beyond 2.9.
CHAINS = {"smoke": 64, "laptop": 256, "full": 256}  # at least
MODELS = tuple(np.unique(np.geomspace(8, 4_000, 12).round().astype(int)).tolist())
HORIZON = {"smoke": 20_000, "laptop": 100_000, "full": 300_000}  # steps of the models


class Held(NamedTuple):
    """A run as simulated and as predicted."""

    name: str
    batch_size: int
    result: Result | None
    theory: RunPrediction


@experiment("power_law", "One-pass SGD on power laws, D = 100 to 100,000, and its compute-optimal frontier",
            "whole-run.md section 2; the setting of Paquette et al., 4+3 phases of compute-optimal scaling laws (2024)")
def power_law(scale: Scale) -> Findings:
    """Hold expected loss curves against simulation over dimension, batch size and schedule; draw the frontier."""
    steps = STEPS[scale.name]
    constant, annealed = SGD(RATE), SGD(optax.cosine_decay_schedule(2 * RATE, steps, 0.01))
    sizes = {f"D = {d:,}": held(d, constant, 1, scale, seed=d, name=f"D = {d:,}") for d in DIMENSIONS}
    ways = {"b = 1, constant": sizes[f"D = {DIMENSIONS[1]:,}"]} | {
        f"b = {b}, {label}": held(DIMENSIONS[1], optimizer, b, scale, seed=seed, name=f"b = {b}, {label}")
        for seed, (label, optimizer, b) in enumerate(
            (("constant", constant, 16), ("cosine", annealed, 1), ("cosine", annealed, 16))
        )
    }  # fmt: skip
    every = {run.name: run for run in (*sizes.values(), *ways.values()) if run.result is not None}
    simulated = list(every.values())
    compute, losses = models(HORIZON[scale.name])
    budget, best, exponent = frontier(compute, losses)
    expected = (SOURCE - 1) / (CAPACITY + 1)

    def draw() -> Drawing:
        figure, ax = panels(1, 3, (14.0, 4.2))
        _draw_runs(ax[0, 0], sizes, "steps", f"b = 1, λ = {RATE}")
        _draw_runs(ax[0, 1], ways, "examples", f"D = {DIMENSIONS[1]:,}")
        with styled():
            for i in range(len(MODELS)):
                ax[0, 2].plot(compute[i], losses[i], color=COLORS[4], linewidth=0.8)
            ax[0, 2].plot(budget, best, color=INK, linewidth=2.0, label=f"frontier, slope {-exponent:.3f}")
            ax[0, 2].plot(budget, best[-1] * (budget / budget[-1]) ** -expected, color=COLORS[1], linestyle="--",
                          label=f"slope -(c-1)/(a+1) = {-expected:.3f}")
            set_log(ax[0, 2], "xy")
            ax[0, 2].set(xlabel="compute d · t", title="models of d features, no label noise")
            ax[0, 2].legend()
        ax[0, 0].set_ylabel("expected test loss")
        return figure

    last = sizes[f"D = {DIMENSIONS[-1]:,}"].theory
    return Findings(
        verdicts=[_verdict(run, share(len(simulated))) for run in simulated],
        data={**_data("dimension", sizes), **_data("way", ways),
              "model": (("model",), np.array(MODELS)), "compute": (("model", "step"), compute),
              "model_loss": (("model", "step"), losses), "budget": (("budget",), budget),
              "frontier": (("budget",), best)},
        figures=[Figure("figure", f"Curvatures i^-{CAPACITY}, signal i^-{SOURCE}, σ = {NOISE}. Lines: exact theory; "
                        "points: simulation with 2 standard errors. Right: the first d features, what the others "
                        "explain being noise; the frontier is the least loss for a given d · t.", draw)],
        summary=[
            f"At D = {DIMENSIONS[-1]:,} the expected test loss falls from {last.test_loss[0]:.4g} to "
            f"{last.test_loss[-1]:.4g} in {steps} steps.",
            f"On the compute-optimal frontier the loss falls like compute to the power {-exponent:.3f}; "
            f"-(c-1)/(a+1) = {-expected:.3f} balances the bias d^-(c-1) of d features with t = d^a steps.",
        ],
        provenance={"capacity": CAPACITY, "source": SOURCE, "label_noise": NOISE, "learning_rate": RATE,
                    "steps": steps, "chains": {run.name: run.result.provenance["chains"] for run in simulated
                                               if run.result is not None}},
    )  # fmt: skip


def held(dimension: int, optimizer: SGD, b: int, scale: Scale, *, seed: int, name: str) -> Held:
    """The exact curve, and the same from as many chains as their random numbers allow."""
    steps = STEPS[scale.name]
    problem = LinearRegression.power_law(dimension, CAPACITY, SOURCE, NOISE)
    record = np.unique(np.geomspace(1, steps - 1, 3 * scale.points).round().astype(int)).tolist()
    theory = predict_run(problem, optimizer, batch_size=b, steps=steps, record=[0, *record, steps])
    chains = int(np.clip(NUMBERS[scale.name] / (steps * dimension), CHAINS[scale.name], 4096)) // 64 * 64
    if dimension > SIMULATED[scale.name]:
        return Held(name, b, None, theory)
    result = simulate(problem, optimizer, batch_size=b, chains=chains, steps=steps, record=record, seed=seed,
                      statistics=[Losses()], progress=False)
    return Held(name, b, result, theory)


def models(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute d t and expected loss of models that see the first d of very many features, each (models, T)."""
    i = np.arange(1.0, 1e6)
    share_of = i**-SOURCE
    missing = np.array([share_of[d:].sum() + i[-1] ** (1 - SOURCE) / (SOURCE - 1) for d in MODELS])
    record = np.unique(np.geomspace(1, steps, 60).round().astype(int))
    with jax.enable_x64(True):
        runs = [_test_loss(LinearRegression.power_law(d, CAPACITY, SOURCE, float(np.sqrt(tail))), steps)[record]
                for d, tail in zip(MODELS, missing, strict=True)]  # fmt: skip
    losses = np.stack(runs) + missing[:, None] / 2
    return np.outer(MODELS, record), losses


@partial(jax.jit, static_argnums=1)
def _test_loss(problem: LinearRegression, steps: int) -> jax.Array:
    return run_law(problem, SGD(RATE), batch_size=1, steps=steps).test_loss


def frontier(compute: np.ndarray, losses: np.ndarray) -> tuple[Vector, Vector, float]:
    """Compute, the least loss there, and minus its slope, where the best model is none of the outermost."""
    budget = np.geomspace(compute[:, 0].max(), compute[:, -1].max(), 120)
    each = np.stack([np.exp(np.interp(np.log(budget), np.log(c), np.log(loss)))
                     for c, loss in zip(compute, losses, strict=True)])
    who = each.argmin(axis=0)
    inside = (who > 0) & (who < len(compute) - 1) & (budget <= compute[who, -1])
    best = each.min(axis=0)[inside]
    return budget[inside], best, -float(np.polyfit(np.log(budget[inside]), np.log(best), 1)[0])


def _verdict(run: Held, error_rate: float) -> Verdict:
    assert run.result is not None
    rows = compare_run(run.result, run.theory, error_rate).rows
    return Verdict(run.name, next(row for row in rows if row.quantity.startswith("test_loss")))


def _draw_runs(ax: Axes, runs: dict[str, Held], xlabel: str, title: str) -> None:
    with styled():
        for i, (name, run) in enumerate(runs.items()):
            unit, color = run.batch_size if xlabel == "examples" else 1, COLORS[i]
            step, loss = run.theory.step[1:], run.theory.test_loss[1:]
            ax.plot(unit * step, loss, color=color, linestyle=LINESTYLES[i], label=name, linewidth=1.5)
            if run.result is not None and run.result.record is not None:
                record = run.result.record
                ax.errorbar(unit * record["step"], record["test_loss"], yerr=2 * record["test_loss_stderr"], fmt="o",
                            color=color, markerfacecolor="white", markersize=4, linewidth=1.0)
        set_log(ax, "xy")
        ax.set(xlabel=xlabel, title=title)
        ax.legend()


def _data(axis: str, runs: dict[str, Held]) -> Data:
    some = next(iter(runs.values()))
    data: Data = {axis: ((axis,), np.array(list(runs))), f"{axis}_step": ((f"{axis}_step",), some.theory.step),
                  f"{axis}_predicted": ((axis, f"{axis}_step"), np.stack([r.theory.test_loss for r in runs.values()]))}
    for run in runs.values():
        if run.result is not None and run.result.record is not None:
            for name in ("test_loss", "test_loss_stderr"):
                data[f"{run.name} {name}"] = ((f"{axis}_recorded",), run.result.record[name])
    return data
