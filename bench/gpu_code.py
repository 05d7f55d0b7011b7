"""The machine code of `pallas_steps` for an H200, made without one: registers, spills and instructions of a step.

`pip install triton`, then `python bench/gpu_code.py [case ...]`. XLA has a Triton of its own: its code may differ.
"""

from __future__ import annotations

import collections
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import triton
from jax._src.pallas.triton import lowering  # the IR of a program is not public
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh
from triton.backends.compiler import GPUTarget

import sgdsim as ss
from sgdsim._types import cast
from sgdsim.engine.plan.launch import is_fusible
from sgdsim.engine.run.pallas_steps import THREADS, pallas_steps
from sgdsim.kernels import make_kernel

CHAINS = 2**17
SPECTRUM = np.linspace(1.0, 0.1, 10)
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0]
REGRESSION = ss.LinearRegression(SPECTRUM, label_noise=0.5)
CASES = {
    "normals, D=10": (ss.Quadratic(np.ones(10), np.ones(10)), ss.SGD(0.1), 1),
    "D=1, b=64": (ss.LinearRegression([1.0], label_noise=0.5), ss.SGD(0.1), 64),
    "D=10, b=64": (REGRESSION, ss.SGD(0.1), 64),
    "D=10, b=64, momentum": (REGRESSION, ss.SGD(0.1, momentum=0.9), 64),
    "D=10, b=64, Adam": (REGRESSION, ss.Adam(0.01), 64),
    "D=10, b=64, dense": (ss.LinearRegression(ROTATION * SPECTRUM @ ROTATION.T, label_noise=0.5), ss.SGD(0.1), 64),
    "D=20, b=64": (ss.LinearRegression(np.linspace(1.0, 0.1, 20), label_noise=0.5), ss.SGD(0.1), 64),
    "D=10, b=4": (REGRESSION, ss.SGD(0.1), 4),
}
# 64 lanes a clock and multiprocessor on this chip, where floating-point arithmetic has 128.
INTEGER = {"LOP3", "SHF", "IMAD", "IADD3", "VIADD", "ISETP", "LEA", "SEL", "I2FP"}


def triton_ir(problem: Any, optimizer: Any, batch_size: int) -> str:
    """What Pallas hands to Triton."""
    found, lower = [], lowering.lower_jaxpr_to_triton_module

    def spy(*args: Any, **options: Any) -> Any:
        result = lower(*args, **options)
        found.append(result.module.operation.get_asm())
        return result

    dtype = np.dtype(np.float32)
    kernel, optimizer = cast((make_kernel(problem, batch_size, "online", dtype), optimizer), dtype)
    assert is_fusible(kernel, optimizer, problem.dimension)
    params, key = jnp.zeros((problem.dimension, CHAINS), dtype), jax.random.key(0)
    state, alive = optimizer.as_optax().init(params), jnp.ones(CHAINS, bool)
    lowering.lower_jaxpr_to_triton_module = spy
    try:
        with use_abstract_mesh(AbstractMesh((1,), ("x",), abstract_device=AbstractDevice("NVIDIA H200", 132, "gpu"))):
            pallas_steps.trace(kernel, optimizer, key, 0, 9, params, state, alive, diverged=1e18).lower(
                lowering_platforms=("cuda",)
            )
    finally:
        lowering.lower_jaxpr_to_triton_module = lower
    return found[0]


def machine_code(ir: str) -> tuple[str, str]:
    """What `cuobjdump` says of resources, and the instructions."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "program.ttir"), Path(folder, "program.cubin")
        source.write_text(ir)
        options = {"num_warps": THREADS // 32}
        binary.write_bytes(triton.compile(str(source), target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"])
        said = [subprocess.run([tool, what, binary], check=True, capture_output=True, text=True).stdout
                for what in ("-res-usage", "-sass")]  # fmt: skip
    return said[0], said[1]


def loop(sass: str) -> collections.Counter[str]:
    """Instructions by name between the farthest backward branch and its target: one step."""
    pattern = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+ )?([A-Z0-9]+)\S*(.*?);")
    code = [(int(m[1], 16), m[2], m[3]) for m in map(pattern.search, sass.splitlines()) if m]
    targets = [(at, re.search(r"0x([0-9a-f]+)", rest)) for at, name, rest in code if name == "BRA"]
    jumps = [(at, int(m[1], 16)) for at, m in targets if m]
    end, start = max((jump for jump in jumps if jump[1] < jump[0]), key=lambda jump: jump[0] - jump[1])
    return collections.Counter(name for at, name, _ in code if start <= at <= end)


def main(names: list[str]) -> None:
    """A table of all cases, or of `names`."""
    print("| case | registers | spilled bytes | instructions of a step | of integers |\n|---|---|---|---|---|")
    for name in names or CASES:
        resources, sass = machine_code(triton_ir(*CASES[name]))
        used = dict(re.findall(r"(REG|LOCAL):(\d+)", resources))
        step = loop(sass)
        row = (name, used["REG"], used["LOCAL"], step.total(), sum(step[i] for i in INTEGER))
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
