"""Results: what a run returns, files, export."""

from sgdsim.results.gradient_variance_result import GradientVarianceResult as GradientVarianceResult
from sgdsim.results.gradient_variance_result import LayerVariance as LayerVariance
from sgdsim.results.groups import Groups as Groups
from sgdsim.results.load import load as load
from sgdsim.results.result import Quantity as Quantity
from sgdsim.results.result import Result as Result
from sgdsim.results.run_state import RunState as RunState
from sgdsim.results.sweep_result import SweepResult as SweepResult
