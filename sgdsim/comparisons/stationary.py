"""A measured result against one theory or several: z-scores, relative errors and verdicts."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from sgdsim import _checks
from sgdsim._specs import own_settings
from sgdsim.comparisons.comparison import DEFAULT_GROUPS, POWER, Comparison
from sgdsim.comparisons.entries import Circumstances, Held, judge_entries
from sgdsim.comparisons.regime import heavy_tails, not_settled, out_of_regime
from sgdsim.comparisons.run import compare_run
from sgdsim.comparisons.side_by_side import SideBySide
from sgdsim.comparisons.theory import Formulas, Theory, dtype_of, given, hold, predicted
from sgdsim.results import Result
from sgdsim.results.derive import Function, parameters
from sgdsim.solver.prediction import Prediction
from sgdsim.solver.whole_run import RunPrediction

OneTheory: TypeAlias = Prediction | Formulas
Error: TypeAlias = float | Mapping[str, float]


@functools.singledispatch
@own_settings
def compare(
    result: object,
    theory: object,
    *,
    error_rate: float = 0.01,
    theory_error: Error | None = None,
    reference: str = "",
    regime: str = "",
    derived: Mapping[str, Function] | None = None,
) -> Comparison | SideBySide:
    """Hold what was measured against a theory: one of sgdsim's predictions, or a formula of your own.

    The statistic of an entry is Student's t with (groups - 1) degrees of freedom; a row is judged by
    its largest |z| at a level corrected (Sidak) for its distinct entries, D or D(D+1)/2, and for the
    number of rows, so that a correct prediction meets any "disagree" with probability `error_rate`.

    An entry is *underpowered* where its standard error is not finite or above 10% of its scale (see
    `Row.relative_error`), where there are fewer than 8 groups, or (second moments) where the fourth moment, on
    which the standard error itself rests, was not measured to 10% or does not exist: a kurtosis above 4 asks for
    the tail index, which must be above 4 (see `heavy_tails`). A row with such an entry says so, whatever its z.
    A row is *out of regime*
    when chains diverged, the run was interrupted, R-hat is above 1.05 or the two configurations differ.

    Rounding errors of the chains count as one more standard error, added in quadrature: 64 machine
    epsilons of the largest parameter for the mean, its square for second moments, plus 16 epsilons of a
    second moment's own scale. So where theory says exactly zero and nothing varies (b = n without
    replacement), zero agrees with zero.

    Where the theory states an error of its own (`Prediction.theory_error`, as for Adam), z counts what the difference
    exceeds that share of the scale by; where it says that it does not hold (`out_of_regime`), so does every row.

    A `RunPrediction` is held against what was recorded, step by step (see `compare_run`). For a sweep see
    `compare_sweep`, for what `gradient_variance` measured `compare_gradient_variance`, which are called then.

    Args:
        result: a `Result`, what `simulate` measured.
        theory: a `Prediction` or `RunPrediction` of the same problem, optimizer and batch size. Or a mapping from
            quantities to values: every measured quantity, those of a statistic of your own, `"variance"`, one entry
            `"covariance[0,1]"`, a block `"covariance[0:2,0:2]"`, `"trace(covariance)"`, `"eigenvalues(covariance)"`
            (in any order), `"tail_index"`, and what is in `derived`. Or several of these by name, to be shown side by
            side: `{"mine": {...}, "exact": ss.predict(...)}`.
        error_rate: probability of any "disagree" for a correct theory; several share it.
        theory_error: how far the theory may be off, relative to the scale; a number, or a mapping from quantities. None
            is what a prediction states itself, and 0 for a mapping.
        reference: where a formula of your own comes from.
        regime: a text that says why the theory does not hold here: every row is then "out of regime".
        derived: functions of measured quantities by name, as for `Result.derive`: more rows. A theory that says nothing
            of such a name is asked for the function of its own values.

    Returns:
        A `Comparison`; of several theories a `SideBySide`.

    Raises:
        ValueError: `error_rate` is not in (0, 1), shapes differ, or the theory speaks of what was not measured.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.LinearRegression([1.0], label_noise=1.0)
        >>> result = ss.simulate(problem, ss.SGD(0.1), batch_size=4, chains=2000, steps=400, burn_in=100)
        >>> ss.compare(result, {"variance": [0.1 / (4 * (2 - 0.1) - 0.1 * (4 + 2 - 4))]}).rows[0].quantity
        'variance[0]'
    """
    rate = _checks.between_0_and_1("error_rate", error_rate, "0.01 is the default")
    if not isinstance(result, Result):
        raise _checks.error("result", type(result).__name__, "a Result", "try ss.compare(result, theory)")
    if isinstance(theory, RunPrediction):
        return compare_run(result, theory, rate)
    held = functools.partial(held_by, result, theory_error=theory_error, reference=reference, regime=regime,
                             derived=dict(derived or {}))
    several = theories(theory)
    if not several:
        return held(theory, rate)[0]
    also = [name for one in several.values() if not isinstance(one, Prediction) for name in one]
    level = 1 - (1 - rate) ** (1 / len(several))
    found, helds = {}, {}
    for name, one in several.items():
        found[name], helds[name] = held(one, level, also=also)
    return SideBySide(found, helds)


def held_by(
    result: Result, theory: object, error_rate: float, *, theory_error: Error | None, reference: str, regime: str,
    derived: Mapping[str, Function], also: Sequence[str] = (),
) -> tuple[Comparison, dict[str, Held]]:
    """The verdicts on one theory, and what they are about."""
    law = _law(theory, result)
    if theory_error is not None:
        law = law._replace(theory_error=_check_theory_error(theory_error))
    law = law._replace(out_of_regime=regime or law.out_of_regime, reference=law.reference or reference)
    held = hold(law, result, derived, also)
    if not also and (silent := [name for name in derived if name not in held]):
        raise _checks.error("derived", silent[0], "a number of which the theory says something",
                            f"give it a value, or one to each of {', '.join(parameters(derived[silent[0]]))}")
    return judge_all(held, result, law, error_rate), held


def compare_one(result: Result, theory: OneTheory, *, error_rate: float = 0.01) -> Comparison:
    """`compare` with one theory."""
    law = _law(theory, result)
    return judge_all(hold(law, result, {}), result, law, error_rate)


def theories(theory: object) -> dict[str, OneTheory]:
    """Several theories by name; none where it is one."""
    if isinstance(theory, Mapping) and theory:
        kinds = {isinstance(one, Mapping | Prediction) for one in theory.values()}
        if kinds == {True}:
            return dict(theory)
        if True in kinds:
            wrong = next(name for name, one in theory.items() if not isinstance(one, Mapping | Prediction))
            raise _checks.error(f"theory[{wrong!r}]", theory[wrong], "a Prediction or a mapping, as the others are",
                                "give several theories by name, or one as a mapping from quantities")
    return {}


def _law(theory: object, result: Result) -> Theory:
    if isinstance(theory, Prediction):
        return predicted(theory, result)
    if not isinstance(theory, Mapping):
        raise _checks.error("theory", type(theory).__name__, "a Prediction, or a mapping from quantities to values",
                            "try ss.predict(...), or {'covariance': ...}")
    return given(theory)


def _check_theory_error(error: Error) -> Error:
    if isinstance(error, Mapping):
        return {name: _checks.non_negative(f"theory_error[{name!r}]", value) for name, value in error.items()}
    return _checks.non_negative("theory_error", error)


def judge_all(held: Mapping[str, Held], result: Result, theory: Theory, error_rate: float) -> Comparison:
    """The verdicts on all that is held against one theory."""
    out = out_of_regime(result, theory.out_of_regime, theory.prediction)
    at = Circumstances(
        groups=int(result.provenance.get("groups", DEFAULT_GROUPS)),
        regime=out,
        heavy="" if out else heavy_tails(result, theory.prediction),
        rounds_away=_rounds_away(result),
        not_settled=functools.partial(not_settled, result, theory.prediction),
    )
    level = 1 - (1 - error_rate) ** (1 / max(len(held), 1))
    rows, entries = [], {}
    for name, one in held.items():
        row, entries[name] = judge_entries(one, at, level)
        rows.append(row)
    return Comparison(rows, entries, error_rate, out, theory.reference, theory.approximation)


def _rounds_away(result: Result) -> str:
    dtype = dtype_of(result)
    remedy = "use dtype='float64'" if "32" in dtype else "choose other units, or a problem centred at its minimum"
    return f"{dtype}: rounding errors of the chains may be above {POWER:.0%} of scale and hide the answer; {remedy}"
