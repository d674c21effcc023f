"""What the notebooks call: parameters, a Spark session, tables by name, views of bounded size, plots."""

import warnings

from lt_spark.notebook.opened import Opened, open_tables
from lt_spark.notebook.parameters import parameter

__all__ = ["Opened", "open_tables", "parameter"]

# libraries of networks would draw bars of progress, and warn in the middle of a cell where ipywidgets is not installed
warnings.filterwarnings("ignore", message="IProgress not found")
