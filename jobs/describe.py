"""Let the language model describe tail and cold items.

spark-submit --properties-file conf/spark-defaults.conf jobs/describe.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("describe",), sys.argv[1:])):
    sys.exit(code)
