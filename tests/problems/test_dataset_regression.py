"""DatasetRegression held against explicit sums, and the tables that it reads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import sgdsim as ss

GAMMA = np.array([[0.1, 0.05], [0.05, -0.02]])
W = np.array([0.4, -0.8])
SIGMA = 0.6
FRAME = pd.DataFrame({"a": [1.0, 2.0, 0.5, -1.0, 3.0], "b": [0.0, 1.0, 1.5, 2.0, -1.0], "y": [1, 3, 2, 0, 4]})
X, Y = FRAME[["a", "b"]].to_numpy(), FRAME["y"].to_numpy(dtype=float)


def test_every_function_is_its_explicit_sum():
    problem = ss.DatasetRegression(X, Y, GAMMA, SIGMA)
    n = len(Y)
    loss = sum(0.5 * (x @ W - y) ** 2 for x, y in zip(X, Y, strict=True)) / n + SIGMA**2 / 2 + W @ GAMMA @ W / 2
    gradient = sum(x * (x @ W - y) for x, y in zip(X, Y, strict=True)) / n + GAMMA @ W
    hessian = sum(np.outer(x, x) for x in X) / n + GAMMA
    best = np.linalg.lstsq(X, Y, rcond=None)[0]
    excess = (0.5 * np.mean((X @ W - Y) ** 2)) - 0.5 * np.mean((X @ best - Y) ** 2)
    assert problem.loss(W) == pytest.approx(loss, rel=1e-13)
    assert problem.test_loss(W) == pytest.approx(excess, rel=1e-12)
    np.testing.assert_allclose(problem.gradient(W), gradient, rtol=1e-13)
    np.testing.assert_allclose(problem.hessian(W), hessian, rtol=1e-13)
    np.testing.assert_allclose(problem.minimum, np.linalg.solve(hessian, X.T @ Y / n), rtol=1e-12)


def test_example_gradients_average_to_the_gradient():
    problem = ss.DatasetRegression(X, Y, GAMMA)
    each = [problem.example_gradient(W, example) for example in zip(X, Y, strict=True)]
    np.testing.assert_allclose(np.mean(each, axis=0), problem.gradient(W), rtol=1e-13)


def test_more_parameters_than_examples():
    problem = ss.DatasetRegression([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]], [1.0, 2.0])
    assert problem.loss(problem.minimum) == pytest.approx(0.0, abs=1e-28)
    np.testing.assert_allclose(problem.gradient(problem.minimum), 0.0, atol=1e-14)


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "table.csv"
    FRAME.to_csv(path, index=False)
    return path


def test_every_kind_of_table_gives_the_same_problem(csv):
    array = xr.DataArray(FRAME.to_numpy(dtype=float), dims=("row", "column"), coords={"column": list("aby")})
    tables = [csv, str(csv), FRAME, FRAME[["y", "b", "a"]][["a", "y", "b"]], xr.Dataset.from_dataframe(FRAME), array]
    for table in tables:
        problem = ss.DatasetRegression.from_table(table, target="y", weight_decay=0.1, label_noise=0.2)
        np.testing.assert_array_equal(problem.features, X)
        np.testing.assert_array_equal(problem.targets, Y)
        assert (float(problem.weight_decay), float(problem.label_noise)) == (0.1, 0.2)


def test_standardised_columns_and_an_intercept():
    problem = ss.DatasetRegression.from_table(FRAME, target="y", standardize_columns=True, intercept=True)
    assert problem.dimension == 3
    np.testing.assert_array_equal(problem.features[:, -1], 1.0)
    np.testing.assert_allclose(problem.features[:, :2].mean(axis=0), 0.0, atol=1e-15)
    np.testing.assert_allclose(problem.features[:, :2].std(axis=0), 1.0, rtol=1e-14)
    assert problem.targets.mean() == pytest.approx(0.0, abs=1e-15)
    assert problem.targets.std() == pytest.approx(1.0, rel=1e-14)


def test_booleans_and_integers_count_as_numbers():
    frame = pd.DataFrame({"a": [True, False, True], "b": [1, 2, 3], "y": [0.0, 1.0, 2.0]})
    np.testing.assert_array_equal(ss.DatasetRegression.from_table(frame, target="y").features[:, 0], [1, 0, 1])


def test_the_message_names_the_row_and_the_column_of_a_bad_cell(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("a,b,y\n1,2,3\n4,oops,6\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"row 2, column 'b'.*oops"):
        ss.DatasetRegression.from_table(path, target="y")


def test_a_misspelt_target_suggests_the_near_one(csv):
    with pytest.raises(ValueError, match="did you mean 'y'"):
        ss.DatasetRegression.from_table(csv, target="yy")
