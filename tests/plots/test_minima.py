"""Figures of slow dynamics show what they are given."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from sgdsim.experiments.framework.measure import extrapolate
from sgdsim.plots import on_minima, panels, slow_paths


def test_clouds_start_and_limits_are_drawn():
    figure, ax = panels(1, 1, (3, 3))
    curve = np.stack([np.cos(np.linspace(0, 6, 50)), np.sin(np.linspace(0, 6, 50))])
    on_minima(curve, [1.0, 0.0], {"SGD": (np.zeros((2, 7)), [0.0, 1.0])}, ax=ax[0, 0], xlim=(-2.0, 2.0), title="t")
    figure.draw_without_rendering()
    labels = [text.get_text() for text in ax[0, 0].get_legend().get_texts()]
    assert labels == ["minima", "SGD", "start"]
    assert len(ax[0, 0].collections[0].get_offsets()) == 7 and ax[0, 0].get_xlim() == (-2.0, 2.0)


def test_paths_of_one_label_share_a_colour():
    figure, ax = panels(1, 1, (3, 3))
    x, y = np.array([0.1, 1.0]), np.array([1.0, 0.5])
    slow_paths({"a": (x, y), "b": (x, 2 * y)}, {"b": (x, y, 0.1 * y)}, ax=ax[0, 0], limits={"a": 0.2}, level=0.0)
    figure.draw_without_rendering()
    labels = [text.get_text() for text in ax[0, 0].get_legend().get_texts()]
    assert sorted(labels) == ["a", "b"]
    lines = ax[0, 0].get_lines()
    assert lines[0].get_color() != lines[2].get_color()
    bars = ax[0, 0].containers[0]
    assert bars[0].get_color() == lines[2].get_color()
    first = bars[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose(np.abs(np.diff(first)), 0.4)  # two standard errors either way


def test_extrapolation_is_exact_for_a_quadratic():
    eta = 0.3 * np.array([1.0, 0.5, 0.25])
    value, error = extrapolate(2.0 - 3.0 * eta + 5.0 * eta**2, np.full(3, 0.1))
    np.testing.assert_allclose(value, 2.0, rtol=1e-12)
    np.testing.assert_allclose(error, 0.1 * np.sqrt(1 + 36 + 64) / 3)
