"""Numbers are never changed silently on the way in: refused by name, or converted exactly."""

from __future__ import annotations

import datetime
import decimal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import sgdsim as ss
from sgdsim.problems.tables import split_table

X = np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 4.0]])
Y = np.array([1.0, 2.0, 3.0])
EIGHT = np.linspace(1.0, 8.0, 8)


def squares(w, x, y):
    return 0.5 * jnp.sum((x @ w - y) ** 2)


def own(prediction, target):
    return 0.5 * jnp.sum((prediction - target) ** 2)


def masked(values):
    return np.ma.array(values, mask=np.arange(values.size).reshape(values.shape) == values.size - 1)


# What happens to an array of numbers on its way into another library: each of these holds no real numbers any more.
CHANGED = {
    "masked": masked,
    "masked rows": lambda values: list(masked(values)),
    "dates": lambda values: values.astype("datetime64[s]"),
    "not a time": lambda values: np.full(values.shape, np.datetime64("NaT")),
    "durations": lambda values: values.astype("timedelta64[s]"),
    "complex": lambda values: values + 1e-9j,
    "complex objects": lambda values: (values + 1j).astype(object),
    "text": lambda values: values.astype(str),
    "bytes": lambda values: values.astype(bytes),
    "periods": lambda values: np.array([pd.Period("2020", "D")] * values.size).reshape(values.shape),
    "days": lambda values: np.array([datetime.date(2020, 1, 1)] * values.size, object).reshape(values.shape),
    "beyond 2^53": lambda values: (1000 * values).astype(np.int64) + 2**60,
    "large Python integers": lambda values: [[2**60 + 1] * values.shape[-1]] * len(values)
    if values.ndim == 2 else [2**60 + 1] * len(values),
    "structured": lambda values: np.zeros(values.shape, [("a", float), ("b", float)]),
}
DOORS = {
    "features": (X, lambda v: ss.DatasetRegression(v, Y)),
    "targets": (Y, lambda v: ss.DatasetRegression(X, v)),
    "covariance": (np.eye(2), ss.LinearRegression),
    "teacher": (np.ones(2), lambda v: ss.LinearRegression([1.0, 0.5], teacher=v)),
    "weight_decay": (np.eye(2), lambda v: ss.LinearRegression([1.0, 0.5], weight_decay=v)),
    "hessian": (np.eye(2), lambda v: ss.Quadratic(v, [1.0, 1.0])),
    "example_noise_covariance": (np.eye(2), lambda v: ss.Quadratic([1.0, 1.0], v)),
    "features of a loss": (X, lambda v: ss.FromLoss(squares, v, Y, [0.0, 0.0])),
    "targets of a loss": (Y, lambda v: ss.FromLoss(squares, X, v, [0.0, 0.0])),
    "start": (np.ones(2), lambda v: ss.FromLoss(squares, X, Y, v)),
    "test_features": (X, lambda v: ss.FromLoss(squares, X, Y, [0.0, 0.0], test_features=v, test_targets=Y)),
    "test_targets": (Y, lambda v: ss.FromLoss(squares, X, Y, [0.0, 0.0], test_features=X, test_targets=v)),
    "features of a network": (X, lambda v: ss.FlaxNetwork(nn.Dense(1), v, Y, "mse")),
    "targets of a network": (Y, lambda v: ss.FlaxNetwork(nn.Dense(1), X, v, own)),
    "test_targets of a network": (
        Y, lambda v: ss.FlaxNetwork(nn.Dense(1), X, Y, "mse", test_features=X, test_targets=v)),
    "preconditioner": (np.ones(2), lambda v: ss.SGD(0.1, preconditioner=v)),
    "initial": (np.ones(2), lambda v: ss.simulate(
        ss.LinearRegression([1.0, 0.5]), ss.SGD(0.1), batch_size=1, chains=4, steps=2, initial=v)),
    "samples": (EIGHT, ss.estimators.tail_index),
    "variance": (np.ones(3), lambda v: ss.fit_polynomial([1, 2, 4], v, [0.1, 0.1, 0.1])),
    "stderr": (np.ones(3), lambda v: ss.fit_polynomial([1, 2, 4], [1.0, 1.0, 1.0], v)),
    "w": (np.ones(2), lambda v: ss.solver.gradient_covariance(ss.LinearRegression([1.0, 0.5]), v, batch_size=1)),
    "point of a solver": (np.ones(2), lambda v: ss.solver.manifold.tangent_projection(ss.Ellipse(2.0, 1.0), v)),
    "lyapunov": (np.eye(2) / 2, lambda v: ss.solver.linear_algebra.discrete_lyapunov(v, np.eye(2))),
}  # fmt: skip


PAIRS = [(door, change) for door in DOORS for change in CHANGED]
PAIRS.remove(("lyapunov", "complex"))  # complex matrices are welcome there


@pytest.mark.parametrize(("door", "change"), PAIRS)
def test_what_holds_no_real_numbers_is_refused(door, change):
    value, enter = DOORS[door]
    with pytest.raises(ValueError, match=" but it must be "):
        enter(CHANGED[change](value))


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float16, np.float32, jnp.bfloat16, bool, object])
def test_what_is_exact_in_float64_is_converted(dtype):
    values = np.array([[1, 0], [0, 1], [1, 1]]).astype(dtype)
    features = ss.DatasetRegression(values, Y).features
    assert features.dtype == np.float64
    np.testing.assert_array_equal(features, values.astype(np.float64))
    np.testing.assert_array_equal(ss.LinearRegression([decimal.Decimal("0.5"), 1]).covariance, [0.5, 1.0])


SCALARS = (np.timedelta64(1, "s"), np.datetime64("2020"), np.ma.masked, 1j, "1", b"1", True)


@pytest.mark.parametrize("value", SCALARS)
def test_what_is_no_number_is_refused(value):
    problem = ss.LinearRegression([1.0])
    for enter in (
        lambda: ss.SGD(value), lambda: ss.SGD(0.1, momentum=value), lambda: ss.Adam(0.1, b1=value),
        lambda: ss.predict(problem, ss.SGD(0.1), batch_size=value),
        lambda: ss.LinearRegression([1.0], label_noise=value),
        lambda: ss.simulate(problem, ss.SGD(0.1), batch_size=1, chains=value, steps=2),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=" but it must be "):
            enter()


def test_whole_numbers_stay_whole_or_are_refused():
    whole = X.astype(int)
    kept = ss.FromLoss(squares, whole, whole[:, 0], [0.0, 0.0])
    assert kept.features.dtype == kept.targets.dtype == np.int32
    for wide in (whole * 2**31, whole - 2**31 - 5):
        with pytest.raises(ValueError, match=r"features .*whole numbers from -2147483648 to 2147483647"):
            ss.FromLoss(squares, wide, Y, [0.0, 0.0])
        with pytest.raises(ValueError, match=r"targets .*whole numbers"):
            ss.FlaxNetwork(nn.Dense(1), X, wide[:, 0], own)


@pytest.mark.parametrize("network", [False, True])
def test_held_out_numbers_are_not_cut_to_the_training_kind(network):
    whole = np.array([1, 2, 3])

    def make(targets, held):
        if network:
            return ss.FlaxNetwork(nn.Dense(1), X, targets, own, test_features=X, test_targets=held)
        return ss.FromLoss(squares, X, targets, [0.0, 0.0], test_features=X, test_targets=held)

    with pytest.raises(ValueError, match=r"test_targets .*whole numbers, as the training"):
        make(whole, Y + 0.5)
    assert make(whole, Y).test_targets.dtype == np.int32  # nothing is lost
    np.testing.assert_array_equal(make(Y, whole).test_targets, whole.astype(float))


COLUMNS = {
    "periods": pd.period_range("2020", periods=3),
    "dates": [datetime.date(2020, 1, day) for day in (1, 2, 3)],
    "date-times": pd.date_range("2020", periods=3),
    "durations": pd.to_timedelta([1, 2, 3], unit="s"),
    "intervals": pd.interval_range(0, 3),
    "complex objects": np.array([1 + 1j, 2, 3], object),
    "complex": np.array([1 + 1j, 2, 3]),
    "identifiers": [2**60 + 1, 2**60, 5],
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_that_holds_no_real_numbers_is_named(column):
    with pytest.raises(ValueError, match=r"table column 'odd'"):
        split_table(pd.DataFrame({"odd": COLUMNS[column], "y": [1.0, 2.0, 4.0]}), "y")


@pytest.mark.parametrize(
    "text", ["a;b;y\n1.234;0,5;1\n950;0,7;2\n3;4;3\n", "a;b;y\n1.234,5;0,5;1\n950;0,7;2\n3;4;3\n",
             "b;a;y\n0,5;1.5;1\n0,7;2;2\n4;3;3\n", "b\ta\ty\n0,5\t1.234.567\t1\n0,7\t2\t2\n4\t3\t3\n"])  # fmt: skip
def test_points_beside_decimal_commas_are_refused(text, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"table row 1, column 'a' is '1\.\d+.*decimal comma"):
        split_table(path, "y")


@pytest.mark.parametrize("text", ["a;y\n1.234;1\n950;2\n1.500;3\n", "a\ty\n1.234.567\t1\n2\t2\n4\t3\n"])
def test_points_that_may_stand_between_thousands_are_refused(text, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match="decimal point, or thousands"):
        split_table(path, "y")


@pytest.mark.parametrize("cells", ["1.234 0.567 12.5", "1.234 2.345 3.456", "0.234 5 6", "1.234 1950 7"])
def test_decimal_points_between_semicolons_stay(cells, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a;y\n" + "".join(f"{cell};{i}\n" for i, cell in enumerate(cells.split())))
    np.testing.assert_array_equal(split_table(path, "y")[0][:, 0], [float(cell) for cell in cells.split()])


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**60, 2**53])
def test_whole_numbers_that_floating_point_rounds_are_refused(number, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(f"a,y\n{number},1\n2,2\n3,4\n")
    if number == 2**53:
        assert split_table(path, "y")[0][0, 0] == number
        return
    with pytest.raises(ValueError, match=r"table column 'a'.*2\^53"):
        split_table(path, "y")


def test_rounding_is_no_variation():
    """0.1 read from a float32 file beside 0.1: standardised it would be +-1."""
    noise = np.array([np.float32(0.1), 0.1, 0.1], np.float64)
    names = {"a": noise, "b": [1.0, 2.0, 4.0], "y": [1.0, 2.0, 3.0]}
    with pytest.raises(ValueError, match=r"table column is 'a'.*single precision"):
        ss.DatasetRegression.from_table(pd.DataFrame(names), target="y", standardize_columns=True)
    with pytest.raises(ValueError, match="table column is 'the target'"):
        ss.DatasetRegression.from_table(pd.DataFrame({**names, "a": [3, 1, 2], "y": noise}), target="y",
                                        standardize_columns=True)
    wide = ss.DatasetRegression.from_table(pd.DataFrame({**names, "a": 1e5 + np.array([0.0, 1.0, 2.0])}), target="y",
                                           standardize_columns=True)
    np.testing.assert_allclose(wide.features[:, 0], np.array([-1, 0, 1]) * np.sqrt(1.5), rtol=1e-9)
