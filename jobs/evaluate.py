"""Measure every model by segment, with intervals against plain ALS.

spark-submit --properties-file conf/spark-defaults.conf jobs/evaluate.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("evaluate",), sys.argv[1:])):
    sys.exit(code)
