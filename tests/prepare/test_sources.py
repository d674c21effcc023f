"""People's files as DataFrames."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from lt_spark.core.config_sources import InteractionColumns, InteractionsSource, ItemColumns, ItemsSource, SourceFile
from lt_spark.core.errors import ConfigError, SourceError
from lt_spark.prepare import sources
from lt_spark.prepare.sources import read_source, source_fingerprint
from lt_spark.prepare.strict_csv import UNREADABLE

pytestmark = pytest.mark.spark


def rows(spark: SparkSession, path: Path | str, **settings: Any) -> list[Row]:
    frame = read_source(spark, SourceFile(path=str(path), **settings), "interactions")
    return sorted(frame.collect(), key=lambda row: (row["_file"], row["_record"]))


def refused(spark: SparkSession, path: Path | str, **settings: Any) -> str:
    with pytest.raises(SourceError) as caught:
        read_source(spark, SourceFile(path=str(path), **settings), "interactions")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_csv_with_bad_records(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b'\xef\xbb\xbfu,i\r\n0012,"a\r\nb"\r\nu,i\r\n1\r\n2,NA\r\n')
    found = rows(spark, tmp_path / "log.csv")
    assert found[0] == Row(u="0012", i="a\r\nb", _file="log.csv", _record=2, _error=None)
    assert [row["_error"] for row in found] == [
        None,
        "repeated header",
        "too few fields: 1 where the header has 2",
        None,
    ]


def test_folder_of_parts_gzip_and_hidden_files(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "b.csv.gz").write_bytes(gzip.compress(b"u,i\n2,y\n"))
    (tmp_path / "log" / "a.csv").write_bytes(b"u,i\n1,x\n")
    (tmp_path / "log" / "empty.csv").write_bytes(b"")
    (tmp_path / "log" / "_SUCCESS").write_bytes(b"")
    (tmp_path / "log" / "sub").mkdir()
    (tmp_path / "log" / "sub" / "a.csv").write_bytes(b"u,i\n3,z\n")
    expected = [("1", "x", "a.csv", 2, None), ("2", "y", "b.csv.gz", 2, None), ("3", "z", "sub/a.csv", 2, None)]
    assert [tuple(row) for row in rows(spark, tmp_path / "log")] == expected
    assert [tuple(row) for row in rows(spark, f"file:{tmp_path}/log/*.csv*")] == expected[:2]


def test_separators_and_no_header(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_bytes("1::Amélie::5\n".encode("cp1252"))
    found = rows(spark, tmp_path / "ratings.dat", separator="::", header=False, encoding="cp1252")
    assert found == [Row(**{"0": "1", "1": "Amélie", "2": "5", "_file": "ratings.dat", "_record": 1, "_error": None})]
    (tmp_path / "log.tsv").write_bytes(b"u\ti\n1\tx\n")
    assert rows(spark, tmp_path / "log.tsv", separator="\\t")[0]["i"] == "x"


def test_wrong_encoding_and_damage_become_one_row(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"u,i\n" + b"1,x\n" * 300_000 + b"2,\xe9\n")
    frame = read_source(spark, SourceFile(path=str(tmp_path / "a.csv")), "interactions")
    bad = frame.filter("_error is not null").collect()
    assert [row["_record"] for row in bad] == [300_002]
    assert bad[0]["_error"].startswith(f"{UNREADABLE}a.csv, record 300002: byte 0xe9 is not utf-8 text")
    assert frame.count() == 300_001
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"u,i\n1,x\n")[:-4])
    assert "damaged compressed file" in refused(spark, tmp_path / "b.csv.gz")


def test_json_lines(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"u": 12345678901234567890, "i": "x"}\nnope\n')
    found = rows(spark, tmp_path / "log.jsonl")
    assert [row["u"] for row in found] == ["12345678901234567890", None]
    assert found[1]["_error"] == "not a JSON object"


def test_parquet_keeps_types_and_rows(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.createDataFrame([(2**53 + 1, "x"), (7, "y")], "u bigint, i string")
    frame.coalesce(1).write.parquet(str(tmp_path / "one log"))
    (part,) = (tmp_path / "one log").glob("*.parquet")
    part.rename(tmp_path / "one log" / "p+1 é.parquet")
    for path in (tmp_path / "one log", tmp_path / "one log" / "p+1 é.parquet"):
        found = rows(spark, path)
        assert [tuple(row)[:2] for row in found] == [(2**53 + 1, "x"), (7, "y")]
        assert [(row["_file"], row["_record"]) for row in found] == [("p+1 é.parquet", 1), ("p+1 é.parquet", 2)]


def test_delta_and_fingerprints(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    source = SourceFile(path=path)
    frame = spark.createDataFrame([(1, "x"), (2, "y")], "u bigint, i string")
    frame.coalesce(1).write.format("delta").save(path)
    before = source_fingerprint(spark, source)
    first = {row["u"]: row["_record"] for row in rows(spark, path)}
    frame.repartition(2).write.format("delta").mode("overwrite").save(path)
    assert {row["u"]: row["_record"] for row in rows(spark, path)} == first  # the rows' own order, not the files'
    assert min(first.values()) >= 0 and len(set(first.values())) == 2
    assert source_fingerprint(spark, source) != before
    assert source_fingerprint(spark, source) == source_fingerprint(spark, source)


def test_too_new_delta_protocol(spark: SparkSession, tmp_path: Path) -> None:
    spark.range(1).write.format("delta").save(str(tmp_path / "old"))
    actions = (tmp_path / "old" / "_delta_log" / f"{0:020d}.json").read_text().splitlines()
    versions = {"minReaderVersion": 3, "minWriterVersion": 7}
    protocol = {"protocol": versions | {"readerFeatures": ["fromTheFuture"], "writerFeatures": ["fromTheFuture"]}}
    actions = [json.dumps(protocol) if '"protocol"' in action[:14] else action for action in actions]
    path = tmp_path / "new" / "_delta_log" / f"{0:020d}.json"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(actions) + "\n")
    assert "protocol is newer than this Delta library reads ([DELTA_" in refused(spark, tmp_path / "new")


def test_table_by_name(spark: SparkSession) -> None:
    spark.range(2).createOrReplaceTempView("log_view")
    assert [row["id"] for row in sorted(rows(spark, "log_view"))] == [0, 1]
    assert "not found" in refused(spark, "no_such_table", format="table")


def test_a_table_without_a_time_has_no_order(spark: SparkSession) -> None:
    source = InteractionsSource(path="log_view", format="table", columns=InteractionColumns(time=""))
    with pytest.raises(SourceError, match="no order of its own"):
        read_source(spark, source, "interactions")


def test_fingerprint_of_files(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SourceFile(path=str(tmp_path / "log.csv"))
    (tmp_path / "log.csv").write_text("u,i\n1,x\n")
    before = source_fingerprint(spark, source)
    assert source_fingerprint(spark, source) == before
    os.utime(tmp_path / "log.csv", ns=(1, 1))
    assert source_fingerprint(spark, source) == before, "a copy of the same data"
    (tmp_path / "log.csv").write_text("u,i\n1,y\n")
    assert source_fingerprint(spark, source) != before, "other content of the same size"
    monkeypatch.setattr(sources, "_MAX_HASHED_BYTES", 3)
    large = source_fingerprint(spark, source)
    os.utime(tmp_path / "log.csv", ns=(1, 1))
    assert source_fingerprint(spark, source) != large, "of a large one the time of change counts"
    assert source_fingerprint(spark, SourceFile()) == source_fingerprint(spark, SourceFile())


def test_clear_errors(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ratings.csv").write_text("u,i\n1,x\n")
    assert "Did you mean 'ratings.csv'?" in refused(spark, tmp_path / "rating.csv")
    (tmp_path / "empty.csv").write_text("")
    assert "empty: expected records, found 0 bytes" in refused(spark, tmp_path / "empty.csv")
    (tmp_path / "folder").mkdir()
    assert "an empty folder" in refused(spark, tmp_path / "folder")
    (tmp_path / "log.xlsx").write_text("x")
    assert "found xlsx. Set source.interactions.format" in refused(spark, tmp_path / "log.xlsx")
    assert "cannot be read as parquet" in refused(spark, tmp_path / "ratings.csv", format="parquet")
    assert "unknown encoding 'utf-9'" in refused(spark, tmp_path / "ratings.csv", encoding="utf-9")
    assert "separator of at least one character" in refused(spark, tmp_path / "ratings.csv", separator="")
    assert "source.interactions.path is empty" in refused(spark, "")
    (tmp_path / "reserved.csv").write_text("u,_file\n1,x\n")
    assert "_file" in refused(spark, tmp_path / "reserved.csv")

    def denied(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    assert "no permission to read it" in refused(spark, tmp_path / "ratings.csv")


def test_missing_columns_name_the_nearest(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("userId,movieId,timestamp\n1,2,3\n")
    source = InteractionsSource(path=str(tmp_path / "log.csv"), columns=InteractionColumns(user="userID"))
    with pytest.raises(SourceError, match=r"source.interactions.columns.user is 'userID'.*Did you mean 'userId'\?"):
        read_source(spark, source, "interactions")
    items = ItemsSource(path=str(tmp_path / "log.csv"), columns=ItemColumns(item="movieId", title="", text=("genre",)))
    with pytest.raises(SourceError, match=r"source.items.columns.text\[0\] is 'genre'"):
        read_source(spark, items, "items")
    with pytest.raises(ConfigError, match=r"source.items.columns.item is empty"):
        read_source(spark, ItemsSource(path=items.path, columns=ItemColumns(item="", title="")), "items")
