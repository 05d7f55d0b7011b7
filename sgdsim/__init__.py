"""sgdsim: a million training runs at once, measured where they settle, held against theory."""

from sgdsim._version import __version__ as __version__
from sgdsim.optimizers import SGD as SGD
from sgdsim.optimizers import Adam as Adam
from sgdsim.problems import DatasetRegression as DatasetRegression
from sgdsim.problems import LinearRegression as LinearRegression
from sgdsim.problems import Quadratic as Quadratic
