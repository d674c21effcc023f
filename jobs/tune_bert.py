"""Train the sequence model on valid, and choose its objective and epochs.

spark-submit --properties-file conf/spark-defaults.conf jobs/tune_bert.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("tune_bert",), sys.argv[1:])):
    sys.exit(code)
