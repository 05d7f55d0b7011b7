"""Streaming accumulators: compiled sums by independent group, merged in float64 on the host."""

from sgdsim.statistics.average import Average as Average
from sgdsim.statistics.average import Curvature as Curvature
from sgdsim.statistics.average import GradientL1 as GradientL1
from sgdsim.statistics.average import HessianTrace as HessianTrace
from sgdsim.statistics.average import NoiseScale as NoiseScale
from sgdsim.statistics.base import Measurement as Measurement
from sgdsim.statistics.base import Statistic as Statistic
from sgdsim.statistics.base import grouped_mean as grouped_mean
from sgdsim.statistics.gradient_noise import GradientNoise as GradientNoise
from sgdsim.statistics.in_time import Autocovariance as Autocovariance
from sgdsim.statistics.in_time import IterateAverage as IterateAverage
from sgdsim.statistics.in_time import ParameterEMA as ParameterEMA
from sgdsim.statistics.largest import LargestDeviations as LargestDeviations
from sgdsim.statistics.losses import Losses as Losses
from sgdsim.statistics.moments import Moments as Moments
from sgdsim.statistics.product import ProductMoments as ProductMoments
from sgdsim.statistics.rhat import nested_rhat as nested_rhat
from sgdsim.statistics.rhat import rank_normalised_rhat as rank_normalised_rhat
from sgdsim.statistics.rhat import streaming_rhat as streaming_rhat
