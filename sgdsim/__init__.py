"""sgdsim: a million training runs at once, measured where they settle, held against theory."""

from sgdsim import solver as solver
from sgdsim import statistics as statistics
from sgdsim._types import spec as spec
from sgdsim._version import __version__ as __version__
from sgdsim.compare import Comparison as Comparison
from sgdsim.compare import compare as compare
from sgdsim.engine import simulate as simulate
from sgdsim.engine import sweep as sweep
from sgdsim.engine import use_all_cores as use_all_cores
from sgdsim.optimizers import SGD as SGD
from sgdsim.optimizers import Adam as Adam
from sgdsim.problems import DatasetRegression as DatasetRegression
from sgdsim.problems import LinearRegression as LinearRegression
from sgdsim.problems import Quadratic as Quadratic
from sgdsim.results import Result as Result
from sgdsim.results import SweepResult as SweepResult
from sgdsim.results import load as load
from sgdsim.solver.predict import predict as predict
from sgdsim.solver.prediction import Prediction as Prediction
