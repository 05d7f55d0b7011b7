"""Optional figures (`pip install 'sgdsim[plots]'`): they draw what was computed elsewhere, and compute nothing."""

from sgdsim.plots.curves import curve as curve
from sgdsim.plots.curves import points as points
from sgdsim.plots.ellipses import covariance_ellipses as covariance_ellipses
from sgdsim.plots.heatmap import heatmap as heatmap
from sgdsim.plots.matched import matched as matched
from sgdsim.plots.minima import on_minima as on_minima
from sgdsim.plots.minima import slow_paths as slow_paths
from sgdsim.plots.parity import parity as parity
from sgdsim.plots.parity import parity_points as parity_points
from sgdsim.plots.phase import phase_diagram as phase_diagram
from sgdsim.plots.polynomial import variance_polynomial as variance_polynomial
from sgdsim.plots.schedules import schedules as schedules
from sgdsim.plots.spectrum import spectrum as spectrum
from sgdsim.plots.style import panels as panels
from sgdsim.plots.style import styled as styled
from sgdsim.plots.sweep_maps import sweep_maps as sweep_maps
from sgdsim.plots.tails import survival as survival
from sgdsim.plots.trajectory import trajectory as trajectory
