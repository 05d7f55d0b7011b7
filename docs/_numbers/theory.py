"""Numbers on pages that theory computes: sources of `docs/_numbers`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import numpy as np
from printed import PAGES, Said, numbers, row

import sgdsim as ss
from sgdsim import solver

CORRELATED = [[1.0, 0.3], [0.3, 0.5]]


@numbers("theory/stationary.md")
def stationary_covariance() -> Iterator[Said]:
    problem = ss.LinearRegression(CORRELATED, label_noise=0.5)
    matrix = ss.SGD(1.0, momentum=0.5, preconditioner=[[0.2, 0.05], [0.05, 0.1]])
    for label, optimizer in (("0.2", ss.SGD(0.2, momentum=0.5)), ("[[.2, .05], [.05, .1]]", matrix)):
        law = ss.predict(problem, optimizer, batch_size=4)
        yield row(label, *law.covariance[np.triu_indices(2)])
        if label == "0.2":
            yield Said(r"\(C_{11} = {}\), \(C_{12} = {}\), \(C_{22} = {}\)",
                       tuple(law.noise_covariance[np.triu_indices(2)]))
    unit = ss.LinearRegression([1.0], label_noise=1.0)
    for rate, size in ((0.1, 1), (0.3, 1), (0.3, 4)):
        exact, continuous = (
            ss.predict(unit, ss.SGD(rate), batch_size=size, approximation=name).covariance[0, 0]
            for name in ("exact", "continuous")
        )
        discrete = ss.predict(ss.Quadratic([1.0], [1.0]), ss.SGD(rate), batch_size=size).covariance[0, 0]
        yield row(f"{rate} | {size}", exact, continuous, discrete)


@numbers("errata.md")
def input_noise() -> Iterator[Said]:
    problem = ss.LinearRegression(CORRELATED, teacher=[1.0, -1.0], input_noise=[[0.2, -0.1], [-0.1, 0.4]])
    training = problem.hessian()
    for rate in (0.4, 0.8):
        exact = float(ss.predict(problem, ss.SGD(rate), batch_size=4).test_loss)
        inverse = np.linalg.inv(2 * np.eye(2) - rate * 1.25 * training)
        # Printed and right differ in one trace: of the training inputs' covariance K, or of the clean inputs' A.
        shared = (exact - problem.test_loss(problem.minimum)) / np.trace(np.array(CORRELATED) @ inverse)
        printed = problem.test_loss(problem.minimum) + shared * np.trace(training @ inverse)
        yield row(f"{rate}", exact, exact, printed)
        yield Said(f"| {rate} | {{}} | {{}} | {{}} | {{}} %", (exact, exact, printed, 100 * (printed / exact - 1)))


@numbers("errata.md")
def tail_index_of_the_paper() -> Iterator[Said]:
    for curvature, size in ((0.2, 1), (1.0, 1), (1.0, 2), (1.0, 8), (1.8, 8)):
        yield row(f"{curvature} | {size}", *_tail_indices(curvature, size))


@numbers("theory/tails.md")
def tail_index() -> Iterator[Said]:
    for curvature, size in ((0.2, 1), (0.2, 8), (1.0, 1), (1.0, 2), (1.0, 8), (1.8, 1), (1.8, 8)):
        yield row(f"{curvature} | {size}", *_tail_indices(curvature, size))


def _tail_indices(curvature: float, size: int) -> list[float]:
    ways = ("exact", "published", "continuous")
    return [float(solver.tails.kesten_tail_index(curvature, size, approximation=way)) for way in ways]


@numbers("theory/stability.md", seconds=5)
def limits_in_one_dimension() -> Iterator[Said]:
    for size in (1, 4, 16, 100):
        found = solver.stability(ss.LinearRegression([1.0], label_noise=1.0), ss.SGD(0.1), batch_size=size)
        yield row(f"{size}", found.max_learning_rate, found.almost_sure)


@numbers("theory/scaling-law.md")
def linear_scaling_rule() -> Iterator[Said]:
    problem, rates = ss.LinearRegression([1.0, 0.5], label_noise=1.0), np.linspace(0.1, 0.3, 401)
    chart = solver.limits.linear_scaling_rule(problem, ss.SGD(0.1), batch_size=[1, 256], learning_rate=rates)
    largest = [rates[holds].max() for holds in chart.holds(0.1)]
    yield Said(r"up to \(\lambda = {}\) at \(S = 1\) and \(\lambda = {}\) at \(S = 256\)", tuple(largest))


@numbers("theory/variance-polynomial.md", seconds=2)
def gradient_variance_of_diabetes() -> Iterator[Said]:
    rate = ss.SGD(lambda t: 1 / (2 * (t + 1)))
    curve = solver.gradient_variance(_diabetes(), rate, batch_size=[2, 40, 440], steps=1001, initial=np.ones(11),
                                     sampling="without_replacement")
    for step in (0, 1, 10, 40, 1000):
        yield row(f"{step}", *curve.gradient[step])


def _diabetes() -> ss.DatasetRegression:
    from sklearn.datasets import load_diabetes

    table = load_diabetes(as_frame=True).frame
    return ss.DatasetRegression.from_table(table, target="target", standardize_columns=True, intercept=True)


@numbers("theory/label-noise.md")
def label_noise_theory() -> Iterator[Said]:
    heights = (0.5, 1.0, 1.5, 1.9, 1.99)
    yield row("R", *(solver.manifold.label_noise_regularizer([[h]], learning_rate=1.0) for h in heights))
    flips = [tuple(solver.manifold.label_flip_constants(loss, 0.2)) for loss in ("logistic", "exponential", "square")]
    yield Said("| p(1-p) | p(1-p) | {}, {}, {} |", flips[0])
    yield Said(r"| \(2\sqrt{p(1-p)}\) | {}, {}, {} |", flips[1])
    yield Said("| 4p(1-p) | 1 | {}, {}, {} |", flips[2])
    toy = ss.CyclingToy()
    limit = solver.manifold.phase_drift(toy, learning_rate=1e-6)
    yield Said(r"one turn takes \({}/\eta^2\) steps for \(\eta \to 0\)", (limit.period * 1e-12,))
    periods = tuple(solver.manifold.phase_drift(toy, learning_rate=rate).period for rate in (0.1, 0.05, 0.02))
    yield Said(r"{} steps at \(\eta = 0.1\), {} at 0.05, {} at 0.02", periods)


@numbers("theory/slow-dynamics.md", seconds=20)
def where_slow_dynamics_end() -> Iterator[Said]:
    problem = ss.Ellipse(a=2.0, b=1.0, label_noise=0.5)
    for label, optimizer in {
        "SGD; AdamE, \\(\\rho\\) = .1, .25; AdamMini with one block; Adam, \\(\\epsilon\\) = .3, 1": ss.SGD(0.01),
        "Adam, \\(\\epsilon\\) = .1": ss.Adam(0.01, eps=0.1),
        "AdamE, \\(\\rho\\) = .4": ss.AdamE(0.01, exponent=0.4),
        "Adam, \\(\\epsilon\\) = .03": ss.Adam(0.01, eps=0.03),
        "Adam; AdamE, \\(\\rho\\) = .75": ss.Adam(0.01, eps=0.0),
    }.items():
        end = solver.manifold.slow_fixed_point(problem, optimizer, problem.point(1.0))
        yield Said(f"| {label} | ({{}}, {{}}) | {{}} |", (*end, float(problem.angle(end))))


@numbers("theory/adam-bias.md", seconds=60)
def adam_sharpness_coefficient() -> Iterator[Said]:
    betas_and_noise = {(0.5, 0.99): (0.5, 1.0, 4.0), (0.9, 0.99): (0.25, 1.0, 4.0), (0.9, 0.995): (1.0,)}
    for betas, noise in ((betas, noise) for betas, noises in betas_and_noise.items() for noise in noises):
        with warnings.catch_warnings(action="ignore"):
            exact, *theory = (
                solver.adam_bias.adam_sharpness_coefficient(*betas, noise, approximation=order)
                for order in ("monte_carlo", "resummed", "corrected", "second")
            )
        label = ", ".join(f"{x:g}" for x in (*betas, noise)).replace("0.", ".")
        yield Said(f"| {label} | {{}} ± {{}} | {{}} | {{}} | {{}} |", (exact, exact.stderr, *theory),
                   (exact.stderr, exact.stderr / 4, 0.0, 0.0, 0.0))


@numbers("theory/adam-bias.md")
def permutation_coefficients() -> Iterator[Said]:
    coefficient = solver.adam_bias.momentum_permutation_coefficients
    found = tuple(coefficient(0.9, 4, n).noise for n in (100, 1000, None))
    yield Said(r"it is {} at \(n = 100\), {} at 1000, {} in the limit", found)


@numbers("theory/second-order.md")
def natural_gradient_of_an_ensemble() -> Iterator[Said]:
    sys.path.insert(0, str(PAGES.parent / "tests" / "oracles"))
    from closed_forms import natural_gradient_ensemble_radius as radius

    for memory, label in ((0.0, r"\(\rho = 0\) (the current step alone)"), (0.9, r"\(\rho = 0.9\) (the default)")):
        yield row(label, *(radius(2, rate, 64, 0.5, memory) for rate in (0.1, 0.5, 0.7, 1.0, 2.0, 50.0)))


@numbers("theory/high-dimension.md", seconds=120)
def high_dimension() -> Iterator[Said]:
    """The data sets of `sgdsim reproduce fig6 --scale laptop`, without the simulation."""
    from sgdsim.experiments.minibatch_noise.fig6 import BATCH, RATIOS

    rng, rate, dimension = np.random.default_rng(6), 0.01, 1000
    for ratio in RATIOS:
        n = int(ratio * dimension)
        problem = ss.DatasetRegression(rng.standard_normal((n, dimension)), rng.standard_normal(n))
        if ratio in (0.5, 1.25, 4.0):
            spectrum = np.linalg.eigvalsh(problem.gram)
            own = np.sqrt(2 * problem.least_loss / (1 - 1 / ratio)) if ratio > 1 else 0.0
            laws = [solver.stationary.high_dimension_law(spectrum, rate, BATCH, s, ratio=ratio) for s in (1.0, own)]
            laws.append(solver.stationary.hessian_fluctuation(spectrum, rate, BATCH, 1.0))
            exact = 2 * float(ss.predict(problem, ss.SGD(rate), batch_size=BATCH).test_loss)
            yield row(f"{n}", exact, *(law.fluctuation for law in laws))
