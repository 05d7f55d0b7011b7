"""TPU pods without one: `make bench-tpu` compiles for real topologies with `libtpu` and writes `bench/tpu.md`.

Nothing runs. `python bench/tpu.py [case ...]` replaces the rows of those cases only; `--row CASE` prints one.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple


def set_environment() -> bool:
    """What `libtpu` wants to find before JAX starts; whether there is one."""
    found = importlib.util.find_spec("libtpu")
    if found is None or found.origin is None:
        return False
    os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", TPU_ACCELERATOR_TYPE="v5litepod-16",
                      TPU_WORKER_HOSTNAMES="localhost",
                      ALLOW_MULTIPLE_LIBTPU_LOAD="1",  # one process in another counts bundles
                      TPU_LIBRARY_PATH=str(Path(found.origin).with_name("libtpu.so")))  # fmt: skip
    return True


HAS_COMPILER = set_environment()

import jax  # noqa: E402  (the environment is read as JAX starts)
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import tpu_cost  # noqa: E402
from jax.experimental import pallas as pl  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.experimental.pallas import tpu as pltpu  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

import sgdsim as ss  # noqa: E402
from sgdsim._types import cast  # noqa: E402
from sgdsim.engine.plan.blocks import plan_blocks  # noqa: E402
from sgdsim.engine.plan.devices import check_dtype, precision  # noqa: E402
from sgdsim.engine.plan.grid import batch_sizes, share  # noqa: E402
from sgdsim.engine.plan.launch import FOLDED, can_fold, launch_of  # noqa: E402
from sgdsim.engine.plan.request import check_request  # noqa: E402
from sgdsim.engine.run.advance import DIVERGED, Unit, advance, begin  # noqa: E402
from sgdsim.engine.run.fused_step import PAIRS  # noqa: E402
from sgdsim.engine.run.tpu_steps import LANES, SUBLANES, tpu_steps, vectors  # noqa: E402
from sgdsim.kernels import make_kernel, pallas_laws  # noqa: E402
from sgdsim.kernels.draws import random  # noqa: E402

# Cycles a second, from the peak of the chip's matrix units as Google states it: 197 and 459 TFLOP/s in bfloat16.
CLOCK = {"v5e": 1.5e9, "v5p": 1.75e9}
TOPOLOGIES = {"v5e 4x4": "v5e:4x4", "v5p 2x2x4": "v5p:2x2x4", "v6e 4x4": "v6e:4x4", "v5e 16x16": "v5e:16x16"}
MARK = "<!-- compiled: bench/tpu.py writes below this line -->"
DUMP = "SGDSIM_TPU_DUMP"
MIB = 2**20


class Case(NamedTuple):
    """What is compiled."""

    problem: ss.Problem
    optimizer: object
    batch_size: int
    sampling: str | None = None
    chains: int = 2**17  # of a chip
    topology: str = "v5e 4x4"
    dtype: str = "float32"
    fused: bool = False  # many steps in a launch, where it applies


def problems() -> dict[str, tuple[ss.Problem, int, str | None, int]]:
    """One problem for each kernel: problem, batch size, sampling, chains of a chip."""
    from flax import linen as nn

    rng = np.random.default_rng(0)
    spectrum = np.linspace(1.0, 0.1, 10)
    rotation = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    x = rng.normal(size=(512, 10))
    data = ss.DatasetRegression(x, x @ spectrum + rng.normal(size=512))
    signs = np.sign(rng.normal(size=(40, 100)))
    teacher = rng.normal(size=(256, 64)) / 8, rng.normal(size=(128, 256)) / 16
    network = ss.FlaxNetwork(nn.Sequential([nn.Dense(8), nn.tanh, nn.Dense(1)]), x, x[:, 0] ** 2, "mse")
    return {
        "Gaussian, D=10": (ss.LinearRegression(spectrum, label_noise=0.5), 64, None, 2**17),
        "Gaussian, D=1": (ss.LinearRegression([1.0], label_noise=0.5), 64, None, 2**17),
        "Gaussian, D=2": (ss.LinearRegression([1.0, 0.5], label_noise=0.5), 64, None, 2**17),
        "Gaussian, D=20": (ss.LinearRegression(np.linspace(1.0, 0.1, 20), label_noise=0.5), 64, None, 2**17),
        "Gaussian, D=100": (ss.LinearRegression(np.linspace(1.0, 0.1, 100), label_noise=0.5), 64, None, 2**17),
        "Gaussian, dense D=10": (
            ss.LinearRegression(rotation * spectrum @ rotation.T, label_noise=0.5), 64, None, 2**17),
        "Gaussian, D=10, b=1": (ss.LinearRegression(spectrum, label_noise=0.5), 1, None, 2**17),
        "quadratic, D=10": (ss.Quadratic(spectrum, np.ones(10)), 1, None, 2**17),
        "data set, replaced": (data, 16, "with_replacement", 2**14),
        "data set, subsets": (data, 16, "without_replacement", 2**14),
        "data set, epochs": (data, 16, "epochs", 2**14),
        "linear 64-256-128": (ss.TwoLayerLinear(*teacher), 256, None, 256),
        "flax 10-8-1": (network, 16, None, 2**12),
        "diagonal network": (ss.DiagonalNetwork(signs, teacher=np.eye(100)[0]), 10, None, 2**14),
        "from a loss": (ss.FromLoss(logistic, x, np.sign(x[:, 0]), start=np.zeros(10)), 16, None, 2**14),
    }  # fmt: skip


def logistic(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """The loss of one example."""
    return jnp.log1p(jnp.exp(-y * (x @ w)))


OPTIMIZERS = {
    "SGD": ss.SGD(0.1),
    "momentum": ss.SGD(0.1, momentum=0.9),
    "Adam": ss.Adam(0.01),
    "optax": optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_schedule(lambda t: -0.1 / (1 + 0.01 * t))),
}


def cases() -> dict[str, Case]:
    """By name: every problem with every optimizer as a loop of XLA operations, other chips, and many steps a launch."""
    found: dict[str, Case] = {}
    known = problems()
    for name, (problem, batch_size, sampling, chains) in known.items():
        for said, optimizer in OPTIMIZERS.items():
            found[f"{name}, {said}"] = Case(problem, optimizer, batch_size, sampling, chains)
    for name in ("Gaussian, D=10, SGD", "data set, replaced, SGD"):
        for topology in list(TOPOLOGIES)[1:]:
            found[f"{name}, {topology}"] = found[name]._replace(topology=topology)
    found["Gaussian, D=10, SGD, float64"] = found["Gaussian, D=10, SGD"]._replace(dtype="float64")
    for name in ("Gaussian, D=1", "Gaussian, D=2", "Gaussian, D=10", "Gaussian, D=20", "Gaussian, dense D=10",
                 "Gaussian, D=10, b=1", "quadratic, D=10"):  # fmt: skip
        for said in ("SGD", "momentum", "Adam") if name == "Gaussian, D=10" else ("SGD",):
            found[f"{name}, {said}, many steps"] = found[f"{name}, {said}"]._replace(fused=True)
    for topology in list(TOPOLOGIES)[1:]:
        found[f"Gaussian, D=10, SGD, many steps, {topology}"] = found["Gaussian, D=10, SGD"]._replace(
            fused=True, topology=topology)  # fmt: skip
    found["Gaussian, D=10, SGD, many steps, 10^9 chains, v5e 16x16"] = found["Gaussian, D=10, SGD"]._replace(
        fused=True, topology="v5e 16x16", chains=10**9 // 256)  # fmt: skip
    return found


def topology_of(name: str) -> list[jax.Device]:
    """The chips of a pod that is not there."""
    bounds = {} if name.startswith("v5p") else {"chips_per_host_bounds": (2, 2, 1)}
    return topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[name], **bounds).devices


class Yet(NamedTuple):
    """Both programs of a run with the default statistics, yet to be lowered, and how many chains a block has."""

    begin: Callable[[], jax.stages.Lowered]
    advance: Callable[[], jax.stages.Lowered]
    chains: int


def lower(case: Case) -> Yet:
    """The programs of a run over all chips of a pod."""
    devices = topology_of(case.topology)
    chains = case.chains * len(devices)
    request = check_request(case.problem, case.optimizer, chains=chains, steps=10_000, burn_in=5000, dtype=case.dtype,
                            statistics=None)  # fmt: skip
    check_dtype("tpu", request.dtype)
    grid = batch_sizes(case.problem, case.optimizer, [case.batch_size], case.sampling)(request)
    kernels = [make_kernel(case.problem, case.batch_size, grid.sampling, request.dtype)]
    blocks = plan_blocks(chains, request.dimension, "tpu")
    units = -(-blocks.number // len(devices)) * len(devices)
    mesh = Mesh(np.array(devices), ("blocks",))
    spread, everywhere = NamedSharding(mesh, PartitionSpec("blocks")), NamedSharding(mesh, PartitionSpec())

    def shape(where: NamedSharding) -> Callable[[object], jax.ShapeDtypeStruct]:
        return lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)

    made = share(case.problem, kernels, grid, request)
    launch = launch_of("tpu", made, request)
    if not case.fused:
        launch = FOLDED if launch is not None and can_fold(kernels[0], case.optimizer) else None
    elif launch is None or not launch.fused:
        raise ValueError("no program takes many steps of it")
    shared = jax.tree.map(shape(everywhere), made)
    number = jax.ShapeDtypeStruct((units,), np.int32, sharding=spread)
    unit = Unit(number, number, jax.ShapeDtypeStruct((units,), jax.random.key(0).dtype, sharding=spread))
    params = jax.ShapeDtypeStruct((units, request.dimension, blocks.size), request.dtype, sharding=spread)
    alive = jax.ShapeDtypeStruct((units, blocks.size), np.bool_, sharding=spread)
    how = {"transform": request.transform, "mesh": mesh}
    counts = [jax.ShapeDtypeStruct((), t, sharding=everywhere) for t in (np.int32, np.int32, np.int32, np.bool_)]

    def first() -> jax.stages.Lowered:
        with precision(request.dtype):
            return begin.trace(shared, unit, params, alive, **how).lower()

    def rest() -> jax.stages.Lowered:
        with precision(request.dtype):
            states = jax.tree.map(shape(spread), begin.eval_shape(shared, unit, params, alive, **how))
            return advance.trace(shared, unit, states, *counts, groups=blocks.groups, launch=launch, **how).lower()

    return Yet(first, rest, blocks.size)


class Row(NamedTuple):
    """What the compiler said of one case."""

    seconds: float
    collectives: int
    mib: float
    temporaries: float
    chains: int
    step: int | None
    normals: int | None


def measure(case: Case) -> Row:
    """Compile `begin` and `advance`."""
    yet = lower(case)
    yet.begin().compile()
    lowered = yet.advance()
    begun = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - begun
    program, memory = tpu_cost.Program(compiled.as_text()), compiled.memory_analysis()
    inner = None if case.fused else program.step()
    step, normals = program.cycles(inner) if inner else (None, None)
    chip = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return Row(seconds, program.collectives(), chip / MIB, memory.temp_size_in_bytes / MIB, yet.chains, step, normals)


def normals_alone(number: int, registers: int) -> Callable[..., jax.Array]:
    """Nothing but `number` normals for each chain and step: the floor of any such program."""
    high, chains = SUBLANES * registers, 2**17

    def normals_alone(key: object, span: object, out: object) -> None:
        row = pl.program_id(0) * high + jax.lax.broadcasted_iota(np.int32, (high, LANES), 0)
        chain = row * LANES + jax.lax.broadcasted_iota(np.int32, (high, LANES), 1)
        counter = chain.astype(np.uint32) * np.uint32(PAIRS)

        def step(t: jax.Array, total: jax.Array) -> jax.Array:
            def words(i: int) -> tuple[jax.Array, jax.Array]:
                return random.threefry((key[0], key[1]), (t.astype(np.uint32), counter + np.uint32(i)))

            return total + sum(pallas_laws.normals(words, number))

        out[...] = jax.lax.fori_loop(span[0], span[1], step, jnp.zeros((high, LANES), np.float32))

    scalars = pl.BlockSpec(memory_space=pltpu.SMEM)
    return pl.pallas_call(normals_alone, grid=(chains // (high * LANES),), in_specs=[scalars, scalars],
                          out_specs=pl.BlockSpec((high, LANES), lambda i: (i, 0)), name="normals_alone",
                          out_shape=jax.ShapeDtypeStruct((chains // LANES, LANES), np.float32))  # fmt: skip


def count_bundles(name: str) -> tuple[float, float]:
    """Bundles of a step of 1,024 chains, and of its normals, in a process that dumps what it schedules."""
    with tempfile.TemporaryDirectory() as folder:
        flags = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
        said = subprocess.run([sys.executable, __file__, "--count", name], check=True, text=True, capture_output=True,
                              env={**os.environ, "LIBTPU_INIT_ARGS": flags, DUMP: folder})  # fmt: skip
    whole, normals = map(float, said.stdout.split()[-2:])
    return whole, normals


def print_bundles(name: str) -> None:
    """In the process of `count_bundles`."""
    folder, case = Path(os.environ[DUMP]), cases()[name]
    dimension, chip = case.problem.dimension, jax.sharding.SingleDeviceSharding(topology_of(case.topology)[0])

    def shape(x: object) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=chip)

    float32 = np.dtype(np.float32)
    kernel, optimizer = cast((make_kernel(case.problem, case.batch_size, "online", float32), case.optimizer), float32)
    params = jax.ShapeDtypeStruct((dimension, 2**17), float32)
    begun = params, jax.eval_shape(optimizer.as_optax().init, params), jax.ShapeDtypeStruct(params.shape[1:], bool)
    count = jax.ShapeDtypeStruct((), np.int32)
    asked = jax.tree.map(shape, (kernel, optimizer, jax.random.key(0), count, count, *begun))
    tpu_steps.lower(*asked, diverged=DIVERGED).compile()
    registers = vectors(dimension)
    number = dimension + (0 if isinstance(case.problem, ss.Quadratic) else 2 if case.batch_size > 1 else 1)
    words = [jax.ShapeDtypeStruct((2,), dtype, sharding=chip) for dtype in (np.uint32, np.int32)]
    jax.jit(normals_alone(number, registers)).lower(*words).compile()
    print(*(tpu_cost.bundles(folder, program) / registers for program in ("tpu_steps", "normals_alone")))


def cells(name: str, case: Case) -> list[str]:
    """One row of the table."""
    try:
        row = measure(case)
    except ValueError as refused:
        return [name, f"refused: {str(refused).splitlines()[0][:90]}", *[""] * 7]
    except jax.errors.JaxRuntimeError as failed:
        return [name, f"does not compile: {str(failed).splitlines()[0][:90]}", *[""] * 7]
    if case.fused:
        step, normals = count_bundles(name)
        each, unit = step / 1024, "bundles"
    else:
        step, normals, each, unit = row.step, row.normals, (row.step or 0) / row.chains, "cycles"
    clock = CLOCK.get(case.topology.split()[0])
    rate = f"{clock / each:.2g}" if clock and each else ""
    ratio = f"{step / normals:.2f}" if step and normals else ""
    return [name, f"{row.seconds:.1f} s", str(row.collectives), f"{row.mib:.0f}", f"{row.temporaries:.0f}",
            f"{step:,.0f} {unit}" if step else "", f"{normals:,.0f}" if normals else "", ratio, rate]  # fmt: skip


HEAD = ["case", "compiles in", "collectives", "MiB of a chip", "of these temporary", "a step", "its random words",
        "step / words", "chain-steps a second and chip"]  # fmt: skip


def write(rows: Iterator[list[str]], page: Path) -> None:
    """Rows into the page, one after the other; those of other cases stay."""
    above, _, below = page.read_text().partition(MARK)
    lines = [line.strip(" |") for line in below.splitlines() if line.startswith("| ") and "| case" not in line]
    table = {line.split(" | ")[0]: line for line in lines}
    versions = {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}
    where = f"{datetime.date.today()}, {', '.join(f'{k} {v}' for k, v in versions.items())}, `make bench-tpu`"
    for row in rows:
        table[row[0]] = " | ".join(row)
        print(table[row[0]], flush=True)
        ordered = [table[name] for name in cases() if name in table]
        shown = [" | ".join(HEAD), "|".join(["---"] * len(HEAD)), *ordered]
        page.write_text(f"{above}{MARK}\n\n{where}\n\n" + "\n".join(f"| {line} |" for line in shown) + "\n")


def main(names: list[str]) -> int:
    """Compile the cases called `names`, or all, and keep the table."""
    if not HAS_COMPILER:
        print("bench/tpu.py needs the compiler for TPUs: make bench-tpu, or pip install libtpu", file=sys.stderr)
        return 2
    if names[:1] == ["--row"]:
        print(" | ".join(cells(names[1], cases()[names[1]])))
        return 0
    if names[:1] == ["--count"]:
        print_bundles(names[1])
        return 0
    known = cases()
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"unknown case {unknown[0]!r}; choose from\n" + "\n".join(known), file=sys.stderr)
        return 2
    write((cells(name, known[name]) for name in names or known), Path(__file__).with_name("tpu.md"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
