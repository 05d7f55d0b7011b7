"""The named measurements; every figure is a ratio of times taken in one run."""

from __future__ import annotations

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


_MILLION = """
import resource, sgdsim as ss
ss.use_all_cores()
r = ss.simulate(ss.LinearRegression([1.0] * 10, label_noise=0.5), ss.SGD(0.1, momentum=0.5), batch_size=64,
                chains=1_000_000, steps=40, burn_in=10)
assert r.status == "ok" and r.final.shape == (1_000_000, 10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def memory() -> list[Row]:
    """Peak memory of a million chains of ten parameters, momentum and statistics included."""
    out = subprocess.run([sys.executable, "-c", _MILLION], check=True, capture_output=True, text=True).stdout
    return [{"case": "1,000,000 chains x 10, peak", "ratio": float(out), "against": "1 GiB", "goal": "< 1"}]


def lyapunov() -> list[Row]:
    """Discrete Lyapunov equations against SciPy, and their residual."""
    rng = np.random.default_rng(0)

    def system(n: int) -> tuple[np.ndarray, np.ndarray]:
        a, q = rng.normal(size=(n, n)), rng.normal(size=(n, n))
        return 0.95 * a / np.abs(np.linalg.eigvals(a)).max(), q @ q.T

    a, q = system(400)
    many = [system(20) for _ in range(1000)]
    stack_a, stack_q = (np.stack(x) for x in zip(*many, strict=True))
    solve, scipy_solve = ss.solver.discrete_lyapunov, scipy.linalg.solve_discrete_lyapunov
    seconds = race(
        {
            "ours 400": lambda: np.asarray(solve(a, q)),
            "scipy 400": lambda: scipy_solve(a, q),
            "ours 1000": lambda: np.asarray(solve(stack_a, stack_q)),
            "scipy 1000": lambda: [scipy_solve(x, y) for x, y in many],
        },
        rounds=5,
    )
    x = np.asarray(solve(stack_a, stack_q))
    residual = np.abs(x - stack_a @ x @ stack_a.mT - stack_q).max(axis=(1, 2)) / np.abs(x).max(axis=(1, 2))
    return [
        {"case": "Lyapunov, n=400", "ratio": seconds["scipy 400"] / seconds["ours 400"], "against": "SciPy",
         "goal": ">= 3"},
        {"case": "Lyapunov, 1000 x n=20", "ratio": seconds["scipy 1000"] / seconds["ours 1000"],
         "against": "a SciPy loop", "goal": ">= 30"},
        {"case": "Lyapunov, 1000 x n=20, residual", "ratio": float(residual.max()), "against": "max |X|",
         "goal": "<= 1e-12"},
    ]


CASES = {case.__name__: case for case in (stepping, batch_size, adam, measuring, memory, lyapunov)}
