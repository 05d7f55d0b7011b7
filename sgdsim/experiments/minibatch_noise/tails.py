"""The measured tail index of SGD in one dimension against the exact one, and what other estimators say."""

from __future__ import annotations

import math

import numpy as np

from sgdsim.comparisons.judge import judge
from sgdsim.engine import simulate
from sgdsim.estimators import hill
from sgdsim.estimators.tail_index import TailEstimate
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale, Table, Verdict, share
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import panels, survival
from sgdsim.problems import LinearRegression
from sgdsim.results import Result
from sgdsim.solver.tails import kesten_tail_index
from sgdsim.statistics import LargestDeviations

SETTINGS = ((0.9, 1), (0.6, 1), (0.6, 2), (1.0, 8))  # a lambda, S
BURN_IN = 100
LEVEL = 0.95


@experiment("tails", "Tail index of SGD: exact, measured, published",
            "Strength of Minibatch Noise in SGD, eq. [93]; Kesten (1973)")  # fmt: skip
def tails(scale: Scale) -> Findings:
    """Estimate the tail index of w <- (1 - (a lambda / S) q) w + noise from all chains and steps."""
    problem = LinearRegression(covariance=[1.0], label_noise=1.0)
    results = [
        simulate(problem, SGD(rate), batch_size=batch, chains=scale.chains, steps=BURN_IN + scale.steps,
                 burn_in=BURN_IN, seed=93, statistics=[LargestDeviations()], progress=False)
        for rate, batch in SETTINGS
    ]  # fmt: skip
    exact = [kesten_tail_index(rate, batch) for rate, batch in SETTINGS]
    measured = [result.tail_index(confidence=LEVEL) for result in results]
    verdicts = [
        Verdict(f"aλ={rate:g}, S={batch}", judge("tail index", found.value, found.stderr, truth,
                                                 error_rate=share(len(SETTINGS))))
        for (rate, batch), found, truth in zip(SETTINGS, measured, exact, strict=True)
    ]
    columns = _other_estimators(results)

    def draw() -> Drawing:
        figure, ax = panels(2, 2, (9.0, 7.2))
        for panel, (rate, batch), result, found, truth in zip(
            ax.flat, SETTINGS, results, measured, exact, strict=True
        ):
            survival(result.tail, result.tail_seen or 0.0, found, exact=truth, ax=panel,
                     title=f"aλ = {rate:g}, S = {batch}")
        return figure

    settings = np.array(SETTINGS)
    return Findings(
        verdicts=verdicts,
        data={
            "step_curvature": (("setting",), settings[:, 0]),
            "batch_size": (("setting",), settings[:, 1]),
            "exact": (("setting",), np.array(exact)),
            "index": (("setting",), np.array([found.value for found in measured])),
            **{name: (("setting",), np.array([getattr(found, name) for found in measured]))
               for name in ("low", "high", "threshold")},
            **{name: (("setting",), np.array(values)) for name, values in columns.items()},
        },
        figures=[
            Figure(
                "figure",
                "Survival function of the deviations of all chains and measured steps. The slopes go through the point "
                "with a tenth of the exceedances beyond it.",
                draw,
            )
        ],
        summary=[
            "The published index is right only where it is 2; the alpha-stable estimator cannot exceed 2.",
            "Intervals rest on independent groups of chains, and take in the correction for bias.",
        ],
        tables=[_table(exact, measured, columns)],
        provenance=short_provenance(results[0], optimizer=f"SGD, (aλ, S) {SETTINGS}", problem="a=1, sigma=1"),
    )


def _other_estimators(results: list[Result]) -> dict[str, list[float]]:
    finals = [result.final[:, 0] - result.final[:, 0].mean() for result in results]
    return {
        "moment": [result.tail_index(method="moment").value for result in results],
        "ml": [result.tail_index(method="ml").value for result in results],
        "hill_sqrt": [hill(final, math.isqrt(len(final))) for final in finals],
        "alpha_stable": [alpha_stable_index(final, math.isqrt(len(final))) for final in finals],
    }


def alpha_stable_index(x: np.ndarray, block: int) -> float:
    r"""The index of a stable law from sums Y of blocks of K samples X, as usual for gradient noise.

    $$1 / \hat\alpha = \frac{1}{\log K} \left( \overline{\log |Y|} - \overline{\log |X|} \right)$$

    Any law with a variance has sums that grow as sqrt(K), hence 2: it says nothing of an index above that.

    Source: Mohammadi, Mohammadpour and Ogata, "On estimating the tail index and the spectral measure of
    multivariate alpha-stable distributions" (2015), corollary 2.4.
    """
    rows = x[: len(x) // block * block].reshape(-1, block)
    growth = np.log(np.abs(rows.sum(axis=1))).mean() - np.log(np.abs(rows)).mean()
    return float(math.log(block) / growth)


def _table(exact: list[float], measured: list[TailEstimate], columns: dict[str, list[float]]) -> Table:
    header = ["aλ", "S", "exact", "measured", "95% interval", "moment", "Pareto ML", "Hill, k = √n", "α-stable",
              "published", "continuous time"]  # fmt: skip
    rows = [
        [f"{rate:g}", str(batch), f"{truth:.4f}", f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}",
         *(f"{values[i]:.3f}" for values in columns.values()),
         *(f"{kesten_tail_index(rate, batch, approximation=name):.3f}" for name in ("published", "continuous"))]
        for i, ((rate, batch), truth, found) in enumerate(zip(SETTINGS, exact, measured, strict=True))
    ]  # fmt: skip
    return Table("Tail index; Hill and α-stable on the last step of every chain", header, rows)
