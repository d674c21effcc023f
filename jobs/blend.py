"""Blend the candidates into recommendations, each with its reason.

spark-submit --properties-file conf/spark-defaults.conf jobs/blend.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("blend",), sys.argv[1:])):
    sys.exit(code)
