"""Teach the sentence encoder to recommend, and write its vectors and candidates.

spark-submit --properties-file conf/spark-defaults.conf jobs/text_bert.py --config conf/demo.yaml
"""

import sys

from lt_spark.job import run_job

if __name__ == "__main__" and (code := run_job(("text_bert",), sys.argv[1:])):
    sys.exit(code)
