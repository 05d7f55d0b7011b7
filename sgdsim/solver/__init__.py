"""Theory, one room for each question; the names that everything else starts from stand here."""

from sgdsim.solver import adam_bias as adam_bias
from sgdsim.solver import limits as limits
from sgdsim.solver import linear_algebra as linear_algebra
from sgdsim.solver import manifold as manifold
from sgdsim.solver import noise as noise
from sgdsim.solver import stationary as stationary
from sgdsim.solver import tails as tails
from sgdsim.solver import variance as variance
from sgdsim.solver import whole_run as whole_run
from sgdsim.solver.limits import stability as stability
from sgdsim.solver.noise.at_point import gradient_covariance as gradient_covariance
from sgdsim.solver.predict import predict as predict
from sgdsim.solver.prediction import Prediction as Prediction
from sgdsim.solver.variance import gradient_variance as gradient_variance
from sgdsim.solver.variance import gradient_variance_polynomial as gradient_variance_polynomial
from sgdsim.solver.weight_decay import OptimalWeightDecay as OptimalWeightDecay
from sgdsim.solver.weight_decay import optimal_weight_decay as optimal_weight_decay
from sgdsim.solver.whole_run import run_law as run_law
from sgdsim.solver.whole_run import stationary_law as stationary_law
