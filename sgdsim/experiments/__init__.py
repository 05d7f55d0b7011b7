"""The published figures and tables, one a file, in a registry; and the analysis of a user's own table."""

from sgdsim.experiments import fig3_left as fig3_left
from sgdsim.experiments import fig3_right as fig3_right
from sgdsim.experiments import fig4a as fig4a
from sgdsim.experiments import fig4bc as fig4bc
from sgdsim.experiments import fig5 as fig5
from sgdsim.experiments import table2 as table2
from sgdsim.experiments.analyze import analyze as analyze
from sgdsim.experiments.registry import experiment as experiment
from sgdsim.experiments.registry import list_experiments as list_experiments
from sgdsim.experiments.registry import run as run
from sgdsim.experiments.report import build_report as build_report
