"""Results as small HTML tables, for notebooks."""

from __future__ import annotations

from typing import Any

import numpy as np

from sgdsim import _html
from sgdsim._labels import LABELS, brief

_HEADER = ("quantity", "value", "stderr", "")


def result_html(result: Any) -> str:
    """Measured quantities with standard errors, then diagnostics."""
    rows = []
    for name in ("mean", "covariance", "variance", "noise_covariance", "train_loss", "test_loss", "kurtosis"):
        value = getattr(result, name, None)
        if value is not None:
            rows.append((name, brief(value), brief(getattr(result, f"{name}_stderr"), 2), LABELS[name].description))
    rows += [(name, brief(value), "", "") for name, value in result.extra.items() if _is_further(name, value)]
    if result.rhat is not None:
        rows.append(("largest R-hat", brief(np.max(result.rhat)), "", "above 1.01 the run had not settled"))
    if result.ess is not None:
        rows.append(("smallest ESS", brief(np.min(result.ess)), "", "effective sample size of the mean"))
    if result.tail is not None:
        rows.append(("tail", f"{np.size(result.tail)} largest deviations", "", "result.tail_index() fits them"))
    rows.append(("diverged", f"{result.diverged} of {result.chains} chains", "", f"status: {result.status}"))
    return _html.table(repr(result), _HEADER, rows, notes=(_origin(result.provenance),))


def sweep_html(sweep: Any) -> str:
    """One row a point: its test loss and how it went."""
    rows = []
    for point, result in sweep.points():
        loss = ("", "") if result.test_loss is None else (brief(result.test_loss), brief(result.test_loss_stderr, 2))
        status = result.status if not result.diverged else f"{result.status}: {result.diverged} of {result.chains}"
        rows.append((*(f"{value:g}" for value in point.values()), *loss, status))
    return _html.table(repr(sweep), (*sweep.axes, "test_loss", "stderr", "status"), rows)


def variance_html(result: Any) -> str:
    """The variance of the gradient at the first, the middle and the last measured step, by batch size."""
    last = len(result.step) - 1
    shown = sorted({0, last // 2, last})
    header = ("batch size", *(f"Var(g) at step {result.step[t]}" for t in shown), "runs left")
    rows = [
        (str(b), *(f"{result.gradient[t, i]:.5g} ± {result.gradient_stderr[t, i]:.2g}" for t in shown),
         str(result.runs_left[-1, i]))
        for i, b in enumerate(result.batch_sizes)
    ]  # fmt: skip
    return _html.table(repr(result), header, rows, notes=(result.warning, _origin(result.provenance)))


def _is_further(name: str, value: Any) -> bool:
    return not name.endswith("_stderr") and name != "variance" and value is not None


def _origin(provenance: dict[str, Any]) -> str:
    versions = provenance.get("versions", {})
    said = [f"{name} {provenance[name]}" for name in ("seed", "dtype", "sampling", "date") if name in provenance]
    return ", ".join([*said, *(f"{name} {version}" for name, version in versions.items())])
