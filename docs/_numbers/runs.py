"""Numbers on pages that experiments simulate: sources of `docs/_numbers`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from printed import Said, numbers, row

from sgdsim.experiments import run


@numbers("theory/adam-bias.md", seconds=300)
def adam_digits() -> Iterator[Said]:
    found = {(cells[1][1], int(cells[0]), cells[2]): (float(cells[3]), float(cells[4]))
             for cells in run("adam_digits", "laptop").tables[0].rows}  # fmt: skip
    swept = {"2": r"\(\beta_2 = .9, \dots, .999\) at \(\beta_1 = .9\)",
             "1": r"\(\beta_1 = .5, \dots, .98\) at \(\beta_2 = .999\)"}
    for beta, label in swept.items():
        for size, cells in ((8, f"| {label} | 8 | 43 |"), (512, f"{label} | 512 | 0 |")):
            taus = [found[beta, size, name] for name in ("ℓ∞ sharpness", "|g|₁", "validation loss")]
            yield Said(f"{cells} {{}} ± {{}} | {{}} ± {{}} | {{}} ± {{}} |", tuple(np.ravel(taus)),
                       tuple(np.ravel([(error, error / 3) for _, error in taus])))


@numbers("theory/adam-covariance.md", seconds=60)
def adam_covariance() -> Iterator[Said]:
    for name, *cells in run("adam_covariance").tables[0].rows:
        b1, b2 = (part.partition("=")[2].removeprefix("0") or "0" for part in name.split(", "))
        flat, corrected, error, stated = map(float, cells)
        yield row(f"{b1} | {b2}", flat, corrected, error, stated, errors=(error, error, error / 4, 0.0))


@numbers("theory/general-minima.md", seconds=40)
def general_minima() -> Iterator[Said]:
    kinds = ("one size, random sign", "normal", r"growing with $\lvert x\rvert^2$", "Student t, 2.5 degrees of freedom")
    for label, (_, loss, error, ratio) in zip(kinds, run("general_minima").tables[0].rows, strict=False):
        yield Said(f"| {label} | {{}} | {{}}% | {{}} |", (float(loss), 100 * float(error), float(ratio)))


@numbers("theory/label-noise.md", seconds=300)
def label_noise_network() -> Iterator[Said]:
    for name, *cells in run("label_noise_network", "laptop").tables[0].rows:
        tau, momentum = re.findall(r"[\d.]+", name)
        whole, half, best, error, flow, small = (float(x) for x in re.findall(r"[\d.]+", " ".join(cells)))
        yield Said(f"| {tau}, {momentum} | {{}} | {{}} | {{}} ± {{}} | {{}} | {{}} |",
                   (whole, half, best, error, flow, small), (error, error, error, error / 4, 0.0, 0.0))


@numbers("theory/label-noise.md", seconds=300)
def cycling() -> Iterator[Said]:
    quarter, whole = run("cycling"), run("cycling", "laptop")
    (end, error), (turn, doubt) = ((found.verdicts[0].row.simulated, found.verdicts[0].row.stderr)
                                   for found in (quarter, whole))  # fmt: skip
    yield Said(r"with a quadratic fit: {} ± {} at the time where the slow equation has turned by \(\pi/2\), and with "
               r"`--scale laptop` {} ± {} where it has turned by \(2\pi\)", (end, error, turn, doubt),
               (error, error / 4, doubt, doubt / 4))  # fmt: skip
    fast, slow = (100 * (quarter.data["phase"][1][k] / (np.pi / 2) - 1) for k in (0, -1))
    yield Said("(a quarter turn: {}% at 0.14, {}% at 0.05)", (fast, slow), (0.5, 0.5))


@numbers("errata.md", seconds=300)
def matrix_factorization() -> Iterator[Said]:
    """Single runs of this length are chaotic: another machine may move a mean by as much as its error."""
    for depth, table in zip((2, 3), run("matrix_factorization", "laptop").tables, strict=True):
        for name, *cells in table.rows:
            pairs = [[float(x) for x in cell.split(" ± ")] for cell in cells]
            errors = [(error, error / 2) for _, error in pairs]
            yield Said(f"| {depth}, {name.replace('0k steps', '0,000 steps')} | " + "{} ± {} | " * 3 + "{} ± {} |",
                       tuple(np.ravel(pairs)), tuple(np.ravel(errors)))


@numbers("errata.md", seconds=400)
def diagonal_network() -> Iterator[Said]:
    table = run("diagonal_network", "laptop").tables[0]
    columns = [table.header.index(n) for n in ("60", "72", "90")]
    for cells in table.rows:
        label = re.sub(r", β2=0(\.9+)", r", \(\\beta_2\) = \1", cells[0]).replace("0k steps", "0,000 steps")
        label = {"least l1 norm (LP)": r"least \(\ell_1\) norm (linear programme)"}.get(label, label)
        if label.startswith("SGD 0.005"):
            continue
        shown = [cells[column] for column in columns]
        distances = [float(cell.split()[0]) for cell in shown if cell]
        text = " | ".join("{}" + cell[cell.index(" ") :] if cell else "" for cell in shown)
        yield Said(f"| {label} | {text} |", tuple(distances), tuple(0.01 * d for d in distances))


@numbers("networks.md", seconds=60)
def loss_over_width() -> Iterator[Said]:
    growth = []
    for name in ("fig1_left", "fig1_middle"):
        data = run(name).data
        growth += [values[-1] / values[0] for values in (data["fixed_value"][1], data["scaled_value"][1])]
    yield Said("{} times and {} times under SGD, {} times and {} times under Adam", tuple(growth),
               tuple(0.1 * g for g in growth))


@numbers("gradient-variance.md", seconds=15)
def rare_runs() -> Iterator[Said]:
    last = run("variance_rare").tables[0].rows
    exact, seen = next((float(cells[2]), float(cells[3].split()[0])) for cells in last if cells[:2] == ["3", "2"])
    yield Said(r"exact \({}\cdot10^{16}\) against a simulated {}", (exact / 1e16, seen), (0.0, 0.01))
