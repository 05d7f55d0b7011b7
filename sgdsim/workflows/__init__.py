"""What users do with their own data: analyse a table, run a file."""

from sgdsim.workflows.analyze import analyze as analyze
from sgdsim.workflows.design_table import design_table as design_table
