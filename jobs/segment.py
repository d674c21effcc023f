"""Sort the items of each fold into head, mid, tail and cold.

spark-submit --properties-file conf/spark-defaults.conf jobs/segment.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("segment",), sys.argv[1:])):
    sys.exit(code)
