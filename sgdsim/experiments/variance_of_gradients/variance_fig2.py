"""Figure 2: the variance of both layers' gradients of a two-layer linear network, and its large-batch limit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sgdsim.comparisons.judge import judge
from sgdsim.engine import gradient_variance
from sgdsim.experiments.framework.curve import lines_of, points_of
from sgdsim.experiments.framework.findings import ERROR_RATE, Drawing, Figure, Findings, Scale, Verdict
from sgdsim.experiments.framework.gradient_variances import by_size, judged, tables
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.variance_of_gradients.shared import PAPER
from sgdsim.optimizers import SGD
from sgdsim.plots import matched, panels
from sgdsim.problems import TwoLayerLinear
from sgdsim.results import GradientVarianceResult
from sgdsim.solver.variance import gradient_variance_polynomial, leading_variance_coefficient

SIZES = (4, 16, 64, 256)
LARGE = (1024, 2048)  # the coefficient of 1/b is read off these, where it is known exactly
START = 1 / 3  # of N(0, 1/fan-in): with more than half, small batches diverge
MEASURED = 60  # steps, evenly spaced in log t; the first of them coincide


class Network(NamedTuple):
    """Layers from the input on, and how much to simulate."""

    shape: tuple[int, int, int]
    runs: int
    steps: int
    anchors: tuple[int, ...]


NETWORKS = {
    "smoke": Network((6, 10, 8), 1_500, 13, (1, 4, 12)),
    "laptop": Network((12, 36, 18), 4_000, 201, (1, 5, 20)),
    "full": Network((64, 256, 128), 1_000, 1_001, ()),  # the paper's: 49,152 parameters are too many for the anchor
}


def tenth(t: int) -> float:
    """Return the paper's 1/(10t), which starts at t = 1."""
    return 1 / (10 * (t + 1))


@experiment("variance_fig2", "Variance of the gradient of a two-layer linear network", f"{PAPER}, figure 2")
def variance_fig2(scale: Scale) -> Findings:
    """Simulate teacher and student; hold t = 1 against the exact polynomial and, if not too large, b against beta_1."""
    network = NETWORKS[scale.name]
    p, hidden, outputs = network.shape
    rng = np.random.default_rng(0)
    teacher = _normal(rng, hidden, p), _normal(rng, outputs, hidden)
    start = START * _normal(rng, hidden, p), START * _normal(rng, outputs, hidden)
    problem = TwoLayerLinear(*teacher)
    spaced = np.geomspace(1, network.steps - 1, MEASURED).round().astype(int)
    simulated = gradient_variance(problem, SGD(tenth), batch_size=[*SIZES, *(LARGE if network.anchors else ())],
                                  steps=network.steps, chains=network.runs, initial=problem.flatten(*start), seed=4,
                                  record=[0, *spaced.tolist(), *network.anchors])  # fmt: skip
    share = ERROR_RATE / (1 + 2 * len(network.anchors))
    exact = gradient_variance_polynomial(problem, SGD(tenth), step=1, initial=start)
    verdicts = judged("t=1", simulated, exact, step=1, error_rate=share)
    anchors = {t: leading_variance_coefficient(problem, SGD(tenth), step=t, initial=start) for t in network.anchors}
    for t, beta in anchors.items():
        for i, layer in enumerate(simulated.by_layer):
            row = simulated.row(t)
            value, error = large_batch_limit(layer.gradient[row], layer.gradient_stderr[row], simulated.batch_sizes)
            verdicts.append(Verdict(f"t={t}, {layer.name}", judge("lim b·Var g", value, error, beta[i],
                                                                  error_rate=share, groups=network.runs)))
    at = simulated.step
    marked = np.unique([np.abs(at - s).argmin() for s in np.geomspace(1, network.steps - 1, 12)])

    names = {"gradient": "Minibatch gradient", "full_gradient": "Full gradient"}

    def draw() -> Drawing:
        figure, ax = panels(2, 2, (11.5, 7.6))
        for row, (name, what) in zip(ax, names.items(), strict=True):
            for axis, layer in zip(row, simulated.by_layer, strict=True):
                value, error = getattr(layer, name), getattr(layer, f"{name}_stderr")
                sizes = by_size(SIZES, at[1:], value[1:], at[marked], value[marked], error[marked])
                matched(lines_of(sizes), points_of(sizes), ax=axis, xlabel="step t", ylabel="variance",
                        title=f"{what} of {layer.name}", log="xy")
                axis.get_legend().remove()
        for i, axis in enumerate(ax[0] if anchors else ()):
            axis.plot(list(anchors), [beta[i] / SIZES[-1] for beta in anchors.values()], "k*", markersize=11,
                      linestyle="none", zorder=5, label=f"exact β₁/b, b = {SIZES[-1]}")
        ax[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        return figure

    return Findings(
        verdicts=verdicts,
        data={**tables(simulated), "layer": (("layer",), np.array([layer.name for layer in simulated.by_layer])),
              **{f"layer_{name}": (("layer", "step", "batch_size"),
                                   np.stack([getattr(layer, name) for layer in simulated.by_layer])) for name in names},
              "typical_run": (("step", "batch_size"), simulated.typical_run)},
        figures=[Figure("figure", f"{network.runs} runs of {p}-{hidden}-{outputs} from 1/3 of N(0, 1/fan-in), learning "
                        "rate 1/(10(t+1)); bars: 2 standard errors. From t = 2 at small b on this is the variance of a "
                        "typical run, which rare runs exceed. Below: the full gradient at those weights. Stars: the "
                        "exact coefficient of 1/b.", draw)],
        summary=[
            f"{_size(network, scale.name)}",
            f"Falls with b at {falling(simulated):.1%} of the measured (step, adjacent b) from b = {SIZES[0]} on.",
            *([simulated.warning] if simulated.warning else []),
        ],
        provenance=short_provenance(simulated, layers=network.shape, start="1/3 of N(0, 1/fan-in)"),
    )  # fmt: skip


def _normal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return rng.normal(size=(rows, columns)) / np.sqrt(columns)


def _size(network: Network, name: str) -> str:
    shape = "-".join(map(str, network.shape))
    if network.shape == NETWORKS["full"].shape:
        return f"The paper's size: {shape}, {network.runs} runs of {network.steps - 1} steps."
    return f"Reduced from the paper's 64-256-128 to {shape} at scale {name!r}; --scale full has its size."


def large_batch_limit(variance: np.ndarray, stderr: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Return lim b Var(g_b) from the two largest sizes b and 2b, 4b V(2b) - b V(b), and its standard error."""
    b = float(sizes[-2])
    return 4 * b * variance[-1] - b * variance[-2], float(np.hypot(4 * b * stderr[-1], b * stderr[-2]))


def falling(result: GradientVarianceResult) -> float:
    """Return how often both layers' variances fall from one batch size to the next."""
    return float(np.mean([np.diff(layer.gradient, axis=1) < 0 for layer in result.by_layer]))
