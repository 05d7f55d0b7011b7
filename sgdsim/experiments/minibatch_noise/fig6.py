"""Figure 6: the fluctuation of high-dimensional regression across the interpolation threshold."""

from __future__ import annotations

import numpy as np

from sgdsim.comparisons.judge import judge
from sgdsim.engine import simulate
from sgdsim.experiments.framework.curve import Curve
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale, Table, Verdict, share
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import matched, panels
from sgdsim.plots.style import COLORS
from sgdsim.problems import DatasetRegression
from sgdsim.results import Result
from sgdsim.solver import predict
from sgdsim.solver.stationary import hessian_fluctuation, high_dimension_law, marchenko_pastur
from sgdsim.statistics import Losses

BATCH, LOAD, NOISE = 32, 10.0, 1.0  # LOAD = lambda D: lambda = .01 at D = 1000
RATIOS = (0.5, 0.8, 1.25, 1.5, 2.0, 3.0, 4.0)
LEFT_OVER = 5e-4  # of the fluctuation, missing after the burn-in from the minimum
CHAINS = 64  # half of it at D = 100


@experiment("fig6", "Fluctuation across the interpolation threshold (high dimension)",
            "Strength of Minibatch Noise in SGD, figure 6")  # fmt: skip
def fig6(scale: Scale) -> Findings:
    """Simulate Tr[A^ Sigma] over N/D at D = 1000, lambda = .01, S = 32 (smoke: D = 100, lambda = .1)."""
    dimension = 100 if scale.name == "smoke" else 1000
    rate = LOAD / dimension
    ratios = RATIOS[1::2] if scale.name == "smoke" else RATIOS
    rng = np.random.default_rng(6)
    points = [_point(int(ratio * dimension), dimension, rate, scale, rng) for ratio in ratios]
    rows, results = [row for row, _ in points], [result for _, result in points]
    column = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    fine = np.unique(np.concatenate([np.linspace(0.4, 4.2, 39), [1.0]]))
    spectra = [marchenko_pastur(dimension, ratio=a) for a in fine]
    laws = [high_dimension_law(h, rate, BATCH, NOISE, ratio=a) for h, a in zip(spectra, fine, strict=True)]
    others = [hessian_fluctuation(h, rate, BATCH, NOISE) for h in spectra]
    law, hessian = [x.fluctuation for x in laws], [x.fluctuation for x in others]
    traces = {"paper's law": (fine, np.array([x.trace for x in laws])),
              "Hessian in place of the noise": (fine, np.array([x.trace for x in others]))}
    curve = Curve(column["ratio"], column["simulated"], column["stderr"], fine,
                  {"paper's law": np.array(law), "Hessian in place of the noise": np.array(hessian)})
    above = [row for row in rows if row["ratio"] > 1]
    verdicts = [
        Verdict(f"N/D={row['ratio']:g}", judge("Tr[A^ Sigma]", row["simulated"], row["stderr"], row["exact"],
                                               error_rate=share(len(above)), groups=results[-1].provenance["groups"]))
        for row in above
    ]  # fmt: skip

    def draw() -> Drawing:
        figure, ax = panels(1, 2, (11.6, 4.2))
        look = {"color": COLORS[3], "markersize": 10, "zorder": 5}
        ax[0, 0].plot(column["ratio"], column["exact"], "x", label="exact, this data set", **look)
        curve.draw(ax[0, 0], xlabel="examples per parameter N/D", ylabel="fluctuation Tr[ÂΣ]",
                   title=f"D = {dimension}, λ = {rate:g}, S = {BATCH}", limits=[1.0],
                   limit_label="interpolation threshold", ylim=(-0.01, 1.1 * float(max(hessian))))
        matched(traces, {"exact, this data set": (column["ratio"], column["trace"], np.zeros(len(rows)))}, ax=ax[0, 1],
                xlabel="examples per parameter N/D", ylabel="Tr Σ", title="Tr Σ, as in the paper's figure")
        return figure

    worst = max(abs(row["law"] / row["exact"] - 1) for row in above)
    closer = max(abs(row["law, own residual"] / row["exact"] - 1) for row in above)
    below = [f"{row['ratio']:g}: {row['simulated']:.1e}" for row in rows if row["ratio"] < 1]
    return Findings(
        verdicts=verdicts,
        data={name: (("ratio",), values) for name, values in column.items()}
        | {"line_ratio": (("line_ratio",), fine), "line_law": (("line_ratio",), law),
           "line_hessian": (("line_ratio",), hessian), "line_trace": (("line_ratio",), traces["paper's law"][1])},
        figures=[
            Figure(
                "figure",
                "Without a residual there is no noise: below the threshold the fluctuation is 0. Error bars are 2 "
                "standard errors; the exact value belongs to the data set that was drawn. Weighted with Â the Hessian "
                "approximation falls with N/D; its Tr Σ rises with the rank of Â and is flat from the threshold on.",
                draw,
            )
        ],
        summary=[
            f"The paper's law is within {worst:.1%} of the exact finite-data value at these draws, and within "
            f"{closer:.1%} with the residual that each draw really has; the Hessian approximation knows no threshold.",
            "Below the threshold every example is fitted, the exact law is a point, and chains that start at 0 end "
            f"with Tr[Â(w-w*)(w-w*)'] (N/D: value) {', '.join(below)}: what is left of the start.",
        ],
        tables=[_table(rows)],
        provenance=short_provenance(results[len(rows) - len(above)], optimizer=f"SGD, learning rate {rate:g}",
                                    problem=f"D={dimension}, N={[int(r * dimension) for r in ratios]}, sigma={NOISE}"),
    )


def _point(
    n: int, dimension: int, rate: float, scale: Scale, rng: np.random.Generator
) -> tuple[dict[str, float], Result]:
    """One data set: its simulated and predicted fluctuation, and the run."""
    problem = DatasetRegression(rng.standard_normal((n, dimension)), NOISE * rng.standard_normal(n))
    law = predict(problem, SGD(rate), batch_size=BATCH)
    h = np.linalg.eigvalsh(problem.gram)
    interpolates = n < dimension
    # From the minimum a mode grows to h times its share of the trace; from 0 all fitted modes begin alike.
    burn_in = _settled(h, np.where(h > 1e-10, 1.0, 0.0) if interpolates else h, rate)
    result = simulate(problem, SGD(rate), batch_size=BATCH, chains=CHAINS if dimension > 100 else CHAINS // 2,
                      steps=burn_in + 2 * scale.steps, burn_in=burn_in, seed=6,
                      initial=None if interpolates else problem.minimum, statistics=[Losses()], progress=False)
    return {
        "ratio": n / dimension,
        # the test loss of a data set is half of (w - w*)' A^ (w - w*)
        "simulated": 2 * float(result.test_loss),
        "stderr": 2 * float(result.test_loss_stderr),
        "exact": 2 * law.test_loss,
        "trace": float(np.trace(law.covariance)),
        "law": high_dimension_law(h, rate, BATCH, NOISE, ratio=n / dimension).fluctuation,
        "law, own residual": high_dimension_law(h, rate, BATCH, _noise(problem), ratio=n / dimension).fluctuation,
        "hessian": hessian_fluctuation(h, rate, BATCH, NOISE).fluctuation,
    }, result


def _noise(problem: DatasetRegression) -> float:
    """The sigma that would leave the residual of this very data set, sigma^2 (1 - D/N) = 2 L_0."""
    share = 1 - problem.dimension / problem.n_examples
    return float(np.sqrt(2 * problem.least_loss / share)) if share > 0 else 0.0


def _settled(h: np.ndarray, weight: np.ndarray, rate: float) -> int:
    """Steps after which exp(-2 lambda h t), averaged over modes of these weights, is `LEFT_OVER`."""
    low, high = 1.0, 1e7
    while high / low > 1.01:
        middle = np.sqrt(low * high)
        missing = np.sum(weight * np.exp(-2 * rate * h * middle)) / np.sum(weight)
        low, high = (middle, high) if missing > LEFT_OVER else (low, middle)
    return int(high)


def _table(rows: list[dict[str, float]]) -> Table:
    names = ("simulated", "stderr", "exact", "law", "law, own residual", "hessian")
    return Table("Tr[ÂΣ]", ["N/D", *names],
                 [[f"{row['ratio']:g}", *(f"{row[name]:.3g}" for name in names)] for row in rows])
