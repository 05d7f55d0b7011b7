"""A matrix, factorised by a deep linear network, from linear measurements with label noise."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from sgdsim import _checks
from sgdsim._specs import derived, set_field, spec, static
from sgdsim._types import ArrayT, backend_of, matmul
from sgdsim.problems.parts.linear_layers import Layers, shapes_of, through
from sgdsim.problems.parts.reparametrized import Reparametrized, check_examples
from sgdsim.problems.parts.residuals import MOST, check_label_noise


@spec
class MatrixFactorization(Reparametrized, Layers):
    r"""Matrix sensing by a product of matrices: with fewer measurements than entries, noise picks the minimum.

    $$L(W_1, \dots, W_L) = \frac1{2n} \sum_i \bigl( \langle A_i, W_L \cdots W_1 \rangle - y_i \bigr)^2
      + \tfrac12 \sigma^2, \qquad \langle A, B \rangle = \sum_{jk} A_{jk} B_{jk} .$$

    The parameters are one vector (D,): W_1 row by row, then W_2, and so on; `flatten` and `unflatten` convert.
    Entries of a matrix that are seen one by one (completion) are measurements with a single 1.

    Args:
        measurements: A_1, ..., A_n, shape (n, rows, columns).
        targets: y, shape (n,); None means those of the teacher.
        label_noise: the STANDARD DEVIATION sigma of noise drawn afresh for every measurement at every step.
        teacher: M*, shape (rows, columns), for the test loss; None where it is not known.
        noise: "gaussian" for label noise N(0, sigma^2), "sign" for +-sigma with equal chances.
        depth: L, the number of matrices.
        width: the number of hidden units of every layer, at least min(rows, columns), so that every matrix can be
            reached; None means max(rows, columns).

    `test_loss` is $\|W_L \cdots W_1 - M^*\|_F^2$: the mean SQUARED error (no 1/2) of a fresh measurement with
    independent entries of mean 0 and variance 1. Without a teacher it is the excess of the full-data loss over its
    minimum. Chains start at one fixed draw of Gaussian entries of standard deviation 1/3 inputs^(-1/2).

    Raises:
        ValueError: shapes do not match, neither targets nor a teacher is given, or a value is out of range.

    Examples:
        >>> import sgdsim as ss
        >>> problem = ss.MatrixFactorization.random(size=4, rank=1, examples=10, depth=3)
        >>> problem.shapes
        ((4, 4), (4, 4), (4, 4))
        >>> round(float(problem.test_loss(problem.minimum)), 12)
        0.0

    Source: paper 004 ("Slow dynamics of Adam"), appendix B.1; its loss has no 1/2 as far as the scan can be read, so
    that its learning rates are half of those here.
    """

    measurements: np.ndarray
    targets: np.ndarray
    label_noise: float
    teacher: np.ndarray | None
    noise: str = static()
    depth: int = static()
    width: int = static()

    def __init__(
        self,
        measurements: ArrayLike,
        targets: ArrayLike | None = None,
        label_noise: float = 0.0,
        *,
        teacher: ArrayLike | None = None,
        noise: str = "gaussian",
        depth: int = 2,
        width: int | None = None,
    ):
        a = _checks.finite_array("measurements", measurements)
        if a.ndim != 3 or a.size == 0:
            raise _checks.error("measurements", measurements, f"of shape (n, rows, columns) (got shape {a.shape})",
                                "one matrix an example")
        truth = None if teacher is None else _checks.finite_array("teacher", teacher)
        if truth is not None and truth.shape != a.shape[1:]:
            raise _checks.error("teacher", teacher, f"of shape {a.shape[1:]} (got shape {truth.shape})",
                                "give it the shape of one measurement")
        depth = _checks.integer("depth", depth, high=1000)
        hidden = max(a.shape[1:]) if width is None else width
        hidden = _checks.integer("width", hidden, low=min(a.shape[1:]), remedy="or leave it out")
        y, _ = check_examples(a.reshape(len(a), -1), targets, None if truth is None else truth.reshape(-1))
        sigma, law = check_label_noise(label_noise, noise)
        set_field(self, measurements=a, targets=y, label_noise=sigma, teacher=truth, noise=law, depth=depth,
                  width=hidden)

    @classmethod
    def random(
        cls,
        size: int,
        rank: int,
        examples: int,
        seed: int = 0,
        *,
        label_noise: float = 0.5,
        noise: str = "gaussian",
        depth: int = 2,
        width: int | None = None,
    ) -> Self:
        r"""The paper's problem: measurements with independent N(0, 1) entries, a square teacher of low rank.

        The teacher is $U V^\top$ with U and V of shape (size, rank) and independent entries of variance
        $\mathrm{rank}^{-1/2}$, so that its entries have variance 1; its scale is not in the paper.

        Args:
            size: d, of d x d matrices.
            rank: of the teacher, 1 to size.
            examples: n; with one seed, fewer measurements are the first of more.
            seed: of the data.
            label_noise: as for the class.
            noise: as for the class.
            depth: as for the class.
            width: as for the class.
        """
        size = _checks.integer("size", size, high=math.isqrt(MOST))
        examples = _checks.integer("examples", examples, high=MOST // size**2)
        rank = _checks.integer("rank", rank, high=size)
        rng = np.random.default_rng(_checks.integer("seed", seed, low=0, remedy="try seed=0"))
        left, right = rng.standard_normal((2, size, rank)) / rank**0.25
        measurements = rng.standard_normal((examples, size, size))
        return cls(measurements, label_noise=label_noise, teacher=left @ right.T, noise=noise, depth=depth, width=width)

    @property
    def features(self) -> np.ndarray:  # type: ignore[override]
        """The measurements, each row by row, shape (n, rows * columns)."""
        return self.measurements.reshape(len(self.measurements), -1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, hidden units, outputs."""
        _, rows, columns = self.measurements.shape
        return columns, *[self.width] * (self.depth - 1), rows

    @derived
    def minimum(self) -> np.ndarray:
        """The matrix of least loss in layers that share its singular values."""
        return balanced_factors(self.best.reshape(self.measurements.shape[1:]), self.sizes)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of every layer."""
        return shapes_of(self.sizes)

    def end_to_end(self, w: ArrayT) -> ArrayT:
        """W_L ... W_1 at parameters (D, ...), shape (rows, columns, ...)."""
        return through(self.unflatten(w))

    def effective(self, w: ArrayT) -> ArrayT:
        """W_L ... W_1 row by row, shape (rows * columns, ...)."""
        return self.end_to_end(w).reshape(-1, *w.shape[1:])

    def pull_effective(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """Layer l: (W_L ... W_{l+1})' G (W_{l-1} ... W_1)', G the weights as a matrix."""
        outer = weights.reshape(self.sizes[-1], self.sizes[0], *weights.shape[1:])
        return self._pull_back(self.unflatten(w), outer)

    def bend_effective(self, w: ArrayT, weights: ArrayT) -> ArrayT:
        """The products of two layers in W_L ... W_1."""
        return self._bent(self.unflatten(w), weights.reshape(self.sizes[-1], self.sizes[0]))


def balanced_factors(matrix: ArrayT, sizes: tuple[int, ...]) -> ArrayT:
    """(W_1, ..., W_L) with product `matrix`, every layer with the same singular values, as one vector."""
    depth = len(sizes) - 1
    backend = backend_of(matrix)
    left, values, right = backend.linalg.svd(matrix, full_matrices=False)
    root = backend.diag(values ** (1 / depth))
    layers = []
    for l, shape in enumerate(shapes_of(sizes)):
        core = root
        if l == 0:
            core = matmul(core, right)
        if l == depth - 1:
            core = matmul(left, core)
        rest = [(0, size - used) for size, used in zip(shape, core.shape, strict=True)]
        layers.append(backend.pad(core, rest).reshape(-1))
    return backend.concatenate(layers)
