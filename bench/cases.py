"""The named measurements; every figure is a ratio of times taken in one run."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable

import jax
import numpy as np
import optax
import rivals
import scipy.linalg
from timing import race

import sgdsim as ss
from sgdsim.experiments.slow_dynamics.diagonal_network import final_decay

Row = dict[str, object]
BLOCK = 4096


def _spectrum(dimension: int) -> np.ndarray:
    return np.linspace(1.0, 0.1, dimension)


def _steps(dimension: int, batch: int, chains: int, steps: int, **options) -> Callable[[], object]:
    problem = ss.LinearRegression(_spectrum(dimension), label_noise=rivals.SIGMA)
    options.setdefault("statistics", ())
    optimizer = ss.SGD(rivals.RATE)
    return lambda: ss.simulate(problem, optimizer, batch_size=batch, chains=chains, steps=steps, **options)


def stepping() -> list[Row]:
    """Time per chain and step against the loops written by hand, and against drawing normals alone."""
    rows = []
    for dimension, batch, goal in ((10, 64, 150), (100, 32, 25), (2, 4, 4)):
        chains, steps = 8 * BLOCK if dimension <= 10 else 8192, 2000 if dimension <= 10 else 400
        block = BLOCK if dimension <= 10 else 1024
        few = 20 if batch * dimension > 100 else 200
        contestants = {"sgdsim": _steps(dimension, batch, chains, steps)}
        contestants["normals"] = rivals.normals(dimension, block, steps)
        work = {"sgdsim": chains * steps, "normals": block * steps * jax.device_count()}
        # The rivals get whichever number of chains suits them best.
        for size in (64, 512, 4096):
            devices = jax.device_count()
            contestants[f"jax {size}"] = rivals.handwritten(_spectrum(dimension), batch, size, few)
            contestants[f"optax {size}"] = rivals.optax_per_chain(_spectrum(dimension), batch, size, few)
            contestants[f"numpy {size}"] = rivals.numpy_loop(_spectrum(dimension), batch, size, max(2, few // 10))
            work |= {f"jax {size}": size * few * devices, f"optax {size}": size * few * devices,
                     f"numpy {size}": size * max(2, few // 10)}
        seconds = race(contestants, rounds=2)
        each = {name: seconds[name] / work[name] for name in contestants}
        ours = each["sgdsim"]
        best = {who: min(v for k, v in each.items() if k.startswith(who)) for who in ("jax", "optax", "numpy")}
        where = f"D={dimension}, b={batch}"
        rows.append({"case": f"step, {where}", "ratio": best["jax"] / ours, "against": "hand-written JAX",
                     "goal": f">= {goal}", "ns": ours * 1e9})
        rows.append({"case": f"step, {where}", "ratio": best["optax"] / ours, "against": "vmapped optax", "goal": ""})
        rows.append({"case": f"step, {where}", "ratio": best["numpy"] / ours, "against": "NumPy", "goal": ""})
        rows.append({"case": f"step, {where}", "ratio": ours / each["normals"], "against": "drawing D + 2 normals",
                     "goal": "<= 1.5"})
    return rows


def batch_size() -> list[Row]:
    """A batch costs no more than one example."""
    seconds = race({str(b): _steps(10, b, 8 * BLOCK, 1000) for b in (4, 4096)}, rounds=7)
    return [{"case": "b=4096, D=10", "ratio": seconds["4096"] / seconds["4"], "against": "b=4", "goal": "<= 1.15"}]


def adam() -> list[Row]:
    """Adam on the one-example law: flat in b, and against vmapped optax that draws its batch."""
    problem, optimizer = ss.LinearRegression(_spectrum(10), label_noise=rivals.SIGMA), ss.Adam(0.01)
    chains, steps, few = 8 * BLOCK, 300, 10

    def ours(batch: int) -> Callable[[], object]:
        return lambda: ss.simulate(problem, optimizer, batch_size=batch, chains=chains, steps=steps, statistics=())

    contestants = {str(b): ours(b) for b in (4, 64, 4096)}
    work = dict.fromkeys(contestants, chains * steps)
    for size in (64, 512, 4096):
        contestants[f"optax {size}"] = rivals.optax_per_chain(_spectrum(10), 64, size, few, optax.adam(0.01))
        work[f"optax {size}"] = size * few * jax.device_count()
    seconds = race(contestants, rounds=5)
    each = {name: seconds[name] / work[name] for name in contestants}
    best = min(value for name, value in each.items() if name.startswith("optax"))
    return [
        {"case": "Adam, b=4096, D=10", "ratio": each["4096"] / each["4"], "against": "b=4", "goal": "<= 1.2"},
        {"case": "Adam, step, D=10, b=64", "ratio": best / each["64"], "against": "vmapped optax", "goal": ">= 50",
         "ns": each["64"] * 1e9},
    ]


def measuring() -> list[Row]:
    """The default statistics against none."""
    rows = []
    for dimension, chains, steps in ((10, 8 * BLOCK, 2000), (100, 2048, 3000)):
        seconds = race(
            {"on": _steps(dimension, 64, chains, steps, statistics=None), "off": _steps(dimension, 64, chains, steps)},
            rounds=3,
        )
        rows.append({"case": f"default statistics, D={dimension}", "ratio": seconds["on"] / seconds["off"],
                     "against": "statistics=()", "goal": "<= 1.3"})
    return rows


def control() -> list[Row]:
    """What a companion of known covariance saves: chains for the same error, and that over its time."""
    rows = []
    for rate in (0.02, 0.1, 0.3):
        problem, steps = ss.LinearRegression(_spectrum(10), label_noise=rivals.SIGMA), round(60 / rate)
        how = {"batch_size": 64, "chains": BLOCK, "steps": steps, "burn_in": steps // 2}

        def run(control_variate: bool, problem=problem, rate=rate, how=how) -> ss.results.Result:
            return ss.simulate(problem, ss.SGD(rate), control_variate=control_variate, **how)

        seconds = race({"with": lambda run=run: run(True), "without": lambda run=run: run(False)}, rounds=3)
        gain = run(True).control_gain
        case = f"control variate, D=10, rate {rate}"
        rows += [
            {"case": f"{case}, chains", "ratio": gain, "against": "none, same error", "goal": ""},
            {"case": f"{case}, time", "ratio": gain * seconds["without"] / seconds["with"],
             "against": "none, same error", "goal": ""},
        ]
    return rows


# The peak of this process: `ru_maxrss` begins with that of the process that started it.
_PEAK = """
import re, numpy as np, sgdsim as ss
ss.use_all_cores()
r = ss.simulate({problem}, {optimizer}, batch_size={batch_size}, chains={chains}, steps={steps}, burn_in={steps} // 4)
assert r.status == "ok" and len(r.final) == {chains}
print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 2**20)
"""


def _peak(problem: str, chains: int, steps: int = 40, optimizer: str = "ss.SGD(0.1)", batch_size: int = 64) -> float:
    """GiB at the peak of a run with the default statistics, in a process of its own."""
    program = _PEAK.format(problem=problem, optimizer=optimizer, batch_size=batch_size, chains=chains, steps=steps)
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


_KERNELS = {
    "Gaussian regression": ("ss.LinearRegression([1.0] * 10, label_noise=0.5)", 10),
    "quadratic": ("ss.Quadratic([1.0] * 10, [1.0] * 10)", 10),
    "data set": ("ss.DatasetRegression(np.random.default_rng(0).normal(size=(442, 10)), np.ones(442))", 10),
    "diagonal network": ("ss.DiagonalNetwork.random(50, 20, 5)", 100),
    "linear network": ("ss.TwoLayerLinear(np.eye(6) / 9, np.eye(6) / 9)", 72),
}


def memory() -> list[Row]:
    """Peak of a million chains of ten parameters, momentum included; then what a chain adds, and what steps add."""
    million = _peak(_KERNELS["Gaussian regression"][0], 1_000_000, optimizer="ss.SGD(0.1, momentum=0.5)")
    rows: list[Row] = [{"case": "1,000,000 chains x 10, peak", "ratio": million, "against": "1 GiB", "goal": "< 1"}]
    for name, (problem, dimension) in _KERNELS.items():
        few, many = 2_000_000 // dimension, 6_000_000 // dimension
        optimizer = "ss.SGD(0.001)"
        more = _peak(problem, many, 20, optimizer, 4) - _peak(problem, few, 20, optimizer, 4)
        parameters = (many - few) * dimension * 4 / 2**30
        rows.append({"case": f"{name}, {dimension} parameters", "ratio": more / parameters,
                     "against": "the parameters alone", "goal": ""})
    short, long = (_peak("ss.LinearRegression([1.0, 0.5])", 256, steps) for steps in (1000, 1_000_000))
    rows.append({"case": "1,000,000 steps", "ratio": long / short, "against": "1,000 steps", "goal": "<= 1.05"})
    return rows


def diagonal() -> list[Row]:
    """A wide problem with few chains: a diagonal network, d = 1000, n = 90, b = 1, three chains, SGD and Adam."""
    problem, steps, few = ss.DiagonalNetwork.random(1000, 90, 10), 40_000, 2000

    def ours(method: type, rate: float) -> Callable[[], object]:
        optimizer = method(final_decay(rate, steps))
        return lambda: ss.simulate(problem, optimizer, batch_size=1, chains=3, steps=steps, statistics=())

    def by_hand() -> None:
        rng, x, y = np.random.default_rng(0), problem.features.astype(np.float32), problem.targets.astype(np.float32)
        w = np.full((3, 2, 1000), 0.1, np.float32)
        for _ in range(few):
            drawn = rng.integers(len(x), size=3)
            rows, labels = x[drawn], y[drawn] + rng.choice([-1.0, 1.0], 3)
            residual = np.einsum("cd,cd->c", rows, w[:, 0] ** 2 - w[:, 1] ** 2) - labels
            g = (residual[:, None] * rows).astype(np.float32)
            w[:, 0] -= np.float32(0.01) * 2 * w[:, 0] * g
            w[:, 1] += np.float32(0.01) * 2 * w[:, 1] * g

    seconds = race({"SGD": ours(ss.SGD, 0.01), "Adam": ours(ss.Adam, 0.01), "NumPy": by_hand}, rounds=2)
    both = seconds["SGD"] + seconds["Adam"]
    return [
        {"case": "diagonal network, 3 x 40,000 x 2", "ratio": both / 60, "against": "60 s", "goal": "<= 1",
         "seconds": both},
        {"case": "diagonal network, SGD step", "ratio": seconds["NumPy"] / few / (seconds["SGD"] / steps),
         "against": "NumPy", "goal": ">= 1"},
    ]


def lyapunov() -> list[Row]:
    """Discrete Lyapunov equations against SciPy, and their residual; small ones at several spectral radii."""
    rng = np.random.default_rng(0)
    solve, scipy_solve = ss.solver.linear_algebra.discrete_lyapunov, scipy.linalg.solve_discrete_lyapunov

    def system(n: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
        a, q = rng.normal(size=(n, n)), rng.normal(size=(n, n))
        return radius * a / np.abs(np.linalg.eigvals(a)).max(), q @ q.T

    a, q = system(400, 0.95)
    seconds = race({"ours": lambda: np.asarray(solve(a, q)), "scipy": lambda: scipy_solve(a, q)})
    large = seconds["scipy"] / seconds["ours"]
    rows: list[Row] = [{"case": "Lyapunov, n=400", "ratio": large, "against": "SciPy", "goal": ">= 3"}]
    for radius in (0.5, 0.8, 0.9, 0.95):
        many = [system(20, radius) for _ in range(1000)]
        a, q = (np.stack(x) for x in zip(*many, strict=True))
        seconds = race({"ours": functools.partial(_solved, solve, a, q),
                        "scipy": functools.partial(_one_by_one, scipy_solve, many)})
        x = _solved(solve, a, q)
        residual = np.abs(x - a @ x @ a.mT - q).max(axis=(1, 2)) / np.abs(x).max(axis=(1, 2))
        case = f"Lyapunov, 1000 x n=20, radius {radius}"
        rows += [
            {"case": case, "ratio": seconds["scipy"] / seconds["ours"], "against": "a SciPy loop", "goal": ">= 30"},
            {"case": f"{case}, residual", "ratio": float(residual.max()), "against": "max |X|", "goal": "<= 1e-12"},
        ]
    return rows


def _solved(solve: Callable[..., object], a: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.asarray(solve(a, q))


def _one_by_one(solve: Callable[..., object], systems: list[tuple[np.ndarray, np.ndarray]]) -> list[object]:
    return [solve(a, q) for a, q in systems]


CASES = {case.__name__: case for case in (stepping, batch_size, adam, measuring, control, memory, diagonal, lyapunov)}
