"""Let the language model read histories, and write the augmented events.

spark-submit --properties-file conf/spark-defaults.conf jobs/context.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("context",), sys.argv[1:])):
    sys.exit(code)
