"""Optimizers: one family a file, each a description that becomes an optax transformation."""

from sgdsim.optimizers.ada_sgd import AdaSGD as AdaSGD
from sgdsim.optimizers.adafactor import Adafactor as Adafactor
from sgdsim.optimizers.adafactor import mixes_parameters as mixes_parameters
from sgdsim.optimizers.adalayer import Adalayer as Adalayer
from sgdsim.optimizers.adam import Adam as Adam
from sgdsim.optimizers.adam_e import AdamE as AdamE
from sgdsim.optimizers.adam_mini import AdamMini as AdamMini
from sgdsim.optimizers.adamw import AdamW as AdamW
from sgdsim.optimizers.adaptive import AdaptiveGradient as AdaptiveGradient
from sgdsim.optimizers.base import AdaptiveOptimizer as AdaptiveOptimizer
from sgdsim.optimizers.base import Optimizer as Optimizer
from sgdsim.optimizers.base import check_optimizer as check_optimizer
from sgdsim.optimizers.base import check_schedules as check_schedules
from sgdsim.optimizers.base import resolve as resolve
from sgdsim.optimizers.damped_newton import DampedNewton as DampedNewton
from sgdsim.optimizers.natural_gradient import NaturalGradient as NaturalGradient
from sgdsim.optimizers.rmsprop import RMSProp as RMSProp
from sgdsim.optimizers.sgd import SGD as SGD
from sgdsim.optimizers.sgd import is_heavy_ball as is_heavy_ball
from sgdsim.optimizers.slow_weights import lookahead as lookahead
