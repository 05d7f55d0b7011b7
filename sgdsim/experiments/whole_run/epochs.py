"""Variance along each eigenvector of the Hessian: shuffled epochs against batches drawn with replacement."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sgdsim._types import Matrix, Vector
from sgdsim.comparisons.judge import judge
from sgdsim.engine import simulate
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale, Verdict, share
from sgdsim.experiments.framework.networks import find_minimum, two_layers
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import panels, styled
from sgdsim.plots.style import COLORS, MARKERS, set_log
from sgdsim.problems import DatasetRegression, FlaxNetwork
from sgdsim.solver import gradient_covariance, predict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLES, BATCH, RATE, MOMENTUM = 60, 6, 0.05, 0.9
PASSES = 60  # 600 steps: the flattest direction keeps exp(-6) of its way in the mean, its square in the variance
SETTLED = 2.5  # slow times that a direction needs, to be shown
LAWS = {"epochs": COLORS[0], "with_replacement": COLORS[1]}


class Spectrum(NamedTuple):
    """Variances along eigenvectors of the Hessian, by sampling."""

    curvature: Vector
    measured: dict[str, Vector]
    stderr: dict[str, Vector]
    closed: dict[str, Vector]
    exact: dict[str, Vector]


@experiment("epochs", "Variance along each eigenvector: shuffled epochs against draws with replacement",
            "Kuehn and Rosenow, Correlated noise in epoch-based SGD (2023); whole-run.md section 4")  # fmt: skip
def epochs(scale: Scale) -> Findings:
    """Simulate SGD with momentum on a data set and on a small network near its minimum, both ways of drawing."""
    regression, network = on_data(scale.chains // 4), on_network(scale.chains // 16)
    spectra = {"data set": regression, "network": network}
    verdicts = hold(regression)

    def draw() -> Drawing:
        figure, ax = panels(1, 2, (10.5, 4.2))
        for panel, (title, spectrum) in zip(ax[0], spectra.items(), strict=True):
            _draw(panel, spectrum, title)
        return figure

    ratio = {name: s.measured["with_replacement"] / s.measured["epochs"] for name, s in spectra.items()}
    off = {name: s.measured["epochs"] / s.closed["epochs"] for name, s in spectra.items()}
    return Findings(
        verdicts=verdicts,
        data={f"{name} {kind} {law}".replace(" ", "_"): ((f"{name} direction".replace(" ", "_"),), values)
              for name, s in spectra.items() for kind in ("measured", "stderr", "closed", "exact")
              for law, values in getattr(s, kind).items()}
        | {f"{name} curvature".replace(" ", "_"): ((f"{name} direction".replace(" ", "_"),), s.curvature)
           for name, s in spectra.items()},
        figures=[Figure("figure", f"n = {EXAMPLES}, b = {BATCH}, λ = {RATE}, μ = {MOMENTUM}, at the end of a pass. "
                        "Circles and squares: simulation with 2 standard errors; bars: closed form; "
                        "crosses: exact.", draw)],
        summary=[
            f"Along the flattest direction epochs fluctuate {ratio['data set'][0]:.3g} times less on the data set and "
            f"{ratio['network'][0]:.3g} times less in the network; along the steepest {ratio['data set'][-1]:.3g} and "
            f"{ratio['network'][-1]:.3g} times.",
            "The closed form has the noise of the minimum and no curvature of a batch's own: measured over closed form "
            f"it is {off['data set'][-1]:.3g} along the steepest and {off['data set'][0]:.3g} along the flattest "
            f"direction of the data set, {off['network'][-1]:.3g} and {off['network'][0]:.3g} in the network, which "
            "has no exact law and so no verdicts.",
        ],
        provenance={"examples": EXAMPLES, "batch_size": BATCH, "learning_rate": RATE, "momentum": MOMENTUM,
                    "steps": PASSES * EXAMPLES // BATCH, "chains": scale.chains // 4},
    )  # fmt: skip


def data_set() -> DatasetRegression:
    """Inputs whose second moment is diagonal, from .02 to 1, and skewed residuals."""
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.normal(size=(EXAMPLES, 8)))[0] * np.sqrt(EXAMPLES * np.geomspace(0.02, 1, 8))
    return DatasetRegression(x, x @ rng.normal(size=8) + 0.3 * (rng.exponential(size=EXAMPLES) - 1))


def on_data(chains: int) -> Spectrum:
    """The data set, with its exact laws."""
    problem, optimizer = data_set(), SGD(RATE, MOMENTUM)
    shuffled = predict(problem, optimizer, batch_size=BATCH, sampling="epochs")
    drawn = predict(problem, optimizer, batch_size=BATCH, sampling="with_replacement")
    exact = {"epochs": np.diag(shuffled.at_position(0)[1]), "with_replacement": np.diag(drawn.covariance)}
    return _spectrum(problem, np.asarray(problem.minimum), chains, exact)


def on_network(chains: int) -> Spectrum:
    """A tanh network with weight decay, at a minimum of its loss."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((EXAMPLES, 3))
    y = np.tanh(x @ rng.standard_normal((3, 3))) @ rng.standard_normal(3) + 0.1 * rng.standard_normal(EXAMPLES)
    problem = FlaxNetwork(two_layers(3, 1), x, y, weight_decay=0.02)
    return _spectrum(problem, find_minimum(problem, problem.default_start), chains, {})


def hold(spectrum: Spectrum) -> list[Verdict]:
    """Every measured variance against the exact one."""
    places = [(law, i) for law in LAWS for i in range(len(spectrum.curvature))]
    return [
        Verdict(f"{law.replace('_', ' ')}, curvature {spectrum.curvature[i]:.3g}",
                judge("variance", float(spectrum.measured[law][i]), float(spectrum.stderr[law][i]),
                      float(spectrum.exact[law][i]), error_rate=share(len(places))))
        for law, i in places
    ]  # fmt: skip


def _spectrum(
    problem: DatasetRegression | FlaxNetwork, minimum: Vector, chains: int, exact: dict[str, Vector]
) -> Spectrum:
    curvature, basis = np.linalg.eigh(np.asarray(problem.hessian(minimum), np.float64))
    settled = curvature * RATE / (1 - MOMENTUM) * PASSES * EXAMPLES / BATCH > SETTLED
    curvature, basis = curvature[settled], basis[:, settled]
    one = basis.T @ gradient_covariance(problem, minimum, batch_size=1) @ basis
    measured, stderr = {}, {}
    for seed, law in enumerate(LAWS):
        result = simulate(problem, SGD(RATE, MOMENTUM), batch_size=BATCH, chains=chains, sampling=law, seed=seed,
                          steps=PASSES * EXAMPLES // BATCH, initial=minimum, progress=False)  # fmt: skip
        moved = (np.asarray(result.final, np.float64) - minimum) @ basis
        squares = (moved - moved.mean(axis=0)) ** 2
        measured[law] = squares.mean(axis=0) * chains / (chains - 1)
        stderr[law] = squares.std(axis=0, ddof=1) / np.sqrt(chains)
    closed = dict(zip(LAWS, closed_form(curvature, np.diag(one), EXAMPLES, BATCH, RATE, MOMENTUM), strict=True))
    return Spectrum(curvature, measured, stderr, closed, exact)


def closed_form(h: Vector, c: Vector, n: int, b: int, rate: float, momentum: float) -> tuple[Vector, Vector]:
    r"""Variance at the end of a pass, and with replacement, along eigenvectors of curvature h and noise c (b = 1).

    For (w, m), $F = (1 - \lambda h, -\lambda \mu; h, \mu)$ and $B = (-\lambda, 1)$; in an epoch of n/b batches
    $\mathrm{Cov}(\xi_s, \xi_t) = \frac{c}{n-1} (\frac nb \delta_{st} - 1)$.
    """
    found = [_one(float(hi), float(ci), n, b, rate, momentum) for hi, ci in zip(h, c, strict=True)]
    return np.array([first for first, _ in found]), np.array([second for _, second in found])


def _one(h: float, c: float, n: int, b: int, rate: float, momentum: float) -> tuple[float, float]:
    f = np.array([[1 - rate * h, -rate * momentum], [h, momentum]])
    enters = np.array([-rate, 1.0])
    reached = np.stack([np.linalg.matrix_power(f, k) @ enters for k in range(n // b)], axis=1)
    together = reached.sum(axis=1)
    own = c / (n - 1) * (n / b * reached @ reached.T - np.outer(together, together))
    return _settled(np.linalg.matrix_power(f, n // b), own), _settled(f, c / b * np.outer(enters, enters))


def _settled(f: Matrix, noise: Matrix) -> float:
    """The first variance of S = F S F' + noise."""
    return float(np.linalg.solve(np.eye(4) - np.kron(f, f), noise.ravel())[0])


def _draw(ax: Axes, spectrum: Spectrum, title: str) -> None:
    with styled():
        for i, (law, color) in enumerate(LAWS.items()):
            name = law.replace("_", " ")
            ax.plot(spectrum.curvature, spectrum.closed[law], "_", color=color, markersize=15, markeredgewidth=1.8,
                    label=f"{name}, closed form")
            ax.errorbar(spectrum.curvature, spectrum.measured[law], yerr=2 * spectrum.stderr[law], fmt=MARKERS[i],
                        color=color, markerfacecolor="white", label=f"{name}, simulated")
            if law in spectrum.exact:
                ax.plot(spectrum.curvature, spectrum.exact[law], "x", color=color, markersize=8, label=f"{name}, exact")
        set_log(ax, "xy")
        ax.set(xlabel="curvature", ylabel="variance", title=title)
        if spectrum.exact:
            ax.set_ylim(bottom=min(spectrum.closed["epochs"]) / 8)
            ax.legend(loc="lower right", ncols=2, fontsize=8)
