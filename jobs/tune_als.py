"""Choose the parameters of plain ALS on valid.

spark-submit --properties-file conf/spark-defaults.conf jobs/tune_als.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("tune_als",), sys.argv[1:])):
    sys.exit(code)
