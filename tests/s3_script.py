"""Runs stages in local folders and on an object store, in one Spark; prints what came of it as JSON.

Called with a local folder and s3a://BUCKET. Where the store is and its keys are in the environment and in Spark's
settings, as docs/object_stores.md tells.
"""

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import RunLockedError
from lt_spark.core.files import Folder
from lt_spark.core.runs import RunLock
from lt_spark.core.session import start_session
from lt_spark.core.storage import Storage
from lt_spark.models.bert.export import export, run_scoped
from lt_spark.models.bert.loader import make_loader
from lt_spark.passes import run
from tests.models.bert.test_export import windows_of
from tests.small_shop import write_whole_shop
from tests.written import COMPARED, rows_of

# a store answers thousands of questions, and this one is slow
STAGES = ("clean", "split", "segment", "rebalance", "popularity")
# Petastorm reads by an interface that pyarrow 15 dropped
LOADERS = ["petastorm"] * bool(find_spec("petastorm") and find_spec("pyarrow.filesystem")) + ["pyarrow"]


def with_roots(settings: dict[str, Any], root: str) -> Config:
    """Return a configuration that writes under a root."""
    return Config.model_validate(settings | {"tables": {"root": f"{root}/tables"}, "files": {"root": f"{root}/files"}})


def locked_out(storage: Storage, other: Storage, config: Config) -> str:
    """Return what a run is told while another holds the tables."""
    with RunLock(storage, config):
        try:
            with RunLock(other, config):
                return ""
        except RunLockedError as error:
            return str(error)


def exported(storage: Storage, users: list[int]) -> dict[str, list[int]]:
    """Export a row a user there, and return the users that each loader reads."""
    with run_scoped(Folder(storage.exports()), "export-1") as folder:
        rows = windows_of(storage.spark, users)
        export(rows, folder, table="t", version=1, fold="valid", length=2, n_items=9, n_shards=4, seed=1)
        return {
            kind: sorted(
                user
                for batch in make_loader(kind, folder.uri, batch_size=16, seed=1).epoch(0)  # type: ignore[arg-type]
                for user in batch.users.tolist()
            )
            for kind in LOADERS
        }


def main(folder: Path, bucket: str) -> dict[str, Any]:
    settings = write_whole_shop(folder)
    local = with_roots(settings, str(folder))
    for kind in ("interactions", "items", "users"):
        path = Path(settings["source"][kind]["path"])
        Folder(f"{bucket}/source").write(path.name, path.read_bytes())
        settings["source"][kind]["path"] = f"{bucket}/source/{path.name}"
    remote = with_roots(settings, bucket)
    spark = start_session(local, "s3")
    found: dict[str, Any] = {}
    for name, config in (("local", local), ("remote", remote)):
        start = time.monotonic()
        run(spark, config, purpose="evaluate", stages=STAGES)
        found[f"{name}_s"] = round(time.monotonic() - start)
    mine, theirs, other = Storage(spark, local), Storage(spark, remote, "run-1"), Storage(spark, remote, "run-2")
    made = [table for table in COMPARED if mine.exists(table)]
    found["rows"] = {table.full_name: len(rows_of(mine, table)) for table in made}
    found["differ"] = [
        table.full_name for table in made if not theirs.exists(table) or rows_of(mine, table) != rows_of(theirs, table)
    ]
    found["again"] = sorted({event.kind for event in run(spark, remote, purpose="evaluate", stages=STAGES).stages})
    # of two who would make the lock's table, one does
    found["made_twice"] = other.write_first(t.RUN_LOCK, theirs.read(t.RUN_LOCK))
    found["locked_out"] = locked_out(theirs, other, remote)
    spark.range(3).write.parquet(theirs.scratch("rows"))
    scratch = Folder(theirs.scratch("x").rpartition("/")[0])
    found["scratch"] = [scratch.names()]
    theirs.clear_scratch("rows")
    found["scratch"].append(scratch.names())
    found["exported"] = exported(theirs, list(range(61)))
    found["exports"] = Folder(theirs.exports()).names()
    spark.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
