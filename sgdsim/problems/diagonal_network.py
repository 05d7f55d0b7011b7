"""The diagonal linear network on a finite data set with label noise."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import derived, set_field, spec, static
from sgdsim._types import ArrayT, backend_of
from sgdsim.problems.parts.reparametrized import Reparametrized, check_examples
from sgdsim.problems.parts.residuals import MOST, check_label_noise


@spec
class DiagonalNetwork(Reparametrized):
    r"""Regression with weights $w = u \odot u - v \odot v$: with fewer examples than weights, noise picks the minimum.

    $$L(u, v) = \frac1{2n} \sum_i \bigl( x_i^\top (u^{\odot 2} - v^{\odot 2}) - y_i \bigr)^2 + \tfrac12 \sigma^2 .$$

    The parameters are one vector (2d,): u, then v.

    Args:
        features: X, shape (n, d).
        targets: y, shape (n,); None means X w* of the teacher.
        label_noise: the STANDARD DEVIATION sigma of noise drawn afresh for every label at every step.
        teacher: w*, shape (d,), for the test loss; None where it is not known.
        noise: "sign" for label noise +-sigma with equal chances, "gaussian" for N(0, sigma^2).
        start: chains start at u = v = start, hence w = 0.

    `test_loss` is $\|w - w^*\|^2$: the mean SQUARED error (no 1/2) of an example with independent features of mean 0
    and variance 1. Without a teacher it is the excess of the full-data loss over its minimum.

    Raises:
        ValueError: shapes do not match, neither targets nor a teacher is given, or a value is out of range.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.DiagonalNetwork([[1.0, 1.0, -1.0], [1.0, -1.0, 1.0]], teacher=[2.0, 0.0, 0.0])
        >>> [round(float(x), 5) for x in problem.minimum]
        [1.41421, 0.0, 0.0, 0.0, 0.0, 0.0]
        >>> float(problem.test_loss(problem.default_start))
        4.0

    Source: paper 004 ("Slow dynamics of Adam"), section 5.2; there +-1 features, and a +-1 label noise here read
    from section C4 of the theory sheet.
    """

    features: np.ndarray
    targets: np.ndarray
    label_noise: float
    teacher: np.ndarray | None
    noise: str = static()
    start: np.ndarray

    def __init__(
        self,
        features: ArrayLike,
        targets: ArrayLike | None = None,
        label_noise: float = 0.0,
        *,
        teacher: ArrayLike | None = None,
        noise: str = "sign",
        start: float = 0.1,
    ):
        x = _checks.finite_array("features", features)
        if x.ndim != 2 or x.size == 0:
            raise _checks.error("features", features, f"an n x d array (got shape {x.shape})",
                                "one row an example, one column a feature")
        y, truth = check_examples(x, targets, teacher)
        sigma, law = check_label_noise(label_noise, noise)
        start = _checks.positive("start", start, "u = v = 0 is a saddle; try 0.1")
        set_field(self, features=x, targets=y, label_noise=sigma, teacher=truth, noise=law, start=np.float64(start))

    @classmethod
    def random(
        cls,
        dimension: int,
        examples: int,
        sparsity: int,
        seed: int = 0,
        *,
        amplitudes: str = "sign",
        label_noise: float = 1.0,
        noise: str = "sign",
        start: float = 0.1,
    ) -> Self:
        """The paper's problem: features +-1, a teacher with few weights that are not 0.

        Args:
            dimension: d, the number of weights.
            examples: n; with one seed, fewer examples are the first of more.
            sparsity: how many weights of the teacher are not 0.
            seed: of the data.
            amplitudes: those weights are "sign", +-1, or "gaussian", N(0, 1).
            label_noise: as for the class.
            noise: as for the class.
            start: as for the class.
        """
        dimension = _checks.integer("dimension", dimension, high=MOST)
        examples = _checks.integer("examples", examples, high=MOST // dimension)
        sparsity = _checks.integer("sparsity", sparsity, low=0, high=dimension)
        rng = np.random.default_rng(_checks.integer("seed", seed, low=0, remedy="try seed=0"))
        teacher, sizes = np.zeros(dimension), _checks.choice("amplitudes", amplitudes, ("sign", "gaussian"))
        drawn = rng.choice([-1.0, 1.0], sparsity) if sizes == "sign" else rng.standard_normal(sparsity)
        teacher[rng.choice(dimension, sparsity, replace=False)] = drawn
        features = rng.choice([-1.0, 1.0], (examples, dimension))
        return cls(features, label_noise=label_noise, teacher=teacher, noise=noise, start=start)

    @property
    def dimension(self) -> int:
        """Number of parameters D = 2d."""
        return 2 * self.features.shape[-1]

    @derived
    def minimum(self) -> np.ndarray:
        """The weights of least loss, each in its u or its v alone."""
        backend = backend_of(self.best)
        return backend.sqrt(backend.maximum(backend.concatenate([self.best, -self.best]), 0.0))

    @property
    def default_start(self) -> np.ndarray:
        """Start in every u and v."""
        return backend_of(self.start).full(self.dimension, self.start)

    def unflatten(self, w: ArrayT) -> tuple[ArrayT, ArrayT]:
        """(u, v) of parameters (2d, ...)."""
        half = len(w) // 2
        return w[:half], w[half:]

    def effective(self, w: ArrayT) -> ArrayT:
        """u^2 - v^2, shape (d, ...)."""
        u, v = self.unflatten(w)
        return u * u - v * v

    def pull_effective(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """(2 u weights, -2 v weights)."""
        u, v = self.unflatten(w)
        return backend_of(w, weights).concatenate([2 * u * weights, -2 * v * weights])

    def bend_effective(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """A diagonal: 2 weights for u, -2 weights for v."""
        backend = backend_of(weights)
        return backend.diag(backend.concatenate([2 * weights, -2 * weights]))
