"""What each quantity is: names of its axes, units, one line of description, where its equation is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

EQUATIONS = "numbers in brackets: 'Strength of Minibatch Noise in SGD', for SGD; docs/errata.md has what is wrong in it"

# What a run measures unless told otherwise; a `Result` that did not has None in its place.
QUANTITIES = ("mean", "covariance", "noise_covariance", "train_loss", "test_loss", "kurtosis")
# What theory predicts of them; of a linear network's weights nothing but their product has a law.
PREDICTED = (*QUANTITIES[:5], "product_mean", "product_covariance")


class Label(NamedTuple):
    """One quantity, as it is described in an exported data set."""

    dimensions: tuple[str, ...]
    units: str
    description: str
    equation: str = ""


_W, _LOSS, _NOISE = ("parameter",), "loss", "loss^2 w^-2"
LABELS = {
    "mean": Label(_W, "w", "mean of the parameters"),
    "covariance": Label(("parameter", "parameter_"), "w^2", "stationary covariance Sigma of the parameters", "[3]"),
    "noise_covariance": Label(
        ("parameter", "parameter_"), _NOISE, "averaged covariance C of the minibatch-mean gradient", "[3], [99], [108]"
    ),
    "variance": Label(_W, "w^2", "stationary variance of each parameter", "[3]"),
    "train_loss": Label((), _LOSS, "expected loss being minimised, label noise and penalty included", "[127]"),
    "test_loss": Label((), _LOSS, "excess loss", "[128]"),
    "kurtosis": Label(_W, "1", "E d^4 / (E d^2)^2; 3 for a Gaussian"),
    "ess": Label(_W, "1", "effective sample size of the mean"),
    "rhat": Label(_W, "1", "nested split R-hat"),
    "tail": Label(("rank",), "w", "largest deviations |w - minimum| over chains and measured steps"),
    "tail_group": Label(("rank",), "1", "independent group of chains of each of `tail`"),
    "tail_seen": Label((), "1", "number of (chain, measured step) pairs behind `tail`"),
    "final": Label(("chain", "parameter"), "w", "parameters of every chain after the last step"),
    "snapshots": Label(("snapshot", "snapshot_chain", "parameter"), "w", "some chains at equally spaced steps"),
    "product_mean": Label(("entry",), "w^2", "mean of the product of a linear network's layers, row by row"),
    "product_covariance": Label(("entry", "entry_"), "w^4", "covariance of the entries of that product"),
    "max_learning_rate": Label((), "w^2 loss^-1", "mean-square limit of the learning rate"),
    "spectral_radius": Label((), "1", "spectral radius of the second-moment recursion"),
    "tail_index": Label((), "1", "kappa in P(|w| > t) ~ t^-kappa", "[93]"),
    "theory_error": Label((), "1", "relative error of the theory, as it estimates it"),
    "gradient": Label(("step", "batch_size"), _NOISE, "variance of the minibatch-mean gradient"),
    "full_gradient": Label(("step", "batch_size"), _NOISE, "variance of the full gradient at w_t"),
    "loss": Label(("step", "batch_size"), _LOSS, "expected loss"),
    "gradient_covariance": Label(
        ("step", "batch_size", "batch_size_"), "loss^4 w^-4", "covariance of the errors of `gradient`"
    ),
    "runs_left": Label(("step", "batch_size"), "1", "runs that had not diverged"),
    "typical_run": Label(
        ("step", "batch_size"), "1", "whether rare runs carry the exact variance, which this number then is not"
    ),
    "diverged": Label(("batch_size",), "1", "runs that had diverged by the last row"),
}


def dimensions(name: str, ndim: int) -> tuple[str, ...]:
    """The names of the axes of a quantity or its `_stderr`; made up from its name where it is not known."""
    known = LABELS.get(name.removesuffix("_stderr"))
    if known is not None and len(known.dimensions) == ndim:
        return known.dimensions
    return tuple(f"{name}_{axis}" for axis in range(ndim))


def attributes(name: str) -> dict[str, str]:
    """`description`, and where they are known `units` and `equation`, of a quantity or its `_stderr`."""
    base = name.removesuffix("_stderr")
    label = LABELS.get(base, Label((), "", base.replace("_", " ")))
    said = {"description": label.description, "units": label.units, "equation": label.equation}
    if base != name:
        said = {"description": f"standard error of: {label.description}", "units": label.units}
    return {key: text for key, text in said.items() if text}


def brief(value: object, digits: int = 5) -> str:
    """A number, a short vector, or the shape and range of an array, as text for a table."""
    array = np.asarray(value, np.float64)
    if array.size == 0:
        return "none"
    if array.ndim == 0:
        return f"{float(array):.{digits}g}"
    if array.ndim == 1 and array.size <= 4:
        return ", ".join(f"{x:.{digits}g}" for x in array)
    if array.ndim == 2 and array.size <= 4:
        return "; ".join(", ".join(f"{x:.{digits}g}" for x in row) for row in array)
    shape = " x ".join(str(length) for length in array.shape)
    if not np.isfinite(array).any():
        return f"{shape}, none finite"
    low, high = np.nanmin(array), np.nanmax(array)
    return f"{shape}, {low:.{digits}g} to {high:.{digits}g}"
