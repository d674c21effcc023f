"""Train the sequence model and write its candidates.

spark-submit --properties-file conf/spark-defaults.conf jobs/bert.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("bert",), sys.argv[1:])):
    sys.exit(code)
