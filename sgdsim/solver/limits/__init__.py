"""How large a learning rate may be, and which rates and batch sizes are alike."""

from sgdsim.solver.limits.linear_scaling_rule import ScalingMap as ScalingMap
from sgdsim.solver.limits.linear_scaling_rule import linear_scaling_rule as linear_scaling_rule
from sgdsim.solver.limits.stability import Stability as Stability
from sgdsim.solver.limits.stability import stability as stability
from sgdsim.solver.limits.stability_limit import StabilityLimit as StabilityLimit
from sgdsim.solver.limits.stability_limit import stability_limit as stability_limit
