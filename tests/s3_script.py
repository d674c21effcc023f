"""Runs the small shop in local folders, then on an object store, in one Spark; prints what came of it as JSON.

Called with a local folder and s3a://BUCKET. Where the store is and its keys are in the environment and in Spark's
settings, as docs/object_stores.md tells.
"""

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lt_spark import bert_stage
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.files import Folder
from lt_spark.core.session import start_session
from lt_spark.core.storage import Storage
from lt_spark.passes import run
from tests.small_shop import SMALL_BERT, write_whole_shop
from tests.written import COMPARED, rows_of

TELLS_OF_ITSELF = {t.BERT_EPOCHS: {"seconds", "folder"}}


def rows(storage: Storage, table: t.Table) -> list[str]:
    """Rows of a table as JSON, without the columns that tell of the run."""
    left_out = TELLS_OF_ITSELF.get(table, set())
    return [
        json.dumps({name: value for name, value in json.loads(row).items() if name not in left_out})
        for row in rows_of(storage, table)
    ]


def main(folder: Path, bucket: str) -> dict[str, Any]:
    # Petastorm reads by an interface that pyarrow 15 dropped
    loader = "petastorm" if find_spec("petastorm") and find_spec("pyarrow.filesystem") else "pyarrow"
    settings = write_whole_shop(folder) | SMALL_BERT
    settings["bert"] = settings["bert"] | {"loader": loader}
    # a store answers thousands of questions, and this one is slow: few models, and one fold that is chosen on
    settings["blend"] = settings["blend"] | {"models": ["neighbours", "bert", "popularity"]}
    settings |= {"als_plain": {"ranks": [4], "alphas": [10.0], "max_iter": 3}, "run": {"side_by_side": 1}}
    local = Config.model_validate(settings)
    for kind in ("interactions", "items", "users"):
        path = Path(settings["source"][kind]["path"])
        Folder(f"{bucket}/source").write(path.name, path.read_bytes())
        settings["source"][kind]["path"] = f"{bucket}/source/{path.name}"
    settings |= {"tables": {"root": f"{bucket}/tables"}, "files": {"root": f"{bucket}/files"}}
    remote = Config.model_validate(settings)
    spark = start_session(local, "s3")
    found: dict[str, Any] = {"loader": loader}
    for name, config in (("local", local), ("remote", remote)):
        start = time.monotonic()
        run(spark, config, purpose="evaluate", last="evaluate")
        found[f"{name}_s"] = round(time.monotonic() - start)
    mine, theirs = Storage(spark, local), Storage(spark, remote, "again")
    made = [table for table in COMPARED if mine.exists(table)]
    found["tables"] = len(made)
    found["missing"] = [table.full_name for table in made if not theirs.exists(table)]
    found["differ"] = [
        table.full_name for table in made if theirs.exists(table) and rows(mine, table) != rows(theirs, table)
    ]
    found["rows"] = theirs.count(t.RECOMMENDATIONS)
    found["again"] = sorted({event.kind for event in run(spark, remote, purpose="evaluate", last="evaluate").stages})
    # of two who would make the lock's table, one does
    found["made_twice"] = Storage(spark, remote, "other").write_first(t.RUN_LOCK, theirs.read(t.RUN_LOCK))
    found["exports"] = Folder(theirs.exports()).names()
    found["scratch"] = Folder(theirs.scratch("x").rpartition("/")[0].rpartition("/")[0]).names()
    kept = Folder(theirs.kept("bert-test"))
    found["kept"] = {name: kept.child(name).exists(bert_stage._DONE) for name in kept.names()}
    spark.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
