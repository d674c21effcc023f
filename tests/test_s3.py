"""Stages on an object store: the same tables as in local folders; the lock, scratch and exports; read by delta-rs.

The store is a server of this process, moto's; Spark reaches it by Hadoop's s3a, all else by pyarrow. `make test-store`
installs what it takes and runs this file.
"""

import logging
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core.errors import StorageError
from lt_spark.core.files import Folder
from tests.clusters import run_script

BUCKET = "shop"
KEYS = {"AWS_ACCESS_KEY_ID": "of-the-test", "AWS_SECRET_ACCESS_KEY": "of-the-test", "AWS_REGION": "us-east-1"}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(find_spec("moto") is None, reason="needs a local S3 server: `make test-store` installs moto"),
]


def hadoop_aws() -> str:
    """Return the Maven coordinates of Hadoop's S3 client, of the very Hadoop that this Spark has."""
    import pyspark

    (jar,) = (Path(pyspark.__file__).parent / "jars").glob("hadoop-client-api-*.jar")
    return f"org.apache.hadoop:hadoop-aws:{re.sub(r'^hadoop-client-api-|[.]jar$', '', jar.name)}"


def is_resolved() -> bool:
    """Return whether Spark has the client already: with Amazon's, it is half a gigabyte that no test downloads."""
    name = hadoop_aws().rpartition(":")[2]
    return any(
        list(jars.glob(f"*hadoop-aws-{name}.jar")) and list(jars.glob("*awssdk_bundle-*.jar"))
        for jars in Path.home().glob(".ivy2*/jars")
    )


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    """An S3 server with an empty bucket, as the environment tells of it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request, of ten thousand
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", **KEYS}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield told
    server.stop()


def test_files_of_a_folder_there(store: dict[str, str]) -> None:
    folder = Folder(f"s3a://{BUCKET}/some files/100%")
    assert (folder.names(), folder.exists("a")) == ([], False)
    folder.mark(7.0)
    folder.child("inside").write("a#?", b"one")
    folder.child("inside").write("a#?", b"two")
    assert folder.names() == ["_lt_spark_marker", "inside"]
    assert (folder.child("inside").read("a#?"), folder.marked_at()) == (b"two", 7.0)
    with pytest.raises(StorageError, match="no file b can be read"):
        folder.read("b")
    with pytest.raises(StorageError, match="is not removed"):
        folder.child("inside").remove()
    folder.remove()
    assert (folder.names(), folder.child("inside").names()) == ([], [])


@pytest.fixture(scope="module")
def runs(store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Stages run in local folders and on the store, by tests/s3_script.py."""
    if not is_resolved():
        pytest.skip(f"needs {hadoop_aws()} and Amazon's client in Spark's ivy cache: `make test-store` resolves them")
    settings = {
        "spark.jars.packages": hadoop_aws(),
        "spark.hadoop.fs.s3a.endpoint": store["AWS_ENDPOINT_URL"],
        "spark.hadoop.fs.s3a.endpoint.region": store["AWS_REGION"],
        "spark.hadoop.fs.s3a.path.style.access": "true",
    }
    options = " ".join(f"--conf {name}={value}" for name, value in settings.items())
    before = os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell")
    found: dict[str, Any] = run_script(
        "s3_script.py",
        str(tmp_path_factory.mktemp("s3")),
        f"s3a://{BUCKET}",
        timeout_s=3500,
        PYSPARK_SUBMIT_ARGS=f"{options} {before}",
    )
    print(found)
    return found


@pytest.mark.spark
def test_every_table_is_the_same_as_in_a_local_folder(runs: dict[str, Any]) -> None:
    assert runs["rows"]["silver.interactions"] > 400
    assert {"silver.users", "silver.interactions_split", "silver.candidates_popularity"} <= set(runs["rows"])
    assert runs["differ"] == []


@pytest.mark.spark
def test_a_second_run_finds_all_up_to_date(runs: dict[str, Any]) -> None:
    assert runs["again"] == ["up_to_date"]


@pytest.mark.spark
def test_the_lock_is_made_once_and_held_by_one(runs: dict[str, Any]) -> None:
    assert runs["made_twice"] is False
    assert runs["locked_out"].startswith("run run-1 holds these tables")


@pytest.mark.spark
def test_scratch_is_removed(runs: dict[str, Any]) -> None:
    assert runs["scratch"] == [["rows"], []]


@pytest.mark.spark
def test_an_export_is_read_whole_by_each_loader_and_removed(runs: dict[str, Any]) -> None:
    assert runs["exported"]["pyarrow"] == list(range(61))
    assert all(users == list(range(61)) for users in runs["exported"].values())
    assert runs["exports"] == []


@pytest.mark.spark
def test_a_table_is_read_without_spark(runs: dict[str, Any], store: dict[str, str]) -> None:
    import duckdb
    from deltalake import DeltaTable

    options = store | {"AWS_ALLOW_HTTP": "true"}
    table = DeltaTable(f"s3://{BUCKET}/tables/silver/interactions", storage_options=options)
    assert table.protocol().min_reader_version == 1
    with duckdb.connect() as database:
        found = database.from_arrow(table.to_pyarrow_dataset()).aggregate("count(*), min(user_idx)").fetchall()
    assert found == [(runs["rows"]["silver.interactions"], 0)]
