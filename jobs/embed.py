"""Write vectors of the items' own text.

spark-submit --properties-file conf/spark-defaults.conf jobs/embed.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("embed",), sys.argv[1:])):
    sys.exit(code)
