"""`make bench-peers`: the same task in every library, growth curves, tails; writes bench/peers/results.json."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import sgdsim as ss

ss.use_all_cores()

import ensembles  # noqa: E402  (devices are set before anything starts JAX)
import numpy as np  # noqa: E402
from ensembles import Task  # noqa: E402
from tails import tails  # noqa: E402

NEEDS = {"blackjax_sgld": "blackjax", "diffrax_sde": "diffrax", "numba_loops": "numba", "torch_batched": "torch",
         "torch_func": "torch"}
CONTESTANTS: dict[str, Callable] = {
    function.__name__: function
    for function in (ensembles.sgdsim, ensembles.handwritten_jax, ensembles.vmapped_optax, ensembles.blackjax_sgld,
                     ensembles.diffrax_sde, ensembles.torch_batched, ensembles.torch_func, ensembles.numpy_loop,
                     ensembles.numba_loops)
}  # fmt: skip
# Chains x steps that a contestant can do in a few seconds on two cores; the error is scaled to 1%.
SIZES = {"sgdsim": Task(10, 64, 32_768, 400, 100), "diffrax_sde": Task(10, 64, 32_768, 400, 100)}
OTHERS = Task(10, 64, 512, 200, 100)
WRONG = 5.0  # standard errors


def timed(run: Callable) -> tuple[float, np.ndarray]:
    """Compile, then time a second call."""
    run()
    begun = time.perf_counter()
    values = run()
    return time.perf_counter() - begun, values


def ensemble() -> list[dict[str, object]]:
    """Seconds until Tr Sigma is known to 1%, every contestant at the size that suits it."""
    rows: list[dict[str, object]] = []
    for name, make in CONTESTANTS.items():
        if importlib.util.find_spec(NEEDS.get(name, "jax")) is None:
            print(f"{name:16s} not installed", flush=True)
            continue
        task = SIZES.get(name, OTHERS)
        seconds, values = timed(make(task))
        mean = float(np.mean(values))
        error = float(np.std(values) if len(values) == 2 else np.std(values, ddof=1) / np.sqrt(len(values)))
        problem = ss.LinearRegression(np.ones(task.dimension), label_noise=ensembles.SIGMA)
        theory = ss.predict(problem, ss.SGD(ensembles.RATE), batch_size=task.batch)
        exact = 2 * float(theory.test_loss)
        z = (mean - exact) / error
        if abs(z) > WRONG and name != "diffrax_sde":  # a limit, known to be off
            raise AssertionError(f"{name}: Tr Sigma {mean} +- {error}, exact {exact}")
        row = {"who": name, "ns per chain and step": seconds / task.chains / task.steps * 1e9,
               "seconds to 1%": seconds * (error / mean / 0.01) ** 2, "off by": mean / exact - 1, "z": z}
        rows.append(row)
        print(f"{name:16s} {row['ns per chain and step']:12.1f} ns   {row['seconds to 1%']:12.4g} s to 1%   "
              f"off by {row['off by']:+.2%} (z = {z:+.1f})", flush=True)
    return rows


GROWTH = {
    "chains": ([32_768, 65_536, 131_072, 262_144], lambda value: Task(10, 64, value, 400, 100)),
    "dimension": ([8, 16, 32, 64], lambda value: Task(value, 64, 65_536, 200, 100)),
    "batch": ([4, 16, 64, 256], lambda value: Task(10, value, 65_536, 400, 100)),
    "steps": ([200, 400, 800, 1_600], lambda value: Task(10, 64, 65_536, value, 100)),
}


def growth() -> list[dict[str, object]]:
    """Time against chains, D, b and steps; the exponent is that of a fitted power."""
    rows: list[dict[str, object]] = []
    for who, make, shrink in (("sgdsim", ensembles.sgdsim, 1), ("handwritten_jax", ensembles.handwritten_jax, 512)):
        for axis, (values, task) in GROWTH.items():
            seconds = []
            for value in values:
                one = task(value)
                one = one._replace(chains=max(2, one.chains // shrink))
                run = make(one)
                seconds.append(min(timed(run)[0] for _ in range(2)))
            exponent = float(np.polyfit(np.log(values), np.log(seconds), 1)[0])
            rows.append({"who": who, "axis": axis, "values": values, "seconds": seconds, "exponent": exponent})
            print(f"{who:16s} time ~ {axis}^{exponent:.2f}   {', '.join(f'{s:.3g}' for s in seconds)} s", flush=True)
    return rows


def tail() -> list[dict[str, object]]:
    """The tail index, where powerlaw is installed."""
    if importlib.util.find_spec("powerlaw") is None:
        print("powerlaw not installed")
        return []
    rows = tails()
    for row in rows:
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items()), flush=True)
    return rows


PARTS = {part.__name__: part for part in (ensemble, growth, tail)}


def main(names: list[str]) -> int:
    """Run the parts called `names`, or all."""
    import jax

    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        print(f"unknown part {unknown[0]!r}; choose from {', '.join(PARTS)}", file=sys.stderr)
        return 2
    found = {name: PARTS[name]() for name in names or PARTS}
    where = {"device": jax.devices()[0].device_kind, "devices": jax.device_count(), "load": os.getloadavg()[0],
             "versions": {name: _version(name) for name in ("sgdsim", "jax", *sorted(set(NEEDS.values())), "powerlaw")}}
    out = Path(__file__).parent / "results.json"
    out.write_text(json.dumps({"machine": where, **found}, indent=1) + "\n")
    print(f"\n{where}\nwrote {out}")
    return 0


def _version(name: str) -> str | None:
    return importlib.metadata.version(name) if importlib.util.find_spec(name) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
