"""The tail index of the stationary law."""

from sgdsim.solver.tails.isotropic import kesten_tail_index as kesten_tail_index
from sgdsim.solver.tails.particles import ComputedTailIndex as ComputedTailIndex
from sgdsim.solver.tails.particles import tail_index_by_particles as tail_index_by_particles
