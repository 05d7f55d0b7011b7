"""Streaming accumulators: compiled sums by independent group, merged in float64 on the host."""

from sgdsim.statistics.base import Measurement as Measurement
from sgdsim.statistics.base import Statistic as Statistic
from sgdsim.statistics.base import grouped_mean as grouped_mean
from sgdsim.statistics.gradient_noise import GradientNoise as GradientNoise
from sgdsim.statistics.largest import LargestDeviations as LargestDeviations
from sgdsim.statistics.losses import Losses as Losses
from sgdsim.statistics.moments import Moments as Moments
from sgdsim.statistics.noise_scale import NoiseScale as NoiseScale
from sgdsim.statistics.noise_scale import batch_noise_scale as batch_noise_scale
from sgdsim.statistics.noise_scale import simple_noise_scale as simple_noise_scale
from sgdsim.statistics.polynomial_curve import PolynomialFit as PolynomialFit
from sgdsim.statistics.polynomial_fit import fit_polynomial as fit_polynomial
from sgdsim.statistics.product import ProductMoments as ProductMoments
from sgdsim.statistics.rhat import nested_rhat as nested_rhat
from sgdsim.statistics.rhat import rank_normalised_rhat as rank_normalised_rhat
from sgdsim.statistics.rhat import streaming_rhat as streaming_rhat
from sgdsim.statistics.sharpness import linf_sharpness as linf_sharpness
from sgdsim.statistics.tail_index import TailEstimate as TailEstimate
from sgdsim.statistics.tail_index import hill as hill
from sgdsim.statistics.tail_index import tail_index as tail_index
