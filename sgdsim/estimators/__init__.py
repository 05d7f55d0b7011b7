"""Numbers from data: tail indices, polynomials in 1/b and their bands, noise scales, sharpness."""

from sgdsim.estimators.jackknife import Estimate as Estimate
from sgdsim.estimators.noise_scale import NoiseScale as NoiseScale
from sgdsim.estimators.noise_scale import batch_noise_scale as batch_noise_scale
from sgdsim.estimators.noise_scale import simple_noise_scale as simple_noise_scale
from sgdsim.estimators.polynomial_curve import PolynomialFit as PolynomialFit
from sgdsim.estimators.polynomial_fit import fit_polynomial as fit_polynomial
from sgdsim.estimators.sharpness import linf_sharpness as linf_sharpness
from sgdsim.estimators.tail_index import TailEstimate as TailEstimate
from sgdsim.estimators.tail_index import hill as hill
from sgdsim.estimators.tail_index import tail_index as tail_index
