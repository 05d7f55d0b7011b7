"""Matrix sensing by two factors: sharpness along the minima under SGD and Adam, and the published comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from sgdsim._specs import spec
from sgdsim._types import Params, Vector
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
from sgdsim.statistics import Measurement, grouped_mean

MEMORY = 10.0  # c = (1 - beta_2) / eta^2
MEASURES = {"trace": "tr H", "root_trace": "tr Diag(H)^(1/2)"}


class CurvatureSums(NamedTuple):
    """Sums by group: how many, and of each measure, shapes (G,)."""

    number: jax.Array
    trace: jax.Array
    root_trace: jax.Array
    error: jax.Array


@spec
class Curvature:
    """Averages over chains of tr H, tr Diag(H)^{1/2} and the test loss of a two-factor problem.

    The loss is quadratic in each factor: its diagonal second derivatives have no residual in them.
    """

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> CurvatureSums:
        """Zero sums."""
        zero = jnp.zeros((groups,), dtype)
        return CurvatureSums(zero, zero, zero, zero)

    def update(self, sums: CurvatureSums, at: Measurement) -> CurvatureSums:
        """Add one step."""
        h = diagonal(at.problem, at.params)
        values = (h.sum(axis=0), jnp.sqrt(h).sum(axis=0), at.problem.test_loss(at.params))
        added = [at.masked(value).sum(axis=0) for value in values]
        return CurvatureSums(sums.number + at.weight.sum(axis=0),
                             *(old + new for old, new in zip(sums[1:], added, strict=True)))  # fmt: skip

    def collect(self, sums: CurvatureSums, centre: np.ndarray) -> CurvatureSums:
        """Plain sums need no centre."""
        return sums

    def merge(self, a: CurvatureSums, b: CurvatureSums) -> CurvatureSums:
        """Join two stretches of steps."""
        return CurvatureSums(*(x + y for x, y in zip(a, b, strict=True)))

    def finalize(self, totals: CurvatureSums) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The averages."""
        number, *sums = map(np.asarray, totals)
        names = ("trace", "root_trace", "test_error")
        return {name: grouped_mean(value / np.maximum(number, 1), number)
                for name, value in zip(names, sums, strict=True)}


def diagonal(problem: MatrixFactorization, w: Params) -> Params:
    """Return the diagonal of the Hessian for two factors at parameters (D, ...), same shape."""
    inner, outer = problem.unflatten(w)
    n, (rows, hidden), columns = len(problem.features), problem.shapes[1], problem.shapes[0][1]
    a = jnp.asarray(problem.features).reshape(n, rows, columns).astype(w.dtype)
    first = jnp.mean(jnp.einsum("nrc,rh...->nhc...", a, outer) ** 2, axis=0)
    second = jnp.mean(jnp.einsum("nrc,hc...->nrh...", a, inner) ** 2, axis=0)
    return jnp.concatenate([first.reshape(hidden * columns, *w.shape[1:]), second.reshape(rows * hidden, *w.shape[1:])])


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
# (learning rate, steps) of the published comparison, at equal and at more steps
PUBLISHED = {"SGD": (SGD, ((0.01, 60_000), (0.01, 200_000))), "Adam": (Adam, ((0.001, 60_000), (0.003, 120_000)))}


@experiment("matrix_factorization", "Sharpness of matrix factorisation under SGD and Adam",
            "Slow dynamics of Adam, appendix B and figure 4")  # fmt: skip
def matrix_factorization(scale: Scale) -> Findings:
    """Hold tr H and tr Diag(H)^(1/2) from one minimum against the slow equation; larger scales add the paper's run."""
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
    rows, told = ([], []) if scale.name == "smoke" else _published(2 if scale.name == "laptop" else 5)

    def draw() -> Drawing:
        figure, ax = panels(1, 2, (9.5, 3.9))
        for axis, (measure, label) in zip(ax[0], MEASURES.items(), strict=True):
            slow_paths(lines_of(curves[measure]), points_of(curves[measure]), ax=axis, ylabel=label, title=label)
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
        },
        figures=[
            Figure(
                "figure",
                "A 3 × 3 matrix from 4 measurements, two factors, label noise of standard deviation 0.5, batch size 1,"
                f" from one minimum. Lines: slow equation, c = {MEMORY:g}. Points: simulation extrapolated to η = 0 by"
                " three learning rates, two standard errors (of the noise; the problem is one).",
                draw,
            )
        ],
        tables=[] if not rows else [
            Table("As published: from a random start, d = 10, rank 2, n = 70, b = 10, σ = .5; mean over data sets ± "
                  "standard error", ["run", "tr H", "tr Diag(H)^(1/2)", "test error"], rows)
        ],
        summary=[
            "By the slow equation: " + "; ".join(
                f"{name} at t = {RUNS[name].times[-1]:g}: tr H = {a:.3f}, tr Diag(H)^(1/2) = {b:.3f}"
                for name, (a, b) in ends.items()) + ".",
            *told,
        ],
        provenance=short_provenance(results["SGD"], optimizer=", ".join(RUNS)),
    )  # fmt: skip


def _simulated(
    problem: MatrixFactorization, run: Run, eta: float, start: Vector, chains: int, seed: int
) -> tuple[np.ndarray, np.ndarray, Result]:
    """Both measures at the times of a run, shape (2, times), their standard errors, and the result."""
    steps = np.round(np.array(run.times) / eta**2).astype(int)
    result = simulate(problem, run.make(eta), batch_size=1, chains=chains, steps=int(steps[-1]) + 1, seed=seed,
                      burn_in=int(steps[-1]), initial=start, statistics=[Curvature()], record=steps.tolist(),
                      progress=False)  # fmt: skip
    record = result.record or {}
    return (np.stack([record[name] for name in MEASURES]), np.stack([record[f"{name}_stderr"] for name in MEASURES]),
            result)  # fmt: skip


def _published(data_sets: int) -> tuple[list[list[str]], list[str]]:
    """The paper's comparison, one chain a data set, and whether its ordering came out."""
    rows, means = [], {}
    for name, (optimizer, runs) in PUBLISHED.items():
        for rate, steps in runs:
            values = []
            for seed in range(data_sets):
                problem = MatrixFactorization.random(size=10, rank=2, examples=70, seed=seed, label_noise=0.5)
                result = simulate(problem, optimizer(rate), batch_size=10, chains=1, steps=steps, burn_in=steps - 1,
                                  seed=seed, statistics=[Curvature()], progress=False)  # fmt: skip
                values.append([getattr(result, m) for m in (*MEASURES, "test_error")])
            mean, error = np.mean(values, axis=0), np.std(values, axis=0, ddof=1) / np.sqrt(data_sets)
            means[name, steps] = mean
            rows.append([f"{name} {rate:g}, {steps // 1000}k steps",
                         *(f"{m:.4g} ± {e:.2g}" for m, e in zip(mean, error, strict=True))])  # fmt: skip
    short, long = means["Adam", 60_000], means["Adam", 120_000]
    sgd = means["SGD", 200_000]
    return rows, [
        f"Published: Adam ends at larger tr H and larger test error than SGD. Short Adam: tr H {short[0]:.3g}, test "
        f"error {short[2]:.3g}; longer Adam: {long[0]:.3g}, {long[2]:.2g}; longest SGD: {sgd[0]:.3g}, {sgd[2]:.2g}. "
        f"The ordering {'holds' if long[0] > sgd[0] and long[2] > sgd[2] else 'does not hold'} for the longer runs."
    ]
