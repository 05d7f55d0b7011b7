"""Linear equations and fixed points that the theory stands on."""

from sgdsim.solver.linear_algebra.lyapunov import discrete_lyapunov as discrete_lyapunov
from sgdsim.solver.linear_algebra.lyapunov import spectral_radius as spectral_radius
