"""`predict` for shuffled epochs."""

from __future__ import annotations

import numpy as np
import optax

from sgdsim import _checks
from sgdsim.optimizers import Optimizer
from sgdsim.problems import DatasetRegression, Problem, check_sampling
from sgdsim.solver.prediction import Prediction
from sgdsim.solver.whole_run.epochs.law import epoch_law
from sgdsim.solver.whole_run.expected_losses import expected_losses
from sgdsim.solver.whole_run.linear_optimizer import cycle, read_optimizer

_REGIMES = {
    "exact": "exact for shuffled epochs of this data set",
    "additive": "shuffled epochs with the noise of every batch as at the minimum: small fluctuations",
}


def predict_epochs(
    problem: Problem,
    optimizer: Optimizer | optax.GradientTransformation,
    *,
    batch_size: int,
    approximation: str,
) -> Prediction:
    """The law of `epoch_law` under the names of `predict`: averaged over the positions of a pass, and at each of them.

    Where shuffles are sampled, `theory_error` is the standard error of the covariance, from 16 groups of them.

    Raises:
        ValueError: as for `predict`.
        NotImplementedError: as for `predict`; or the problem is no data set for regression.
    """
    _checks.choice("approximation", approximation, _REGIMES)
    size, mode = check_sampling(problem, batch_size, "epochs")
    if not isinstance(problem, DatasetRegression):
        raise NotImplementedError(f"no theory of shuffled epochs for {type(problem).__name__}: simulate it instead")
    steps, _ = cycle(read_optimizer(optimizer, problem, size))
    if len(steps) > 1:
        raise NotImplementedError("no theory of shuffled epochs for a periodic optimizer: simulate it instead")
    law = epoch_law(problem, steps[0], size, approximation)
    if not law.settles:
        raise _checks.error("learning_rate", getattr(optimizer, "learning_rate", None),
                            "below the limit where second moments stop existing", "lower it, or raise batch_size")
    mean, covariance = law.mean.mean(axis=0), law.covariance.mean(axis=0)
    apart = law.mean - mean  # of second order in the rate: in the losses, but not in the covariance
    train_loss, test_loss = expected_losses(problem, mean, covariance + apart.T @ apart / len(apart))
    return Prediction(
        mean=mean,
        covariance=covariance,
        noise_covariance=None,
        train_loss=float(train_loss),
        test_loss=float(test_loss),
        max_learning_rate=np.nan,
        spectral_radius=np.nan,
        approximation=approximation,
        regime=_REGIMES[approximation],
        reference="whole-run.md section 4",
        configuration={
            "problem": repr(problem),
            "optimizer": repr(optimizer) if isinstance(optimizer, Optimizer) else "optax transformation",
            "batch_size": size,
            "sampling": mode,
        },
        theory_error=law.error,
        positions=list(zip(law.mean, law.covariance, strict=True)),
    )
