"""Optimizers: one family a file, each a description that becomes an optax transformation."""

from sgdsim.optimizers.adam import Adam as Adam
from sgdsim.optimizers.base import Optimizer as Optimizer
from sgdsim.optimizers.base import check_optimizer as check_optimizer
from sgdsim.optimizers.sgd import SGD as SGD
