import json
from xml.etree import ElementTree

import numpy as np
import pytest

import sgdsim as ss
from sgdsim import references

PROBLEM = ss.LinearRegression([1.0, 0.5], label_noise=0.5)
PREDICTIONS = {
    "exact": lambda: ss.predict(PROBLEM, ss.SGD(0.3), batch_size=4),
    "hessian": lambda: ss.predict(PROBLEM, ss.SGD(0.3), batch_size=4, approximation="hessian"),
    "continuous": lambda: ss.predict(PROBLEM, ss.SGD(0.3), batch_size=4, approximation="continuous"),
    "quadratic": lambda: ss.predict(ss.Quadratic([1.0], [1.0]), ss.SGD(0.3), batch_size=4),
    "data": lambda: ss.predict(ss.DatasetRegression([[1.0], [2.0], [0.5]], [1.0, 1.0, 0.0]), ss.SGD(0.1), batch_size=2),
    "newton": lambda: ss.predict(PROBLEM, ss.DampedNewton(0.3), batch_size=8),
    "adam": lambda: ss.predict(PROBLEM, ss.Adam(0.01, b2=0.99), batch_size=4),
    "network": lambda: ss.predict(ss.TwoLayerLinear([[2.0]], [[1.0]], label_noise=0.1), ss.SGD(0.01), batch_size=8),
}
FIRST = {"adam": "@misc{li2025adam,", "network": "@inproceedings{damian2021label,"}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_every_prediction_is_cited_exported_and_shown(name):
    law = PREDICTIONS[name]()
    assert law.cite().startswith(FIRST.get(name, "@inproceedings{ziyin2022strength,"))
    dataset = law.to_xarray()
    for quantity in ("mean", "covariance", "noise_covariance", "train_loss", "test_loss", "product_mean"):
        value = getattr(law, quantity)
        assert (quantity in dataset) == (value is not None)
        if value is not None:
            np.testing.assert_array_equal(dataset[quantity].values, value)
            assert dataset[quantity].attrs["units"]
    assert dataset.attrs["reference"] == law.reference and int(dataset["batch_size"]) == law.configuration["batch_size"]
    html = law._repr_html_()
    ElementTree.fromstring(html)
    assert "test_loss" in html and law.reference in html


def test_limits_are_computed_when_asked_for_only():
    law = PREDICTIONS["exact"]()
    assert "max_learning_rate" not in law.to_xarray() and "computed when first read" in law._repr_html_()
    assert callable(law.__dict__["max_learning_rate"])
    one = ss.predict(ss.LinearRegression([1.0], label_noise=1.0), ss.SGD(0.3), batch_size=1)
    dataset = one.to_xarray(limits=True)
    assert float(dataset["max_learning_rate"]) == one.max_learning_rate == pytest.approx(2 / 3)
    assert float(dataset["tail_index"]) == float(one.tail_index)
    assert "computed when first read" not in one._repr_html_()


def test_variance_polynomial():
    polynomial = ss.solver.gradient_variance_polynomial(PROBLEM, ss.SGD(0.1), step=2, initial=[1.0, -1.0])
    dataset = polynomial.to_xarray()
    np.testing.assert_array_equal(dataset["coefficients"].values, polynomial.coefficients)
    assert dataset["power"].values.tolist() == [0, 1, 2, 3] and dataset.attrs["variable"] == "1/b"
    ElementTree.fromstring(polynomial._repr_html_())
    assert "qian2020impact" in polynomial.cite()
    network = ss.TwoLayerLinear([[2.0]], [[1.0]])
    scalar = ss.solver.gradient_variance_polynomial(network, ss.SGD(0.1), step=1, initial=[1.0, 0.5])
    exact = json.loads(scalar.inner.to_xarray().attrs["exact"])
    assert len(exact) == len(scalar.inner.coefficients)
    assert len(repr(ss.solver.gradient_variance(PROBLEM, ss.SGD(0.1), batch_size=[1, 2], steps=9))) < 80
    assert "known exactly" in scalar.inner._repr_html_() or "/" in scalar.inner._repr_html_()


def test_polynomial_fit_is_shown():
    b = np.array([1, 2, 4, 8, 16, 32])
    fit = ss.fit_polynomial(b, 2 / b + 1 / b**2, 0.05 / b, degree=3)
    html = fit._repr_html_()
    ElementTree.fromstring(html)
    assert "not identified" in html and "beta_k" in html and "decreasing from" in html


def test_bibtex_is_balanced_and_says_only_what_is_known():
    for paper in references.PAPERS:
        entry = references.bibtex(paper)
        assert entry.count("{") == entry.count("}") and entry.startswith(f"@{paper.kind}{{{paper.key},\n")
        allowed = {"title", "author", "booktitle", "volume", "year", "eprint", "archiveprefix", "note"}
        assert set(paper.fields) <= allowed
    assert len({paper.key for paper in references.PAPERS}) == len(references.PAPERS)


def test_every_experiment_of_a_paper_is_cited():
    from sgdsim.experiments import list_experiments

    found = {e.id: [paper.key for paper in references.papers_of(e.reference)] for e in list_experiments()}
    assert found["fig4a"] == ["ziyin2022strength"] and found["variance_fig2"] == ["qian2020impact"]
    assert found["adam_bias"] == ["cattaneo-shigida-minibatch"] and found["linear_network"] == ["damian2021label"]
    both = ss.cite("stationary.md and the slow dynamics of Adam")
    assert both.count("\n}") == 2


def test_what_names_no_paper_is_refused():
    with pytest.raises(ValueError, match="names a paper"):
        ss.cite("measured")
