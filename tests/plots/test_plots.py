import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from sgdsim import plots
from sgdsim.estimators import TailEstimate
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
    """The axes, once what is drawn on them has been looked at: not blank, labelled, all of it within the limits."""
    assert isinstance(ax, plt.Axes)
    ax.figure.canvas.draw()
    pixels = np.asarray(ax.figure.canvas.buffer_rgba())[..., :3]
    inside = pixels[_rows(ax, len(pixels))][:, slice(*(int(x) for x in ax.get_window_extent().intervalx))]
    assert (inside != inside[:1, :1]).any(axis=-1).mean() > 0.002, "nothing is drawn"
    assert ax.get_xlabel() and ax.get_ylabel() and np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()
    for line in ax.lines:
        x, y = (np.asarray(v, float) for v in line.get_data())
        across = line.get_transform() == ax.transData  # not a line from edge to edge
        if across and len(x) and line.get_label() != "limit of any stationary law":
            (left, right), (low, high) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
            assert ((x >= left) & (x <= right) & (y >= low) & (y <= high)).any(), f"{line.get_label()} is out of sight"
    return ax


def _rows(ax, height):
    low, high = ax.get_window_extent().intervaly
    return slice(height - int(high), height - int(low))


def looks(ax):
    """What tells the lines of a panel apart without colour."""
    drawn = [line for line in ax.lines if not line.get_label().startswith("_")]
    return [str((line._dash_pattern, line.get_marker(), line.get_markersize())) for line in drawn]


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
    ax = plots.curve(lines, (x, x, 0.1 * x), limits=[0.9, 1.1], optimum=0.5, log="y", xlabel="λ", ylabel="Σ",
                    ylim=(0.01, 2))
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
    estimate = TailEstimate(2.1, 0.18, 1.8, 2.5, threshold=tail[400], method="hill", exceedances=400, confidence=0.95)
    ax = rendered(plots.survival(tail, 1e5, estimate, exact=exact, title="aλ = 0.6"))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    labels = " ".join(text.get_text() for text in ax.get_legend().get_texts())
    assert ("exact slope 2" in labels) == (exact is not None) and "1.8 to 2.5" in labels


def make_recorded(levels=(1.0, 0.5, 0.25), size=2):
    step = np.arange(len(levels)) * 10
    values = np.array(levels)
    record = {"step": step, "test_loss": values, "test_loss_stderr": 0.05 * values}
    record["mean"] = values[:, None] * np.ones(size)
    return SimpleNamespace(record=record)


def test_trajectories():
    many = {"b = 4": make_recorded(), "b = 8": make_recorded((1.0, 0.3, 0.1)), "b = 16": make_recorded((1.0, 0.2, 0.1))}
    ax = rendered(plots.trajectory(many, predictions={"b = 8": make_prediction()}, log="xy", title="x"))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels.count("stationary, predicted") == 1 and labels[0] == "b = 4"
    assert ax.get_ylabel() == "test loss" and ax.get_xscale() == "symlog" and ax.get_xlim()[0] == 0
    assert len(set(looks(ax))) == len(looks(ax)) == 4
    band = ax.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([band[:, 1].min(), band[:, 1].max()], [0.9 * 0.25, 1.1 * 1.0])
    one = rendered(plots.trajectory(make_recorded(), "mean", index=1, predictions=make_prediction()))
    assert one.get_ylabel() == "mean[1]" and list(one.lines[1].get_ydata()) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("result", "options", "match"),
    [
        (SimpleNamespace(record=None), {}, "record=100"),
        (make_recorded(), {"quantity": "test_los"}, "did you mean 'test_loss'"),
        (make_recorded(), {"quantity": "mean"}, r"mean has shape \(2,\).*index=0"),
        (make_recorded(), {"quantity": "test_loss", "index": 0}, "index"),
    ],
)
def test_trajectories_refuse(result, options, match):
    with pytest.raises(ValueError, match=match):
        plots.trajectory(result, **options)


def test_spectrum():
    h = np.array([0.1, 1.0, 3.0])
    ax = rendered(plots.spectrum(h, {"exact": 2 * h, "simulated": (2.1 * h, 0.1 * h)}, proportional=2.0, title="x"))
    assert ax.get_xscale() == ax.get_yscale() == "log"
    line = ax.get_legend().get_lines()[0] if ax.get_legend().get_lines() else None
    assert line is not None and {t.get_text() for t in ax.get_legend().get_texts()} >= {"exact", "simulated"}
    ends = next(line for line in ax.lines if line.get_label() == "C proportional to H")
    np.testing.assert_allclose(ends.get_ydata(), [0.2, 6.0])
    rendered(plots.spectrum(np.array([0.0, 1.0]), {"exact": np.array([0.0, 1.0])}, log="", proportional=1.0))


def test_series_differ_without_colour():
    x = np.array([1.0, 2.0, 4.0])
    series = {f"b = {i}": (x, i + x) for i in range(1, 7)}
    named = {"xlabel": "x", "ylabel": "y"}
    lines = {"exact": (x, x), **dict(list(series.items())[:5])}
    for ax in (plots.points(series, **named), plots.matched(series, {}, **named), plots.curve(lines, **named)):
        assert len(set(looks(rendered(ax)))) == len(looks(ax))


def test_other_theories_do_not_look_like_the_approximations():
    x = np.array([0.1, 1.0])
    ax = plots.curve({"paper": (x, 3 * x), "exact": (x, x), "continuous": (x, 2 * x)})
    assert len({line.get_color() for line in ax.lines}) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["exact", "continuous time, C = H", "paper"]


def luminance(color):
    r, g, b = plt.matplotlib.colors.to_rgb(color)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_phases_differ_in_grey_by_their_hatches():
    b = np.array([1.0, 4.0, 16.0])
    dots = {"finite variance": ([4], [0.3]), "infinite variance": ([4], [1.0]), "undecided": ([16], [1.4])}
    ax = rendered(plots.phase_diagram(b, [0.5, 0.9, 1.4], [2.0, 2.5, 2.2], dots, title="x"))
    fills = ax.collections[:3]
    assert len({fill.get_hatch() for fill in fills}) == 3
    assert max(luminance(fill.get_facecolor()[0]) for fill in fills) < 0.95
    assert {"theory: diverges", "mean-square limit", "simulated: undecided"} <= {
        text.get_text() for text in ax.get_legend().get_texts()
    }


def test_cells_of_a_logarithmic_heatmap_meet_half_way():
    ax = plots.heatmap([0.01, 0.1, 1.0], [4, 16], np.zeros((2, 3)), xlabel="λ", ylabel="b", log="x")
    corners = ax.collections[0].get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], np.array([0.01, 0.1, 1.0, 10.0]) / np.sqrt(10))
    np.testing.assert_allclose(corners[:, 0, 1], [-2, 10, 22])


def test_heatmap():
    x, y = np.array([0.1, 0.2, 0.4]), np.array([4, 8])
    values = np.array([[1.0, 2.0, np.nan], [0.5, 1.0, 2.0]])
    ax = rendered(plots.heatmap(x, y, values, xlabel="λ", ylabel="b", label="loss", log="y", dots=([0.2], [8], [1.0]),
                                boundaries={"limit": (x, [4, 6, 8])}, contours={1.0: "1"}))  # fmt: skip
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["limit", "simulation"]


@pytest.mark.parametrize(("low", "high"), [(2.0, 64.0), (1e-7, 1e3), (0.03, 0.05)])
def test_logarithmic_labels_do_not_touch(low, high):
    ax = plots.points({"x": ([low, high], [low, high])}, log="xy", xlabel="x", ylabel="y")
    ax.figure.canvas.draw()
    ticks = [*ax.xaxis.get_majorticklabels(), *ax.xaxis.get_minorticklabels()]
    seen = [tick.get_window_extent() for tick in ticks
            if tick.get_text() and low <= tick.get_position()[0] <= high]  # fmt: skip
    spans = sorted((box.x0, box.x1) for box in seen)
    assert all(right < left for (_, right), (left, _) in itertools.pairwise(spans))
    assert len(spans) >= 2


def test_short_powers_of_ten():
    from sgdsim.plots.style import power_of_ten

    shown = [power_of_ten(value) for value in (0.002, 50.0, 1e5, 2e-4, 0)]
    assert shown == ["0.002", "50", "$10^{5}$", r"$2 \times 10^{-4}$", "0"]


def test_the_palette_is_okabe_and_itos():
    from sgdsim.plots import style

    okabe_ito = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#000000"}
    assert set(style.COLORS) | {look.color for look in style.APPROXIMATIONS.values()} <= okabe_ito
    assert len(style.COLORS) == len(set(style.COLORS)) == len(style.MARKERS) == len(style.LINESTYLES)


@pytest.mark.slow
def test_every_example_of_the_page_draws_something():
    import importlib.util
    from pathlib import Path

    path = Path(__file__).resolve().parents[2] / "docs" / "_gallery.py"
    spec = importlib.util.spec_from_file_location("gallery", path)
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    drawn = {}
    for name, figure in gallery.figures():
        image = gallery.grey(gallery.pixels_of(figure))
        assert image.std() > 5 and image.min() < 100 and (image < 200).mean() > 0.003, name
        assert all(ax.get_xlabel() or ax.get_ylabel() for ax in figure.axes), name
        drawn[name] = figure
        plt.close(figure)
    said = path.with_name("plots.md").read_text(encoding="utf-8")
    functions = [name for name in dir(plots) if callable(getattr(plots, name)) and not name.startswith("_")]
    assert len(drawn) >= 12 and all(name in said for name in functions)
