"""A simulation held against theory: rows with verdicts."""

from sgdsim.comparisons.claims import claim as claim
from sgdsim.comparisons.comparison import Comparison as Comparison
from sgdsim.comparisons.gradient_variance import compare_gradient_variance as compare_gradient_variance
from sgdsim.comparisons.polynomial import fit_polynomial_of_sweep as fit_polynomial_of_sweep
from sgdsim.comparisons.scaling import Scaling as Scaling
from sgdsim.comparisons.scaling import scaling as scaling
from sgdsim.comparisons.side_by_side import SideBySide as SideBySide
from sgdsim.comparisons.stationary import compare as compare
from sgdsim.comparisons.sweep import compare_sweep as compare_sweep
from sgdsim.comparisons.sweep_comparison import SweepComparison as SweepComparison
