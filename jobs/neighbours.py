"""Write the item neighbours and their candidates.

spark-submit --properties-file conf/spark-defaults.conf jobs/neighbours.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("neighbours",), sys.argv[1:])):
    sys.exit(code)
