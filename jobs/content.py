"""Write the items alike by meaning and by words, and their candidates.

spark-submit --properties-file conf/spark-defaults.conf jobs/content.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("content",), sys.argv[1:])):
    sys.exit(code)
