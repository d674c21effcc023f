"""Clean the sources into silver.interactions, silver.items and silver.users; refused rows with their reasons.

spark-submit --properties-file conf/spark-defaults.conf jobs/clean.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("clean",), sys.argv[1:])):
    sys.exit(code)
