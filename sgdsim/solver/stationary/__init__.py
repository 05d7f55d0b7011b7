"""Where optimizers settle: covariances and losses around a minimum."""

from sgdsim.solver.stationary.adaptive_law import AdaptiveLaw as AdaptiveLaw
from sgdsim.solver.stationary.adaptive_law import adaptive_law as adaptive_law
from sgdsim.solver.stationary.heavy_ball import stationary_covariance as stationary_covariance
from sgdsim.solver.stationary.high_dimension import HighDimensionLaw as HighDimensionLaw
from sgdsim.solver.stationary.high_dimension import hessian_fluctuation as hessian_fluctuation
from sgdsim.solver.stationary.high_dimension import high_dimension_law as high_dimension_law
from sgdsim.solver.stationary.high_dimension import marchenko_pastur as marchenko_pastur
from sgdsim.solver.stationary.linear_network import flattest_minimum as flattest_minimum
from sgdsim.solver.stationary.linear_network import predict_linear_network as predict_linear_network
from sgdsim.solver.stationary.near_minimum import covariance_near_minimum as covariance_near_minimum
from sgdsim.solver.stationary.near_minimum import noise_covariance_near_minimum as noise_covariance_near_minimum
