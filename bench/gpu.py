"""The goals on one GPU: `python bench/gpu.py [CASE ...]` prints a table and writes it into `bench/gpu.md`."""

from __future__ import annotations

import datetime
import functools
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from timing import race

import sgdsim as ss
from sgdsim.engine.plan import plan_run
from sgdsim.engine.run.advance import Launch
from sgdsim.engine.run.mosaic_steps import mosaic_steps
from sgdsim.engine.run.pallas_steps import THREADS
from sgdsim.kernels import pallas_laws
from sgdsim.kernels.draws import random

Row = tuple[str, str, str]
MILLION = 1_000_000
MARK = "<!-- measured: bench/gpu.py writes below this line -->"


def regression(dimension: int) -> ss.LinearRegression:
    """Anisotropic, with label noise."""
    return ss.LinearRegression(np.linspace(1.0, 0.1, dimension), label_noise=0.5)


def stepping(dimension: int, chains: int, steps: int, optimizer: object | None = None) -> Callable[[], object]:
    """A run that measures nothing."""
    how = {"batch_size": 64, "chains": chains, "steps": steps, "statistics": (), "progress": False}
    return lambda: ss.simulate(regression(dimension), optimizer or ss.SGD(0.1), **how)


def normals_alone(number: int, chains: int, steps: int, interpret: bool = False) -> Callable[[], object]:
    """Nothing but `number` normals for each chain and step, in registers: the floor of any such kernel."""

    def program(key_ref: object, out_ref: object) -> None:
        chain = (pl.program_id(0) * THREADS + jax.lax.iota(np.int32, THREADS)).astype(np.uint32) * np.uint32(64)
        key = (key_ref[0], key_ref[1])

        def step(t: object, total: jax.Array) -> jax.Array:
            now = jnp.full(THREADS, t, np.int32).astype(np.uint32)
            return total + sum(pallas_laws.normals(lambda i: random.threefry(key, (now, chain + np.uint32(i))), number))

        out_ref[:] = jax.lax.fori_loop(0, steps, step, jnp.zeros(THREADS, np.float32))

    call = jax.jit(pl.pallas_call(
        program, grid=(-(-chains // THREADS),), in_specs=[pl.BlockSpec((2,), lambda i: (0,))],
        out_specs=pl.BlockSpec((THREADS,), lambda i: (i,)),
        out_shape=jax.ShapeDtypeStruct((-(-chains // THREADS) * THREADS,), np.float32),
        compiler_params=triton.CompilerParams(num_warps=THREADS // 32), interpret=interpret,
    ))  # fmt: skip
    key = jax.random.key_data(jax.random.key(0))
    return lambda: call(key).block_until_ready()


def launched_by(launch: Launch | None, run: Callable[[], object]) -> Callable[[], object]:
    """The same run with this program; None for a plain loop of XLA operations."""

    def chosen() -> object:
        usual, plan_run.launch_of = plan_run.launch_of, lambda *_: launch
        try:
            return run()
        finally:
            plan_run.launch_of = usual

    return chosen


def step_by_step(run: Callable[[], object]) -> Callable[[], object]:
    """The same run as a plain loop of XLA operations."""
    return launched_by(None, run)


def against_the_floor(chains: int = MILLION, steps: int = 40_000) -> list[Row]:
    """D = 10: normals alone against whole steps."""
    mosaic = Launch("Pallas, Mosaic for GPUs", mosaic_steps)
    seconds = race({"normals": normals_alone(12, chains, steps), "sgdsim": stepping(10, chains, steps),
                    "momentum": stepping(10, chains, steps, ss.SGD(0.1, momentum=0.9)),
                    "Adam": stepping(10, chains, steps, ss.Adam(0.01)),
                    "Mosaic": launched_by(mosaic, stepping(10, chains, steps)),
                    "Mosaic, Adam": launched_by(mosaic, stepping(10, chains, steps, ss.Adam(0.01))),
                    "XLA": step_by_step(stepping(10, chains, steps // 10))}, rounds=3)  # fmt: skip
    rates = {name: chains * steps / s for name, s in seconds.items()}
    rates["XLA"] /= 10
    goals, floor = {"sgdsim": "0.6 of the normals"}, rates["normals"]
    return [(f"D=10, {chains:,} chains, {name}", f"{rate:.3g} chain-steps/s, {rate / floor:.2f} of the normals",
             goals.get(name, "")) for name, rate in rates.items()]  # fmt: skip


def one_parameter(chains: int = MILLION, steps: int = 200_000) -> list[Row]:
    """D = 1."""
    seconds = race({"sgdsim": stepping(1, chains, steps)}, rounds=3)["sgdsim"]
    return [(f"D=1, {chains:,} chains", f"{chains * steps / seconds:.3g} chain-steps/s", "2e10")]


def other_sizes(chains: int = MILLION, steps: int = 20_000) -> list[Row]:
    """D = 2 and 20, and a dense covariance."""
    normals, whole = normals_alone(22, chains, steps), stepping(20, chains, steps)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0]
    dense = ss.LinearRegression(turned * np.linspace(1.0, 0.1, 10) @ turned.T, label_noise=0.5)
    how = {"batch_size": 64, "chains": chains, "steps": steps, "statistics": (), "progress": False}
    seconds = race({"normals": normals, "D=2": stepping(2, chains, steps), "D=20": whole,
                    "D=10, dense": lambda: ss.simulate(dense, ss.SGD(0.1), **how)}, rounds=3)  # fmt: skip
    rates = {name: chains * steps / s for name, s in seconds.items()}
    floor = rates.pop("normals")
    return [(f"{name}, {chains:,} chains",
             f"{rate:.3g} chain-steps/s" + (f", {rate / floor:.2f} of the normals" if name == "D=20" else ""), "")
            for name, rate in rates.items()]  # fmt: skip


def loops(chains: int = 100_000, steps: int = 2000) -> list[Row]:
    """What the fused program does not take: XLA's loop."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 10))
    data = ss.DatasetRegression(x, x @ np.ones(10) + rng.normal(size=1000))
    network = ss.FlaxNetwork(nn.Sequential([nn.Dense(16), nn.tanh, nn.Dense(1)]), x, x[:, 0] ** 2, "mse")
    gaussian = ss.LinearRegression(np.linspace(1.0, 0.1, 100), label_noise=0.5)
    diagonal = ss.DiagonalNetwork(rng.choice([-1.0, 1.0], (40, 100)), teacher=np.eye(100)[0])
    cases = {"regression, D=100": (gaussian, None), "1,000 examples of 10, replaced": (data, "with_replacement"),
             "subsets": (data, "without_replacement"), "epochs": (data, "epochs"),
             "diagonal network, D=200": (diagonal, None), "flax network 10-16-1": (network, None)}  # fmt: skip
    rows = []
    for name, (problem, sampling) in cases.items():
        how = {"batch_size": 20, "chains": chains, "steps": steps, "statistics": (), "progress": False}
        begun = time.perf_counter()
        ss.simulate(problem, ss.SGD(0.01), sampling=sampling, **how)
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        ss.simulate(problem, ss.SGD(0.01), sampling=sampling, **how)
        second = time.perf_counter() - begun
        rows.append((f"{name}, {chains:,} chains, b=20",
                     f"{second / steps * 1e6:.3g} us a step, {chains * steps / second:.3g} chain-steps/s; "
                     f"first call {first - second:.1f} s more", ""))  # fmt: skip
    return rows


def few_chains(chains: int = 1000, steps: int = 100_000) -> list[Row]:
    """Small ensembles against the plain loop."""
    run = stepping(10, chains, steps)
    seconds = race({"fused": run, "plain": step_by_step(run)}, rounds=3)
    return [(f"D=10, {chains:,} chains, against the plain loop", f"{seconds['plain'] / seconds['fused']:.1f} x", "5 x")]


def network(chains: int = 1000, steps: int = 200) -> list[Row]:
    """Two layers, 64-256-128: steps against their matrix products alone, float32 without TF32."""
    rng = np.random.default_rng(0)
    p, hidden, outputs = 64, 256, 128
    teacher = rng.normal(size=(hidden, p)) / 8, rng.normal(size=(outputs, hidden)) / 16
    problem = ss.TwoLayerLinear(*teacher)
    start = problem.flatten(*(w / 3 for w in teacher))
    shapes = [((outputs, hidden), (hidden, p)), ((outputs, p), (p, p)), ((outputs, p), (p, p)),
              ((hidden, outputs), (outputs, p)), ((outputs, p), (p, hidden))]  # fmt: skip
    pairs = [tuple(jnp.ones((chains, *shape), np.float32) for shape in pair) for pair in shapes]

    @functools.partial(jax.jit, static_argnames="count")
    def products(pairs: list[tuple[jax.Array, jax.Array]], count: int) -> jax.Array:
        def once(i: int, total: jax.Array) -> jax.Array:
            found = [jnp.matmul(a + total, b, precision=jax.lax.Precision.HIGHEST) for a, b in pairs]
            return sum(x.ravel()[0] for x in found) * 1e-30

        return jax.lax.fori_loop(0, count, once, jnp.float32(0))

    how = {"batch_size": [256], "chains": chains, "steps": steps, "record": [steps - 1], "initial": start,
           "progress": False}  # fmt: skip
    seconds = race({"products": lambda: products(pairs, steps).block_until_ready(),
                    "sgdsim": lambda: ss.gradient_variance(problem, ss.SGD(0.01), **how)}, rounds=3)  # fmt: skip
    return [(f"64-256-128, {chains:,} chains, b=256", f"{seconds['sgdsim'] / steps * 1e3:.3g} ms a step, "
             f"{seconds['products'] / seconds['sgdsim']:.2f} of its matrix products", "0.5")]  # fmt: skip


def memory(chains: int = 10 * MILLION, steps: int = 1000) -> list[Row]:
    """Ten million chains with the default statistics; one run in a process, since the peak is kept."""
    result = ss.simulate(regression(10), ss.SGD(0.1), batch_size=64, chains=chains, steps=steps, burn_in=steps // 2)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**30
    case = f"D=10, {chains:,} chains, default statistics"
    return [(case, f"{peak:.2f} GiB at the peak, status {result.status}", "fits")]


def right(chains: int = MILLION) -> list[Row]:
    """What was measured on this device against theory."""
    rows = []
    for optimizer, batch_size in ((ss.SGD(0.3), 8), (ss.SGD(0.1, momentum=0.8), 64), (ss.SGD(0.2), 1)):
        result = ss.simulate(regression(5), optimizer, batch_size=batch_size, chains=chains, steps=2000, burn_in=1000)
        table = ss.compare(result, ss.solver.predict(regression(5), optimizer, batch_size=batch_size))
        verdicts = [row.verdict for row in table.rows]
        said = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
        launch = result.provenance["steps_per_launch"]
        rows.append((f"{optimizer!r}, b={batch_size}: {launch} steps a launch", said, "agree"))
    return rows


CASES = (right, memory, loops, network, against_the_floor, one_parameter, few_chains, other_sizes)


def main(names: list[str]) -> int:
    """Run all cases, or those named, and keep the table."""
    known = {case.__name__: case for case in CASES}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no case {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    if jax.default_backend() != "gpu":
        print(f"bench/gpu.py needs a GPU, and JAX found {jax.devices()}", file=sys.stderr)
        return 2
    failed = 0
    for name in names or known:
        try:
            rows = known[name]()
        except Exception as error:  # one case that fails must not cost the others: a GPU is seldom at hand
            traceback.print_exc()
            rows, failed = [(name, f"failed: {type(error).__name__}", "")], failed + 1
        for row in rows:
            print(" | ".join(row), flush=True)
        write(rows)
    return int(failed > 0)


def write(rows: list[Row]) -> None:
    """What was measured now, into the page, beside what was measured before of other cases."""
    card = f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {datetime.date.today()}"
    page = Path(__file__).with_name("gpu.md")
    above, _, below = page.read_text().partition(MARK)
    cells = [line.strip("| ").split(" | ") for line in below.splitlines() if line.startswith("| ")][1:]
    kept = {case: rest for case, *rest in cells}
    kept |= {case: [measured, goal or "-", card] for case, measured, goal in rows}
    lines = ["| case | measured | goal | card |", "|---|---|---|---|",
             *(f"| {' | '.join([case, *rest])} |" for case, rest in kept.items())]  # fmt: skip
    page.write_text(f"{above}{MARK}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
