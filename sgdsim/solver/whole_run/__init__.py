"""The whole run: every linear optimizer, schedules, correlations, averages, epochs, many dimensions."""

from sgdsim.solver.whole_run.design import Design as Design
from sgdsim.solver.whole_run.design import Schedule as Schedule
from sgdsim.solver.whole_run.design import design as design
from sgdsim.solver.whole_run.laws import Law as Law
from sgdsim.solver.whole_run.laws import run_law as run_law
from sgdsim.solver.whole_run.laws import stationary_law as stationary_law
from sgdsim.solver.whole_run.predict_run import predict_run as predict_run
from sgdsim.solver.whole_run.run_prediction import RunPrediction as RunPrediction
