"""The published figures and tables, a folder for each paper, in a registry: a file here is an entry of it."""

import importlib
import pkgutil

from sgdsim.experiments.framework.registry import experiment as experiment
from sgdsim.experiments.framework.registry import list_experiments as list_experiments
from sgdsim.experiments.framework.registry import run as run
from sgdsim.experiments.framework.report import build_report as build_report
from sgdsim.experiments.framework.several import Done as Done
from sgdsim.experiments.framework.several import run_several as run_several

for _found in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_found.name)
