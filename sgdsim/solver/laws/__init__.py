"""What the solver knows of each problem's gradients: one file a problem, one table."""

from sgdsim.solver.laws.table import law_of as law_of
