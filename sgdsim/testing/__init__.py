"""Theories held against simulations in tests, in the manner of `numpy.testing`."""

from sgdsim.testing.asserts import assert_agrees as assert_agrees
from sgdsim.testing.asserts import assert_disagrees as assert_disagrees
