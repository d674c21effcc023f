"""docs/running: the options and settings of Spark that it names are in the jars of this Spark and this Delta Lake."""

import re
import zipfile
from functools import cache
from pathlib import Path

import pyspark
import pytest

from lt_spark.core.session import REDACTION, local_delta_jars

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs" / "running").glob("*.md"))
JARS = ("spark-core_", "spark-sql_", "spark-catalyst_", "spark-launcher_", "spark-yarn_", "spark-kubernetes_", "delta-")
OWN = ("--config", "--set", "--purpose", "--run-id", "--debug", "--force", "--continue", "--renew-examples")
"""Options of the jobs, which tests/test_docs.py looks at."""
IN_PARTS = (
    "spark.kubernetes.authenticate.driver.serviceAccountName",
    "spark.io.delta.storage.S3DynamoDBLogStore.",
)
"""Names that Spark's code puts together, and those of a jar of Delta's that is not here."""
RESOURCE = re.compile(r"spark\.(executor|driver|task|worker)\.resource\.\w+\.(amount|discoveryScript|vendor)")


@cache
def strings_of_the_jars() -> frozenset[str]:
    """What looks like a setting or an option among the constants of all classes."""
    jars = [path for path in (Path(pyspark.__file__).parent / "jars").glob("*.jar") if path.name.startswith(JARS)]
    found: set[bytes] = set()
    for jar in [*jars, *(Path(each) for each in local_delta_jars())]:
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if name.endswith(".class"):
                    found.update(re.findall(rb"spark\.[\w.-]+|--[a-z][a-z-]+", archive.read(name)))
    return frozenset(each.decode() for each in found)


def is_known(setting: str) -> bool:
    """Whether Spark or Delta has a setting, or a family of settings that it is of (``spark.executorEnv.NAME``)."""
    known = strings_of_the_jars()
    if setting in known or RESOURCE.fullmatch(setting) or setting.startswith(IN_PARTS):
        return True
    parts = setting.split(".")
    return any(".".join(parts[:n]) + "." in known for n in range(2, len(parts)))


def settings_of(text: str) -> set[str]:
    return {name.rstrip(".") for name in re.findall(r"(?<![\w./])spark\.[a-z][\w.-]*\w", text)} - {"spark.sql"}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_spark_knows_each_setting_and_option(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert settings_of(text) or "spark-submit" in text or page.name in ("airflow.md", "databricks.md")
    assert {name for name in settings_of(text) if not is_known(name)} == set()
    calls = re.findall(r"spark-submit(?:[^\n`]*\\\n)*[^\n`]*", text)
    options = {option for call in calls for option in re.findall(r"(?<=\s)--[a-z-]+", call)} - set(OWN)
    assert options - strings_of_the_jars() == set()


@pytest.mark.slow
def test_what_spark_does_not_know_is_noticed() -> None:
    wrong = {
        "spark.executor.memry",
        "spark.dynamicAllocation.shufleTracking.enabled",
        "spark.kubernetes.containr.image",
    }
    assert {name for name in wrong if is_known(name)} == set()
    right = {"spark.executor.memory", "spark.executorEnv.ANY", "spark.kubernetes.executor.secretKeyRef.ANY"}
    assert {name for name in right if not is_known(name)} == set()
    assert "--archive" not in strings_of_the_jars() and "--archives" in strings_of_the_jars()


def test_the_expression_that_hides_keys_is_the_one_that_is_written() -> None:
    """It has all that this Spark's own default has, and more."""
    told = set(re.findall(r"\(\?i\)secret\S*?(?=['`\s])", (ROOT / "docs" / "running" / "README.md").read_text()))
    assert told == {REDACTION}
    (own,) = {each for each in _regexes() if each.startswith("(?i)secret|password|token|")}
    assert REDACTION.startswith(own)


def _regexes() -> set[str]:
    jar = next((Path(pyspark.__file__).parent / "jars").glob("spark-core_*.jar"))
    with zipfile.ZipFile(jar) as archive:
        classes = [name for name in archive.namelist() if name.startswith("org/apache/spark/internal/config/package")]
        return {each.decode() for name in classes for each in re.findall(rb"\(\?i\)[\w|.?\[\]]+", archive.read(name))}
