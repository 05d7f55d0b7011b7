"""Every spec is a pytree as JAX means it: one table, one list of idioms that must work."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import itertools
import pickle
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax import exponential_decay

import sgdsim as ss
from sgdsim import _checks
from sgdsim._specs import derived, remember
from sgdsim.engine.plan.coupling import Coupled, CoupledMoments, OnFirst
from sgdsim.kernels import conditional_moments, kernel_table, make_kernel, scheduled_kernel
from sgdsim.kernels.ellipse import direct_kernel
from sgdsim.statistics import Measurement

DATA = np.random.default_rng(3)
A = np.array([[1.0, 0.3, 0.1], [0.3, 0.5, 0.0], [0.1, 0.0, 0.8]])
B = np.array([[0.2, -0.1, 0.0], [-0.1, 0.4, 0.1], [0.0, 0.1, 0.3]])
U = np.array([1.0, -2.0, 0.5])
X = DATA.normal(size=(9, 3))
Y = X @ U + DATA.normal(size=9)
WIDE = DATA.normal(size=(24, 20))
NET = nn.Sequential([nn.Dense(2), nn.tanh, nn.Dense(1)])


def cosine(w, x, y):
    return (1 - jnp.cos(x @ w - y)) + 0.1 * jnp.sum(w**2)


def absolute(prediction, target):
    return jnp.sum(jnp.sqrt(1 + (prediction - target) ** 2))


def half(squares):
    return 0.5 * squares + 0.5 * squares.mean(axis=0)


def gentle(v):
    return 1 / (v + 1.0)


def decaying(step):
    return 0.2 / (1.0 + 0.1 * step)


def size_of(problem, w):
    return jnp.sum(w**2)


PROBLEMS = {
    "quadratic": lambda: ss.Quadratic(A, [1.0, 2.0, 0.5], U),
    "linear": lambda: ss.LinearRegression(A, U, 0.5),
    "linear-all": lambda: ss.LinearRegression(A, U, 0.5, B, 0.1 * A),
    "linear-diagonal": lambda: ss.LinearRegression([1.0, 0.5, 0.1], U, 0.5, [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
    "linear-mixed": lambda: ss.LinearRegression([1.0, 0.5, 0.1], U, input_noise=B, weight_decay=0.1),
    "dataset": lambda: ss.DatasetRegression(X, Y, label_noise=0.3),
    "dataset-decay": lambda: ss.DatasetRegression(X, Y, 0.1 * A),
    "dataset-wide": lambda: ss.DatasetRegression(WIDE, WIDE.sum(axis=1), label_noise=0.1),
    "two-layer": lambda: ss.TwoLayerLinear(B, A[:2], label_noise=0.3),
    "two-layer-silent": lambda: ss.TwoLayerLinear(B, A[:2]),
    "deep": lambda: ss.DeepLinear([X[:2], B[:, :2], A], label_noise=0.3),
    "diagonal": lambda: ss.DiagonalNetwork(X[:2], label_noise=0.5, teacher=U),
    "diagonal-targets": lambda: ss.DiagonalNetwork(X, Y, noise="gaussian"),
    "matrix": lambda: ss.MatrixFactorization(X[:6].reshape(3, 2, 3), label_noise=0.5, teacher=B[:2], depth=3),
    "matrix-targets": lambda: ss.MatrixFactorization(X[:6].reshape(6, 1, 3), Y[:6], width=2, noise="sign"),
    "ellipse": lambda: ss.Ellipse(2.0, 0.7),
    "ellipse-gaussian": lambda: ss.Ellipse(2.0, 0.7, noise="gaussian"),
    "cycling": ss.CyclingToy,
    "network": lambda: ss.FlaxNetwork(NET, X, Y, weight_decay=0.1, label_noise=0.2),
    "network-signs": lambda: ss.FlaxNetwork(NET, X, Y, label_noise=0.2, noise="sign"),
    "network-held-out": lambda: ss.FlaxNetwork(NET, X[:5], Y[:5], absolute, test_features=X[5:], test_targets=Y[5:]),
    "from-loss": lambda: ss.FromLoss(cosine, X, Y, 0.1 * U, weight_decay=0.2),
    "from-loss-held-out": lambda: ss.FromLoss(cosine, X[:5], Y[:5], U, test_features=X[5:], test_targets=Y[5:]),
}  # fmt: skip
OPTIMIZERS = {
    "sgd": lambda: ss.SGD(0.1),
    "sgd-momentum": lambda: ss.SGD(0.1, 0.9, A),
    "sgd-schedule": lambda: ss.SGD(decaying, 0.9),
    "newton": lambda: ss.DampedNewton(0.1),
    "newton-momentum": lambda: ss.DampedNewton(0.1, 0.5),
    "natural": lambda: ss.NaturalGradient(0.1, 0.9, fisher=A, batch_size=2),
    "natural-estimated": lambda: ss.NaturalGradient(0.1, batch_size=2),
    "adam": lambda: ss.Adam(0.01, b1=0.8, eps_root=0.1),
    "adamw": lambda: ss.AdamW(0.01, weight_decay=0.1),
    "sgd-listed": lambda: ss.SGD([0.1, 0.2, 0.05]),
    "adam-schedule": lambda: ss.Adam(decaying),
    "rmsprop": lambda: ss.RMSProp(0.01),
    "adam-e": lambda: ss.AdamE(0.01, exponent=0.3),
    "adam-mini": lambda: ss.AdamMini(0.01, [[0, 2], [1]]),
    "adalayer": lambda: ss.Adalayer(0.01, [2, 1], bias_correction=False),
    "ada-sgd": lambda: ss.AdaSGD(0.01),
    "adafactor": lambda: ss.Adafactor(0.01, [(1, 2), (1,)]),
    "adaptive": lambda: ss.AdaptiveGradient(0.01),
    "adaptive-functions": lambda: ss.AdaptiveGradient(0.01, half, gentle, b1=0.9, bias_correction=True),
}
STATISTICS = {
    "moments": ss.statistics.Moments,
    "variances": lambda: ss.statistics.Moments(full=False),
    "losses": ss.statistics.Losses,
    "noise": ss.statistics.GradientNoise,
    "average": lambda: ss.statistics.Average({"size": size_of}),
    "l1": ss.statistics.GradientL1,
    "noise-scale": ss.statistics.NoiseScale,
    "trace": lambda: ss.statistics.HessianTrace(probes=2),
    "curvature": lambda: ss.statistics.Curvature(powers=[0.5]),
    "largest": lambda: ss.statistics.LargestDeviations(keep=4),
    "product": lambda: ss.statistics.ProductMoments(PROBLEMS["two-layer"]()),
    "autocovariance": lambda: ss.statistics.Autocovariance([0, 2]),
    "iterate-average": lambda: ss.statistics.IterateAverage(3),
    "parameter-ema": lambda: ss.statistics.ParameterEMA(0.5),
}


def draw(dimension):
    """What uses a kernel: a step of a few chains."""
    def use(kernel):
        key, w = jax.random.key(0), several(dimension)
        return kernel.draw(key, w, kernel.init(key, w.shape[1]))[0]

    return use


def kernels():
    """Kernels of every problem and sampling mode, one of each structure: name -> (make, use)."""
    seen = set()
    for name, make in PROBLEMS.items():
        problem = make()
        n = problem.n_examples
        modes = ("online",) if n is None else ("with_replacement", "without_replacement", "epochs")
        for sampling, b in itertools.product(modes, (1, 4, 30) if n is None else (1, n - 1, n)):
            kernel = make_kernel(problem, b, sampling, np.float64)
            if str(jax.tree.structure(kernel)) not in seen:
                yield f"{name}-{sampling}-{b}", (lambda kernel=kernel: kernel, draw(problem.dimension))
            seen.add(str(jax.tree.structure(kernel)))
    random = make_kernel(PROBLEMS["dataset-decay"](), 2, "bernoulli", np.float64)
    yield "random sizes", (lambda: random, draw(3))
    flips = ss.FlaxNetwork(NET, X, np.sign(Y), "logistic", label_flip=0.2)
    drawn = make_kernel(flips, 2, "bernoulli", np.float64)
    yield "random sizes, flips", (lambda: drawn, draw(flips.dimension))
    yield "ellipse-direct", (lambda: direct_kernel(PROBLEMS["ellipse"](), 3), draw(2))
    coupled = Coupled(PROBLEMS["dataset-decay"]()).make_kernel(2, "with_replacement", np.float64)
    yield "coupled", (lambda: coupled, draw(6))
    table = kernel_table([make_kernel(PROBLEMS["linear-all"](), b, "online", np.float64) for b in (1, 4, 30)])
    yield "table", (lambda: table, lambda table: draw(3)(table.entry(1)))
    schedule = scheduled_kernel(PROBLEMS["linear-all"](), np.array([1, 4, 1]), "online", np.float64)
    yield "schedule", (lambda: schedule, draw(3))
    yield "table-entry", (lambda: table.entry(1), draw(3))


def moments():
    """What evaluates the conditional moments of a problem."""
    for name in ("quadratic", "linear-all", "dataset", "deep"):
        problem = PROBLEMS[name]()
        sampling = "online" if problem.n_examples is None else "with_replacement"
        known = conditional_moments(problem, sampling)
        yield f"moments-{name}", (lambda known=known: known,
                                  lambda m, problem=problem: m.evaluate(problem, several(problem.dimension)))


def several(dimension):
    return jnp.asarray(np.random.default_rng(1).normal(size=(dimension, 2 * dimension)))


def use_problem(problem):
    w = several(problem.dimension)
    return problem.loss(w), problem.test_loss(w), problem.gradient(w)


def use_optimizer(optimizer):
    transform, w = optimizer.as_optax(PROBLEMS["linear"]()), several(3)
    return transform.update(w, transform.init(w), w)[0]


def use_statistic(statistic):
    problem = PROBLEMS["dataset" if isinstance(statistic, ss.statistics.NoiseScale) else "two-layer"]()
    w = several(problem.dimension).reshape(problem.dimension, problem.dimension, 2)
    at = Measurement(w, 0.5 * w, jnp.ones(w.shape[1:]), w[:, 0, 0], problem)
    if hasattr(statistic, "remember"):
        flat = w.reshape(len(w), -1)
        at = at._replace(memory=statistic.remember(statistic.begin(flat), flat))
    return statistic.update(statistic.init(problem.dimension, 2, np.float64), at)


TABLE = {name: (make, use_problem) for name, make in PROBLEMS.items()}
TABLE |= {name: (make, use_optimizer) for name, make in OPTIMIZERS.items()}
TABLE |= {name: (make, use_statistic) for name, make in STATISTICS.items()}
TABLE |= {f"scaling-{name}": (lambda name=name: OPTIMIZERS[name]().S, lambda S: S(several(3) ** 2))
          for name in ("adam", "adam-e", "adafactor")}  # fmt: skip
TABLE |= {"block-mean": (lambda: OPTIMIZERS["adam-mini"]().V, lambda V: V(several(3) ** 2))}
TABLE |= dict(kernels()) | dict(moments())
every_spec = pytest.mark.parametrize("name", TABLE)
every_problem = pytest.mark.parametrize("name", PROBLEMS)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def specs_in(value):
    """Every spec that a value consists of."""
    if isinstance(value, tuple):
        return set().union(*map(specs_in, value))
    if not hasattr(value, "_rebuilt"):
        return set()
    return {type(value)}.union(*(specs_in(getattr(value, f.name)) for f in dataclasses.fields(value)))


def test_the_table_has_every_spec_of_these_rooms():
    rooms = ("problems", "optimizers", "kernels", "statistics")
    modules = [importlib.import_module(m.name) for room in rooms
               for m in pkgutil.walk_packages([f"{ss.__path__[0]}/{room}"], f"sgdsim.{room}.")]
    known = {x for m in modules for x in vars(m).values() if isinstance(x, type) and hasattr(x, "_rebuilt")}
    assert known - set().union(*(specs_in(make()) for make, _ in TABLE.values())) - {ss._specs.Remembered} == set()


@every_spec
def test_the_idioms_of_jax(name):
    """Shapes alone, a prefix for vmap, a program made from shapes, trees of None: the structure never changes."""
    make, use = TABLE[name]
    thing = make()
    leaves, structure = jax.tree.flatten(thing)
    shapes = jax.eval_shape(lambda x: x, thing)
    assert jax.tree.structure(shapes) == structure
    assert [leaf.shape for leaf in jax.tree.leaves(shapes)] == [np.shape(leaf) for leaf in leaves]
    for same in (lambda leaf: 0.5, jnp.asarray, lambda leaf: np.asarray(leaf)[None], lambda leaf: "text"):
        assert jax.tree.structure(jax.tree.map(same, thing)) == structure
    emptied = jax.tree.map(lambda leaf: None, thing)
    assert type(emptied) is type(thing) and not jax.tree.leaves(emptied)
    assert_equal(jax.tree.map(lambda none, leaf: leaf, emptied, thing, is_leaf=lambda x: x is None), thing)
    if leaves:
        stacked = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), thing)
        prefix = jax.tree.map(lambda leaf: 0, thing)
        rows = jax.vmap(lambda x: jax.tree.map(jnp.copy, x), in_axes=(prefix,))(stacked)
        assert_equal(jax.tree.map(lambda leaf: leaf[1], rows), jax.tree.map(jnp.asarray, thing))
    jax.jit(use).lower(shapes)


@every_spec
def test_copies(name):
    thing = TABLE[name][0]()
    assert_equal(copy.deepcopy(thing), thing)
    assert_equal(dataclasses.replace(thing), thing)
    if "network" not in name:  # flax modules hold functions that cannot be pickled
        assert_equal(pickle.loads(pickle.dumps(thing)), thing)
    assert repr(dataclasses.replace(thing)) == repr(thing)


@every_problem
@pytest.mark.parametrize("loss", ["loss", "test_loss"])
def test_derivatives_with_respect_to_every_field(name, loss, rng):
    """Automatic ones on JAX's side against differences of what NumPy computes on the host."""
    problem = PROBLEMS[name]()
    w = rng.normal(size=problem.dimension)
    slopes = jax.grad(lambda p: getattr(p, loss)(jnp.asarray(w)), allow_int=True)(problem)
    leaves, structure = jax.tree.flatten(problem)
    for k, (leaf, slope) in enumerate(zip(leaves, jax.tree.leaves(slopes), strict=True)):
        if not np.issubdtype(leaf.dtype, np.floating):
            continue
        step = 1e-5 * rng.normal(size=leaf.shape)
        ends = [jax.tree.unflatten(structure, [*leaves[:k], leaf + sign * step, *leaves[k + 1:]]) for sign in (1, -1)]
        there, back = (float(getattr(p, loss)(w)) for p in ends)
        assert np.sum(slope * step) == pytest.approx((there - back) / 2, rel=1e-5, abs=1e-12)


def test_derived_properties_are_no_leaves_and_reach_compiled_programs_as_they_were():
    problem = PROBLEMS["linear-all"]()
    names = {name for name, value in vars(type(problem)).items() if isinstance(value, derived)}
    assert names == {"input_second_moment", "effective_teacher", "residual_variance", "minimum"}
    assert len(jax.tree.leaves(problem)) == len(dataclasses.fields(problem)) == 5
    assert problem.minimum is problem.minimum, "worked out twice"
    kept = remember(problem)

    def inside(kept):
        again = kept.recall()
        # A value from outside may be used in any part of the program, one made in a part nowhere else.
        gradient = jax.lax.cond(True, lambda: again.gradient(jnp.asarray(U)), lambda: jnp.zeros(3))
        return again.minimum, gradient + 0 * again.gradient(jnp.asarray(U))

    changed = dataclasses.replace(kept, values=kept.values | {"minimum": np.ones(3)})
    np.testing.assert_array_equal(jax.jit(inside)(changed)[0], 1.0)
    np.testing.assert_array_equal(jax.jit(inside)(kept)[0], problem.minimum)
    assert "lapack" not in jax.jit(inside).lower(kept).as_text(), "least squares were solved anew"
    # A traced problem keeps nothing: what one trace made is not for the next.
    closed_over = jax.tree.map(jnp.asarray, problem)
    jax.jit(lambda: closed_over.minimum)()
    np.testing.assert_allclose(closed_over.minimum, problem.minimum, rtol=1e-12)


@every_spec
def test_validation_runs_when_a_user_builds_and_never_when_jax_does(name, monkeypatch):
    make, _ = TABLE[name]
    thing = make()
    leaves, structure = jax.tree.flatten(thing)
    for check in ("error", "finite_array", "real", "integer", "choice", "symmetric"):
        monkeypatch.setattr(_checks, check, lambda *_, **__: pytest.fail("validated again"))
    jax.tree.unflatten(structure, leaves)
    jax.tree.unflatten(structure, [object()] * len(leaves))
    jax.jit(lambda x: x)(thing)
    jax.eval_shape(lambda x: x, thing)


@pytest.mark.parametrize("form", ["__init__", "__post_init__"])
def test_validation_runs_exactly_once(form):
    calls = []

    @ss.spec
    class Checked:
        rate: float
        name: str = ss.static(default="plain")

        if form == "__init__":
            def __init__(self, rate, name="plain"):
                calls.append(rate)
                vars(self).update(rate=float(rate), name=name)
        else:
            def __post_init__(self):
                calls.append(self.rate)

    thing = Checked(0.5)
    jax.vmap(lambda x: x)(jax.tree.map(lambda x: np.full(3, x), jax.jit(lambda x: x)(thing)))
    copy.deepcopy(thing)
    assert calls == [0.5]
    assert dataclasses.replace(thing, rate=0.7).rate == 0.7
    assert calls == [0.5, 0.7]

    @ss.spec
    class Child(Checked):
        def doubled(self):
            return 2 * self.rate

    assert jax.jit(Child.doubled)(Child(0.25, name="child")) == 0.5
    assert calls == [0.5, 0.7, 0.25]
    assert repr(Child(0.25)) == "Child(rate=0.25, name='plain')"


@pytest.mark.parametrize(
    ("thing", "change"),
    [
        (ss.SGD(0.1), {"momentum": 1.5}),
        (ss.Adam(0.1), {"b2": -1.0}),
        (ss.LinearRegression([1.0, 0.5]), {"covariance": [1.0, -0.5]}),
        (ss.Quadratic([1.0], [1.0]), {"hessian_operator": [np.nan]}),
        (ss.FromLoss(cosine, X, Y, U), {"default_start": [1.0]}),
        (ss.statistics.LargestDeviations(), {"keep": 0}),
    ],
)
def test_replace_validates(thing, change):
    with pytest.raises(ValueError, match="but it must be"):
        dataclasses.replace(thing, **change)


def test_numbers_and_arrays_build_the_same_structure():
    for number, array in [(ss.SGD(0.1, 0.5), ss.SGD(np.array(0.1), np.array(0.5))),
                          (ss.Ellipse(2, 1), ss.Ellipse(np.float64(2), np.array(1.0))),
                          (ss.SGD(0.1), ss.SGD(0.1, 0.0)), (ss.SGD(0.1), dataclasses.replace(ss.SGD(0.2, None)))]:
        assert jax.tree.structure(number) == jax.tree.structure(array)


def test_a_schedule_is_part_of_the_structure_and_one_with_numbers_of_its_own_is_data():
    """Schedules that are trees of numbers share a program."""
    assert jax.tree.structure(ss.SGD(decaying)) == jax.tree.structure(ss.SGD(decaying))
    assert jax.tree.structure(ss.SGD(decaying)) != jax.tree.structure(ss.SGD(half))
    rates = [jax.tree_util.Partial(lambda peak, step: peak / (1 + step), peak) for peak in (0.1, 0.2)]
    assert [jax.tree.leaves(ss.SGD(rate)) for rate in rates] == [[0.1], [0.2]]
    assert repr(ss.SGD(decaying)) == "SGD(learning_rate=decaying, momentum=None, preconditioner=None)"
    assert callable(ss.SGD(exponential_decay(0.1, 10, 0.5)).learning_rate)


def test_the_coupled_problem_of_a_control_variate():
    coupled = Coupled(PROBLEMS["dataset-decay"]())
    again = jax.tree.unflatten(*reversed(jax.tree.flatten(coupled)))
    np.testing.assert_array_equal(again.hessian(), coupled.hessian())
    for statistic in (CoupledMoments(), OnFirst(ss.statistics.Losses())):
        assert_equal(copy.deepcopy(statistic), statistic)
        assert jax.tree.structure(jax.eval_shape(lambda x: x, statistic)) == jax.tree.structure(statistic)
