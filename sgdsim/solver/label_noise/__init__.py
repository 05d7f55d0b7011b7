"""Label-noise SGD: the implicit regulariser, the fluctuations, and the slow motion along the minima."""

from sgdsim.solver.label_noise.arbitrary import noise_fixed_point as noise_fixed_point
from sgdsim.solver.label_noise.classification import LabelFlip as LabelFlip
from sgdsim.solver.label_noise.classification import label_flip_constants as label_flip_constants
from sgdsim.solver.label_noise.derivatives import potential_gradient as potential_gradient
from sgdsim.solver.label_noise.flow import label_noise_flow as label_noise_flow
from sgdsim.solver.label_noise.phase import PhaseDrift as PhaseDrift
from sgdsim.solver.label_noise.phase import phase_drift as phase_drift
from sgdsim.solver.label_noise.regularized_loss import RegularizedLoss as RegularizedLoss
from sgdsim.solver.label_noise.regularized_loss import label_noise_gradient as label_noise_gradient
from sgdsim.solver.label_noise.regularized_loss import regularized_loss as regularized_loss
from sgdsim.solver.label_noise.regularizer import label_noise_covariance as label_noise_covariance
from sgdsim.solver.label_noise.regularizer import label_noise_regularizer as label_noise_regularizer
from sgdsim.solver.label_noise.regularizer import label_noise_strength as label_noise_strength
