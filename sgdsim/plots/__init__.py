"""Optional figures (`pip install 'sgdsim[plots]'`): they draw what was computed elsewhere, and compute nothing."""

from sgdsim.plots.curves import curve as curve
from sgdsim.plots.curves import points as points
from sgdsim.plots.ellipses import covariance_ellipses as covariance_ellipses
from sgdsim.plots.parity import parity as parity
from sgdsim.plots.parity import parity_points as parity_points
from sgdsim.plots.style import panels as panels
from sgdsim.plots.style import styled as styled
