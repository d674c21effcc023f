"""Run the whole pipeline: evaluate (folds valid and test), then produce (fold live).

spark-submit --properties-file conf/spark-defaults.conf jobs/run_pipeline.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(None, sys.argv[1:])):
    sys.exit(code)
