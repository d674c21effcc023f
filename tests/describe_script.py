"""One run of stage describe on the master that LT_SPARK_MASTER names; argument: the conf.

Writes one JSON line: how the stage ended, and whether the driver imported torch.
"""

import json
import sys

from lt_spark.core.config_files import load_config
from lt_spark.core.session import start_session
from lt_spark.passes import run

if __name__ == "__main__":
    config = load_config(sys.argv[1]).config
    spark = start_session(config, "describe")
    summary = run(spark, config, purpose="evaluate", stages=["describe"])
    spark.stop()
    (event,) = summary.stages
    print(json.dumps({"kind": event.kind, "is_complete": event.is_complete, "torch": "torch" in sys.modules}))
