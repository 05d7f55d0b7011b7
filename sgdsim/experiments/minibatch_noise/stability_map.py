"""The phase diagram: finite variance, infinite variance, divergence, from theory and from simulation alone."""

from __future__ import annotations

import numpy as np

from sgdsim.comparisons.judge import judge
from sgdsim.experiments.framework.findings import Data, Drawing, Figure, Findings, Scale, Verdict
from sgdsim.experiments.framework.registry import experiment
from sgdsim.experiments.minibatch_noise.phases import UNDECIDED, classify
from sgdsim.optimizers import SGD
from sgdsim.plots import panels, phase_diagram
from sgdsim.problems import DatasetRegression, LinearRegression
from sgdsim.solver.limits import stability_limit

SIZES = (1, 2, 4, 8, 16)
WRONG = 6.3e-5  # the chance that a dot beyond 4 standard errors lies on the other side
NAMES = ("finite variance", "infinite variance", "diverges")


def problems() -> dict[str, LinearRegression | DatasetRegression]:
    """One Gaussian input; and a data set with three features, drawn once."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, 3)) * [1.0, 0.8, 0.6]
    return {
        "1-D, Gaussian inputs": LinearRegression([1.0], label_noise=1.0),
        "data set, 40 × 3": DatasetRegression(x, x @ [1.0, -1.0, 0.5] + 0.5 * rng.standard_normal(40)),
    }


@experiment("stability_map", "Phase diagram over batch size and learning rate", "stationary.md sections 3 and 10")
def stability_map(scale: Scale) -> Findings:
    """Classify chains by what they do, on a grid across both limits."""
    verdicts, panels_data, summary = [], {}, []
    data: Data = {}
    chains = scale.chains // 16
    for label, problem in problems().items():
        fine = np.array(SIZES)
        if scale.points > 5:
            fine = np.union1d(fine, np.geomspace(1, SIZES[-1], 12).round().astype(int))
        limits = stability_limit(problem, SGD(0.1), batch_size=fine, chains=64, steps=150)
        rates = np.geomspace(0.5 * limits.max_learning_rate.min(), 1.6 * limits.almost_sure.max(), 2 * scale.points)
        dots: dict[str, list[tuple[int, float]]] = {}
        right = decided = 0
        for b in SIZES:
            low, high = (float(v[fine == b][0]) for v in (limits.max_learning_rate, limits.almost_sure))
            for rate in rates:
                found = classify(problem, float(rate), b, chains=chains, seed=b)
                dots.setdefault(found, []).append((b, float(rate)))
                truth = NAMES[int(rate >= low) + int(rate >= high)]
                if found != UNDECIDED:
                    decided, right = decided + 1, right + (found == truth)
        total = len(SIZES) * len(rates)
        row = judge("decided dots on the right side", right / decided, float(np.sqrt(WRONG / decided)), 1.0)
        verdicts.append(Verdict(label, row))
        summary.append(f"{label}: {right} of {decided} decided dots lie in the region that theory gives them; "
                       f"{total - decided} of {total} are too close to a line to be told.")
        panels_data[label] = (limits, {name: tuple(np.array(v).T) for name, v in dots.items()})
        key = "gaussian" if problem.n_examples is None else "data"
        data[f"{key}_batch_size"] = ((f"{key}_batch_size",), fine)
        data[f"{key}_max_learning_rate"] = ((f"{key}_batch_size",), limits.max_learning_rate)
        data[f"{key}_almost_sure"] = ((f"{key}_batch_size",), limits.almost_sure)
        data[f"{key}_almost_sure_stderr"] = ((f"{key}_batch_size",), limits.almost_sure_stderr)

    def draw() -> Drawing:
        figure, ax = panels(1, len(panels_data), (11.5, 5.4))
        for axis, (label, (limits, dots)) in zip(ax[0], panels_data.items(), strict=True):
            phase_diagram(limits.batch_sizes, limits.max_learning_rate, limits.almost_sure, dots, ax=axis, title=label)
        return figure

    return Findings(
        verdicts=verdicts,
        data=data,
        figures=[Figure("figure", "Lines and colours: theory. Dots: what simulated chains do.", draw)],
        summary=summary,
        provenance={"chains": chains, "batch_size": list(SIZES)},
    )
