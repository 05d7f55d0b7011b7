"""A tanh network at a sharp global minimum: label noise takes it along the minima to flatter ones, as predicted."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from scipy.optimize import least_squares

from sgdsim._specs import spec
from sgdsim.comparisons.judge import judge
from sgdsim.engine import simulate
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale, Table, Verdict, share
from sgdsim.experiments.framework.measure import short_provenance
from sgdsim.experiments.framework.networks import two_layers
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import SGD
from sgdsim.plots import matched, panels
from sgdsim.problems import FlaxNetwork
from sgdsim.results import Result
from sgdsim.solver.manifold import label_noise_flow
from sgdsim.statistics import Measurement, grouped_mean

MOMENTUM = 0.5
STRETCH = 2.0  # of the initial weights: large weights make sharp minima
LARGEST = 1.0  # learning rate times largest curvature at the start
TOLERANCE = 1e-8  # of the flow
SMALL = 1e-6  # of the learning rate: there R is tr H / 4
BETAS = {"smoke": (0.0,), "laptop": (0.0, MOMENTUM), "full": (0.0, MOMENTUM)}
_TOGETHER = 64  # chains


class Setting(NamedTuple):
    """A network, its data, and how long it is followed.

    Attributes:
        examples: n.
        inputs: of a standard normal law.
        width: tanh units.
        seed: of data and weights.
        times: slow times tau = eta lambda k / (1 - beta), over sigma^2 / b, that are held against theory.
        strengths: lambda, and half of it.
        chains: for each.
    """

    examples: int
    inputs: int
    width: int
    seed: int
    times: tuple[float, ...]
    strengths: tuple[float, ...]
    chains: int


SMOKE = Setting(4, 5, 3, 3, (0.0625, 0.25, 1.0), (8e-3, 4e-3), 512)
LAPTOP = Setting(10, 8, 6, 6, (0.125, 0.5, 2.0), (4e-3, 2e-3), 512)


class SizeSums(NamedTuple):
    """Sums by group, each of shape (G,)."""

    n: jax.Array
    size: jax.Array


@spec
class JacobianSize:
    r"""$$\mathrm{tr}\, G = \frac1n \sum_i \|\nabla f_i\|^2$$ averaged over chains: tr H at a global minimum."""

    def init(self, dimension: int, groups: int, dtype: DTypeLike) -> SizeSums:
        """Zero sums."""
        zero = jnp.zeros((groups,), dtype)
        return SizeSums(zero, zero)

    def update(self, sums: SizeSums, at: Measurement) -> SizeSums:
        """Add one step."""
        rows = at.params.reshape(len(at.params), -1).T
        size = jax.lax.map(lambda w: trace_g(at.problem, w), rows, batch_size=_TOGETHER)
        size = at.masked(size.reshape(at.weight.shape))
        return SizeSums(sums.n + at.weight.sum(axis=0), sums.size + size.sum(axis=0))

    def collect(self, sums: SizeSums, centre: np.ndarray) -> SizeSums:
        """Plain sums need no centre."""
        return sums

    def merge(self, a: SizeSums, b: SizeSums) -> SizeSums:
        """Join two stretches of steps."""
        return jax.tree.map(np.add, a, b)

    def finalize(self, totals: SizeSums) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """`trace`."""
        n, size = map(np.asarray, totals)
        return {"trace": grouped_mean(size / np.maximum(n, 1), n)}


def trace_g(problem: FlaxNetwork, w: jax.Array) -> jax.Array:
    """Tr G at one w."""
    jacobian = jax.jacrev(lambda v: problem.network.predict(v, jnp.asarray(problem.features)).ravel())(w)
    return jnp.sum(jacobian**2) / problem.n_examples


def sharp_minimum(setting: Setting) -> tuple[FlaxNetwork, np.ndarray]:
    """A network that fits all examples exactly, with weights larger than need be."""
    rng = np.random.default_rng(setting.seed)
    x = rng.standard_normal((setting.examples, setting.inputs))
    y = np.tanh(x @ rng.standard_normal(setting.inputs))
    problem = FlaxNetwork(two_layers(setting.width, 1), x, y)
    with jax.enable_x64(True):
        residuals = jax.jit(lambda w: problem.network.predict(w, jnp.asarray(x)).ravel() - y)
        slopes = jax.jit(jax.jacrev(residuals))
        found = least_squares(lambda w: np.asarray(residuals(w)), STRETCH * problem.random_start(setting.seed, 1)[0],
                              jac=lambda w: np.asarray(slopes(w)), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    return problem, found.x


class Fall(NamedTuple):
    """Tr G over slow time at one strength of the noise."""

    times: np.ndarray
    trace: np.ndarray
    stderr: np.ndarray
    result: Result


def follow(
    problem: FlaxNetwork, w: np.ndarray, rate: float, beta: float, strength: float, setting: Setting, seed: int
) -> Fall:
    """Simulate label-noise SGD with all examples in every batch: its only noise is that of the labels."""
    n = setting.examples
    sigma = np.sqrt(strength * n * (1 - beta) / rate)
    steps = [round(tau * (1 - beta) / (rate * strength)) for tau in setting.times]
    noisy = FlaxNetwork(two_layers(setting.width, 1), problem.features, problem.targets, label_noise=sigma)
    result = simulate(noisy, SGD(rate, beta), batch_size=n, sampling="without_replacement", chains=setting.chains,
                      steps=steps[-1] + 1, burn_in=steps[-1], record=steps, seed=seed, initial=w,
                      statistics=[JacobianSize()], progress=False)
    record = result.record
    assert record is not None
    times = record["step"] * rate * strength / (1 - beta)
    return Fall(times, record["trace"], record["trace_stderr"], result)


class Path(NamedTuple):
    """Tr G along the flow of R, of its limit for small learning rates, and along the simulations."""

    times: np.ndarray
    flow: np.ndarray
    small_rate: np.ndarray
    falls: dict[float, Fall]

    def predicted(self, time: float) -> float:
        """The flow at a time of the simulation."""
        return float(np.interp(time, self.times, self.flow))

    @property
    def extrapolated(self) -> tuple[np.ndarray, np.ndarray]:
        """What is measured, freed from its part linear in lambda, and its standard error."""
        whole, half = self.falls.values()
        return 2 * half.trace - whole.trace, np.hypot(2 * half.stderr, whole.stderr)


def compute_path(problem: FlaxNetwork, w: np.ndarray, rate: float, beta: float, setting: Setting) -> Path:
    """Theory and simulation at one momentum."""
    # The measured times are among them.
    times = np.linspace(0.0, setting.times[-1], 8 * round(setting.times[-1] / setting.times[0]) + 1)
    # tau is slow time where label noise has the strength sigma^2 / n = 1.
    n = problem.n_examples
    flows = [label_noise_flow(problem, w, times, learning_rate=r, label_noise=n**0.5, batch_size=n, momentum=beta,
                              sampling="without_replacement", tolerance=TOLERANCE) for r in (rate, SMALL * rate)]
    traces = jax.jit(lambda points: jax.lax.map(lambda v: trace_g(problem, v), points))
    flow, small = (np.asarray(traces(jnp.asarray(points)), np.float64) for points in flows)
    falls = {strength: follow(problem, w, rate, beta, strength, setting, seed)
             for seed, strength in enumerate(setting.strengths)}
    return Path(times, flow, small, falls)


@experiment("label_noise_network", "Label noise takes a network to flatter minima, on the predicted path",
            "Label Noise SGD Provably Prefers Flat Global Minimizers, theorem 1 and lemmas 1 and 4")  # fmt: skip
def label_noise_network(scale: Scale) -> Findings:
    """Follow tr G of chains started at one sharp minimum, at two strengths of the noise, against the flow of R."""
    setting = SMOKE if scale.name == "smoke" else LAPTOP
    if scale.name == "full":
        setting = setting._replace(strengths=(2e-3, 1e-3), chains=4 * LAPTOP.chains)
    problem, w = sharp_minimum(setting)
    with jax.enable_x64(True):
        curvatures = np.linalg.eigvalsh(np.asarray(problem.hessian(jnp.asarray(w))))[-setting.examples :]
    rate = LARGEST / float(curvatures[-1])
    paths = {beta: compute_path(problem, w, rate, beta, setting) for beta in BETAS[scale.name]}
    each = share(len(paths) * len(setting.times))
    verdicts, rows = [], []
    for beta, path in paths.items():
        value, stderr = path.extrapolated
        for tau, v, e, small in zip(setting.times, value, stderr, np.interp(setting.times, path.times, path.small_rate),
                                    strict=True):
            name = f"tau = {tau:g}, momentum {beta:g}"
            row = judge("tr G, lambda to 0", float(v), float(e), path.predicted(tau), error_rate=each)
            verdicts.append(Verdict(name, row))
            seen = [f"{np.interp(tau, f.times, f.trace):.3f}" for f in path.falls.values()]
            rows.append([name, *seen, f"{v:.3f} ± {e:.3f}", f"{row.predicted:.3f}", f"{small:.3f}"])
    first = next(iter(paths.values()))

    def draw() -> Drawing:
        figure, ax = panels(1, len(paths), (5.6 * len(paths), 4.2))
        for panel, (beta, path) in zip(ax[0], paths.items(), strict=True):
            simulated = {f"simulated, λ = {k:g}": (f.times, f.trace, f.stderr) for k, f in path.falls.items()}
            matched(
                {"gradient flow of R": (path.times, path.flow), "of tr H / 4": (path.times, path.small_rate)},
                {**simulated, "extrapolated to λ = 0": (setting.times, *path.extrapolated)},
                ax=panel, xlabel="slow time τ", ylabel="tr G", title=f"{problem.dimension} parameters, "
                f"{setting.examples} examples, ηh = {LARGEST:g}, β = {beta:g}",
            )
        return figure

    z = (first.small_rate - first.flow)[np.searchsorted(first.times, setting.times[0])] / first.extrapolated[1][0]
    return Findings(
        verdicts=verdicts,
        data={
            "time": (("time",), first.times),
            "measured_time": (("measured_time",), np.array(setting.times)),
            "curvature": (("direction",), curvatures),
            **{f"flow_{b:g}": (("time",), p.flow) for b, p in paths.items()},
            **{f"small_rate_{b:g}": (("time",), p.small_rate) for b, p in paths.items()},
            **{
                f"{name}_{b:g}_{k:g}": (("measured_time",), getattr(f, name))
                for b, p in paths.items()
                for k, f in p.falls.items()
                for name in ("trace", "stderr")
            },
        },
        figures=[
            Figure(
                "figure",
                "tr G (the trace of the Hessian at a global minimum) of label-noise SGD from a sharp minimum, over "
                "slow time τ = ηλk/(1-β). Lines: gradient flow along the minima of the regulariser R, and of its limit "
                "for small learning rates. Bars are 2 standard errors.",
                draw,
            )
        ],
        summary=[
            f"From {first.flow[0]:.2f} tr G falls to {first.flow[-1]:.2f}, at a loss of the order of lambda. "
            "What the simulation differs by from the gradient flow of R is proportional to lambda; extrapolated to 0 "
            "it is held against the flow.",
            f"The flow of tr H / 4, the limit for small learning rates, is {z:.1f} standard errors away at the first "
            "of the times: at this rate the logarithm in R counts.",
        ],
        tables=[
            Table("tr G over slow time",
                  ["setting", *(f"λ = {k:g}" for k in setting.strengths), "λ to 0", "flow of R", "of tr H / 4"], rows),
        ],
        provenance=short_provenance(next(iter(first.falls.values())).result, problem=repr(problem)[:60]),
    )
