"""Matrix sensing by factors: sharpness along the minima under SGD and Adam, and the published training curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sgdsim._types import Vector
from sgdsim.engine import simulate
from sgdsim.experiments.framework.curve import Curve, lines_of, points_of
from sgdsim.experiments.framework.findings import ERROR_RATE, Drawing, Figure, Findings, Scale, Table, Verdict
from sgdsim.experiments.framework.measure import extrapolate, short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD, Adam, Optimizer
from sgdsim.plots import panels, slow_paths
from sgdsim.problems import MatrixFactorization
from sgdsim.results import Result
from sgdsim.solver.manifold import flow_to_minimum, slow_ode
from sgdsim.statistics import Average

MEMORY = 10.0  # c = (1 - beta_2) / eta^2
MEASURES = {"trace": "tr H", "root_trace": "tr Diag(H)^(1/2)"}
ERRORS = {"training": "training MSE", "test": "test MSE"}  # of clean labels


def diagonal(problem: MatrixFactorization, w: Array) -> Array:
    """Return the diagonal of the Hessian at w (D,): a product is linear in each entry, so that residuals do not enter.

    Shape (D,).
    """
    return jnp.mean(problem.jacobian(w) ** 2, axis=0)


def trace(problem: MatrixFactorization, w: Array) -> Array:
    """Tr H."""
    return diagonal(problem, w).sum()


def root_trace(problem: MatrixFactorization, w: Array) -> Array:
    """Tr Diag(H)^(1/2)."""
    return jnp.sqrt(diagonal(problem, w)).sum()


def training_error(problem: MatrixFactorization, w: Array) -> Array:
    """The mean square of the residuals."""
    return 2 * problem.data_loss(w)


def test_error(problem: MatrixFactorization, w: Array) -> Array:
    """The mean square of those of fresh measurements."""
    return problem.test_loss(w)


CURVATURE = Average({"trace": trace, "root_trace": root_trace})
TRAINING = Average({"trace": trace, "root_trace": root_trace, "training": training_error, "test": test_error})


class Run(NamedTuple):
    """An optimizer as a function of eta, its largest eta, the times of its record and those at which it is judged."""

    make: Callable[[float], Optimizer]
    coarsest: float
    times: tuple[float, ...]
    judged: tuple[float, float]


RUNS = {
    "SGD": Run(SGD, 0.08, (0.2, 0.5, 1.0, 2.0), (0.5, 2.0)),
    "Adam, ε = 0.1": Run(lambda eta: Adam(eta, b1=0.0, b2=1 - MEMORY * eta**2, eps=0.1), 0.04, (0.1, 0.3, 0.5, 0.8),
                         (0.3, 0.8)),
}  # fmt: skip
COARSER = {"smoke": 1.5, "laptop": 1.0, "full": 0.7}  # the largest eta of each scale
# The published comparison: SGD as we choose it, Adam as published and faster; where its curves are read.
PUBLISHED = {"SGD 0.01": SGD(0.01), "Adam 0.001": Adam(0.001), "Adam 0.003": Adam(0.003)}
STEPS = np.array([100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 40_000, 60_000, 90_000, 120_000])
SHOWN = (60_000, 120_000)  # in the table
DEPTHS = (2, 3)
DATA_SETS = {"smoke": 0, "laptop": 10, "full": 30}


@experiment("matrix_factorization", "Sharpness of matrix factorisation under SGD and Adam",
            "Slow dynamics of Adam, appendix B and figure 4")  # fmt: skip
def matrix_factorization(scale: Scale) -> Findings:
    """Hold tr H and tr Diag(H)^(1/2) from one minimum against the slow equation; larger scales add the paper's runs."""
    problem = MatrixFactorization.random(size=3, rank=1, examples=4, seed=1, label_noise=0.5)
    start = flow_to_minimum(problem, problem.default_start)
    chains = scale.chains // 16
    curves: dict[str, dict[str, Curve]] = {measure: {} for measure in MEASURES}
    verdicts: list[Verdict] = []
    results: dict[str, Result] = {}
    for number, (name, run) in enumerate(RUNS.items()):
        rates = run.coarsest * COARSER[scale.name] * np.array([1.0, 0.5, 0.25])
        each = [_simulated(problem, run, eta, start, chains, 10 * number + k) for k, eta in enumerate(rates)]
        best, doubt = extrapolate(np.stack([v for v, _, _ in each]), np.stack([e for _, e, _ in each]))
        results[name] = each[-1][2]
        fine = np.union1d(np.linspace(0, run.times[-1], 25), run.times)
        path = slow_ode(problem, run.make(rates[-1]), start, fine).positions
        h = np.maximum(np.stack([np.diag(problem.hessian(w)) for w in path]), 0.0)
        for m, (measure, line) in enumerate(zip(MEASURES, (h.sum(axis=1), np.sqrt(h).sum(axis=1)), strict=True)):
            curves[measure][name] = Curve(np.array(run.times), best[m], doubt[m], fine, {"slow equation": line},
                                          theory=line[np.searchsorted(fine, run.times)])
        verdicts += [
            verdict for t in run.judged for measure, label in MEASURES.items()
            for verdict in curves[measure][name].at([run.times.index(t)]).judge(label, f"{name}, t = {{:g}}",
                                                                                error_rate=ERROR_RATE / 8)
        ]  # fmt: skip
    trained = {depth: _published(depth, DATA_SETS[scale.name]) for depth in DEPTHS if DATA_SETS[scale.name]}

    def draw() -> Drawing:
        figure, ax = panels(1, 2, (9.5, 3.9))
        for axis, (measure, label) in zip(ax[0], MEASURES.items(), strict=True):
            slow_paths(lines_of(curves[measure]), points_of(curves[measure]), ax=axis, ylabel=label, title=label)
        return figure

    def draw_published() -> Drawing:
        figure, ax = panels(len(DEPTHS), 4, (15.0, 6.8))
        for row, (depth, values) in zip(ax, trained.items(), strict=True):
            mean, error = _mean(values)
            for k, (axis, label) in enumerate(zip(row, (MEASURES | ERRORS).values(), strict=True)):
                means = {name: (STEPS, mean[m, k], error[m, k]) for m, name in enumerate(PUBLISHED)}
                slow_paths({name: line[:2] for name, line in means.items()}, means, ax=axis,
                           log="xy" if k > 1 else "x", xlabel="steps", ylabel=label, title=f"{label}, depth {depth}")
        return figure

    def of_all(name: str) -> np.ndarray:
        return np.stack([[getattr(curves[measure][run], name) for measure in MEASURES] for run in RUNS])

    ends = {name: [curves[measure][name].lines["slow equation"][-1] for measure in MEASURES] for name in RUNS}
    return Findings(
        verdicts=verdicts,
        data={
            "optimizer": (("optimizer",), np.array(list(RUNS))),
            "measure": (("measure",), np.array(list(MEASURES))),
            "time": (("optimizer", "point"), np.array([run.times for run in RUNS.values()])),
            "value": (("optimizer", "measure", "point"), of_all("simulated")),
            "value_stderr": (("optimizer", "measure", "point"), of_all("stderr")),
            **({"step": (("step",), STEPS),
                "training": (("depth", "run", "data_set", "quantity", "step"), np.stack(list(trained.values())))}
               if trained else {}),
        },
        figures=[
            Figure(
                "figure",
                "A 3 × 3 matrix from 4 measurements, two factors, label noise of standard deviation 0.5, batch size 1,"
                f" from one minimum. Lines: slow equation, c = {MEMORY:g}. Points: simulation extrapolated to η = 0 by"
                " three learning rates, two standard errors (of the noise; the problem is one).",
                draw,
            ),
            *([Figure("training", "As published: from a random start, d = 10, rank 2, n = 70, b = 10, σ = .5; mean "
                      f"over {DATA_SETS[scale.name]} data sets, two standard errors; one chain each, on the same "
                      "batches and label noise for every optimizer. Errors are those of clean labels.", draw_published)]
              if trained else []),
        ],
        tables=[_table(depth, values) for depth, values in trained.items()],
        summary=[
            "By the slow equation: " + "; ".join(
                f"{name} at t = {RUNS[name].times[-1]:g}: tr H = {a:.3f}, tr Diag(H)^(1/2) = {b:.3f}"
                for name, (a, b) in ends.items()) + ".",
            *(_told(depth, values) for depth, values in trained.items()),
        ],
        provenance=short_provenance(results["SGD"], optimizer=", ".join(RUNS)),
    )  # fmt: skip


def _simulated(
    problem: MatrixFactorization, run: Run, eta: float, start: Vector, chains: int, seed: int
) -> tuple[np.ndarray, np.ndarray, Result]:
    """Both measures at the times of a run, shape (2, times), their standard errors, and the result."""
    steps = np.round(np.array(run.times) / eta**2).astype(int)
    result = simulate(problem, run.make(eta), batch_size=1, chains=chains, steps=int(steps[-1]) + 1, seed=seed,
                      burn_in=int(steps[-1]), initial=start, statistics=[CURVATURE], record=steps.tolist(),
                      progress=False)  # fmt: skip
    record = result.record or {}
    return (np.stack([record[name] for name in MEASURES]), np.stack([record[f"{name}_stderr"] for name in MEASURES]),
            result)  # fmt: skip


def _published(depth: int, data_sets: int) -> np.ndarray:
    """One chain a data set, shape (runs, data sets, quantities, steps)."""
    found = []
    for optimizer in PUBLISHED.values():
        for seed in range(data_sets):
            problem = MatrixFactorization.random(size=10, rank=2, examples=70, seed=seed, label_noise=0.5, depth=depth)
            last = int(STEPS[-1])
            record = simulate(problem, optimizer, batch_size=10, chains=1, steps=last + 1, burn_in=last, seed=seed,
                              statistics=[TRAINING], record=STEPS.tolist(), progress=False).record or {}
            found.append([record[name] for name in TRAINING.names])
    return np.reshape(found, (len(PUBLISHED), data_sets, len(TRAINING.names), len(STEPS)))


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Over data sets, the second axis, and its standard error."""
    return values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


def _table(depth: int, values: np.ndarray) -> Table:
    mean, error = _mean(values)
    rows = [
        [f"{name}, {step // 1000}k steps",
         *(f"{m:.4g} ± {e:.2g}" for m, e in zip(mean[run, :, at], error[run, :, at], strict=True))]
        for run, name in enumerate(PUBLISHED) for step in SHOWN for at in np.flatnonzero(step == STEPS)
    ]  # fmt: skip
    return Table(f"As published, depth {depth}: mean over {values.shape[1]} data sets ± standard error",
                 ["run", *(MEASURES | ERRORS).values()], rows)


def _told(depth: int, values: np.ndarray) -> str:
    """What Adam has more than SGD at the last step, on the same data sets."""
    names = list(PUBLISHED)
    mean, error = _mean((values[1:] - values[:1])[..., -1])
    return f"Depth {depth}: " + "; ".join(
        f"{names[run + 1]} less {names[0]}: " + ", ".join(
            f"{label} {m:+.3g} ± {e:.2g}"
            for label, m, e in zip((MEASURES | ERRORS).values(), mean[run], error[run], strict=True))
        for run in range(len(mean))) + ". Published: Adam has larger tr H, smaller tr Diag(H)^(1/2), larger test MSE."
