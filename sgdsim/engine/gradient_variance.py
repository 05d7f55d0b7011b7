"""`gradient_variance`: the variance of the gradient over chains, step by step and batch size by batch size."""

from __future__ import annotations

import time
from collections.abc import Sequence

import jax
import numpy as np
import optax
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from sgdsim._specs import own_settings
from sgdsim.engine.plan.plan_variance import VariancePlan, plan_variance
from sgdsim.engine.run.provenance import provenance
from sgdsim.engine.run.variance_loop import Merged, run_variance
from sgdsim.engine.run.variance_steps import layer_slices
from sgdsim.kernels import row_of
from sgdsim.optimizers import SGD, Optimizer
from sgdsim.problems import Problem
from sgdsim.problems.parts.linear_layers import LinearLayers
from sgdsim.problems.sampling import PASSES
from sgdsim.results.gradient_variance_result import GradientVarianceResult, LayerVariance

_STEEP = 0.5  # learning rate times curvature from which on few batches are typical of all


@own_settings
def gradient_variance(
    problem: Problem,
    optimizer: Optimizer | optax.GradientTransformation,
    *,
    batch_size: Sequence[int] | int,
    steps: int,
    chains: int,
    initial: ArrayLike | None = None,
    seed: int = 0,
    sampling: str | None = None,
    common_random_numbers: bool = False,
    record: int | Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    devices: int | Sequence[jax.Device] | None = None,
    progress: bool | None = None,
) -> GradientVarianceResult:
    r"""Var(g_t), Var(grad L(w_t)) and E L(w_t) over independent chains, by step and batch size.

    $$\mathrm{Var}(g) = E\|g\|^2 - \|E g\|^2 = E\,\mathrm{Var}(g \mid w) + \mathrm{Var}(\nabla L(w)).$$

    Where Var(g | w) is known (least squares, quadratics, linear networks; any optimizer; not epochs), g_t is not
    sampled at all: chain r contributes its exact conditional variance and the spread of its full gradient
    (Rao-Blackwell), which needs 2 to 18 times fewer chains for the same error. Else it contributes the spread of the
    gradient that it drew. Standard errors are those of a mean over chains.

    Args:
        problem: what is learned.
        optimizer: a sgdsim optimizer, or any optax transformation. Learning rates may be schedules of t = 0, 1, ...
        batch_size: one or several b, distinct.
        steps: t = 0, ..., steps - 1 are looked at; t is the state after t updates, t = 0 the start.
        chains: independent runs of every batch size, at least 4.
        initial: one start (D,), or one for each chain (chains, D), the variance then including that of the starts;
            None is the problem's default.
        seed: 0 to 2^32 - 1. Batch sizes use independent random numbers, each the same whatever the others are.
        sampling: as for `simulate`.
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
        with `_stderr`, `.step`, and `.fit(step)`. A diverged chain is counted, and left out from then on.

    Raises:
        ValueError: an argument is outside its range, before anything is compiled.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression(covariance=[2.0, 1.0], label_noise=0.5)
        >>> curve = ss.gradient_variance(problem, ss.SGD(0.1), batch_size=[1, 4, 16], steps=3, chains=64,
        ...                              initial=[1.0, -1.0])
        >>> curve.gradient.shape
        (3, 3)
        >>> print(curve.gradient[0].round(2))  # exact at the start: 14.75 / b
        [14.75  3.69  0.92]

    Source: Qian and Klabjan, "The Impact of the Mini-batch Size on the Variance of Gradients", lemma 1 and
        section 3; estimator: docs/gradient-variance.md.
    """
    plan = plan_variance(
        problem, optimizer, batch_size=batch_size, steps=steps, chains=chains, initial=initial, seed=seed,
        sampling=sampling, common_random_numbers=common_random_numbers, record=record, dtype=dtype, devices=devices,
        progress=progress,
    )
    return _result(plan, run_variance(plan))


def _result(plan: VariancePlan, merged: list[Merged]) -> GradientVarianceResult:
    problem, request, mode = plan.problem, plan.request, plan.points[0].sampling
    sizes, measured = list(plan.sizes), np.array(request.record, np.int64)
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
    if plan.common_random_numbers:
        h = np.stack([m.groups for m in merged], axis=1)  # (rows, batch sizes, groups)
        d = h - h.mean(axis=-1, keepdims=True)
        covariance = d @ d.swapaxes(1, 2) / (d.shape[-1] * max(d.shape[-1] - 1, 1))
    typical = _typical(layers, measured, sizes, _rate_by_curvature(plan))
    estimator = "plain" if plan.moments is None else "rao-blackwell"
    row = row_of(problem)
    linear = row is not None and row.noise_at_minimum is not None and isinstance(request.optimizer, SGD)
    subsets_and_labels = mode == "without_replacement" and getattr(problem, "label_noise", 0) > 0
    reasons = {
        "the batches of a pass depend on each other": mode in PASSES,
        "batches have random sizes": mode == "bernoulli",
        "the runs start at different weights, whose variance no batch size removes": request.initial.ndim == 2,
        "fresh label noise has variance 1/b and subsets have c_b": subsets_and_labels,
    }
    return GradientVarianceResult(
        step=measured,
        batch_sizes=np.array(sizes),
        gradient=mean[:, 0], gradient_stderr=error[:, 0],
        full_gradient=mean[:, parts], full_gradient_stderr=error[:, parts],
        loss=mean[:, -1], loss_stderr=error[:, -1],
        by_layer=by_layer,
        gradient_covariance=covariance,
        chains=request.chains,
        runs_left=alive.astype(int),
        effective_runs=carrying,
        diverged=(request.chains - alive[-1]).astype(int),
        status="diverged" if (alive[-1] < request.chains).any() else "ok",
        estimator=estimator,
        typical_run=typical,
        basis="c_b" if mode == "without_replacement" else "1/b",
        n_examples=problem.n_examples,
        non_negative=linear,
        no_polynomial=next((reason for reason, holds in reasons.items() if holds), ""),
        provenance=provenance(plan, plan.points[0], time.perf_counter() - plan.begun) | {
            "batch_size": sizes,
            "kernel": [type(kernel).__name__ for kernel in plan.kernels],
            "estimator": estimator,
            "common_random_numbers": plan.common_random_numbers,
        },
    )


def _rate_by_curvature(plan: VariancePlan) -> float:
    """The largest learning rate of SGD before the last step, times the larger curvature of start and teacher.

    That of a linear network with layers of spectral norms s_l is bounded by the sum over l of the product of the other
    s_k^2; a teacher of norm s counts as balanced. 0 for optimizers whose steps do not grow with the gradient.
    """
    problem, optimizer = plan.problem, plan.request.optimizer
    if not isinstance(optimizer, SGD) or not isinstance(problem, LinearLayers):
        return 0.0
    given, last = optimizer.learning_rate, int(plan.request.record[-1])
    rate = max((float(given(t)) for t in range(last)), default=0.0) if callable(given) else float(given)
    rate /= 1 - (0.0 if optimizer.momentum is None or callable(optimizer.momentum) else float(optimizer.momentum))
    start = np.asarray(plan.request.initial, np.float64)
    squares = np.array([np.linalg.norm(w, 2) ** 2 for w in problem.unflatten(start if start.ndim == 1 else start[0])])
    others = [np.prod(np.delete(squares, l)) for l in range(len(squares))]
    target = float(np.linalg.norm(problem.target, 2))
    return rate * max(float(np.sum(others)), len(squares) * target ** (2 - 2 / len(squares)))


def _typical(layers: int, measured: np.ndarray, sizes: list[int], steepness: float = 0.0) -> np.ndarray:
    """Where the exact variance of a linear network is carried by runs too rare to be seen, (rows, batch sizes).

    An update multiplies the degree in the weights by 2 L - 1, and inputs are unbounded. Held against exact values of
    two-layer networks: t = 1 is safe from b = 2 on, t = 2 from b = 4 on (2 x 2 weights, b = 2: exact 5.74,
    simulated 3.38 +- .02), t = 3 from b = 8 on; nothing later is known. That is for small rates. Where the learning
    rate times the curvature is beyond 1/2, t = 2 is safe from b = 64 on (one unit in every layer, teacher 2, start
    (2, 1.5), rate .5: 349 exactly at b = 8, 3.3 simulated) and t = 3 is not known.
    """
    if layers < 2:
        return np.zeros((len(measured), len(sizes)), bool)
    growth = np.minimum((2.0 * layers - 1) ** np.minimum(measured, 20), 1e6)[:, None]
    b = np.array(sizes)
    safe = (growth == 1) | ((growth <= 3) & (b >= 2)) | ((growth <= 9) & (b >= 4)) | ((growth <= 27) & (b >= 8))
    if steepness > _STEEP:
        safe &= (growth <= 3) | ((growth <= 9) & (b >= 64))
    return ~safe
