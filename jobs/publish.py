"""Publish the gold tables that BI reads.

spark-submit --properties-file conf/spark-defaults.conf jobs/publish.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("publish",), sys.argv[1:])):
    sys.exit(code)
