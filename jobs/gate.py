"""Accept or refuse the settings, on valid only.

spark-submit --properties-file conf/spark-defaults.conf jobs/gate.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("gate",), sys.argv[1:])):
    sys.exit(code)
