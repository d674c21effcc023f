"""The daemon of a local session's Python workers: Spark's own, with the installed pyspark instead of the zipped one.

Spark puts ``pyspark.zip`` and its core jar on the workers' path, and begins each task with
``importlib.invalidate_caches()``. Python 3.11 then reads the list of files of those archives again, once for each
package that came from them: .3 s of CPU a task, more than most tasks of a small log take. The local session runs the
pyspark that is installed beside lt_spark; the workers read that.

It also imports once what nearly every worker imports: workers are its forks, and end when they have been idle for a
minute. A worker that finds pandas there saves .8 s of CPU; one that asks a network, and finds torch and transformers,
13 s.

Spark starts it in place of ``pyspark.daemon`` (``spark.python.daemon.module``).
"""

import gc
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path

_ARCHIVES = (".zip", ".jar")
_ALWAYS = ("pyarrow", "pandas")
ALSO = "LT_SPARK_WORKERS_IMPORT"
"""Environment variable: one more module that workers begin with; empty: none."""


def without_archives(path: Sequence[str]) -> list[str]:
    """Return the path without the archives of the installed pyspark; as it is where they are of another one.

    Args:
        path: folders and archives, as ``sys.path``.
    """
    kept = [entry for entry in path if not entry.endswith(_ARCHIVES)]
    found = PathFinder.find_spec("pyspark", kept)
    if found is None or not found.submodule_search_locations or PathFinder.find_spec("py4j", kept) is None:
        return list(path)
    home = Path(found.submodule_search_locations[0]).resolve()
    return [entry for entry in path if not (entry.endswith(_ARCHIVES) and Path(entry).resolve().is_relative_to(home))]


def import_ahead() -> None:
    """Import what workers shall begin with; what cannot be imported fails where it is needed, with its reason."""
    # Spark reads the daemon's port from its standard output
    with redirect_stdout(sys.stderr):
        for name in filter(None, (*_ALWAYS, os.environ.get(ALSO, ""))):
            with suppress(Exception):
                import_module(name)


def main() -> None:
    """Serve workers until Spark ends."""
    left_out = set(sys.path)
    sys.path[:] = without_archives(sys.path)
    left_out -= set(sys.path)
    for entry in [entry for entry in sys.path_importer_cache if entry in left_out]:
        del sys.path_importer_cache[entry]
    from pyspark import daemon

    import_ahead()
    # workers are forks and collect garbage after each task: what is there now stays
    gc.freeze()
    daemon.manager()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
