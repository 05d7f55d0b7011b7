"""The engine: blocks of chains, a scan over steps, statistics merged on the host."""

from sgdsim.engine.checkpoint import Checkpoint as Checkpoint
from sgdsim.engine.devices import use_all_cores as use_all_cores
from sgdsim.engine.gradient_variance import gradient_variance as gradient_variance
from sgdsim.engine.hosts import use_all_hosts as use_all_hosts
from sgdsim.engine.simulate import simulate as simulate
from sgdsim.engine.sweep import sweep as sweep
