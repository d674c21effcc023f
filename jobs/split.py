"""Split the log into train, valid and test.

spark-submit --properties-file conf/spark-defaults.conf jobs/split.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("split",), sys.argv[1:])):
    sys.exit(code)
