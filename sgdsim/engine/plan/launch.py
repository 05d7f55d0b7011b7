"""Whether a GPU or a TPU takes many steps in one launch, and with which program."""

from __future__ import annotations

import importlib.util

import jax
import numpy as np

from sgdsim.engine.plan.request import Request
from sgdsim.engine.run.advance import Launch, Shared
from sgdsim.engine.run.folded_steps import folded_steps
from sgdsim.kernels import Kernel, pallas_law
from sgdsim.kernels.pallas_laws import fits_a_thread
from sgdsim.optimizers import SGD, Adam, AdamE, AdamW, Optimizer, RMSProp

ELEMENTWISE = (SGD, Adam, AdamE, AdamW, RMSProp)
# H100 and newer.
_MOSAIC_FROM = 9.0
FOLDED = Launch("loop of XLA operations, chains folded", folded_steps, fused=False)


def launch_of(platform: str, shared: Shared, request: Request) -> Launch | None:
    """The program where one applies: float32, Gaussian problems of few parameters, elementwise optimizers."""
    if platform not in ("gpu", "tpu") or request.dtype != np.float32 or len(shared.kernels.branches) > 1:
        return None
    if shared.optimizers is None or any(hasattr(statistic, "remember") for statistic in request.statistics):
        return None
    optimizer = jax.tree.map(lambda leaf: leaf[0], shared.optimizers)  # those of other points differ in values only
    kernel = shared.kernels.entry(0).kernels[0]
    if not is_fusible(kernel, optimizer, request.dimension):
        return FOLDED if platform == "tpu" and can_fold(kernel, optimizer) else None
    # Pallas costs what only GPUs and TPUs should pay.
    if platform == "tpu":
        from sgdsim.engine.run.tpu_steps import tpu_steps

        return Launch("Pallas, Mosaic for TPUs", tpu_steps)
    return _gpu_program()


def _gpu_program() -> Launch | None:
    """By Triton as long as JAX has it (deprecated since 0.11), then by Mosaic where the GPU can."""
    if importlib.util.find_spec("jax.experimental.pallas.triton") is not None:
        from sgdsim.engine.run.pallas_steps import pallas_steps

        return Launch("Pallas, Triton", pallas_steps)
    if compute_capability() < _MOSAIC_FROM:
        return None
    from sgdsim.engine.run.mosaic_steps import mosaic_steps

    return Launch("Pallas, Mosaic for GPUs", mosaic_steps)


def compute_capability() -> float:
    """Of the first GPU; 0 without one."""
    gpus = [device for device in jax.local_devices() if device.platform == "gpu"]
    return float(getattr(gpus[0], "compute_capability", 0)) if gpus else 0.0


def can_fold(kernel: Kernel, optimizer: Optimizer) -> bool:
    """Whether this kernel and this optimizer take chains on two axes as well as on one."""
    return pallas_law(kernel) is not None and type(optimizer) in ELEMENTWISE


def is_fusible(kernel: Kernel, optimizer: Optimizer, dimension: int) -> bool:
    """Whether steps of this kernel and this optimizer can be taken chain by chain, in registers."""
    elementwise = type(optimizer) in ELEMENTWISE and all(
        np.ndim(leaf) == 0 for leaf in jax.tree.leaves(optimizer)
    )
    if pallas_law(kernel) is None or not elementwise or any(map(callable, vars(optimizer).values())):
        return False
    state = jax.eval_shape(optimizer.as_optax().init, jax.ShapeDtypeStruct((dimension,), np.float32))
    wide = 1 + sum(leaf.ndim == 1 for leaf in jax.tree.leaves(state))
    return fits_a_thread(kernel, wide, dimension)
