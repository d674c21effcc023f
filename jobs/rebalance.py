"""Weigh the training log so that rare items are learnt too.

spark-submit --properties-file conf/spark-defaults.conf jobs/rebalance.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("rebalance",), sys.argv[1:])):
    sys.exit(code)
