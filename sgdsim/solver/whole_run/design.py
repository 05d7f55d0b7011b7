"""`design`: the schedule with the least expected test loss at the end of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim._version import __version__
from sgdsim.optimizers import SGD
from sgdsim.optimizers.base import constant
from sgdsim.problems import Problem, check_sampling
from sgdsim.solver.whole_run.gradient_law import LinearProblem, linear_problem
from sgdsim.solver.whole_run.laws import run_law
from sgdsim.solver.whole_run.predict_run import predict_run
from sgdsim.solver.whole_run.run_prediction import RunPrediction
from sgdsim.solver.whole_run.schedules import Family, Plan, families, knots, size_numbers, sizes, whole

_ITERATIONS = 60
_PEAKS = 2.0 ** np.arange(1, -18, -1)  # over the largest curvature: tried for each shape before the descent
_ROUNDING = 1e-30  # of the loss at the start: a run without noise may end at the minimum itself
_WORST = 50.0  # of log(loss / loss at the start); beyond, a run counts as diverged

Score = Callable[[Plan], tuple[Array, Plan]]


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """One way to spend the budget.

    Attributes:
        optimizer: with its rate as a list, one for each step.
        batch_size: a number, or one for each step.
        test_loss: expected at the end.
        run: the theory of the run.
    """

    optimizer: SGD
    batch_size: int | list[int]
    test_loss: float
    run: RunPrediction


@dataclasses.dataclass(frozen=True, eq=False)
class Design:
    """What `design` found.

    Attributes:
        best: the designed schedule; `optimizer`, `batch_size`, `test_loss` and `run` are its own.
        others: what "constant", "cosine" and "linear" (to zero) reach, each at its own best peak and momentum.
        converged: whether the descent ended at a minimum, and not with its last iteration.
        regime: what the numbers hold for.
        configuration: problem, optimizer, budget, version.
        reference: where the equations stand.
    """

    best: Schedule
    others: Mapping[str, Schedule]
    converged: bool
    regime: str
    configuration: Mapping[str, str | int]
    reference: str = "whole-run.md section 6"

    @property
    def optimizer(self) -> SGD:
        """The designed one; for `simulate` and `predict_run`."""
        return self.best.optimizer

    @property
    def batch_size(self) -> int | list[int]:
        """The designed one, a number or one for each step."""
        return self.best.batch_size

    @property
    def test_loss(self) -> float:
        """Expected at the end of the designed run."""
        return self.best.test_loss

    @property
    def run(self) -> RunPrediction:
        """The theory of the designed run."""
        return self.best.run

    @property
    def schedules(self) -> dict[str, Schedule]:
        """All of them by name, "designed" first."""
        return {"designed": self.best, **self.others}

    def table(self) -> str:
        """What each schedule reaches, as text."""
        rows = [f"{'schedule':<10}{'peak rate':>12}{'momentum':>10}{'test loss':>13}{'over designed':>15}"]
        for name, each in self.schedules.items():
            momentum = constant(each.optimizer.momentum)
            rows.append(f"{name:<10}{max(each.run.learning_rate):>12.4g}{momentum:>10.3g}{each.test_loss:>13.5g}"
                        f"{each.test_loss / self.test_loss - 1:>15.1%}")
        return "\n".join(rows)

    def __repr__(self) -> str:
        return f"Design over {self.configuration['steps']} steps\n{self.table()}"


@own_settings
def design(
    problem: Problem,
    *,
    steps: int,
    examples: int | None = None,
    batch_size: int | None = None,
    optimizer: SGD | None = None,
    initial: ArrayLike | None = None,
    sampling: str | None = None,
) -> Design:
    r"""The schedule with the least expected test loss after so many steps, by gradient descent through the exact law.

    $$\min_{\lambda_t, \mu, b_t} E\,\ell_{\mathrm{test}}(w_T) \quad \text{at fixed } T \text{ and } \sum_t b_t.$$

    The logarithm of the rate is piecewise linear between 12 knots. It starts from the best of constant, cosine and
    linear to zero, each at its own best peak, so it is never worse than they are.

    Args:
        problem: a Quadratic, LinearRegression or DatasetRegression.
        steps: T, at least 2.
        examples: budget of examples over the run; batch sizes of the designed schedule then vary too, and the others
            share the examples equally among the steps.
        batch_size: of every step. Give this or `examples`.
        optimizer: an `SGD`: its momentum, if it has one, is where the search for the best momentum starts; its
            preconditioner and `nesterov` stay, its rate does not count. None is plain SGD.
        initial: the point where runs start, shape (D,); None is the problem's default start.
        sampling: "online" for a population; for a data set "with_replacement" or "without_replacement", where no batch
            is larger than n, even if examples are left over. None means online, or with replacement. Shuffled epochs
            are not designed: ask `predict_run` what a schedule found without replacement reaches there.

    Returns:
        A `Design`: expected losses are exact; that no other schedule of the family is better is not proved.

    Raises:
        ValueError: an argument is out of range, or there is nothing to gain because runs start at the minimum.
        NotImplementedError: no theory for the problem.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([1.0, 0.1], teacher=[1.0, 1.0], label_noise=0.5)
        >>> found = ss.design(problem, steps=100, batch_size=4)
        >>> found.test_loss < min(other.test_loss for other in found.others.values())
        True
    """
    known = linear_problem(problem)
    steps = _checks.integer("steps", steps, low=2)
    mean, mode = _mean_size(known, steps, examples, batch_size, sampling)
    most = float(problem.n_examples or np.inf) if mode == "without_replacement" else np.inf
    base = SGD(1.0) if optimizer is None else optimizer
    if not isinstance(base, SGD) or callable(base.momentum):
        raise _checks.error("optimizer", optimizer, "ss.SGD of constant momentum", "try ss.SGD(0.1, momentum=0.9)")
    start = known.default_start if initial is None else _checks.vector("initial", initial, known.dimension)
    if not float(known.test_loss(start)) > 0:
        raise _checks.error("initial", start, "away from the minimum of the test loss", "give another point")
    with jax.enable_x64(True):
        score = _scored(known, base, steps, np.asarray(start, float), mode)
        shapes, curvature = families(steps), _largest_curvature(known)
        found: dict[str, tuple[float, np.ndarray, bool]] = {}
        for name in ("constant", "cosine", "linear"):
            plan = _planner(shapes[name], base, steps, mean, 0)
            mu = _logit(base)
            peaks = np.log(_PEAKS / curvature)
            tried = [float(score(plan(jnp.asarray([x, *mu])))[0]) for x in peaks]
            found[name] = _descend(score, plan, np.array([peaks[int(np.nanargmin(tried))], *mu]))
        first = min(found, key=lambda name: found[name][0])
        rate = np.log(np.asarray(_planner(shapes[first], base, steps, mean, 0)(jnp.asarray(found[first][1])).rate))
        begin = np.interp(knots(shapes["designed"].numbers) * steps - 0.5, np.arange(steps), rate)
        free = size_numbers(examples is not None and mean > 1)
        plan = _planner(shapes["designed"], base, steps, mean, free, most)
        found["designed"] = _descend(score, plan, np.array([*begin, *found[first][1][1:], *np.zeros(free)]))
        designed = {"designed": free}
        plans = {name: _planner(shapes[name], base, steps, mean, designed.get(name, 0), most)(jnp.asarray(x))
                 for name, (_, x, _) in found.items()}
    schedules = {name: _schedule(known, base, plan, steps, start, mode) for name, plan in plans.items()}
    best = schedules.pop("designed")
    winner = min(schedules.values(), key=lambda each: each.test_loss)
    if winner.test_loss < best.test_loss:  # knots do not reproduce it
        best = winner
    return Design(
        best, schedules, found["designed"][2],
        "exact expected losses for this problem from this start; a local minimum over rates with 12 knots",
        {"problem": repr(problem), "optimizer": type(base).__name__, "steps": steps, "sampling": mode,
         "examples": int(np.sum(np.broadcast_to(best.batch_size, steps))), "version": __version__},
    )  # fmt: skip


def _mean_size(
    problem: LinearProblem, steps: int, examples: int | None, batch_size: int | None, sampling: str | None
) -> tuple[float, str]:
    if (examples is None) == (batch_size is None):
        raise _checks.error("batch_size", batch_size, "given, or `examples` in its place, not both",
                            "pass batch_size=32, or examples=32 * steps")
    size, mode = check_sampling(problem, 1 if batch_size is None else batch_size, sampling)
    if mode not in ("online", "with_replacement", "without_replacement"):
        raise _checks.error("sampling", mode, "'with_replacement' or 'without_replacement' for a design",
                            "design without replacement, then ask predict_run what it reaches in shuffled epochs")
    if examples is None:
        return size, mode
    n = problem.n_examples if mode == "without_replacement" else None
    budget = _checks.integer("examples", examples, low=steps, high=n and n * steps,
                             remedy="one example a step at least" + (", and all of them at most" if n else ""))
    return budget / steps, mode


def _largest_curvature(problem: LinearProblem) -> float:
    """By power iteration, to a few percent; no D x D matrix."""
    v = np.random.default_rng(0).normal(size=problem.dimension)
    rest = np.asarray(problem.gradient(np.zeros_like(v)))
    for _ in range(30):
        v = np.asarray(problem.gradient(v / np.linalg.norm(v))) - rest
    return float(np.linalg.norm(v))


def _logit(base: SGD) -> list[float]:
    """The number that stands for the momentum, where there is one."""
    mu = constant(base.momentum)
    return [float(np.log(mu / (1 - mu)))] if mu else []


def _planner(
    family: Family, base: SGD, steps: int, mean: float, free: int, most: float = np.inf
) -> Callable[[Array], Plan]:
    """From the numbers of rates, momentum and batch sizes, in this order, to a plan."""
    with_momentum = len(_logit(base))

    def plan(x: Array) -> Plan:
        rates, momentum, rest = jnp.split(x, [family.numbers, family.numbers + with_momentum])
        mu = jax.nn.sigmoid(momentum[0]) if with_momentum else jnp.zeros(())
        size = jnp.minimum(sizes(rest if free else rest[:0], steps, mean), most)
        return Plan(jnp.exp(family.rate(rates)), mu, size)

    return plan


def _scored(
    problem: LinearProblem, base: SGD, steps: int, start: np.ndarray, sampling: str | None = None
) -> Score:
    """log(loss at the end / loss at the start) of a plan, and its gradient."""

    def score(plan: Plan) -> Array:
        momentum = None if base.momentum is None else lambda t: plan.momentum
        optimizer = dataclasses.replace(base, learning_rate=lambda t: plan.rate[t], momentum=momentum)
        law = run_law(problem, optimizer, batch_size=plan.size, steps=steps, initial=start, sampling=sampling)
        loss = law.test_loss
        return jnp.log(jnp.maximum(loss[-1] / loss[0], 0.0) + _ROUNDING)

    return jax.jit(jax.value_and_grad(score))


def _descend(score: Score, plan: Callable[[Array], Plan], x: np.ndarray) -> tuple[float, np.ndarray, bool]:
    """The least score, where it is, and whether the descent settled there."""

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        here, back = jax.vjp(plan, jnp.asarray(x))
        height, slope = score(here)
        gradient = np.asarray(back(slope)[0])
        if not (np.isfinite(height) and np.isfinite(gradient).all() and height < _WORST):
            return _WORST, np.zeros_like(x)
        return float(height), gradient

    found = scipy.optimize.minimize(value, x, jac=True, method="L-BFGS-B",
                                    options={"maxiter": _ITERATIONS, "ftol": 1e-7, "gtol": 1e-5})
    return float(found.fun), found.x, bool(found.success)


def _schedule(
    problem: LinearProblem, base: SGD, plan: Plan, steps: int, start: np.ndarray, sampling: str
) -> Schedule:
    momentum = None if base.momentum is None else float(plan.momentum)
    optimizer = dataclasses.replace(base, learning_rate=np.asarray(plan.rate), momentum=momentum)
    size = whole(np.asarray(plan.size))
    run = predict_run(problem, optimizer, batch_size=size, steps=steps, initial=start, sampling=sampling)
    return Schedule(optimizer, size, float(run.test_loss[-1]), run)
