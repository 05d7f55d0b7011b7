import numpy as np
import pytest

import sgdsim as ss
from sgdsim import plots

plt = pytest.importorskip("matplotlib.pyplot")
plt.switch_backend("Agg")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def fit(scale=1.0, **rest):
    b = np.array([1, 2, 4, 8, 16, 32])
    return ss.fit_polynomial(b, scale * (2 / b + 1 / b**2), 0.05 * scale / b, **{"degree": 2, **rest})


@pytest.mark.parametrize("log", ["xy", "x", ""])
def test_several_steps_with_their_exact_curves(log):
    b = np.arange(1, 33)
    ax = plots.variance_polynomial({"t = 1": fit(), "t = 2": fit(3.0)}, {"t = 1": (b, 2 / b + 1 / b**2)}, log=log,
                                   extent=(1, 40), title="x")
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["t = 1", "t = 2", "exact"]
    assert len(ax.collections) >= 2 and ax.get_xscale() == ("log" if "x" in log else "linear")


def test_one_fit_alone_whose_band_reaches_zero():
    b = np.array([1, 2, 4, 8, 16, 32])
    vague = ss.fit_polynomial(b, 2 / b, 5 / b, degree=3)
    ax = plots.variance_polynomial(vague)
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    assert 0 < low < vague.variance.min() and vague.variance.max() < high < 20
    figure, panels = plots.panels(1, 1, (4, 3))
    assert plots.variance_polynomial(fit(non_negative=True), ax=panels[0, 0]) is panels[0, 0]
    figure.canvas.draw()
