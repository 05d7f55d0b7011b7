"""Designed schedules beside the usual ones: rates, batch sizes, expected losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sgdsim.plots.style import COLORS, LINESTYLES, panels, set_log, styled
from sgdsim.solver.whole_run.design import Design

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def schedules(design: Design) -> Figure:
    """Draw learning rate, batch size where it varies, and expected test loss over the steps of a `ss.design`.

    Args:
        design: what `ss.design` returned.

    Returns:
        A matplotlib figure of two or three panels.
    """
    varies = not isinstance(design.batch_size, int)
    figure, ax = panels(1, 2 + varies, (9.0 + 3.5 * varies, 3.8))
    shown = {"learning rate": "learning_rate", **({"batch size": "batch_size"} if varies else {}),
             "expected test loss": "test_loss"}  # fmt: skip
    with styled():
        for panel, (label, field) in zip(ax[0], shown.items(), strict=True):
            for i, (name, each) in reversed(list(enumerate(design.schedules.items()))):
                values = np.asarray(getattr(each.run, field), float)
                last = None if field == "test_loss" else -1  # after the last step there is none
                panel.plot(each.run.step[:last], values[:last], color=COLORS[i], linestyle=LINESTYLES[i],
                           linewidth=2.2 if i == 0 else 1.4, label=name)
            panel.set(xlabel="step", ylabel=label)
            set_log(panel, "" if field == "batch_size" else "y")
        handles, names = ax[0, -1].get_legend_handles_labels()
        ax[0, -1].legend(handles[::-1], names[::-1])
    return figure
