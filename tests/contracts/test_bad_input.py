"""One table of bad inputs: each is refused with the argument, its value, what is allowed and what to do."""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import optax
import pandas as pd
import pytest

import sgdsim as ss
from sgdsim import cli

NAN, INF = float("nan"), float("inf")
FRAME = pd.DataFrame({"a": [1.0, 2.0, 3.0, 5.0], "b": [0.5, -1.0, 0.0, 2.0], "y": [1.0, 0.0, 2.0, 1.5]})


def linear(covariance=(1.0, 0.5), **rest):
    return ss.LinearRegression(list(covariance) if isinstance(covariance, tuple) else covariance, **rest)


def dataset(features=((1.0, 2.0), (0.5, 1.0), (2.0, -1.0)), targets=(1.0, 2.0, 3.0), **rest):
    return ss.DatasetRegression(features, targets, **rest)


def simulate(problem=None, optimizer=None, **rest):
    settings = {"batch_size": 2, "chains": 64, "steps": 10, **rest}
    return ss.simulate(problem or linear(label_noise=0.5), optimizer or ss.SGD(0.1), **settings)


def predict(problem=None, optimizer=None, **rest):
    return ss.predict(problem or linear(label_noise=0.5), optimizer or ss.SGD(0.1), **{"batch_size": 2, **rest})


def table(frame, target="y", **rest):
    return ss.DatasetRegression.from_table(frame, target=target, **rest)


class Case(NamedTuple):
    """What is done, which argument the message must name, and what else it must say."""

    call: object
    argument: str
    says: tuple[str, ...]


CASES = {
    # problems: matrices
    "covariance asymmetric": Case(lambda: linear([[1.0, 0.3], [0.1, 0.5]]), "covariance", ("symmetr", ".T) / 2")),
    "covariance indefinite": Case(lambda: linear([[1.0, 2.0], [2.0, 1.0]]), "covariance", ("semi-definite", "-1")),
    "covariance negative diagonal": Case(lambda: linear([1.0, -0.5]), "covariance", ("semi-definite", "-0.5")),
    "covariance not square": Case(lambda: linear([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), "covariance", ("(2, 3)",)),
    "covariance scalar": Case(lambda: linear(1.0), "covariance", ("1.0", "shape ()")),
    "covariance three axes": Case(lambda: linear(np.ones((2, 2, 2))), "covariance", ("(2, 2, 2)",)),
    "covariance empty": Case(lambda: linear([]), "covariance", ("[]",)),
    "covariance NaN": Case(lambda: linear([1.0, NAN]), "covariance", ("nan", "index (1,)")),
    "covariance text": Case(lambda: linear(["one", "two"]), "covariance", ("one",)),
    "covariance ragged": Case(lambda: linear([[1.0, 0.0], [1.0]]), "covariance", ("[1.0]",)),
    "covariance complex": Case(lambda: linear([1.0 + 1j, 1.0]), "covariance", ("1j",)),
    "input_noise indefinite": Case(lambda: linear(input_noise=[-1.0, 1.0]), "input_noise", ("-1",)),
    "input_noise wrong shape": Case(lambda: linear(input_noise=[1.0]), "input_noise", ("(1,)", "dimension 2")),
    "teacher wrong length": Case(lambda: linear(teacher=[1.0, 2.0, 3.0]), "teacher", ("length 2", "(3,)")),
    "teacher infinite": Case(lambda: linear(teacher=[1.0, INF]), "teacher", ("inf", "index (1,)")),
    "weight_decay asymmetric": Case(lambda: linear(weight_decay=[[0.1, 0.2], [0.0, 0.1]]), "weight_decay", ("symm",)),
    "weight_decay wrong shape": Case(lambda: linear(weight_decay=[0.1, 0.2, 0.3]), "weight_decay", ("(3,)",)),
    "weight_decay NaN": Case(lambda: linear(weight_decay=NAN), "weight_decay", ("nan",)),
    "weight_decay text": Case(lambda: linear(weight_decay="small"), "weight_decay", ("small",)),
    "label_noise negative": Case(lambda: linear(label_noise=-0.5), "label_noise", ("-0.5", "standard deviation")),
    "label_noise NaN": Case(lambda: linear(label_noise=NAN), "label_noise", ("nan",)),
    "label_noise list": Case(lambda: linear(label_noise=[0.1]), "label_noise", ("[0.1]",)),
    "hessian indefinite": Case(lambda: ss.Quadratic([1.0, -1.0], [1.0, 1.0]), "hessian", ("-1",)),
    "noise_covariance wrong shape": Case(lambda: ss.Quadratic([1.0, 1.0], [1.0]), "noise_covariance", ("(1,)",)),
    "minimum wrong length": Case(lambda: ss.Quadratic([1.0], [1.0], minimum=[0.0, 0.0]), "minimum", ("length 1",)),
    # problems: data
    "features one axis": Case(lambda: dataset([1.0, 2.0, 3.0]), "features", ("(3,)", "row")),
    "features empty": Case(lambda: dataset(np.zeros((0, 2)), []), "features", ("(0, 2)",)),
    "features NaN": Case(lambda: dataset([[1.0, NAN], [0.0, 1.0]], [1.0, 2.0]), "features", ("nan", "(0, 1)")),
    "targets wrong length": Case(lambda: dataset(targets=[1.0]), "targets", ("(3,)", "(1,)")),
    "targets infinite": Case(lambda: dataset(targets=[1.0, INF, 0.0]), "targets", ("inf", "index (1,)")),
    "data label_noise": Case(lambda: dataset(label_noise=-1.0), "label_noise", ("-1.0",)),
    # tables
    "table missing file": Case(lambda: table("/nowhere/data.csv"), "table", ("/nowhere/data.csv", "path")),
    "table of a wrong type": Case(lambda: table(42), "table", ("int",)),
    "table empty": Case(lambda: table(FRAME[:0]), "table", ("0 rows",)),
    "table without columns": Case(lambda: table(pd.DataFrame(index=[0, 1])), "table", ("0 columns",)),
    "table missing target": Case(lambda: table(FRAME, "z"), "target", ("'z'", "'a', 'b', 'y'")),
    "table target near": Case(lambda: table(FRAME.rename(columns={"y": "price"}), "prize"), "target", ("'price'?",)),
    "table target alone": Case(lambda: table(FRAME[["y"]]), "table", ("'y'",)),
    "table duplicate columns": Case(lambda: table(FRAME.rename(columns={"b": "a"})), "table", ("'a'", "rename")),
    "table text cell": Case(lambda: table(FRAME.assign(b=["1", "x", "2", "3"])), "table", ("row 2", "'b'", "'x'")),
    "table NaN cell": Case(lambda: table(FRAME.assign(a=[1.0, 2.0, NAN, 3.0])), "table", ("row 3", "'a'", "nan")),
    "table NaN target": Case(lambda: table(FRAME.assign(y=[NAN, 2.0, 1.0, 3.0])), "table", ("row 1", "'y'", "nan")),
    "table constant target": Case(lambda: table(FRAME.assign(y=2.0)), "target", ("'y'", "varies")),
    "table constant column": Case(lambda: table(FRAME.assign(a=2.0), standardize_columns=True), "table",
                                  ("'a'", "drop it")),
    # optimizers
    "learning_rate negative": Case(lambda: ss.SGD(-0.1), "learning_rate", ("-0.1", "positive")),
    "learning_rate zero": Case(lambda: ss.SGD(0.0), "learning_rate", ("0.0",)),
    "learning_rate NaN": Case(lambda: ss.SGD(NAN), "learning_rate", ("nan",)),
    "learning_rate infinite": Case(lambda: ss.Adam(INF), "learning_rate", ("inf",)),
    "learning_rate text": Case(lambda: ss.SGD("fast"), "learning_rate", ("fast",)),
    "learning_rate None": Case(lambda: ss.SGD(None), "learning_rate", ("None",)),
    "learning_rate matrix": Case(lambda: ss.SGD([[0.1, 0.0], [0.0, 0.1]]), "learning_rate", ("0.1",)),
    "momentum one": Case(lambda: ss.SGD(0.1, momentum=1.0), "momentum", ("1.0", "[0, 1)")),
    "momentum negative": Case(lambda: ss.SGD(0.1, momentum=-0.5), "momentum", ("-0.5", "[0, 1)")),
    "momentum NaN": Case(lambda: ss.SGD(0.1, momentum=NAN), "momentum", ("nan",)),
    "preconditioner scalar": Case(lambda: ss.SGD(0.1, preconditioner=2.0), "preconditioner", ("2.0", "learning_rate")),
    "preconditioner not square": Case(lambda: ss.SGD(0.1, preconditioner=np.ones((2, 3))), "preconditioner",
                                      ("(2, 3)",)),
    "b1 one": Case(lambda: ss.Adam(0.1, b1=1.0), "b1", ("1.0", "[0, 1)")),
    "b2 negative": Case(lambda: ss.Adam(0.1, b2=-0.1), "b2", ("-0.1",)),
    "eps negative": Case(lambda: ss.Adam(0.1, eps=-1e-8), "eps", ("-1e-08",)),
    # simulate
    "simulate batch_size zero": Case(lambda: simulate(batch_size=0), "batch_size", ("0", ">= 1")),
    "simulate batch_size negative": Case(lambda: simulate(batch_size=-3), "batch_size", ("-3",)),
    "simulate batch_size fractional": Case(lambda: simulate(batch_size=2.5), "batch_size", ("2.5", "whole number")),
    "simulate batch_size text": Case(lambda: simulate(batch_size="8"), "batch_size", ("'8'",)),
    "simulate batch above n": Case(lambda: simulate(dataset(), batch_size=4, sampling="without_replacement"),
                                   "batch_size", ("4", "3")),
    "simulate batch above n, epochs": Case(lambda: simulate(dataset(), batch_size=4, sampling="epochs"),
                                           "batch_size", ("4", "3")),
    "simulate chains zero": Case(lambda: simulate(chains=0), "chains", ("0", ">= 1")),
    "simulate chains fractional": Case(lambda: simulate(chains=1e3), "chains", ("1000.0",)),
    "simulate steps zero": Case(lambda: simulate(steps=0), "steps", ("0",)),
    "simulate burn_in all": Case(lambda: simulate(steps=10, burn_in=10), "burn_in", ("10", "9")),
    "simulate burn_in negative": Case(lambda: simulate(burn_in=-1), "burn_in", ("-1",)),
    "simulate seed negative": Case(lambda: simulate(seed=-1), "seed", ("-1", "seed=0")),
    "simulate sampling unknown": Case(lambda: simulate(dataset(), sampling="epoch"), "sampling",
                                      ("'epoch'", "'epochs'")),
    "simulate sampling online data": Case(lambda: simulate(dataset(), sampling="online"), "sampling", ("'online'",)),
    "simulate sampling subset of population": Case(lambda: simulate(sampling="epochs"), "sampling", ("'epochs'",)),
    "simulate dtype": Case(lambda: simulate(dtype="float16"), "dtype", ("float16", "float32")),
    "simulate initial shape": Case(lambda: simulate(initial=[0.0, 0.0, 0.0]), "initial", ("(3,)", "(2,)")),
    "simulate initial NaN": Case(lambda: simulate(initial=[0.0, NAN]), "initial", ("nan",)),
    "simulate record beyond": Case(lambda: simulate(record=[0, 10]), "record", ("10", "9")),
    "simulate no problem": Case(lambda: simulate(problem=optax.sgd(0.1)), "problem", ("LinearRegression",)),
    "simulate no optimizer": Case(lambda: simulate(optimizer=0.1), "optimizer", ("0.1", "SGD")),
    "simulate preconditioner dimension": Case(
        lambda: simulate(optimizer=ss.SGD(0.1, preconditioner=[1.0, 1.0, 1.0])), "preconditioner", ("3",)),
    "simulate statistics": Case(lambda: simulate(statistics=["mean"]), "statistics", ("mean",)),
    "simulate devices": Case(lambda: simulate(devices=1000), "devices", ("1000", "use_all_cores")),
    # sweep
    "sweep learning_rate": Case(lambda: ss.sweep(linear(label_noise=0.5), ss.SGD(0.1), batch_size=[2],
                                                 learning_rate=[0.1, -0.2], chains=64, steps=10),
                                "learning_rate", ("-0.2",)),
    "sweep batch_size": Case(lambda: ss.sweep(linear(label_noise=0.5), ss.SGD(0.1), batch_size=[2, 0],
                                              chains=64, steps=10), "batch_size", ("0",)),
    "sweep empty": Case(lambda: ss.sweep(linear(label_noise=0.5), ss.SGD(0.1), batch_size=[], chains=64, steps=10),
                        "batch_size", ("[]",)),
    # predict
    "predict batch_size zero": Case(lambda: predict(batch_size=0), "batch_size", ("0",)),
    "predict batch_size fractional": Case(lambda: predict(batch_size=1.5), "batch_size", ("1.5",)),
    "predict batch above n": Case(lambda: predict(dataset(), batch_size=4, sampling="without_replacement"),
                                  "batch_size", ("4", "3")),
    "predict sampling unknown": Case(lambda: predict(sampling="offline"), "sampling", ("'offline'", "'online'")),
    "predict approximation": Case(lambda: predict(approximation="hesian"), "approximation",
                                  ("'hesian'", "'hessian'")),
    "predict preconditioner dimension": Case(
        lambda: predict(optimizer=ss.SGD(0.1, preconditioner=[1.0, 1.0, 1.0])), "preconditioner", ("3",)),
}  # fmt: skip


def complaint_of(call) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    assert type(caught.value) is ValueError
    return str(caught.value)


def test_the_table_is_long_enough():
    assert len(CASES) >= 45


@pytest.mark.parametrize("name", CASES)
def test_python_refuses(name, compilations):
    case = CASES[name]
    message = complaint_of(case.call)
    assert message.startswith(case.argument), f"does not begin with the argument: {message}"
    for text in case.says:
        assert text in message, f"does not say {text!r}: {message}"
    assert " is " in message and ", but it must be " in message, f"does not say value and range: {message}"
    assert message.rpartition("; ")[2], f"offers no remedy: {message}"
    assert len(message) < 400 and "\n" not in message
    assert compilations() == 0, "something was compiled before the input was checked"


def test_the_count_of_compilations_counts(compilations):
    jax.jit(lambda x: x * 3.25 + 1)(np.float32(2.0))
    assert compilations() > 0


# The limit for A = a I without momentum: 2 S / (a (S + D + 1)) = 2 * 2 / (1 * (2 + 2 + 1)) = 0.8.
@pytest.mark.parametrize("learning_rate", [0.8001, 5.0, 1e6])
def test_predict_past_the_limit_names_the_limit(learning_rate):
    message = complaint_of(lambda: predict(linear((1.0, 1.0), label_noise=0.5), ss.SGD(learning_rate)))
    assert message.startswith("learning_rate is ")
    assert "0.8" in message.partition("but")[2]


def test_predict_refuses_by_name_what_it_has_no_theory_for():
    with pytest.raises(NotImplementedError, match="optax"):
        predict(optimizer=optax.adam(0.1))


@pytest.fixture
def csv(tmp_path, monkeypatch):
    """Tables in the current folder, one for each thing that can be wrong with a table."""
    monkeypatch.chdir(tmp_path)
    tables = {
        "good": FRAME,
        "empty": FRAME[:0],
        "text": FRAME.assign(b=["1", "x", "2", "3"]),
        "hole": FRAME.assign(a=[1.0, 2.0, NAN, 3.0]),
        "constant": FRAME.assign(y=2.0),
        "flat": FRAME.assign(a=2.0),
        "alone": FRAME[["y"]],
    }
    for name, frame in tables.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "nothing.csv").write_text("", encoding="utf-8")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81" * 20)
    return tmp_path


COMMANDS = {
    "missing file": (("analyze", "nowhere.csv", "--target", "y"), ("nowhere.csv",)),
    "missing column": (("analyze", "good.csv", "--target", "z"), ("target", "'z'", "'y'")),
    "no rows": (("analyze", "empty.csv", "--target", "y"), ("0 rows",)),
    "nothing at all": (("analyze", "nothing.csv", "--target", "y"), ("nothing.csv",)),
    "not text": (("analyze", "binary.csv", "--target", "y"), ("binary.csv",)),
    "text cell": (("analyze", "text.csv", "--target", "y"), ("row 2", "'b'", "x")),
    "missing cell": (("analyze", "hole.csv", "--target", "y"), ("row 3", "'a'")),
    "constant target": (("analyze", "constant.csv", "--target", "y"), ("target", "'y'")),
    "constant column": (("analyze", "flat.csv", "--target", "y"), ("'a'",)),
    "target alone": (("analyze", "alone.csv", "--target", "y"), ("'y'",)),
    "batch size zero": (("analyze", "good.csv", "--target", "y", "--batch-sizes", "0"), ("batch", "0")),
    "batch size text": (("analyze", "good.csv", "--target", "y", "--batch-sizes", "many"), ("many",)),
    "learning rate negative": (("analyze", "good.csv", "--target", "y", "--learning-rates", "-0.1"), ("-0.1",)),
    "learning rate NaN": (("analyze", "good.csv", "--target", "y", "--learning-rates", "nan"), ("nan",)),
    "unknown experiment": (("reproduce", "nope"), ("nope",)),
    "unknown scale": (("reproduce", "--all", "--scale", "huge"), ("huge", "smoke")),
}


def check_refusal(code: int, out: str, err: str, says: tuple[str, ...]) -> None:
    assert code == 2, err
    assert "Traceback" not in out + err
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    for text in says:
        assert text in lines[0], f"does not say {text!r}: {lines[0]}"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line_refuses_in_one_line(name, csv, monkeypatch, capsys):
    monkeypatch.setattr("sgdsim.use_all_cores", lambda: 1)  # the devices of this process are settled
    arguments, says = COMMANDS[name]
    with pytest.raises(SystemExit) as left:
        cli.app(list(arguments), prog_name="sgdsim")
    printed = capsys.readouterr()
    check_refusal(left.value.code, printed.out, printed.err, says)


@pytest.mark.parametrize("name", ["missing cell", "unknown experiment"])
def test_so_does_the_command_itself(name, csv):
    arguments, says = COMMANDS[name]
    done = subprocess.run(
        [sys.executable, "-m", "sgdsim", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    check_refusal(done.returncode, done.stdout, done.stderr, says)
