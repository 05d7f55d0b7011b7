"""The engine: blocks of chains, a scan over steps, statistics merged on the host."""

from sgdsim.engine.checkpoints.checkpoint import Checkpoint as Checkpoint
from sgdsim.engine.gradient_variance import gradient_variance as gradient_variance
from sgdsim.engine.plan.devices import use_all_cores as use_all_cores
from sgdsim.engine.plan.hosts import use_all_hosts as use_all_hosts
from sgdsim.engine.plan.settling import NotSettled as NotSettled
from sgdsim.engine.simulate import simulate as simulate
from sgdsim.engine.sweep import sweep as sweep
