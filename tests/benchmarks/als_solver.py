"""What ALS costs with the linear algebra that Spark brings in Java, and with a native one that it finds.

    python -m tests.benchmarks.als_solver LIBRARY [--rank 128] [--iterations 10]

LIBRARY is a shared library with LAPACK and BLAS under their plain Fortran names, 32-bit integers, such as Debian's
liblapack.so.3 or libopenblas.so.0; what it needs itself must be on the LD_LIBRARY_PATH. A log of 100,000 events of
1,000 users and 1,700 items is fitted three times each way, in a Java of its own; the first of the three warms it.
Prints the seconds of each fit, and the ratio of the last ones.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from pyspark.ml.recommendation import ALS
from pyspark.sql import functions as F

from lt_spark.core import session
from lt_spark.core.config import Config

N_EVENTS, N_USERS, N_ITEMS, N_FITS = 100_000, 1_000, 1_700, 3
_NATIVE = ("dev.ludovic.netlib.lapack.nativeLibPath", "dev.ludovic.netlib.blas.nativeLibPath")


def fits(rank: int, iterations: int, library: str) -> list[float]:
    """Return the seconds of each fit in this process."""
    if library:
        options = " ".join(f"-D{name}={library}" for name in _NATIVE)
        session.LOCAL_DEFAULTS["spark.driver.extraJavaOptions"] = options
    spark = session.start_session(Config(), "lt-spark ALS solver")
    if library:
        # raises where Spark cannot load it: it would take Java's without a word
        jvm: Any = spark._jvm
        jvm.dev.ludovic.netlib.lapack.NativeLAPACK.getInstance()
    # a long tail of items: the square of an even draw
    events = spark.range(N_EVENTS, numPartitions=4).select(
        F.floor(F.rand(1) * N_USERS).cast("int").alias("user"),
        F.floor(F.pow(F.rand(2), 2.0) * N_ITEMS).cast("int").alias("item"),
        F.lit(1.0).alias("rating"),
    )
    events = events.cache()
    events.count()
    als = ALS(rank=rank, maxIter=iterations, implicitPrefs=True, numUserBlocks=4, numItemBlocks=4, seed=1)
    seconds = []
    for _ in range(N_FITS):
        started = time.monotonic()
        als.fit(events)
        seconds.append(time.monotonic() - started)
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, run both ways, print; return the exit code."""
    parser = argparse.ArgumentParser(description="ALS with Java's linear algebra and with a native one.")
    parser.add_argument("library", help="path of a shared library with LAPACK and BLAS")
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--way", choices=("java", "native"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.way:
        library = arguments.library if arguments.way == "native" else ""
        found = fits(arguments.rank, arguments.iterations, library)
        sys.stdout.write(" ".join(f"{seconds:.1f}" for seconds in found) + "\n")
        return 0
    last = {}
    for way in ("java", "native"):
        command = [sys.executable, "-m", "tests.benchmarks.als_solver", arguments.library, "--way", way]
        command += ["--rank", str(arguments.rank), "--iterations", str(arguments.iterations)]
        # each task solves on a thread of its own
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        seconds = said.strip().splitlines()[-1]
        last[way] = float(seconds.split()[-1])
        sys.stdout.write(f"{way}: {seconds} s\n")
    sys.stdout.write(f"java takes {last['java'] / last['native']:.2f} times as long\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
