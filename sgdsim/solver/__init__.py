"""Theory: Lyapunov equations, stationary laws, stability limits, closed forms."""

from sgdsim.solver import closed_forms as closed_forms
from sgdsim.solver.heavy_ball import stationary_covariance as stationary_covariance
from sgdsim.solver.lyapunov import discrete_lyapunov as discrete_lyapunov
from sgdsim.solver.lyapunov import spectral_radius as spectral_radius
from sgdsim.solver.noise import gradient_covariance as gradient_covariance
from sgdsim.solver.predict import predict as predict
from sgdsim.solver.prediction import Prediction as Prediction
from sgdsim.solver.stability import Stability as Stability
from sgdsim.solver.stability import stability as stability
