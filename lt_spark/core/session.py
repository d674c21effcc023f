"""The Spark session: the submitter's own where there is one, else a quick local one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from pyspark import SparkContext, __version__
from pyspark.sql import SparkSession

from lt_spark.core.config import Config
from lt_spark.core.errors import LtSparkError
from lt_spark.core.python_daemon import ALSO
from lt_spark.core.versions import check_delta_jar, check_pyspark, check_spark, delta_jars, delta_package

REDACTION = "(?i)secret|password|token|access[.]?key|credential|api[_.-]?key"
"""Spark's own ``spark.redaction.regex``, and names of API keys: their values stand in no UI, event log or ``SET``."""
_EXTENSIONS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
# a run on few cores is many small queries: Java's second compiler takes a quarter of the CPU for code that soon ends,
# so it is asked for ten times as late; and the parallel collector, which halts all, takes less than the concurrent one
_JAVA_OPTIONS = (
    "-XX:+UseParallelGC "
    "-XX:Tier4InvocationThreshold=60000 -XX:Tier4MinInvocationThreshold=10000 -XX:Tier4CompileThreshold=150000"
)
LOCAL_DEFAULTS = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "4g",
    "spark.driver.extraJavaOptions": _JAVA_OPTIONS,
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "4",
    # with few partitions there is little to adapt, and planning each query anew takes longer than the query
    "spark.sql.adaptive.enabled": "false",
    # a 50-partition snapshot makes one small Delta read cost seconds
    "spark.databricks.delta.snapshotPartitions": "1",
    # statistics that nobody reads, for which each commit reads the table's whole log: a tenth of a small write
    "spark.databricks.delta.commitStats.collect": "false",
    # a fold is a partition: which of its few files could be left out takes a job a scan, and leaves out none
    "spark.databricks.delta.stats.skipping": "false",
    # else each step of a column asks Java several times where in the code it stands: 2 ms instead of .4
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.log.level": "FATAL",  # what fails is raised, and told once
}
MACHINE_GPU = "lt_spark.machine_gpu"
"""Local property of a job whose tasks run one at a time and have the machine's GPU to themselves."""
_DAEMON = "lt_spark.core.python_daemon"
"""Starts Python workers that need not read archives anew at each task, as those of Spark's own daemon do."""
_OF_NETWORKS = "lt_spark.engines.ahead"
"""What workers that ask a network begin with."""
_GPU_DEVICE = Path("/dev/nvidia0")
NEEDS_CLASSIC = (
    "ALS trains with MLlib, which was not tried over Spark Connect",
    "foreign files under a table's folder, and scratch folders, are found by Hadoop's file systems, through the JVM",
    "how many tasks run a network at once, and on which GPU, comes from the Spark context and a resource profile",
    "the sequence model on several processes counts the context's slots for TorchDistributor's tasks, which start "
    "together (a barrier stage)",
    "Delta's MERGE, history and table details need a plugin on a Spark Connect server",
    "stages run side by side in threads of one driver, each with its own job description",
)
"""Why the pipeline runs in a classic session only, and not over Spark Connect."""
_PROFILES: dict[float, Any] = {}
"""One profile a share of a GPU: each that is built stays with the scheduler for ever."""
_JAVA_VERSIONS = ("17", "21")


def start_session(config: Config, app_name: str) -> SparkSession:
    """Return the active session, the submitter's, or a new local one.

    Settings that belong to the submitter (master, memory, shuffle partitions) are set only when there is neither an
    active session nor a spark-submit. Where SPARK_REMOTE names a Spark Connect server, the session is of that.

    Raises:
        LtSparkError: where Java, Spark or Delta Lake is missing, or of a line that is not run; the message says what to
            do.
    """
    check_pyspark()
    active = SparkSession.getActiveSession()
    if active is None and "DATABRICKS_RUNTIME_VERSION" in os.environ:
        # a script's own thread may not know of the session that the cluster has for it
        active = SparkSession.builder.getOrCreate()
    if active is not None:
        check_spark(active.version, "this session")
        check_delta(active)
        return active
    if "SPARK_REMOTE" in os.environ:
        remote: SparkSession = SparkSession.builder.getOrCreate()
        return remote
    builder: Any = SparkSession.builder.appName(app_name)
    for name, value in _EXTENSIONS.items():
        builder = builder.config(name, value)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # started by spark-submit
        # before the session: Spark itself would only warn of the missing extension, with a stack trace
        SparkContext._ensure_initialized()
        _load_delta(SparkContext._jvm)
        spark: SparkSession = builder.getOrCreate()
    else:
        _find_java()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
        # torch's threads, here and in the workers, shall sleep while they wait, for Java has work for the cores
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # the local settings stand below whatever SPARK_CONF_DIR or PYSPARK_SUBMIT_ARGS say of the master
        builder = builder.master(os.environ.get("LT_SPARK_MASTER", "local[*]"))
        for name, value in LOCAL_DEFAULTS.items():
            builder = builder.config(name, value)
        if _workers_find_daemon():
            builder = builder.config("spark.python.daemon.module", _DAEMON)
            if asks_networks(config):
                os.environ.setdefault(ALSO, _OF_NETWORKS)
        jars = local_delta_jars()
        if jars:
            builder = builder.config("spark.jars", ",".join(jars))
        else:
            builder = builder.config("spark.jars.packages", delta_package(__version__))
        spark = builder.getOrCreate()
        spark.sparkContext.setLogLevel("FATAL")
    check_delta(spark)
    return spark


def is_connect(spark: SparkSession) -> bool:
    """Return whether a session speaks to a Spark Connect server, as in standard access mode and on serverless."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def check_classic(spark: SparkSession) -> None:
    """Check that the session is a classic one, in which the pipeline can run.

    Raises:
        LtSparkError: over Spark Connect; it says why, and what works there.
    """
    if is_connect(spark):
        reasons = "\n".join(f"  - {reason}" for reason in NEEDS_CLASSIC)
        raise LtSparkError(
            "the pipeline does not run over Spark Connect: expected a classic Spark session, found "
            f"{type(spark).__module__}. It needs one because\n{reasons}\n"
            "Run it on a cluster of dedicated access mode, by spark-submit, or locally without SPARK_REMOTE. Its "
            "tables can be read over Spark Connect: the notebooks 01, 03, 04 and 05 do."
        )


def asks_networks(config: Config) -> bool:
    """Return whether Python workers run a network: an encoder, a language model, the sequence model."""
    return bool(
        config.embed.model or config.describe.enabled or config.context.enabled or "bert" in config.blend.models
    )


def _workers_find_daemon() -> bool:
    """Return whether the workers are of this host, and a fresh Python of theirs finds lt_spark as a folder.

    From a zip that only the driver's path names, the daemon could not start, and no task would run.
    """
    masters = f"{os.environ.get('LT_SPARK_MASTER', 'local[*]')} {os.environ.get('PYSPARK_SUBMIT_ARGS', '')}"
    if not masters.startswith("local[") or "--master" in masters or "spark.master" in masters:
        return False
    if not Path(__file__).is_file():
        return False
    asked = [os.environ["PYSPARK_PYTHON"], "-c", f"import {_DAEMON}"]
    try:
        # the interpreter that Spark starts for every task
        return subprocess.run(asked, capture_output=True, timeout=60, check=False).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False


def describe_job(spark: SparkSession, text: str) -> None:
    """Set the description that Spark's UI shows beside the coming jobs, where the session allows it."""
    try:
        spark.sparkContext.setJobDescription(text)
    except Exception:  # noqa: BLE001, S110 - Spark Connect has no context; a description is a courtesy
        return


def inference_tasks(spark: SparkSession, *, uses_gpu: bool, gpus_per_task: float) -> tuple[int, Any]:
    """Return how many tasks run a model at once, and the resource profile that gives each its GPU.

    On a cluster whose executors have GPUs a task asks for ``gpus_per_task`` of one, whatever the session's own tasks
    ask for: two tasks share a GPU only where that is below 1. In local mode Spark hands out no GPUs: there one task at
    a time uses the machine's, which ``MACHINE_GPU`` tells it.

    Args:
        spark: the session.
        uses_gpu: whether the model may run on a GPU.
        gpus_per_task: share of a GPU that a task takes.

    Returns:
        (number of tasks, profile or None).
    """
    try:
        context = spark.sparkContext
    except Exception:  # noqa: BLE001 - Spark Connect has no context: the server's own settings hold
        return int(spark.conf.get("spark.sql.shuffle.partitions") or 1), None
    slots, master = context.defaultParallelism, context.master or ""
    if not uses_gpu:
        return slots, None
    if re.fullmatch(r"local(\[[^\]]*\])?", master):
        if not _GPU_DEVICE.exists():
            return slots, None
        context.setLocalProperty(MACHINE_GPU, "true")
        return 1, None
    per_executor = float(context.getConf().get("spark.executor.resource.gpu.amount", "0") or 0)
    if not per_executor:
        return slots, None
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    if gpus_per_task not in _PROFILES:
        requests = TaskResourceRequests().cpus(1).resource("gpu", gpus_per_task)
        _PROFILES[gpus_per_task] = ResourceProfileBuilder().require(requests).build
    # more tasks than GPUs would wait for each other, each with fewer rows to batch; the driver is among the executors
    n_executors = max(1, len(context._jsc.sc().statusTracker().getExecutorInfos()) - 1)
    n_shares = n_executors * int(per_executor) * int(1 / gpus_per_task)
    return min(slots, n_shares), _PROFILES[gpus_per_task]


def check_delta(spark: SparkSession) -> None:
    """Check that Delta Lake is on the class path.

    Raises:
        LtSparkError: with the command that brings it.
    """
    try:
        jvm: Any = spark.sparkContext._jvm
    except Exception:  # noqa: BLE001 - Spark Connect: the server's class path is not ours to see
        return
    _load_delta(jvm)
    extensions = spark.conf.get("spark.sql.extensions", "") or ""
    if "delta" not in extensions.lower() and "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        settings = "\n".join(f"  --conf {name}={value}" for name, value in _EXTENSIONS.items())
        raise LtSparkError(f"this Spark session was started without Delta's extension. Start it with\n{settings}")


def _load_delta(jvm: Any) -> None:
    try:
        loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
        found = loader.loadClass(_EXTENSIONS["spark.sql.extensions"])
    except Exception as error:  # py4j wraps ClassNotFoundException
        raise LtSparkError(
            "Delta Lake is not on Spark's class path. Submit with\n"
            f"  spark-submit --packages {delta_package(__version__)} ...\n"
            "or, after the local install, with\n"
            "  spark-submit --properties-file conf/spark-defaults.conf ..."
        ) from error
    check_delta_jar(_jar_of(found), __version__)


def _jar_of(java_class: Any) -> str:
    """Return the name of the jar that a class comes from; empty where Java does not tell."""
    try:
        return str(java_class.getProtectionDomain().getCodeSource().getLocation().getPath()).rpartition("/")[2]
    except Exception:  # noqa: BLE001 - a platform's own loader may have no source, or not be asked
        return ""


def local_delta_jars() -> list[str]:
    """Return the Delta jars of the local ivy cache, or nothing where one is missing.

    Naming the files skips the resolution that ``--packages`` makes at each start.
    """
    for cache in sorted(Path.home().glob(".ivy2*/jars")):
        found = [next(iter(cache.glob(f"*{name}")), None) for name in delta_jars(__version__)]
        if all(found):
            return [str(path) for path in found]
    return []


def _find_java() -> None:
    """Use the Java runtime that ``make install`` put beside this Python, else that of JAVA_HOME, else the PATH's.

    Raises:
        LtSparkError: where there is none, or it is neither Java 17 nor 21.
    """
    bundled = Path(sys.prefix) / "java"
    if (bundled / "bin" / "java").exists():
        os.environ["JAVA_HOME"] = str(bundled)
        return
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    where = f"JAVA_HOME ({home})" if home else "the PATH"
    found = _java_version(java) if java else "no java"
    if found.split(".")[0].split("-")[0] not in _JAVA_VERSIONS:
        raise LtSparkError(
            f"{where}: expected Java {' or '.join(_JAVA_VERSIONS)}, which Spark 4 needs, found {found}. Install Java "
            "17 or 21 (`apt-get install openjdk-17-jre-headless`, `brew install openjdk@17`), or run `make install`, "
            "which brings one."
        )


def _java_version(java: str) -> str:
    """Return what `java -version` says, such as ``17.0.9``."""
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        return f"{java}, which does not run ({error.strerror})"
    version = re.search(r'version "([^"]+)"', said.stderr + said.stdout)
    return version[1] if version else f"{java}, which names no version"
