"""What memory does to an optimizer, and how mini-batch noise enters it: the implicit bias of Adam."""

from sgdsim.solver.adam_bias.bias_terms import AdamBiasTerms as AdamBiasTerms
from sgdsim.solver.adam_bias.bias_terms import adam_bias_terms as adam_bias_terms
from sgdsim.solver.adam_bias.measured_sharpness import MeasuredSharpness as MeasuredSharpness
from sgdsim.solver.adam_bias.measured_sharpness import (
    measured_sharpness_coefficient as measured_sharpness_coefficient,
)
from sgdsim.solver.adam_bias.memoryless import Memoryless as Memoryless
from sgdsim.solver.adam_bias.memoryless import memoryless as memoryless
from sgdsim.solver.adam_bias.monotonicity import Monotonicity as Monotonicity
from sgdsim.solver.adam_bias.monotonicity import Thresholds as Thresholds
from sgdsim.solver.adam_bias.monotonicity import adam_monotonicity as adam_monotonicity
from sgdsim.solver.adam_bias.monotonicity import adam_thresholds as adam_thresholds
from sgdsim.solver.adam_bias.noise_coefficients import NoiseCoefficients as NoiseCoefficients
from sgdsim.solver.adam_bias.noise_coefficients import adam_noise_coefficients as adam_noise_coefficients
from sgdsim.solver.adam_bias.permutations import PermutationAverage as PermutationAverage
from sgdsim.solver.adam_bias.permutations import PermutationCoefficients as PermutationCoefficients
from sgdsim.solver.adam_bias.permutations import momentum_permutation_coefficients as momentum_permutation_coefficients
from sgdsim.solver.adam_bias.permutations import permutation_average as permutation_average
from sgdsim.solver.adam_bias.sharpness import adam_sharpness_coefficient as adam_sharpness_coefficient
