"""Write vectors of the items' own and written text, where the text was shown to help.

spark-submit --properties-file conf/spark-defaults.conf jobs/embed_enriched.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("embed_enriched",), sys.argv[1:])):
    sys.exit(code)
