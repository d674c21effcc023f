"""Read what the shop pins, blocks and boosts; each refused rule has its reason.

spark-submit --properties-file conf/spark-defaults.conf jobs/rules.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("rules",), sys.argv[1:])):
    sys.exit(code)
