"""Write conf/spark-defaults.conf, so that spark-submit finds the local Delta jars and this environment's Python.

The jars come from a folder (``--jars``), from the local ivy cache, or are resolved once by a Spark session, which fills
that cache. The settings that make Delta quick on a laptop are written for a local master only.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from pyspark import __version__

from lt_spark.core.errors import LtSparkError
from lt_spark.core.session import _EXTENSIONS, LOCAL_DEFAULTS, REDACTION, local_delta_jars
from lt_spark.core.versions import delta_jars, delta_package

DELTA_PACKAGE = delta_package(__version__)
RESOLVE = f"""
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
builder.config("spark.jars.packages", "{DELTA_PACKAGE}").getOrCreate().stop()
"""


def find_jars(folder: Path | None, timeout_s: float = 600.0) -> list[str]:
    """Return the absolute paths of the Delta jars.

    Args:
        folder: where they are; None: the ivy cache, filled first where it is empty.
        timeout_s: longest time that their resolution may take.

    Raises:
        LtSparkError: where they cannot be had; says what to do.
    """
    if folder is not None:
        jars = sorted(str(path.resolve()) for path in folder.glob("*.jar"))
        if not any("delta-spark" in Path(jar).name for jar in jars):
            raise LtSparkError(
                f"--jars {folder}: expected {', '.join(delta_jars(__version__))} there, found "
                f"{', '.join(Path(jar).name for jar in jars) or 'none'}. Copy {DELTA_PACKAGE} and what it needs there."
            )
        return jars
    jars = local_delta_jars()
    if jars:
        return jars
    print(f"Delta Lake: resolving {DELTA_PACKAGE} (once)", flush=True)
    try:
        done = subprocess.run(
            [sys.executable, "-c", RESOLVE], capture_output=True, text=True, timeout=timeout_s, check=False
        )
        said = done.stderr + done.stdout
    except subprocess.TimeoutExpired:
        said = f"no answer in {timeout_s:.0f} s"
    jars = local_delta_jars()
    if not jars:
        reason = "\n  ".join(telling_lines(said))
        raise LtSparkError(
            f"the Delta Lake jars ({DELTA_PACKAGE}) cannot be had:\n  {reason}\n"
            "Spark resolves them from a Maven repository into ~/.ivy2.5.2. Check the network, or a proxy "
            "(JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=... -Dhttps.proxyPort=...'), or copy "
            f"{', '.join(delta_jars(__version__))} into a folder and run "
            "`python tools/write_spark_defaults.py --jars FOLDER`."
        )
    return jars


def telling_lines(said: str, n: int = 3) -> list[str]:
    """Return the few lines of Spark's output that tell why the jars were not found."""
    lines = [line.strip() for line in said.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("at ", "File ", "raise ", "Traceback"))]
    for words in (("unresolved dependency", "unknown host", "UnknownHost"), ("java: ", "JAVA_HOME", "rror")):
        telling = [line for line in lines if any(word in line for word in words)]
        if telling:
            return list(dict.fromkeys(telling))[:n]
    return lines[-n:]


def spark_defaults(jars: list[str], master: str, python: str) -> str:
    """Return the text of a spark-defaults.conf.

    Args:
        jars: absolute paths of the Delta jars.
        master: Spark's master URL; only a local one (``local[...]``) gets the local settings.
        python: the Python of driver and workers.
    """
    settings = {
        "spark.master": master,
        "spark.jars": ",".join(jars),
        **_EXTENSIONS,
        "spark.pyspark.python": python,
        "spark.redaction.regex": REDACTION,
    }
    note = "# For another master: python tools/write_spark_defaults.py --master yarn"
    if master.startswith("local") and not master.startswith("local-cluster"):
        settings |= LOCAL_DEFAULTS
        note = f"# The settings from spark.driver.host on are for a local master only. {note[2:]}"
    width = max(map(len, settings))
    lines = [f"{name:<{width}} {value}" for name, value in settings.items()]
    return "\n".join(("# Written by tools/write_spark_defaults.py for this machine.", note, *lines, ""))


def main(argv: list[str] | None = None) -> int:
    """Write the file; return the exit code."""
    parser = argparse.ArgumentParser(description="Write conf/spark-defaults.conf for spark-submit.")
    default = Path(__file__).resolve().parent.parent / "conf" / "spark-defaults.conf"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--jars", type=Path, help="a folder with the Delta jars, instead of resolving them")
    parser.add_argument("--master", default="local[*]", help="Spark's master URL (default local[*])")
    arguments = parser.parse_args(argv)
    out: Path = arguments.out
    try:
        jars = find_jars(arguments.jars)
    except LtSparkError as error:
        print(f"{out.name} was not written: {error}", file=sys.stderr)
        return 2
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_name(f".{out.name}.half")
    half.write_text(spark_defaults(jars, arguments.master, sys.executable), encoding="utf-8")
    half.replace(out)
    print(f"Spark settings: {out} (spark-submit --properties-file {out.parent.name}/{out.name} jobs/...)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
