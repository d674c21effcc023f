"""Measure every model by group of users: who gains and who loses against plain ALS.

spark-submit --properties-file conf/spark-defaults.conf jobs/groups.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("groups",), sys.argv[1:])):
    sys.exit(code)
