"""Choose the blend's weights on valid.

spark-submit --properties-file conf/spark-defaults.conf jobs/tune.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("tune",), sys.argv[1:])):
    sys.exit(code)
