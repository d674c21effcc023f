"""Write the candidates of the popularity model.

spark-submit --properties-file conf/spark-defaults.conf jobs/popularity.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("popularity",), sys.argv[1:])):
    sys.exit(code)
