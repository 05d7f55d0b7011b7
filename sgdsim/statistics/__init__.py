"""Streaming accumulators: compiled sums by independent group, merged in float64 on the host."""

from sgdsim.statistics.base import Measurement as Measurement
from sgdsim.statistics.base import Statistic as Statistic
from sgdsim.statistics.base import grouped_mean as grouped_mean
from sgdsim.statistics.gradient_noise import GradientNoise as GradientNoise
from sgdsim.statistics.losses import Losses as Losses
from sgdsim.statistics.moments import Moments as Moments
from sgdsim.statistics.rhat import nested_rhat as nested_rhat
from sgdsim.statistics.rhat import rank_normalised_rhat as rank_normalised_rhat
from sgdsim.statistics.rhat import streaming_rhat as streaming_rhat
