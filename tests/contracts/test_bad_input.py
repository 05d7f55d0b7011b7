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
from flax import linen as nn
from flax import nnx

import sgdsim as ss
from sgdsim.cli import app as cli
from sgdsim.solver import adam_bias, limits, manifold, stationary, tails, variance
from sgdsim.solver.predict import BeyondLimit

NAN, INF = float("nan"), float("inf")
FRAME = pd.DataFrame({"a": [1.0, 2.0, 3.0, 5.0], "b": [0.5, -1.0, 0.0, 2.0], "y": [1.0, 0.0, 2.0, 1.5]})


def linear(covariance=(1.0, 0.5), **rest):
    return ss.LinearRegression(list(covariance) if isinstance(covariance, tuple) else covariance, **rest)


def dataset(features=((1.0, 2.0), (0.5, 1.0), (2.0, -1.0)), targets=(1.0, 2.0, 3.0), **rest):
    return ss.DatasetRegression(features, targets, **rest)


def network(module=None, features=((1.0, 2.0), (0.5, 1.0), (2.0, -1.0)), targets=(0, 1, 1), loss="cross_entropy",
            **rest):
    return ss.FlaxNetwork(nn.Dense(2) if module is None else module, features, targets, loss, **rest)


def near_minimum(**rest):
    problem = ss.FromLoss(lambda w, x, y: (x @ w - y) ** 2, [[1.0], [2.0]], [1.0, 2.0], [1.0])
    settings = {"batch_size": 2, **rest}
    return stationary.noise_covariance_near_minimum(problem, settings.pop("w", [1.0]), **settings)


def simulate(problem=None, optimizer=None, **rest):
    settings = {"batch_size": 2, "chains": 64, "steps": 10, **rest}
    return ss.simulate(problem or linear(label_noise=0.5), optimizer or ss.SGD(0.1), **settings)


def predict(problem=None, optimizer=None, **rest):
    return ss.predict(problem or linear(label_noise=0.5), optimizer or ss.SGD(0.1), **{"batch_size": 2, **rest})


def exact(learning_rate=0.1, **rest):
    settings = {"batch_size": [1, 2], "steps": 2, **rest}
    return ss.solver.gradient_variance(dataset(), ss.SGD(learning_rate), **settings)


def polynomial(problem=None, **rest):
    return ss.solver.gradient_variance_polynomial(problem or dataset(), ss.SGD(0.1), **{"step": 1, **rest})


def two_layer(inner=((1.0,), (2.0,)), outer=((1.0, -1.0),), **rest):
    return ss.TwoLayerLinear(inner, outer, **rest)


def tail(samples=None, **rest):
    return ss.estimators.tail_index(np.arange(1.0, 501.0) if samples is None else samples, **rest)


def table(frame, target="y", **rest):
    return ss.DatasetRegression.from_table(frame, target=target, **rest)


def measured_variance(problem=None, optimizer=None, **rest):
    settings = {"batch_size": [1, 2], "steps": 3, "chains": 16, **rest}
    return ss.gradient_variance(problem or linear(label_noise=0.5), optimizer or ss.SGD(0.1), **settings)


def fitted(batch_sizes=(1, 2, 4, 8), variance=(4.0, 2.0, 1.0, 0.5), stderr=(0.1, 0.1, 0.1, 0.1), **rest):
    return ss.fit_polynomial(batch_sizes, variance, stderr, **rest)


def tilted(problem=None, learning_rate=0.1, **rest):
    return manifold.regularized_loss(problem or ss.Quadratic([1.0, 0.0], [1.0, 0.0]), learning_rate,
                                      **{"label_noise": 0.5, "batch_size": 2, **rest})


def flow(initial=(0.0, 1.0), times=(0.0, 1.0), **rest):
    return manifold.label_noise_flow(lambda w: 0.5 * (1 + w[1] ** 2) * w[0] ** 2, list(initial), list(times),
                                      **{"learning_rate": 0.1, "label_noise": 1.0, **rest})


def regularizer(hessian=(1.0, 0.5), learning_rate=0.1, *rest, **more):
    return manifold.label_noise_regularizer(list(hessian), learning_rate, *rest, **more)


ELLIPSE = ss.Ellipse(a=2.0, b=1.0)


def slow(optimizer=None, **rest):
    settings = {"initial": ELLIPSE.minimum, "times": [1.0], **rest}
    return manifold.slow_ode(ELLIPSE, optimizer or ss.SGD(0.1), **settings)


class Case(NamedTuple):
    """What is done, which argument the message must name, and what else it must say."""

    call: object
    argument: str
    says: tuple[str, ...]


def design(problem=None, **rest):
    return ss.design(problem or linear([1.0, 0.5], teacher=[1.0, 1.0], label_noise=0.5), **{"steps": 10, **rest})


CASES = {
    # tail index and stability limits
    **{
        f"step_curvature {name}": Case(lambda v=value: tails.kesten_tail_index(v, 2), "step_curvature", (says,))
        for name, value, says in (("0", 0.0, "positive"), ("negative", [0.5, -1.0], "positive"), ("NaN", NAN, "nan"),
                                  ("infinite", INF, "inf"), ("text", "big", "big"))
    },
    "decay of nothing stable": Case(lambda: ss.solver.optimal_weight_decay(linear((1.0,)), ss.SGD(0.9), batch_size=1),
                                    "learning_rate", ("0.9", "raise batch_size")),
    "decay batch_size": Case(lambda: ss.solver.optimal_weight_decay(linear(), ss.SGD(0.1), batch_size=0), "batch_size",
                             ("0", ">= 1")),
    "variance projection": Case(lambda: exact(projection=[[1.0, 2.0, 3.0]]), "projection", ("(k, 2)",)),
    "polynomial projection of layers": Case(lambda: polynomial(two_layer(), projection=[1.0]), "projection", ("None",)),
    "moment word": Case(lambda: variance.wishart_moment([np.eye(2)]), "word", ("two matrices",)),
    "moment shapes": Case(lambda: variance.wishart_moment([np.eye(2), np.eye(3)]), "word", ("(2, 3)",)),
    "moment traces": Case(lambda: variance.wishart_moment([np.eye(2)] * 2, [[np.eye(3)]]), "traces", ("2 x 2",)),
    "moment length": Case(lambda: variance.wishart_moment([np.eye(1)] * 8), "word", ("7", "6 factors")),
    "moment samples": Case(lambda: variance.wishart_moment([np.eye(2)] * 3, samples=[1]), "samples", ("2 numbers",)),
    "moment batch_size": Case(lambda: variance.wishart_moment([np.eye(2)] * 2, batch_size=0), "batch_size", ("0",)),
    "average of nothing": Case(lambda: ss.statistics.Average({}), "functions", ("by name",)),
    "average of a number": Case(lambda: ss.statistics.Average({"size": 3}), "functions", ("3",)),
    "average unnamed": Case(lambda: ss.statistics.Average(abs), "functions", ("by name",)),
    "trace probes": Case(lambda: ss.statistics.HessianTrace(0), "probes", ("0",)),
    "curvature powers": Case(lambda: ss.statistics.Curvature(powers=[0.0]), "powers", ("0.0",)),
    "network noise": Case(lambda: network(nn.Dense(1), targets=(0.0, 1.0, 1.0), loss="mse", noise="normal"), "noise",
                          ("'normal'", "'gaussian'")),
    "cite unknown": Case(lambda: ss.cite("measured"), "reference", ("'measured'", "ziyin2022strength")),
    "load missing": Case(lambda: ss.load("/nowhere/run.nc"), "path", ("run.nc", "existing file")),
    "load no result": Case(lambda: ss.load(__file__), "path", ("test_bad_input.py", "NetCDF")),
    "step_curvature shape": Case(lambda: tails.kesten_tail_index([1.0] * 3, [1, 2]), "step_curvature", ("(3,)",)),
    "kesten batch_size 0": Case(lambda: tails.kesten_tail_index(1.0, 0), "batch_size", ("whole",)),
    "kesten batch_size fraction": Case(lambda: tails.kesten_tail_index(1.0, 1.5), "batch_size", ("whole",)),
    "kesten dimension 0": Case(lambda: tails.kesten_tail_index(1.0, 1, 0), "dimension", ("whole",)),
    "published dimension": Case(lambda: tails.kesten_tail_index(1.0, 1, 2, approximation="published"), "dimension",
                                ("'published'",)),
    "kesten approximation": Case(lambda: tails.kesten_tail_index(1.0, 1, approximation="print"), "approximation",
                                 ("'print'",)),
    "growth particles": Case(
        lambda: tails.tail_index_by_particles(linear(), ss.SGD(0.1), batch_size=1, particles=3), "particles", ("16",)),
    "growth steps": Case(
        lambda: tails.tail_index_by_particles(linear(), ss.SGD(0.1), batch_size=1, steps=1), "steps", ("10",)),
    "growth tolerance": Case(
        lambda: tails.tail_index_by_particles(linear(), ss.SGD(0.1), batch_size=1, tolerance=0), "tolerance", ("0",)),
    "growth batch_size": Case(
        lambda: tails.tail_index_by_particles(linear(), ss.SGD(0.1), batch_size=0), "batch_size", ("0",)),
    "batch_sizes empty": Case(
        lambda: limits.stability_limit(linear(), ss.SGD(0.1), batch_size=[]), "batch_size", ("whole",)),
    "batch_sizes 0": Case(
        lambda: limits.stability_limit(linear(), ss.SGD(0.1), batch_size=[4, 0]), "batch_size", ("0",)),
    "stability chains": Case(
        lambda: limits.stability_limit(linear(), ss.SGD(0.1), batch_size=[4], chains=1), "chains", ("16",)),
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
    "label_noise complex": Case(lambda: linear(label_noise=1j), "label_noise", ("1j",)),
    "label_noise too large": Case(lambda: linear(label_noise=1e160), "label_noise", ("1e+160", "1e+50", "units")),
    "label_noise beyond any number": Case(lambda: linear(label_noise=10**5000), "label_noise", ("too large",)),
    "weight_decay ragged": Case(lambda: linear(weight_decay=[1.0, [1.0]]), "weight_decay", ("[1.0]",)),
    "batch size too large": Case(lambda: predict(batch_size=10**400), "batch_size", ("1e+15",)),
    "learning rate too small": Case(lambda: ss.SGD(1e-308), "learning_rate", ("1e-308", "1e-50", "units")),
    "teacher too large": Case(lambda: linear(teacher=[1.0, 1e60]), "teacher", ("1e+60", "1e+50", "units")),
    "teacher complex array": Case(lambda: linear(teacher=np.array([1.0, 1j])), "teacher", ("1.j", "real")),
    "hessian indefinite": Case(lambda: ss.Quadratic([1.0, -1.0], [1.0, 1.0]), "hessian", ("-1",)),
    "example_noise_covariance shape": Case(lambda: ss.Quadratic([1.0, 1.0], [1.0]), "example_noise_covariance",
                                           ("(1,)",)),
    "minimum wrong length": Case(lambda: ss.Quadratic([1.0], [1.0], minimum=[0.0, 0.0]), "minimum", ("length 1",)),
    # problems: data
    "features one axis": Case(lambda: dataset([1.0, 2.0, 3.0]), "features", ("(3,)", "row")),
    "features empty": Case(lambda: dataset(np.zeros((0, 2)), []), "features", ("(0, 2)",)),
    "features NaN": Case(lambda: dataset([[1.0, NAN], [0.0, 1.0]], [1.0, 2.0]), "features", ("nan", "(0, 1)")),
    "targets wrong length": Case(lambda: dataset(targets=[1.0]), "targets", ("(3,)", "(1,)")),
    "targets infinite": Case(lambda: dataset(targets=[1.0, INF, 0.0]), "targets", ("inf", "index (1,)")),
    "data label_noise": Case(lambda: dataset(label_noise=-1.0), "label_noise", ("-1.0",)),
    # networks
    "data noise": Case(lambda: dataset(noise="normal"), "noise", ("'normal'",)),
    "network label_flip": Case(lambda: network(label_flip=1.0), "label_flip", ("1.0", "below 1")),
    "network label_flip negative": Case(lambda: network(label_flip=-0.1), "label_flip", ("-0.1",)),
    "network label_flip of squares": Case(lambda: network(nn.Dense(1), targets=(0.0, 1.0, 1.0), loss="mse",
                                                          label_flip=0.1), "label_flip", ("'mse'", "logistic")),
    "network logistic labels": Case(lambda: network(nn.Dense(1), loss="logistic"), "targets", ("-1 or 1",)),
    "network logistic outputs": Case(lambda: network(targets=(1, -1, 1), loss="logistic"), "module", ("one output",)),
    "network features one axis": Case(lambda: network(features=[1.0, 2.0]), "features", ("(2,)", "row")),
    "network features NaN": Case(lambda: network(features=[[1.0, NAN]], targets=[0]), "features", ("nan", "(0, 1)")),
    "network targets length": Case(lambda: network(targets=[0, 1]), "targets", ("3 examples", "(2,)")),
    "network label too large": Case(lambda: network(targets=[0, 1, 2]), "targets", ("2.0", "0 to 1", "index 2")),
    "network label negative": Case(lambda: network(targets=[-1, 1, 0]), "targets", ("-1.0", "index 0")),
    "network label fractional": Case(lambda: network(targets=[0.5, 1, 0]), "targets", ("0.5", "whole")),
    "network labels one-hot": Case(lambda: network(targets=np.eye(3)), "targets", ("(3, 3)", "argmax")),
    "network outputs": Case(lambda: network(nn.Dense(3), loss="mse"), "targets", ("(3, 3)", "(3,)")),
    "network loss name": Case(lambda: network(loss="crossentropy"), "loss", ("crossentropy", "'cross_entropy'?")),
    "network loss number": Case(lambda: network(loss=2), "loss", ("2", "function")),
    "network loss not scalar": Case(lambda: network(loss=lambda f, y: f), "loss", ("scalar", "sum over outputs")),
    "network loss of two examples": Case(lambda: network(loss=lambda f: f[0]), "loss", ("ONE example",)),
    "network batch norm": Case(lambda: network(nn.BatchNorm(use_running_average=False)), "module", ("batch_stats",)),
    "network dropout": Case(lambda: network(nn.Sequential([nn.Dense(2), nn.Dropout(0.5, deterministic=False)])),
                            "module", ("dropout", "deterministic=True")),
    "network nnx dropout": Case(lambda: network(lambda rngs: nnx.Sequential(
        nnx.Linear(2, 2, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))), "module", ("Rng", "dropout")),
    "network nnx shape": Case(lambda: network(lambda rngs: nnx.Linear(3, 2, rngs=rngs)), "module", ("features",)),
    "network class": Case(lambda: network(nn.Dense), "module", ("instance",)),
    "network without parameters": Case(lambda: network(nn.Sequential([nn.tanh])), "module", ("parameters",)),
    "network unhashable": Case(lambda: network(nn.Dense(2, kernel_init=nn.initializers.constant(1.0),
                                                        bias_init=np.ones(2))), "module", ("Dense", "hash")),
    "network merges examples": Case(lambda: network(nn.Sequential([nn.Dense(2), lambda x: x.sum(axis=0)])), "module",
                                    ("batch",)),
    "network weight_decay": Case(lambda: network(weight_decay=[1.0, 2.0]), "weight_decay", ("[1.0, 2.0]", "number")),
    "network weight_decay NaN": Case(lambda: network(weight_decay=NAN), "weight_decay", ("nan",)),
    "network seed": Case(lambda: network(seed=-1), "seed", ("-1",)),
    "network test_targets missing": Case(lambda: network(test_features=[[1.0, 2.0]]), "test_targets", ("both",)),
    "network test_features shape": Case(lambda: network(test_features=[[1.0]], test_targets=[0]), "test_features",
                                        ("(1,)", "(2,)")),
    "network initial": Case(lambda: simulate(network(), initial=[0.0, 1.0]), "initial", ("(6,)",)),
    "near_minimum batch_size": Case(lambda: near_minimum(batch_size=0), "batch_size", ("0",)),
    "near_minimum subset": Case(lambda: near_minimum(batch_size=3, sampling="without_replacement"), "batch_size",
                                ("from 1 to 2",)),
    "near_minimum form": Case(lambda: near_minimum(form="losses"), "form", ("'loss'?",)),
    "near_minimum no point": Case(lambda: near_minimum(w=None), "w", ("None",)),
    "near_minimum other point": Case(lambda: near_minimum(w=[1.0, 2.0]), "w", ("length 1",)),
    # label noise
    "regularizer hessian asymmetric": Case(lambda: regularizer([[1.0, 0.5], [0.0, 1.0]]), "hessian", ("symmetr",)),
    "regularizer hessian shape": Case(lambda: regularizer([[1.0, 0.5]]), "hessian", ("(1, 2)",)),
    "regularizer hessian NaN": Case(lambda: regularizer([1.0, NAN]), "hessian", ("nan",)),
    "regularizer limit": Case(lambda: regularizer([4.0], 0.5), "learning_rate", ("0.5", "h_max = 0.5")),
    "regularizer limit with momentum": Case(lambda: regularizer([4.0], 0.8, 0.5), "learning_rate", ("h_max = 0.75",)),
    "regularizer learning_rate": Case(lambda: regularizer(learning_rate=-0.1), "learning_rate", ("-0.1", "positive")),
    "regularizer momentum": Case(lambda: regularizer([1.0], 0.1, 1.0), "momentum", ("1.0", "[0, 1)")),
    "regularizer curvature": Case(lambda: regularizer(curvature=0.0), "curvature", ("0.0", "positive")),
    "flow sampling of a function": Case(lambda: flow(sampling="with_replacement"), "sampling",
                                        ("None for a function",)),
    "flow sampling": Case(lambda: manifold.label_noise_flow(ELLIPSE, ELLIPSE.minimum, [1.0], learning_rate=0.1,
                                                            label_noise=1.0, sampling="drawn"), "sampling",
                          ("'drawn'",)),
    "flow curvature": Case(lambda: flow(curvature=0.0), "curvature", ("0.0", "positive")),
    "tilt curvature": Case(lambda: tilted(curvature=-1.0), "curvature", ("-1.0", "positive")),
    "strength label_noise": Case(lambda: manifold.label_noise_strength(0.1, label_noise=-1.0, batch_size=1),
                                 "label_noise", ("-1.0", "standard deviation")),
    "strength batch_size": Case(lambda: manifold.label_noise_strength(0.1, label_noise=1.0, batch_size=0),
                                "batch_size", ("0",)),
    "fluctuations past the limit": Case(
        lambda: manifold.label_noise_covariance([1.0], 2.0, label_noise=1.0, batch_size=1), "learning_rate", ("= 2",)),
    "fixed point noise shape": Case(lambda: manifold.normalized_covariance([1.0, 1.0], [1.0], 0.1), "normalized_noise",
                                    ("dimension 2",)),
    "fixed point noise indefinite": Case(lambda: manifold.normalized_covariance([1.0], [-1.0], 0.1), "normalized_noise",
                                         ("-1",)),
    "flip none": Case(lambda: manifold.label_flip_constants("square", 0.0), "flip", ("0.0", "(0, 1)")),
    "flip all": Case(lambda: manifold.label_flip_constants("square", 1.0), "flip", ("1.0", "(0, 1)")),
    "slow sharpness w": Case(lambda: manifold.sharpness(ELLIPSE, [1.0], ss.SGD(0.1)), "w", ("length 2",)),
    "sharpness v of SGD": Case(lambda: manifold.sharpness(ELLIPSE, [1.0, 1.0], ss.SGD(0.1), second_moment=[1.0, 1.0]),
                               "second_moment", ("None for SGD",)),
    "gauss_newton w": Case(lambda: manifold.gauss_newton(dataset(), [1.0]), "w", ("length 2",)),
    "flip text": Case(lambda: manifold.label_flip_constants("square", "p"), "flip", ("'p'",)),
    "flip loss": Case(lambda: manifold.label_flip_constants("logstic", 0.2), "loss", ("'logistic'?",)),
    "regularized loss of nothing": Case(lambda: tilted(3), "problem", ("int", "function")),
    "regularized loss momentum": Case(lambda: tilted(momentum=-0.1), "momentum", ("-0.1",)),
    "regularized loss point": Case(lambda: tilted().value([1.0]), "w", ("length 2",)),
    "regularized loss steps": Case(lambda: tilted().descend([1.0, 0.0], 10, every=3), "steps", ("10", "try 9")),
    "potential covariance": Case(lambda: manifold.potential_gradient(lambda w: w[0], [1.0, 2.0], [1.0]), "covariance",
                                 ("dimension 2",)),
    "flow times": Case(lambda: flow(times=(0.0, 2.0, 1.0)), "times", ("increasing",)),
    "flow tolerance": Case(lambda: flow(tolerance=0.0), "tolerance", ("0.0",)),
    "flow label_noise": Case(lambda: flow(label_noise=None), "label_noise", ("0.0", "pass label_noise=")),
    "phase without a curve": Case(lambda: manifold.phase_drift(linear(), learning_rate=0.1), "curve", ("None",)),
    "phase without noise": Case(lambda: manifold.phase_drift(lambda w: w[0], lambda p: p, learning_rate=0.1),
                                "noise_covariance", ("None",)),
    "phase steps": Case(lambda: manifold.PhaseDrift(np.zeros(2), np.zeros(2), np.zeros((2, 1, 1))).phase([2.0, 1.0]),
                        "steps", ("increasing",)),
    "network label_noise": Case(lambda: network(label_noise=-0.5), "label_noise", ("-0.5", "standard deviation")),
    "network label_noise of classes": Case(lambda: network(label_noise=0.5), "label_noise", ("0.5", "'mse'")),
    "near_minimum label_noise": Case(lambda: stationary.noise_covariance_near_minimum(
        network(nn.Dense(1), loss="mse", label_noise=0.5), np.zeros(3), batch_size=1), "label_noise", ("0.5",)),
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
    "learning_rate listed": Case(lambda: ss.SGD([0.1, -0.1]), "learning_rate", ("-0.1", "schedule")),
    "momentum listed": Case(lambda: ss.SGD(0.1, [0.9, 1.0]), "momentum", ("1.0", "[0, 1)")),
    "nesterov": Case(lambda: ss.SGD(0.1, 0.9, nesterov="yes"), "nesterov", ("True",)),
    "decoupled decay": Case(lambda: ss.AdamW(0.1, weight_decay=-0.1), "weight_decay", ("-0.1",)),
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
    "DampedNewton learning_rate": Case(lambda: ss.DampedNewton(-0.1), "learning_rate", ("-0.1", "positive")),
    "DampedNewton momentum": Case(lambda: ss.DampedNewton(0.1, 1.0), "momentum", ("1.0", "[0, 1)")),
    "DampedNewton without a problem": Case(lambda: ss.DampedNewton(0.1).as_optax(), "problem", ("as_optax(problem)",)),
    "NaturalGradient learning_rate": Case(lambda: ss.NaturalGradient(0.0), "learning_rate", ("0.0", "positive")),
    "NaturalGradient memory": Case(lambda: ss.NaturalGradient(0.1, memory=1.0), "memory", ("1.0", "[0, 1)")),
    "fisher asymmetric": Case(lambda: ss.NaturalGradient(0.1, fisher=[[1.0, 0.3], [0.1, 0.5]]), "fisher", ("symm",)),
    "fisher singular": Case(lambda: ss.NaturalGradient(0.1, fisher=[1.0, 0.0]), "fisher", ("positive definite",)),
    "fisher dimension": Case(lambda: simulate(optimizer=ss.NaturalGradient(0.1, fisher=[1.0])), "fisher",
                             ("dimension 2", "(1,)")),
    "NaturalGradient batch_size": Case(lambda: simulate(optimizer=ss.NaturalGradient(0.1, batch_size=8)),
                                       "batch_size", ("2", "8")),
    "NaturalGradient without noise": Case(lambda: predict(linear(), ss.NaturalGradient(0.1)), "fisher",
                                          ("singular", "label noise")),
    "b1 one": Case(lambda: ss.Adam(0.1, b1=1.0), "b1", ("1.0", "[0, 1)")),
    "b2 negative": Case(lambda: ss.Adam(0.1, b2=-0.1), "b2", ("-0.1",)),
    "eps negative": Case(lambda: ss.Adam(0.1, eps=-1e-8), "eps", ("-1e-08",)),
    "eps_root negative": Case(lambda: ss.Adam(0.1, eps_root=-1.0), "eps_root", ("-1.0",)),
    "bias_correction number": Case(lambda: ss.Adam(0.1, bias_correction=1), "bias_correction", ("1", "True or False")),
    "rmsprop b2 one": Case(lambda: ss.RMSProp(0.1, b2=1.0), "b2", ("1.0", "[0, 1)")),
    "rmsprop eps negative": Case(lambda: ss.RMSProp(0.1, eps=-1.0), "eps", ("-1.0",)),
    "exponent one": Case(lambda: ss.AdamE(0.1, exponent=1.0), "exponent", ("1.0", "[0, 1)", "0.5 is Adam")),
    "exponent negative": Case(lambda: ss.AdamE(0.1, exponent=-0.1), "exponent", ("-0.1",)),
    "blocks overlap": Case(lambda: ss.AdamMini(0.1, [[0, 1], [1, 2]]), "blocks", ("partition",)),
    "blocks gap": Case(lambda: ss.AdamMini(0.1, [[0], [2]]), "blocks", ("partition", "[[0], [2]]")),
    "blocks empty one": Case(lambda: ss.AdamMini(0.1, [[0], []]), "blocks", ("none empty",)),
    "blocks flat": Case(lambda: ss.AdamMini(0.1, [0, 1]), "blocks", ("list of lists",)),
    "blocks dimension": Case(lambda: simulate(optimizer=ss.AdamMini(0.1, [[0], [1, 2]])), "blocks", ("2 parameters",)),
    "shapes flat": Case(lambda: ss.Adafactor(0.1, [2, 3]), "shapes", ("(rows, columns)",)),
    "shapes cube": Case(lambda: ss.Adafactor(0.1, [(2, 3, 4)]), "shapes", ("(rows, columns)",)),
    "shapes zero": Case(lambda: ss.Adafactor(0.1, [(2, 0)]), "shapes", ("0", ">= 1")),
    "layers zero": Case(lambda: ss.Adalayer(0.1, [2, 0]), "layers", ("0", ">= 1")),
    "layers empty": Case(lambda: ss.Adalayer(0.1, []), "layers", ("list of sizes",)),
    "lookahead fast": Case(lambda: ss.lookahead(ss.SGD(0.1), 5, 0.5), "fast_optimizer", ("as_optax",)),
    "lookahead period": Case(lambda: ss.lookahead(optax.sgd(0.1), 0, 0.5), "sync_period", ("0",)),
    "lookahead step": Case(lambda: ss.lookahead(optax.sgd(0.1), 5, 1.5), "slow_step_size", ("1.5", "(0, 1]")),
    "layers dimension": Case(lambda: predict(optimizer=ss.Adalayer(0.1, [3])), "layers", ("2 parameters",)),
    "V no function": Case(lambda: ss.AdaptiveGradient(0.1, V=2.0), "V", ("2.0", "function")),
    "S no function": Case(lambda: ss.AdaptiveGradient(0.1, S="sqrt"), "S", ("'sqrt'", "function")),
    "adaptive b1 one": Case(lambda: ss.AdaptiveGradient(0.1, b1=1.0), "b1", ("1.0", "[0, 1)")),
    "predict adam hessian": Case(lambda: predict(optimizer=ss.Adam(0.1), approximation="hessian"), "approximation",
                                 ("'hessian'", "'mean_field'")),
    "predict adam flat": Case(lambda: predict(ss.Quadratic([1.0, 0.0], [1.0, 1.0]), ss.Adam(0.1)), "hessian",
                              ("positive definite", "weight decay")),
    "predict adam silent": Case(lambda: predict(ss.Quadratic([1.0, 1.0], [1.0, 0.0]), ss.Adam(0.1)),
                                "noise_covariance", ("0.0", "positive")),
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
    "simulate batch above n, cyclic": Case(lambda: simulate(dataset(), batch_size=4, sampling="cyclic"), "batch_size",
                                           ("4", "1 to 3")),
    "simulate batch above n, bernoulli": Case(lambda: simulate(dataset(), batch_size=4, sampling="bernoulli"),
                                              "batch_size", ("4", "1 to 3")),
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
    "simulate checkpoint": Case(lambda: simulate(checkpoint=3), "checkpoint", ("3", "ss.Checkpoint")),
    "checkpoint seconds": Case(lambda: ss.Checkpoint("run", seconds=0), "seconds", ("0",)),
    "checkpoint steps": Case(lambda: ss.Checkpoint("run", steps=0), "steps", ("0", ">= 1")),
    "checkpoint name": Case(lambda: ss.Checkpoint("run", name=3), "name", ("3", "a string")),
    "checkpoint keep": Case(lambda: ss.Checkpoint("run", keep=0), "keep", ("0", "keep=2")),
    "simulate passes zero": Case(lambda: simulate(passes=0), "passes", ("0", "'auto'")),
    "simulate passes beyond blocks": Case(lambda: simulate(passes=1000), "passes", ("1000", "whole blocks")),
    "simulate passes text": Case(lambda: simulate(passes="many"), "passes", ("'many'", "'auto'")),
    "target_stderr zero": Case(lambda: simulate(target_stderr=0), "target_stderr", ("0", "0.01")),
    "target_stderr text": Case(lambda: simulate(target_stderr="1%"), "target_stderr", ("'1%'", "0.01")),
    "target_stderr empty": Case(lambda: simulate(target_stderr={}), "target_stderr", ("{}",)),
    "target_stderr unknown": Case(lambda: simulate(target_stderr={"covarance": 0.1}), "target_stderr",
                                  ("'covariance'",)),
    "target_stderr unmeasured": Case(lambda: simulate(target_stderr=0.1, statistics=()), "target_stderr", ("Moments",)),
    "target_stderr in passes": Case(lambda: simulate(target_stderr=0.1, passes=2), "target_stderr", ("passes=1",)),
    # sweep
    "sweep learning_rate": Case(lambda: ss.sweep(linear(label_noise=0.5), ss.SGD(0.1), batch_size=[2],
                                                 learning_rate=[0.1, -0.2], chains=64, steps=10),
                                "learning_rate", ("-0.2",)),
    "sweep batch_size": Case(lambda: ss.sweep(linear(label_noise=0.5), ss.SGD(0.1), batch_size=[2, 0],
                                              chains=64, steps=10), "batch_size", ("0",)),
    "sweep empty": Case(lambda: ss.sweep(linear(label_noise=0.5), ss.SGD(0.1), batch_size=[], chains=64, steps=10),
                        "batch_size", ("[]",)),
    # variance of the gradient, exactly
    "exact learning_rate text": Case(lambda: exact(lambda t: "fast"), "learning_rate", ("non-negative", "lambda t")),
    "exact optimizer": Case(lambda: ss.solver.gradient_variance(dataset(), 0.1, batch_size=1, steps=2), "optimizer",
                            ("0.1", "SGD")),
    "exact learning_rate of a step": Case(lambda: exact(lambda t: 0.1 - t), "learning_rate(1)", ("-0.9",)),
    "exact batch_size empty": Case(lambda: exact(batch_size=[]), "batch_size", ("[]",)),
    "exact batch_size zero": Case(lambda: exact(batch_size=[1, 0]), "batch_size", ("0", ">= 1")),
    "exact batch_size fractional": Case(lambda: exact(batch_size=[1.5]), "batch_size", ("1.5",)),
    "exact batch_size twice": Case(lambda: exact(batch_size=[2, 1, 2]), "batch_size", ("[2, 1, 2]", "sorted(set")),
    "exact batch above n": Case(lambda: exact(batch_size=[4], sampling="without_replacement"), "batch_size",
                                ("4", "3")),
    "exact steps zero": Case(lambda: exact(steps=0), "steps", ("0", ">= 1")),
    "exact initial shape": Case(lambda: exact(initial=[0.0]), "initial", ("length 2", "(1,)")),
    "exact sampling": Case(lambda: exact(sampling="online"), "sampling", ("'online'",)),
    "exact epochs batch above n": Case(
        lambda: variance.epoch_gradient_variance(dataset(), ss.SGD(0.1), batch_size=[4], steps=2), "batch_size",
        ("4", "3")),
    "exact epochs too many": Case(
        lambda: variance.epoch_gradient_variance(dataset(np.ones((13, 1)), np.ones(13)), ss.SGD(0.1),
                                                  batch_size=[4], steps=2), "problem", ("12", "13", "simulate")),
    "polynomial step negative": Case(lambda: polynomial(step=-1), "step", ("-1", ">= 0")),
    "polynomial order zero": Case(lambda: polynomial(order=0), "order", ("0", ">= 1")),
    "polynomial quantity": Case(lambda: polynomial(quantity="gradients"), "quantity", ("'gradients'", "did you mean")),
    "polynomial beyond n": Case(lambda: polynomial(sampling="without_replacement")(4), "b", ("4", "1 to 3")),
    "polynomial order of layers": Case(lambda: polynomial(two_layer(), order=2), "order", ("2", "two-layer")),
    "polynomial start of layers": Case(lambda: polynomial(two_layer(), initial=([[1.0]], [[1.0, 2.0]])), "initial[0]",
                                       ("(2, 1)", "(1, 1)")),
    "polynomial layers missing": Case(lambda: polynomial(two_layer(), initial=([[1.0], [2.0]],)), "initial", ("2 m",)),
    "polynomial start ragged": Case(lambda: polynomial(two_layer(), initial=([[1.0], [1.0, 2.0]], [[1.0, 2.0]])),
                                    "initial[0]", ("real numbers",)),
    "coefficient step": Case(lambda: variance.leading_variance_coefficient(two_layer(), ss.SGD(0.1), step=1.5), "step",
                             ("1.5",)),
    "layers w shape": Case(lambda: variance.layer_gradient_variance(two_layer(), [1.0]), "w", ("(4,)", "flatten")),
    # memory removal and Adam's bias
    "memoryless batches outside": Case(lambda: adam_bias.memoryless(dataset(), ss.SGD(0.1), np.array([[3]])), "batches",
                                       ("0 to 2", "(steps, b)")),
    "memoryless indices without data": Case(lambda: adam_bias.memoryless(linear(), ss.SGD(0.1), np.array([[0]])),
                                            "batches", ("without a data set", "DatasetRegression")),
    "memoryless fresh noise": Case(
        lambda: adam_bias.memoryless(dataset(label_noise=0.5), ss.SGD(0.1), np.array([[0]])), "label_noise", ("0.5",)),
    "memoryless optax without a rate": Case(lambda: adam_bias.memoryless(dataset(), optax.sgd(1.0)), "learning_rate",
                                            ("None", "optax")),
    "memoryless step": Case(lambda: adam_bias.memoryless(dataset(), ss.SGD(0.1), np.array([[0], [1]])).terms([0, 0], 2),
                            "step", ("2", "0 to 1")),
    "memoryless endless": Case(lambda: adam_bias.memoryless(dataset(), ss.SGD(0.1)).trajectory([0, 0]), "steps",
                               ("None", "no end")),
    "memoryless kind": Case(lambda: adam_bias.memoryless(dataset(), ss.SGD(0.1)).trajectory([0, 0], 2, "both"), "kind",
                            ("'both'", "memory")),
    "permutation batch_size": Case(lambda: adam_bias.permutation_average(dataset(), ss.SGD(0.1), [0, 0], batch_size=2),
                                   "batch_size", ("2", "divisor", "3")),
    "permutation exact Adam": Case(lambda: adam_bias.permutation_average(
        dataset(), ss.Adam(0.1), [0, 0], batch_size=1, method="exact"), "method", ("'exact'", "SGD")),
    "permutation epsilon outside": Case(lambda: adam_bias.permutation_average(
        dataset(), ss.Adam(0.1), [0, 0], batch_size=1, method="second_order"), "optimizer", ("eps=0", "eps_root")),
    "permutation epochs": Case(lambda: adam_bias.permutation_average(dataset(), ss.SGD(0.1), [0, 0], batch_size=1,
                                                                     epochs=0), "epochs", ("0", ">= 1")),
    "bias terms optimizer": Case(lambda: adam_bias.adam_bias_terms(dataset(), [0, 0], ss.SGD(0.1), batch_size=1),
                                 "optimizer", ("eps_root",)),
    "bias terms batch_size": Case(lambda: adam_bias.adam_bias_terms(dataset(), [0, 0], ss.Adam(0.1, eps=0.0),
                                                                    batch_size=4), "batch_size", ("4", "1 to 3")),
    "monotonicity both": Case(lambda: adam_bias.adam_monotonicity(0.5), "b1, b2", ("None",)),
    "monotonicity noise_ratio": Case(lambda: adam_bias.adam_monotonicity(-0.5, b1=0.9), "noise_ratio", ("-0.5",)),
    "permutation momentum": Case(lambda: adam_bias.momentum_permutation_coefficients(1.0, 2), "momentum", ("1.0",)),
    "permutation n": Case(lambda: adam_bias.momentum_permutation_coefficients(0.9, 2, 0), "n", ("0", ">= 1")),
    "coefficients b1": Case(lambda: adam_bias.adam_noise_coefficients(1.0, 0.9), "b1", ("1.0", "[0, 1)")),
    "coefficients b2": Case(lambda: adam_bias.adam_noise_coefficients(0.9, -0.1), "b2", ("-0.1", "[0, 1)")),
    "coefficients n": Case(lambda: adam_bias.adam_noise_coefficients(0.9, 0.99, n=0), "n", ("0", ">= 1")),
    "coefficients eps": Case(lambda: adam_bias.adam_noise_coefficients(0.9, 0.99, eps=-1e-8), "eps", ("-1e-08",)),
    "sharpness noise_ratio": Case(lambda: adam_bias.adam_sharpness_coefficient(0.9, 0.99, -0.5), "noise_ratio",
                                  ("-0.5", "variance")),
    "sharpness approximation": Case(lambda: adam_bias.adam_sharpness_coefficient(0.9, 0.99, 0.5, "first"),
                                    "approximation", ("'first'", "second")),
    "sharpness sampled without memory": Case(
        lambda: adam_bias.adam_sharpness_coefficient(0.9, 0.0, 0.5, "monte_carlo"), "b2", ("above 0",)),
    "thresholds both": Case(lambda: adam_bias.adam_thresholds(b1=0.9, b2=0.99), "b1, b2", ("None",)),
    "thresholds b2 small": Case(lambda: adam_bias.adam_thresholds(b2=0.4), "b2", ("0.4", "1/2")),
    "noise scale examples": Case(lambda: ss.estimators.simple_noise_scale(linear(), [0, 0], examples=2), "examples",
                                 ("2", ">= 3")),
    "noise scale w": Case(lambda: ss.estimators.simple_noise_scale(linear(), [0.0]), "w", ("length 2",)),
    "noise scale confidence": Case(lambda: ss.estimators.simple_noise_scale(linear(), [0, 0], confidence=1.0),
                                   "confidence", ("1.0", "(0, 1)")),
    "noise scale batch sizes": Case(lambda: ss.estimators.batch_noise_scale(
        [1.0, 2.0, 3.0], [1.0, 1.0, 1.0], batch_size=(4, 4)), "batch_size[1]", ("4", ">= 5")),
    "noise scale pairs": Case(lambda: ss.estimators.batch_noise_scale([1.0, 2.0], [1.0], batch_size=(1, 2)),
                              "large_norms", ("3 or more",)),
    # the tail
    "tail few": Case(lambda: tail(np.arange(1.0, 200.0)), "samples", ("200 or more", "(199,)")),
    "tail matrix": Case(lambda: tail(np.ones((300, 2))), "samples", ("(300, 2)",)),
    "tail NaN": Case(lambda: tail([NAN, *range(300)]), "samples", ("nan", "index (0,)")),
    "tail infinite": Case(lambda: tail([INF, *range(300)]), "samples", ("inf",)),
    "tail all equal": Case(lambda: tail(np.full(500, -2.5)), "samples", ("all equal", "2.5")),
    "tail all zero": Case(lambda: tail(np.zeros(500)), "samples", ("all equal",)),
    "tail mostly zero": Case(lambda: tail([0.0] * 500 + list(range(1, 100))), "samples", ("positive in 200",)),
    "tail ties": Case(lambda: tail(np.arange(2_000.0) // 4), "samples", ("75% repeat", "unrounded")),
    "tail confidence": Case(lambda: tail(confidence=1.0), "confidence", ("1.0", "(0, 1)")),
    "tail method": Case(lambda: tail(method="hil"), "method", ("'hil'", "'hill'")),
    "tail decay": Case(lambda: tail(decay=0.0), "decay", ("0.0", "positive")),
    "tail total": Case(lambda: tail(total=10), "total", ("10", "500")),
    "tail groups shape": Case(lambda: tail(groups=[1, 2]), "groups", ("(2,)",)),
    "tail groups few": Case(lambda: tail(groups=np.arange(500) % 7), "groups", ("8 or more", "got 7")),
    "hill exceedances": Case(lambda: ss.estimators.hill(np.arange(500.0), 499), "exceedances", ("499", "498")),
    "largest keep": Case(lambda: ss.statistics.LargestDeviations(keep=0), "keep", ("0",)),
    "sharpness radius": Case(lambda: ss.estimators.linf_sharpness(linear(), [0, 0], 0.0), "radius", ("0.0",)),
    "sharpness w": Case(lambda: ss.estimators.linf_sharpness(linear(), [0, 0, 0], 0.1), "w", ("(2, ...)", "(3,)")),
    # linear networks
    "layers do not chain": Case(lambda: two_layer(outer=[[1.0, 2.0, 3.0]]), "teacher_outer", ("(1, 3)", "any, 2")),
    "layer of one axis": Case(lambda: two_layer(inner=[1.0, 2.0]), "teacher_inner", ("(2,)", "matrix")),
    "layer NaN": Case(lambda: two_layer(inner=[[NAN], [1.0]]), "teacher_inner", ("nan", "(0, 0)")),
    "layer label_noise": Case(lambda: two_layer(label_noise=-1.0), "label_noise", ("-1.0", "standard deviation")),
    "teachers empty": Case(lambda: ss.DeepLinear([]), "teachers", ("[]",)),
    "deep layers do not chain": Case(lambda: ss.DeepLinear([[[1.0]], [[1.0]], [[1.0, 2.0]]]), "teachers[2]",
                                     ("any, 1",)),
    "flatten too few": Case(lambda: two_layer().flatten([[1.0], [1.0]]), "layers", ("1", "2 matrices")),
    "flatten wrong shape": Case(lambda: two_layer().flatten([[1.0], [1.0]], [[1.0]]), "layer 2", ("(1, 2)", "(1, 1)")),
    # problems with many minima
    "ellipse axis": Case(lambda: ss.Ellipse(2.0, 0.0), "b", ("0.0", "positive")),
    "ellipse label_noise": Case(lambda: ss.Ellipse(2.0, 1.0, -0.5), "label_noise", ("-0.5", "standard deviation")),
    "noise law": Case(lambda: ss.Ellipse(2.0, 1.0, noise="signs"), "noise", ("'signs'", "'sign'", "'gaussian'")),
    "diagonal without targets": Case(lambda: ss.DiagonalNetwork([[1.0, 2.0]]), "targets", ("teacher",)),
    "diagonal features": Case(lambda: ss.DiagonalNetwork([1.0, 2.0], [1.0]), "features", ("(2,)", "n x d")),
    "diagonal targets": Case(lambda: ss.DiagonalNetwork([[1.0, 2.0]], [1.0, 2.0]), "targets", ("(1,)", "(2,)")),
    "diagonal teacher": Case(lambda: ss.DiagonalNetwork([[1.0, 2.0]], teacher=[1.0]), "teacher", ("2 numbers", "(1,)")),
    "diagonal start": Case(lambda: ss.DiagonalNetwork([[1.0]], [1.0], start=0.0), "start", ("0.0", "saddle")),
    "diagonal sparsity": Case(lambda: ss.DiagonalNetwork.random(3, 2, 4), "sparsity", ("4", "3")),
    "diagonal amplitudes": Case(lambda: ss.DiagonalNetwork.random(3, 2, 1, amplitudes="normal"), "amplitudes",
                                ("'normal'", "'gaussian'")),
    "diagonal batch above n": Case(lambda: simulate(ss.DiagonalNetwork([[1.0]], [1.0]), sampling="epochs"),
                                   "batch_size", ("2", "1")),
    "measurements": Case(lambda: ss.MatrixFactorization([[1.0]], [1.0]), "measurements", ("(1, 1)", "rows")),
    "measurements teacher": Case(lambda: ss.MatrixFactorization([[[1.0]]], teacher=[1.0]), "teacher",
                                 ("(1,)", "(1, 1)")),
    "matrix depth": Case(lambda: ss.MatrixFactorization([[[1.0]]], [1.0], depth=0), "depth", ("0", "1")),
    "matrix width": Case(lambda: ss.MatrixFactorization(np.ones((1, 2, 3)), [1.0], width=1), "width", ("1", "2")),
    "matrix rank": Case(lambda: ss.MatrixFactorization.random(3, 4, 5), "rank", ("4", "3")),
    # predict
    "design without a budget": Case(design, "batch_size", ("examples",)),
    "design with two budgets": Case(lambda: design(batch_size=2, examples=20), "batch_size", ("not both",)),
    "design steps": Case(lambda: design(steps=1, batch_size=2), "steps", ("1",)),
    "design examples": Case(lambda: design(examples=9), "examples", ("9", "one example a step")),
    "design batch_size": Case(lambda: design(batch_size=0), "batch_size", ("0",)),
    "design optimizer": Case(lambda: design(batch_size=2, optimizer=ss.Adam(0.1)), "optimizer", ("SGD",)),
    "design initial": Case(lambda: design(batch_size=2, initial=[1.0]), "initial", ("length 2",)),
    "design epochs": Case(lambda: design(dataset(), batch_size=2, sampling="epochs"), "sampling",
                          ("epochs", "without_replacement", "predict_run")),
    "design whole data": Case(lambda: design(dataset(), examples=31, sampling="without_replacement"), "examples",
                              ("31", "from 10 to 30")),
    "design at the minimum": Case(lambda: design(batch_size=2, initial=[1.0, 1.0]), "initial", ("away",)),
    "predict batch_size zero": Case(lambda: predict(batch_size=0), "batch_size", ("0",)),
    "predict batch_size fractional": Case(lambda: predict(batch_size=1.5), "batch_size", ("1.5",)),
    "predict batch above n": Case(lambda: predict(dataset(), batch_size=4, sampling="without_replacement"),
                                  "batch_size", ("4", "3")),
    "predict sampling unknown": Case(lambda: predict(sampling="offline"), "sampling", ("'offline'", "'online'")),
    "predict approximation": Case(lambda: predict(approximation="hesian"), "approximation",
                                  ("'hesian'", "'hessian'")),
    "predict preconditioner dimension": Case(
        lambda: predict(optimizer=ss.SGD(0.1, preconditioner=[1.0, 1.0, 1.0])), "preconditioner", ("3",)),
    # variance of the gradient, simulated
    "variance batch size repeated": Case(lambda: measured_variance(batch_size=[2, 2]), "batch_size", ("distinct",)),
    "variance no batch size": Case(lambda: measured_variance(batch_size=[]), "batch_size", ("[]",)),
    "variance batch size zero": Case(lambda: measured_variance(batch_size=[0, 1]), "batch_size", ("0",)),
    "variance batch beyond n": Case(
        lambda: measured_variance(dataset(), batch_size=[2, 4], sampling="without_replacement"), "batch_size",
        ("4", "3")),
    "variance one run": Case(lambda: measured_variance(chains=1), "chains", ("1", ">= 4")),
    "variance no steps": Case(lambda: measured_variance(steps=0), "steps", ("0",)),
    "variance record none": Case(lambda: measured_variance(record=[]), "record", ("[]", "one or more")),
    "variance record beyond": Case(lambda: measured_variance(record=[0, 3]), "record", ("3", "2")),
    "variance record every": Case(lambda: measured_variance(record=4), "record", ("4", "3")),
    "variance start wrong": Case(lambda: measured_variance(initial=[1.0]), "initial", ("(1,)", "(16, 2)")),
    "variance sampling": Case(lambda: measured_variance(sampling="epochs"), "sampling", ("online",)),
    "variance optimizer": Case(lambda: measured_variance(optimizer="sgd"), "optimizer", ("sgd",)),
    # variance of the gradient, fitted
    "fit lengths differ": Case(lambda: fitted(variance=[1.0, 2.0]), "variance", ("length 4", "(2,)")),
    "fit fewer sizes than the degree": Case(lambda: fitted(degree=5), "degree", ("5", "1 to 4", "at most 4")),
    "fit degree zero": Case(lambda: fitted(degree=0), "degree", ("0",)),
    "fit too few to choose": Case(
        lambda: fitted([1, 2], [2.0, 1.0], [0.1, 0.1]), "batch_sizes", ("3 batch sizes", "degree=1")),
    "fit stderr zero": Case(lambda: fitted(stderr=[0.1, 0.1, 0.1, 0.0]), "stderr", ("0.0", "batch size 8", "b = n")),
    "fit stderr negative": Case(lambda: fitted(stderr=[0.1, -0.1, 0.1, 0.1]), "stderr", ("-0.1",)),
    "fit stderr NaN": Case(lambda: fitted(stderr=[0.1, NAN, 0.1, 0.1]), "stderr", ("nan", "index (1,)")),
    "fit stderr missing": Case(lambda: fitted(stderr=None), "stderr", ("None", "covariance")),
    "fit stderr twice": Case(lambda: fitted(covariance=np.eye(4)), "stderr", ("not both",)),
    "fit variance infinite": Case(lambda: fitted(variance=[4.0, INF, 1.0, 0.5]), "variance", ("inf",)),
    "fit batch size repeated": Case(lambda: fitted([1, 2, 2, 4]), "batch_sizes", ("distinct",)),
    "fit batch size below one": Case(lambda: fitted([0.5, 1, 2, 4]), "batch_sizes", ("0.5", "at least 1")),
    "fit batch size beyond n": Case(lambda: fitted(basis="c_b", n_examples=6), "batch_sizes", ("8", "n = 6")),
    "fit batch size n": Case(lambda: fitted(basis="c_b", n_examples=8), "batch_sizes", ("no noise",)),
    "fit c_b without n": Case(lambda: fitted(basis="c_b"), "n_examples", ("None", "n_examples=n")),
    "fit basis": Case(lambda: fitted(basis="1/n"), "basis", ("1/b",)),
    "fit covariance singular": Case(
        lambda: fitted(stderr=None, covariance=np.ones((4, 4))), "covariance", ("positive definite",)),
    "fit covariance shape": Case(lambda: fitted(stderr=None, covariance=np.eye(3)), "covariance", ("(3, 3)",)),
    "band level": Case(lambda: fitted(degree=1).band(2, level=95), "level", ("95", "0.95")),
    "curve batch size": Case(lambda: fitted(degree=1)(0.5), "b", ("0.5", "1 to inf")),
    "curve beyond n": Case(
        lambda: fitted(degree=4, basis="c_b", n_examples=9)(10), "b", ("10", "1 to 9")),
    # slow dynamics
    "slow times decreasing": Case(lambda: slow(times=[1.0, 0.5]), "times", ("increasing",)),
    "slow times negative": Case(lambda: slow(times=[-1.0, 0.5]), "times", ("not negative",)),
    "slow times empty": Case(lambda: slow(times=[]), "times", ("increasing",)),
    "slow times NaN": Case(lambda: slow(times=[0.0, NAN]), "times", ("nan", "index (1,)")),
    "slow unit": Case(lambda: slow(unit="step"), "unit", ("'step'", "'steps'?")),
    "slow batch_size": Case(lambda: slow(batch_size=0), "batch_size", ("0",)),
    "slow without label noise": Case(lambda: slow(label_noise=0.0), "label_noise", ("0.0", "positive", "label_noise=")),
    "slow label noise negative": Case(lambda: slow(label_noise=-1.0), "label_noise", ("-1.0", "standard deviation")),
    "slow initial": Case(lambda: slow(initial=[1.0]), "initial", ("(1,)", "length 2")),
    "slow preconditioner": Case(lambda: slow(ss.SGD(0.1, preconditioner=[1.0, -1.0])), "preconditioner",
                                ("positive definite", "-1")),
    "slow preconditioner asymmetric": Case(lambda: slow(ss.SGD(0.1, preconditioner=[[1.0, 0.5], [0.0, 1.0]])),
                                           "preconditioner", ("symmetric",)),
    "slow blocks": Case(lambda: slow(ss.AdamMini(0.1, blocks=[[0]])), "blocks", ("2 parameters",)),
    "slow second moment of SGD": Case(lambda: slow(second_moment=[1.0, 1.0]), "second_moment", ("None for SGD",)),
    "slow second moment negative": Case(lambda: slow(ss.Adam(0.1), second_moment=[1.0, -1.0]), "second_moment",
                                        ("non-negative",)),
    "slow tolerance": Case(lambda: slow(tolerance=0.0), "tolerance", ("0.0", "positive")),
    "slow network off its minima": Case(lambda: manifold.slow_ode(
        ss.DiagonalNetwork([[1.0, 2.0]], teacher=[1.0, 0.0], label_noise=1.0), ss.SGD(0.1), [1.0] * 4, [1.0]),
        "initial", ("manifold of minima",)),
    "slow noise": Case(lambda: manifold.slow_coefficients(ELLIPSE, ELLIPSE.minimum, 0.1), "noise_covariance",
                       ("0.1", "function")),
    "slow drift": Case(lambda: manifold.slow_coefficients(
        ELLIPSE, ELLIPSE.minimum, lambda w: np.eye(2), drift=[1.0, 0.0]), "drift", ("function of w",)),
    "slow drift shape": Case(lambda: manifold.slow_coefficients(
        ELLIPSE, ELLIPSE.minimum, lambda w: np.eye(2), drift=lambda w: w[:1]), "drift", ("shape (2,)",)),
    "slow step": Case(lambda: manifold.slow_sde(ELLIPSE, ss.SGD(0.1), ELLIPSE.minimum, [1.0], np.diag, step=0.0),
                      "step", ("0.0",)),
    "flow preconditioner": Case(lambda: manifold.flow_to_minimum(ELLIPSE, [1.0, 1.0], [1.0, 0.0]), "preconditioner",
                                ("positive definite",)),
    "coefficient unknown": Case(lambda: fitted(degree=1).coefficient(2), "k", ("2", "1 to 1")),
}  # fmt: skip


def complaint_of(call) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    assert type(caught.value) in (ValueError, BeyondLimit)  # no UnicodeDecodeError and the like
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
    if not name.startswith(("network", "near_minimum")):  # shapes of a network are found by tracing it
        # A function of the user is traced once, for its shape; compiling counts more than once.
        assert compilations() <= 1, "something was compiled before the input was checked"


def test_the_count_of_compilations_counts(compilations):
    jax.jit(lambda x: x * 3.25 + 1)(np.float32(2.0))
    assert compilations() > 1


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


@pytest.mark.parametrize("name", ["missing cell", pytest.param("unknown experiment", marks=pytest.mark.slow)])
def test_so_does_the_command_itself(name, csv):
    arguments, says = COMMANDS[name]
    done = subprocess.run(
        [sys.executable, "-m", "sgdsim", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    check_refusal(done.returncode, done.stdout, done.stderr, says)
