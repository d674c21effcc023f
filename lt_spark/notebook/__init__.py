"""What the notebooks call: parameters, a Spark session, tables by name, views of bounded size, plots."""

from lt_spark.notebook.opened import Opened, open_tables
from lt_spark.notebook.parameters import parameter

__all__ = ["Opened", "open_tables", "parameter"]
