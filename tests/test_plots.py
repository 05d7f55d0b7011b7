from types import SimpleNamespace

import numpy as np
import pytest

from sgdsim import plots
from sgdsim.plots.ellipses import ellipse

plt = pytest.importorskip("matplotlib.pyplot")
plt.switch_backend("Agg")


def make_prediction(dimension=2):
    sigma = np.eye(dimension) + 0.3 * (np.ones((dimension, dimension)) - np.eye(dimension))
    return SimpleNamespace(mean=np.ones(dimension), covariance=sigma, test_loss=0.5, approximation="exact")


def make_result(dimension=2, final=None):
    exact = make_prediction(dimension)
    return SimpleNamespace(
        mean=exact.mean,
        mean_stderr=0.01 * exact.mean,
        covariance=exact.covariance,
        covariance_stderr=0.01 * exact.covariance,
        test_loss=0.51,
        test_loss_stderr=0.01,
        final=final,
    )


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def rendered(ax):
    ax.figure.canvas.draw()
    assert isinstance(ax, plt.Axes)
    return ax


def test_ellipse_has_its_mahalanobis_radius():
    sigma = np.array([[2.0, 0.5], [0.5, 1.0]])
    points = ellipse([1.0, 2.0], sigma, 2.0) - np.array([[1.0], [2.0]])
    np.testing.assert_allclose(np.einsum("in,ij,jn->n", points, np.linalg.inv(sigma), points), 4.0)


@pytest.mark.parametrize("final", [None, np.random.default_rng(0).standard_normal((500, 3))])
def test_ellipses(final):
    result = make_result(3, final)
    many = {name: make_prediction(3) for name in ("exact", "hessian", "continuous")}
    rendered(plots.covariance_ellipses(result, many, components=(0, 2), title="S = 8"))
    rendered(plots.covariance_ellipses(result, make_prediction(3)))


def test_ellipses_need_two_parameters():
    with pytest.raises(ValueError, match="two parameters"):
        plots.covariance_ellipses(make_result(1), make_prediction(1))


@pytest.mark.parametrize("quantity", ["mean", "covariance", "test_loss"])
def test_parity(quantity):
    ax = rendered(plots.parity(make_result(), make_prediction(), quantity=quantity))
    assert ax.get_xlim() == ax.get_ylim()


def test_parity_on_given_axes_with_logs():
    figure, ax = plots.panels(1, 2, (6, 3))
    points = {"b = 1": ([0.1, 0.2], [0.11, 0.19], [0.01, 0.01]), "none": ([], [], [])}
    assert plots.parity_points(points, ax=ax[0, 1], log=True) is ax[0, 1]
    figure.canvas.draw()


def test_curves():
    x = np.linspace(0.1, 1, 9)
    lines = {"exact": (x, x), "hessian": (x, x**2), "something else": (x, x**3)}
    ax = plots.curve(lines, (x, x, 0.1 * x), limits=[0.9, 1.1], optimum=0.5, log="y", xlabel="λ", ylim=(0.01, 2))
    labels = [text.get_text() for text in rendered(ax).get_legend().get_texts()]
    assert labels.count("stability limit") == 1 and "simulation" in labels and "optimum" in labels
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines[:3]}) == 3


def test_style_leaks_nowhere():
    before = dict(plt.rcParams)
    plots.curve({"exact": ([0, 1], [0, 1])})
    assert dict(plt.rcParams) == before


def test_missing_matplotlib_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'sgdsim\[plots\]'"):
        plots.curve({})


def test_a_result_draws_what_it_holds():
    result = make_result(final=np.zeros((0, 2)))
    rendered(plots.covariance_ellipses(result, make_prediction()))


@pytest.mark.parametrize("exact", [None, 2.0])
def test_survival(exact):
    tail = (np.arange(1_000) + 0.5) ** -0.5
    estimate = SimpleNamespace(index=2.1, low=1.8, high=2.5, threshold=tail[400], exceedances=400, level=0.95)
    ax = rendered(plots.survival(tail, 1e5, estimate, exact=exact, title="aλ = 0.6"))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    labels = " ".join(text.get_text() for text in ax.get_legend().get_texts())
    assert ("exact slope 2" in labels) == (exact is not None) and "1.8 to 2.5" in labels
