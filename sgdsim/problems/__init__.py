"""Learning problems: a loss landscape and a data law, one a file."""

from sgdsim.problems.base import Problem as Problem
from sgdsim.problems.cycling_toy import CyclingToy as CyclingToy
from sgdsim.problems.dataset_regression import DatasetRegression as DatasetRegression
from sgdsim.problems.deep_linear import DeepLinear as DeepLinear
from sgdsim.problems.diagonal_network import DiagonalNetwork as DiagonalNetwork
from sgdsim.problems.ellipse import Ellipse as Ellipse
from sgdsim.problems.flax_network import FlaxNetwork as FlaxNetwork
from sgdsim.problems.from_loss import FromLoss as FromLoss
from sgdsim.problems.linear_regression import LinearRegression as LinearRegression
from sgdsim.problems.matrix_factorization import MatrixFactorization as MatrixFactorization
from sgdsim.problems.quadratic import Quadratic as Quadratic
from sgdsim.problems.sampling import BatchSizes as BatchSizes
from sgdsim.problems.sampling import check_batch_sizes as check_batch_sizes
from sgdsim.problems.sampling import check_sampling as check_sampling
from sgdsim.problems.two_layer_linear import TwoLayerLinear as TwoLayerLinear
