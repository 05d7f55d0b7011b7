"""`gradient_variance`: the variance of the gradient over runs, step by step and batch size by batch size."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from sgdsim import _checks
from sgdsim._types import cast
from sgdsim._version import __version__
from sgdsim.engine.advance import Shared, Unit, begin
from sgdsim.engine.blocks import Blocks, plan_blocks
from sgdsim.engine.configure import Run, configure
from sgdsim.engine.devices import make_mesh, place, resolve_devices
from sgdsim.engine.ensemble import precision
from sgdsim.engine.hosts import fetch
from sgdsim.engine.passes import Portion, block_keys, start_states
from sgdsim.engine.progress import ProgressBar
from sgdsim.engine.variance_steps import Law, Rows, layer_slices, measure_and_step
from sgdsim.kernels import kernel_table, make_kernel
from sgdsim.kernels.conditional_variance import conditional_moments, noise_factor
from sgdsim.kernels.linear_network import chain_by_chain
from sgdsim.kernels.nested import nested
from sgdsim.optimizers import SGD, resolve
from sgdsim.problems import DatasetRegression, LinearRegression, Problem, Quadratic, check_sampling
from sgdsim.results.gradient_variance_result import GradientVarianceResult, LayerVariance

# About a second of work on two cores between updates of the progress bar, but some steps: a chunk copies all states.
_CHUNK_NUMBERS = 2e8
_CHUNK_STEPS = (8, 256)
# Parameters of a block where gradients are products of matrices, and its least number of chains: few stay in the cache.
_MATRIX_NUMBERS = 2**19
_MATRIX_CHAINS = 32
# Enough for the covariance of a few dozen batch sizes under common random numbers.
_COMMON_GROUPS = 512
_TINY = np.finfo(np.float64).tiny


class _Merged(NamedTuple):
    """All rows of one batch size over all blocks, float64."""

    alive: np.ndarray  # (rows,)
    mean: np.ndarray  # (rows, quantities)
    stderr: np.ndarray  # (rows, quantities)
    groups: np.ndarray  # (rows, groups)
    effective: np.ndarray  # (rows, quantities)


def gradient_variance(
    problem: Problem,
    optimizer: Any,
    *,
    batch_sizes: Sequence[int],
    steps: int,
    runs: int,
    initial: Any = None,
    seed: int = 0,
    sampling: str | None = None,
    common_random_numbers: bool = False,
    record: int | Sequence[int] | None = None,
    dtype: Any = None,
    devices: Any = None,
    progress: bool | None = None,
) -> GradientVarianceResult:
    r"""Var(g_t), Var(grad L(w_t)) and E L(w_t) over independent runs, by step and batch size.

    $$\mathrm{Var}(g) = E\|g\|^2 - \|E g\|^2 = E\,\mathrm{Var}(g \mid w) + \mathrm{Var}(\nabla L(w)).$$

    Where Var(g | w) is known (least squares, quadratics, linear networks; any optimizer; not epochs), g_t is not
    sampled at all: run r contributes its exact conditional variance and the spread of its full gradient
    (Rao-Blackwell), which needs 2 to 18 times fewer runs for the same error. Else it contributes the spread of the
    gradient that it drew. Standard errors are those of a mean over runs.

    Args:
        problem: what is learned.
        optimizer: a sgdsim optimizer, or any optax transformation. Learning rates may be schedules of t = 0, 1, ...
        batch_sizes: b, distinct.
        steps: t = 0, ..., steps - 1 are looked at; t is the state after t updates, t = 0 the start.
        runs: independent runs of every batch size, at least 4.
        initial: one start (D,), or one for each run (runs, D), the variance then including that of the starts;
            None is the problem's default.
        seed: 0 to 2^32 - 1. Batch sizes use independent random numbers, each the same whatever the others are.
        sampling: "online" for a population; "with_replacement" (the default), "without_replacement" or
            "epochs" for a data set.
        common_random_numbers: use the same random numbers for every batch size, nested batches where the
            data are finite. Differences between batch sizes get sharper, their errors correlated: the result then has
            `gradient_covariance`.
        record: steps that are measured, each a row of the result: a list, or every so many; None is every step.
            Measuring costs about as much as stepping, for a network that draws its gradients far more.
        dtype: "float32" or "float64"; None is JAX's default. Merged in float64 either way.
        devices: None for every local device, a number, or a list of devices.
        progress: True or False; None shows a bar on a terminal or notebook after two seconds.

    Returns:
        A `GradientVarianceResult`: `.gradient`, `.full_gradient` and `.loss`, each (measured steps, batch sizes) and
        with `_stderr`, `.step`, and `.fit(step)`. A diverged run is counted, and left out from then on.

    Raises:
        ValueError: an argument is outside its range, before anything is compiled.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[2.0, 1.0], label_noise=0.5)
        >>> curve = ss.gradient_variance(problem, ss.SGD(0.1), batch_sizes=[1, 4, 16], steps=3, runs=64,
        ...                              initial=[1.0, -1.0])
        >>> curve.gradient.shape
        (3, 3)
        >>> print(curve.gradient[0].round(2))  # exact at the start: 14.75 / b
        [14.75  3.69  0.92]

    Source: Qian and Klabjan, "The Impact of the Mini-batch Size on the Variance of Gradients", lemma 1 and
        section 3; estimator: docs/gradient-variance.md.
    """
    begun = time.perf_counter()
    runs = _checks.integer("runs", runs, low=4, remedy="a variance needs several runs; try runs=1000")
    run = configure(problem, optimizer, chains=runs, steps=steps, burn_in=0, seed=seed, statistics=(),
                    initial=initial, record=record, dtype=dtype)
    measured = _measured_steps(run, record)
    sizes = _check_sizes(problem, batch_sizes, sampling)
    mode = check_sampling(problem, sizes[0], sampling)[1]
    kernels: list[Any] = [make_kernel(problem, b, mode, run.dtype) for b in sizes]
    if common_random_numbers:
        kernels = [nested(kernel) for kernel in kernels]
    known = [] if run.optimizer is None else [resolve(run.optimizer, problem, b) for b in sizes]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *known) if known else None
    moments = conditional_moments(problem, mode)
    with precision(run.dtype):
        chosen = resolve_devices(devices)
        mesh = make_mesh(chosen)
        blocks = _layout(run, problem, chosen[0].platform, common_random_numbers)
        shared = cast(Shared(kernel_table(kernels), stacked, problem, ()), run.dtype)
        moments = cast(moments, run.dtype)
        padded = -(-blocks.number // len(chosen)) * len(chosen)
        params, alive = place(start_states(run, blocks, Portion(0, blocks.number), padded), mesh)
        how: dict[str, Any] = {"transform": run.transform, "mesh": mesh}
        until = int(measured[-1]) + 1
        length = int(min(until, np.clip(_CHUNK_NUMBERS / (run.chains * problem.dimension), *_CHUNK_STEPS)))
        merged = []
        with ProgressBar(until * len(sizes), "gradient variance", progress) as bar:
            for j, b in enumerate(sizes):
                units = _units(j, bool(known), blocks, run.seed, None if common_random_numbers else b, padded, mesh)
                factor = noise_factor(b, problem.n_examples, mode)
                laws = Law(*place([np.full(padded, x, run.dtype) for x in (factor, 1 / b)], mesh))
                states = begin(shared, units, params, alive, **how)
                chunks: list[Rows] = []
                for start in range(0, until, length):
                    stop = min(start + length, until)
                    wanted = measured[np.searchsorted(measured, start) : np.searchsorted(measured, stop)]
                    states, rows = measure_and_step(
                        shared, moments, units, laws, states, np.int32(start), np.int32(stop),
                        np.concatenate([wanted, np.full(length + 1 - len(wanted), -1, np.int32)]),
                        groups=blocks.groups, **how,
                    )
                    chunks.append(jax.tree.map(lambda x, n=wanted.size: fetch(x)[: blocks.number, :n], rows))
                    bar.update(j * until + stop)
                merged.append(_merge(chunks))
    return _result(problem, optimizer, run, measured, sizes, mode, merged, {
        "estimator": "plain" if moments is None else "rao-blackwell",
        "common_random_numbers": common_random_numbers,
        "kernels": [type(kernel).__name__ for kernel in kernels],
        "blocks": blocks.number,
        "devices": [str(device) for device in chosen],
        "seconds": round(time.perf_counter() - begun, 3),
    })


def _check_sizes(problem: Problem, batch_sizes: Any, sampling: str | None) -> list[int]:
    given = _checks.sequence("batch_sizes", batch_sizes)
    if not given or len(set(given)) < len(given):
        raise _checks.error("batch_sizes", batch_sizes, "one or more distinct values", "try batch_sizes=[1, 4, 16]")
    return [check_sampling(problem, b, sampling)[0] for b in given]


def _measured_steps(run: Run, record: Any) -> np.ndarray:
    if record is not None and not run.record:
        raise _checks.error("record", record, "one or more steps", "None measures every step")
    return np.array(run.record if record is not None else range(run.steps), np.int32)


def _layout(run: Run, problem: Problem, platform: str, common: bool) -> Blocks:
    blocks = plan_blocks(run.chains, problem.dimension, platform)
    if platform == "cpu" and chain_by_chain(problem):
        size = max(_MATRIX_CHAINS, _MATRIX_NUMBERS // problem.dimension)
        blocks = blocks._replace(number=max(blocks.number, 2 * round(run.chains / size / 2)))
    if not common:
        return blocks._replace(groups=1, size=int(blocks.valid.max()))
    groups = max(1, min(_COMMON_GROUPS // blocks.number, int(blocks.valid.min())))
    return blocks._replace(groups=groups, size=-(-int(blocks.valid.max()) // groups) * groups)


def _units(j: int, known: bool, blocks: Blocks, seed: int, batch_size: int | None, padded: int,
           mesh: Any) -> Unit:
    """Units of one batch size; its number enters the key unless random numbers are common."""
    block = np.pad(np.arange(blocks.number, dtype=np.uint32), (0, padded - blocks.number))
    keys = block_keys(np.uint32(seed), block, None if batch_size is None else np.uint32(batch_size), mesh=mesh)
    which = np.full(padded, j, np.int32)
    kernel, optimizer = place((which, which if known else np.zeros_like(which)), mesh)
    return Unit(kernel, optimizer, keys)


def _merge(chunks: list[Rows]) -> _Merged:
    """Blocks weighted by their live runs; the error is that of a mean over all runs."""
    alive, mean, scale, spread, groups, fourth = (
        np.concatenate([np.asarray(getattr(c, name), np.float64) for c in chunks], axis=1) for name in Rows._fields
    )
    total = alive.sum(axis=0)[:, None]
    usable = (alive >= 2)[:, :, None]
    weight = np.where(usable, alive[:, :, None], 0) / np.maximum(np.where(usable, alive[:, :, None], 0).sum(axis=0), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        one = scale**2 * spread / np.maximum(alive, 1)[:, :, None]
        error = np.sqrt((weight**2 * np.where(usable, one, 0)).sum(axis=0))
        unit = np.where(usable, scale / np.maximum(scale.max(axis=0), _TINY), 0)
        second = (unit**2 * spread * np.maximum(alive - 1, 0)[:, :, None]).sum(axis=0)
        carrying = np.minimum(second**2 / np.maximum((unit**4 * fourth).sum(axis=0), _TINY), total)
        value = (weight * np.where(usable, mean, 0)).sum(axis=0)
    none = ~usable.any(axis=0)
    grouped = np.moveaxis(groups, 0, 1).reshape(len(total), -1)
    return _Merged(total[:, 0], np.where(none, np.nan, value), np.where(none, np.inf, error), grouped,
                   np.where(second > 0, carrying, total))


def _result(problem: Any, optimizer: Any, run: Run, measured: np.ndarray, sizes: list[int], mode: str,
            merged: list[_Merged], how: dict[str, Any]) -> GradientVarianceResult:
    mean, error = (np.stack([getattr(m, name) for m in merged], axis=-1) for name in ("mean", "stderr"))
    alive, effective = (np.stack([getattr(m, name) for m in merged], axis=-1) for name in ("alive", "effective"))
    layers = len(layer_slices(problem))
    parts = 1 + (layers if layers > 1 else 0)
    carrying = {"gradient": effective[:, 0], "full_gradient": effective[:, parts], "loss": effective[:, -1]}
    for i in range(1, parts):
        carrying |= {f"gradient W{i}": effective[:, i], f"full_gradient W{i}": effective[:, parts + i]}
    by_layer = tuple(
        LayerVariance(f"W{i}", mean[:, i], error[:, i], mean[:, parts + i], error[:, parts + i])
        for i in range(1, parts)
    )
    covariance = None
    if how["common_random_numbers"]:
        h = np.stack([m.groups for m in merged], axis=1)  # (rows, batch sizes, groups)
        d = h - h.mean(axis=-1, keepdims=True)
        covariance = d @ d.swapaxes(1, 2) / (d.shape[-1] * max(d.shape[-1] - 1, 1))
    typical = _typical(layers, measured, sizes)
    linear = isinstance(problem, LinearRegression | DatasetRegression | Quadratic) and isinstance(optimizer, SGD)
    subsets_and_labels = mode == "without_replacement" and getattr(problem, "label_noise", 0) > 0
    reasons = {
        "the batches of an epoch depend on each other": mode == "epochs",
        "the runs start at different weights, whose variance no batch size removes": run.initial.ndim == 2,
        "fresh label noise has variance 1/b and subsets have c_b": subsets_and_labels,
    }
    return GradientVarianceResult(
        step=measured.astype(np.int64),
        batch_sizes=np.array(sizes),
        gradient=mean[:, 0], gradient_stderr=error[:, 0],
        full_gradient=mean[:, parts], full_gradient_stderr=error[:, parts],
        loss=mean[:, -1], loss_stderr=error[:, -1],
        by_layer=by_layer,
        gradient_covariance=covariance,
        runs=run.chains,
        runs_left=alive.astype(int),
        effective_runs=carrying,
        diverged=(run.chains - alive[-1]).astype(int),
        status="diverged" if (alive[-1] < run.chains).any() else "ok",
        estimator=how["estimator"],
        typical_run=typical,
        basis="c_b" if mode == "without_replacement" else "1/b",
        n_examples=problem.n_examples,
        non_negative=linear,
        no_polynomial=next((reason for reason, holds in reasons.items() if holds), ""),
        provenance={
            "problem": repr(problem), "optimizer": repr(optimizer) if run.transform is None else "optax transformation",
            "sampling": mode, "seed": run.seed, "steps": run.steps, "dtype": run.dtype.name,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": {"sgdsim": __version__, "jax": jax.__version__}, **how,
        },
    )


def _typical(layers: int, measured: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Where the exact variance of a linear network is carried by runs too rare to be seen, (rows, batch sizes).

    An update multiplies the degree in the weights by 2 L - 1, and inputs are unbounded. Held against exact values of
    two-layer networks: t = 1 is safe from b = 2 on, t = 2 from b = 4 on (2 x 2 weights, b = 2: exact 5.74,
    simulated 3.38 +- .02), t = 3 from b = 8 on; nothing later is known.
    """
    if layers < 2:
        return np.zeros((len(measured), len(sizes)), bool)
    growth = np.minimum((2.0 * layers - 1) ** np.minimum(measured, 20), 1e6)[:, None]
    b = np.array(sizes)
    safe = (growth == 1) | ((growth <= 3) & (b >= 2)) | ((growth <= 9) & (b >= 4)) | ((growth <= 27) & (b >= 8))
    return ~safe
