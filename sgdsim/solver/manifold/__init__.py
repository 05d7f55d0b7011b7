"""Motion along a manifold of minima: label noise, slow equations, where they end."""

from sgdsim.solver.manifold.basis_pursuit import basis_pursuit as basis_pursuit
from sgdsim.solver.manifold.derivatives import potential_gradient as potential_gradient
from sgdsim.solver.manifold.hessian_parts import GaussNewton as GaussNewton
from sgdsim.solver.manifold.hessian_parts import gauss_newton as gauss_newton
from sgdsim.solver.manifold.label_noise_arbitrary import normalized_covariance as normalized_covariance
from sgdsim.solver.manifold.label_noise_classification import LabelFlip as LabelFlip
from sgdsim.solver.manifold.label_noise_classification import label_flip_constants as label_flip_constants
from sgdsim.solver.manifold.label_noise_flow import label_noise_flow as label_noise_flow
from sgdsim.solver.manifold.label_noise_phase import PhaseDrift as PhaseDrift
from sgdsim.solver.manifold.label_noise_phase import phase_drift as phase_drift
from sgdsim.solver.manifold.label_noise_regularized_loss import RegularizedLoss as RegularizedLoss
from sgdsim.solver.manifold.label_noise_regularized_loss import label_noise_gradient as label_noise_gradient
from sgdsim.solver.manifold.label_noise_regularized_loss import regularized_loss as regularized_loss
from sgdsim.solver.manifold.label_noise_regularizer import label_noise_covariance as label_noise_covariance
from sgdsim.solver.manifold.label_noise_regularizer import label_noise_regularizer as label_noise_regularizer
from sgdsim.solver.manifold.label_noise_regularizer import label_noise_strength as label_noise_strength
from sgdsim.solver.manifold.projection import flow_to_minimum as flow_to_minimum
from sgdsim.solver.manifold.projection import tangent_projection as tangent_projection
from sgdsim.solver.manifold.slow_fixed_point import slow_fixed_point as slow_fixed_point
from sgdsim.solver.manifold.slow_ode import SlowPath as SlowPath
from sgdsim.solver.manifold.slow_ode import slow_ode as slow_ode
from sgdsim.solver.manifold.slow_potential import sharpness as sharpness
from sgdsim.solver.manifold.slow_sde import SlowCoefficients as SlowCoefficients
from sgdsim.solver.manifold.slow_sde import slow_coefficients as slow_coefficients
from sgdsim.solver.manifold.slow_sde import slow_sde as slow_sde
