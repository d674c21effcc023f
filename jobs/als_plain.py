"""Write the candidates of plain ALS, the baseline of every claim.

spark-submit --properties-file conf/spark-defaults.conf jobs/als_plain.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("als_plain",), sys.argv[1:])):
    sys.exit(code)
