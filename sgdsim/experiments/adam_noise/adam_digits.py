"""Handwritten digits: sharpness, gradient norm and validation loss over Adam's betas, at two batch sizes."""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy

from sgdsim.estimators import simple_noise_scale
from sgdsim.estimators.sharpness import rise_in_cube
from sgdsim.experiments.framework.findings import Drawing, Figure, Findings, Scale, Table
from sgdsim.experiments.framework.networks import digits, two_layers
from sgdsim.experiments.framework.registry import experiment
from sgdsim.optimizers import Adam
from sgdsim.plots import panels, styled
from sgdsim.plots.style import COLORS, MARKERS
from sgdsim.problems import FlaxNetwork

Carry: TypeAlias = tuple[jax.Array, optax.OptState]
Taus: TypeAlias = dict[tuple[int, str, str], tuple[float, float]]  # by batch size, sweep and metric

BATCHES = (8, 512)
SWEEPS = {"b2": [(0.9, b2) for b2 in (0.9, 0.95, 0.99, 0.999)], "b1": [(b1, 0.999) for b1 in (0.5, 0.8, 0.9, 0.98)]}
GREEK = {"b2": "β2 (β1 = 0.9)", "b1": "β1 (β2 = 0.999)"}
METRICS = {"validation": "validation loss", "sharpness": "ℓ∞ sharpness", "gradient": "|g|₁"}
RATE, RADIUS, TRAINED, HIDDEN = 3e-3, 2e-3, 512, 16
CHECKS = 50
SIZES = {"smoke": (3, 200), "laptop": (10, 2_000), "full": (32, 6_000)}  # seeds, steps


@experiment("adam_digits", "Adam's betas and sharpness on digits, small and large batches",
            "The Effect of Mini-Batch Noise on the Implicit Bias of Adam, figures 2 and 3 (a laptop version)")
def adam_digits(scale: Scale) -> Findings:
    """Sweep each beta at a small and a large batch size, with the same starts and batches for all betas."""
    seeds, steps = SIZES[scale.name]
    data = digits(TRAINED)
    problem = FlaxNetwork(two_layers(HIDDEN, 10), data.train, data.train_labels, "cross_entropy",
                          test_features=data.test, test_targets=data.test_labels)
    betas = sorted({pair for sweep in SWEEPS.values() for pair in sweep})
    measured: dict[int, dict[str, np.ndarray]] = {}
    reached: dict[int, float] = {}
    noise: dict[int, np.ndarray] = {}
    for b in BATCHES:
        measured[b], reached[b], weights = at_equal_loss(problem, train(problem, betas, b, seeds, steps))
        reference = weights[betas.index((0.9, 0.999)), :3]
        share = (TRAINED - b) / (b * (TRAINED - 1))  # batches of an epoch do not share examples
        noise[b] = np.array([simple_noise_scale(problem, w).value * share for w in reference])
    taus = {(b, s, m): kendall_taus(measured[b][m], betas, s) for b in BATCHES for s in SWEEPS for m in METRICS}
    rows = [
        [str(b), GREEK[sweep], label, *(f"{value:+.2f}" for value in taus[b, sweep, name])]
        for b in BATCHES
        for sweep in SWEEPS
        for name, label in METRICS.items()
    ]

    def draw(sweep: str) -> Drawing:
        figure, ax = panels(len(BATCHES), len(METRICS), (10.5, 5.8))
        places = [pair[sweep == "b2"] for pair in SWEEPS[sweep]]
        with styled():
            for row, b in enumerate(BATCHES):
                for column, (name, label) in enumerate(METRICS.items()):
                    values = measured[b][name][[betas.index(pair) for pair in SWEEPS[sweep]]]
                    values = values / values.mean(axis=0) * values.mean()
                    axis = ax[row, column]
                    axis.plot(values, color=COLORS[0], linewidth=0.7, alpha=0.35)
                    axis.errorbar(range(len(places)), values.mean(axis=1), yerr=2 * _stderr(values), color=COLORS[1],
                                  marker=MARKERS[0], markerfacecolor="white", capsize=2.5, linewidth=1.6)  # fmt: skip
                    tau, error = taus[b, sweep, name]
                    axis.set_xticks(range(len(places)), [f"{x:g}" for x in places])
                    axis.set(xlabel=GREEK[sweep], ylabel=label, title=f"b = {b}: τ = {tau:+.2f} ± {error:.2f}")
        return figure

    caption = (f"All runs of a batch size at the same training loss. Thin lines: one seed each (same start and batches "
               "for all betas), scaled to the common mean, which takes out what differs between seeds at every beta; "
               f"thick: mean and 2 standard errors of {seeds} seeds. τ: Kendall's tau of a seed's four points, mean "
               "and standard error over seeds.")
    return Findings(
        verdicts=[],
        data={
            "beta_pair": (("beta_pair",), np.array([f"{b1:g},{b2:g}" for b1, b2 in betas])),
            "batch_size": (("batch_size",), np.array(BATCHES)),
            "seed": (("seed",), np.arange(seeds)),
            **{name: (("batch_size", "beta_pair", "seed"), np.stack([measured[b][name] for b in BATCHES]))
               for name in METRICS},
            "train_loss": (("batch_size",), np.array([reached[b] for b in BATCHES])),
            "noise_ratio": (("batch_size", "measured_seed"), np.stack([noise[b] for b in BATCHES])),
        },
        figures=[Figure(f"over_{sweep}", caption, partial(draw, sweep)) for sweep in SWEEPS],
        summary=[_sentence(b, noise[b], taus, reached[b]) for b in BATCHES]
        + [
            f"Every run is measured where its training loss first falls to that value (between {CHECKS} checkpoints): "
            "after equal steps runs with different betas are not equally trained, and sharpness follows the loss.",
            "No verdicts: the theory predicts directions only. |τ| below 2 standard errors is no evidence of one.",
        ],
        tables=[Table("Kendall's τ with the beta that varies", ["b", "sweep", "quantity", "τ", "stderr"], rows)],
        provenance={"seeds": seeds, "steps": steps, "learning_rate": RATE, "radius": RADIUS,
                    "network": f"64-{HIDDEN}-10 tanh, {TRAINED} of 1797 digits, cross entropy, Adam"},
    )  # fmt: skip


def train(problem: FlaxNetwork, betas: list[tuple[float, float]], b: int, seeds: int, steps: int) -> np.ndarray:
    """Return parameters at the checkpoints (betas, seeds, checks, D): a seed has one start and one order of batches."""
    rng = np.random.default_rng(1)
    epochs = -(-steps * b // TRAINED)
    order = np.stack([np.concatenate([rng.permutation(TRAINED) for _ in range(epochs)]) for _ in range(seeds)])
    order = order[:, : steps * b].reshape(seeds, steps, b).astype(np.int32)
    starts = jnp.asarray(problem.random_start(seed=2, chains=seeds), jnp.float32)
    optimizers = jax.tree.map(lambda *leaves: jnp.asarray(leaves, jnp.float32),
                              *(Adam(RATE, b1, b2, eps=1e-8) for b1, b2 in betas))  # fmt: skip
    x, y = jnp.asarray(problem.features, jnp.float32), jnp.asarray(problem.targets)

    def run(optimizer: Adam, start: jax.Array, rows: jax.Array) -> jax.Array:
        transformation = optimizer.as_optax(problem)

        def step(carry: Carry, batch: jax.Array) -> tuple[Carry, None]:
            w, state = carry
            g = jax.grad(lambda v: problem.batch_loss(v, x[batch], y[batch]).mean())(w)
            update, state = transformation.update(g, state, w)
            return (w + update, state), None

        def stretch(carry: Carry, batches: jax.Array) -> tuple[Carry, jax.Array]:
            carry, _ = jax.lax.scan(step, carry, batches)
            return carry, carry[0]

        stretches = rows.reshape(CHECKS, -1, b)
        return jax.lax.scan(stretch, (start, transformation.init(start)), stretches)[1]

    every_seed = jax.vmap(run, (None, 0, 0))
    return np.asarray(jax.jit(jax.vmap(every_seed, (0, None, None)))(optimizers, starts, jnp.asarray(order)))


def at_equal_loss(problem: FlaxNetwork, path: np.ndarray) -> tuple[dict[str, np.ndarray], float, np.ndarray]:
    """Return each metric where a run's training loss first falls to one that all runs reach.

    Between the two checkpoints around it, logarithms of metrics are interpolated linearly in the logarithm of the loss.

    Args:
        problem: the network.
        path: parameters at the checkpoints, shape (betas, seeds, checks, D).

    Returns:
        The metrics, shape (betas, seeds); the loss; and the parameters just after, shape (betas, seeds, D).
    """
    loss = np.asarray(problem.loss(jnp.asarray(np.moveaxis(path, -1, 0))), np.float64)
    target = float(loss.min(axis=-1).max())
    after = np.maximum(np.argmax(loss <= target, axis=-1), 1)
    around = np.stack([after - 1, after], axis=-1)
    before, later = np.moveaxis(np.log(np.take_along_axis(loss, around, axis=-1)), -1, 0)
    part = np.clip((before - np.log(target)) / (before - later), 0, 1)
    w = np.take_along_axis(path, around[..., None], axis=2)
    found = {name: np.log(values) for name, values in measure(problem, w).items()}
    metrics = {name: np.exp((1 - part) * values[..., 0] + part * values[..., 1]) for name, values in found.items()}
    return metrics, target, w[:, :, 1]


def measure(problem: FlaxNetwork, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return each metric at parameters (..., D), shape (...)."""
    found = _metrics(problem, jnp.asarray(weights).reshape(-1, weights.shape[-1]))
    return {name: np.asarray(values).reshape(weights.shape[:-1]) for name, values in found.items()}


@jax.jit
def _metrics(problem: FlaxNetwork, rows: jax.Array) -> dict[str, jax.Array]:
    def one(w: jax.Array) -> dict[str, jax.Array]:
        return {
            "validation": problem.test_loss(w),
            "gradient": jnp.abs(problem.gradient(w)).sum(),
            "sharpness": rise_in_cube(problem, w, RADIUS, steps=20),
        }

    return jax.vmap(one)(rows)


def _stderr(values: np.ndarray) -> np.ndarray:
    return values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1])


def kendall_taus(values: np.ndarray, betas: list[tuple[float, float]], sweep: str) -> tuple[float, float]:
    """Kendall's tau of each seed, averaged, with its standard error."""
    swept = values[[betas.index(pair) for pair in SWEEPS[sweep]]]
    each = np.array([scipy.stats.kendalltau(np.arange(len(swept)), column).statistic for column in swept.T])
    return float(each.mean()), float(_stderr(each))


def _sentence(b: int, noise: np.ndarray, taus: Taus, reached: float) -> str:
    parts = [
        f"{GREEK[sweep][:2]}: " + ", ".join(f"{label} {taus[b, sweep, name][0]:+.2f} ± {taus[b, sweep, name][1]:.2f}"
                                            for name, label in METRICS.items())
        for sweep in SWEEPS
    ]
    return (f"b = {b}: at training loss {reached:.2g}, noise ratio at (0.9, 0.999) {noise.mean():.2g}; "
            f"Kendall's τ over {'; over '.join(parts)}.")
