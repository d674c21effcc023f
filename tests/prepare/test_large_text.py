"""Text files read in parts give the rows that they give read whole."""

import gzip
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from lt_spark.core.config_sources import SourceFile
from lt_spark.core.errors import SourceError
from lt_spark.prepare import sources
from lt_spark.prepare.files import list_parts
from lt_spark.prepare.large_text import Lines
from lt_spark.prepare.sources import read_source
from lt_spark.prepare.strict_csv import UNREADABLE


def test_lines_are_a_stream_again() -> None:
    lines = [b"", b"ab", b"x" * 10_000, b""]
    for size in (1, 3, 4096, 1 << 20):
        assert io.BufferedReader(Lines(iter(lines)), size).read() == b"\nab\n" + b"x" * 10_000 + b"\n\n"


@pytest.fixture
def small_splits(spark: SparkSession) -> Iterator[SparkSession]:
    name = "spark.sql.files.maxPartitionBytes"
    before = spark.conf.get(name)
    spark.conf.set(name, "997b")
    yield spark
    spark.conf.set(name, before or "128MB")


def rows(spark: SparkSession, path: Path, max_bytes: int, **settings: Any) -> list[Row]:
    source = SourceFile(path=str(path), **settings)
    frame = read_source(spark, source, "interactions", max_whole_file_bytes=max_bytes)
    return sorted(frame.collect(), key=lambda row: (row["_file"], row["_record"]))


@pytest.mark.spark
@pytest.mark.parametrize("end", ["\r\n", *(pytest.param(end, marks=pytest.mark.slow) for end in ("\n", "\r"))])
def test_parts_give_what_the_whole_gives(small_splits: SparkSession, tmp_path: Path, end: str) -> None:
    folder = tmp_path / "a [b] {c} %20é"
    folder.mkdir()
    lines = ["u,i", *(f'0{n},"naïve, ""{n}"""' if n % 7 == 0 else f"{n},é{'x' * (n % 90)}" for n in range(700))]
    lines[300], lines[301], lines[302], lines[303] = "", "u,i", "1,2,3", "   "
    (folder / "big.csv").write_bytes(("\ufeff" + end.join(lines) + end).encode())
    (folder / "small.csv").write_bytes(b"u,i\n1,2\n")
    whole = rows(small_splits, folder, 1 << 30)
    assert rows(small_splits, folder, 100) == whole
    assert len(whole) == 700
    assert sum(row["_error"] is None for row in whole) == 697


@pytest.mark.slow
@pytest.mark.spark
def test_json_lines_and_gzip_in_parts(small_splits: SparkSession, tmp_path: Path) -> None:
    text = "".join(f'{{"u": {n}, "i": "é\\"{n}"}}\n \n' if n % 50 else "nope\n" for n in range(500)).encode()
    (tmp_path / "log.jsonl").write_bytes(text)
    assert rows(small_splits, tmp_path / "log.jsonl", 100) == rows(small_splits, tmp_path / "log.jsonl", 1 << 30)
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress(text))
    found = rows(small_splits, tmp_path / "log.jsonl.gz", 100)
    assert found == rows(small_splits, tmp_path / "log.jsonl.gz", 1 << 30)
    assert len(found) == 500


@pytest.mark.spark
def test_a_byte_that_is_no_text_is_told_with_its_record(small_splits: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"u,i\n" + b"1,x\n" * 1000 + b"2,\xe9\n" + b"1,x\n" * 1000)
    errors = [row["_error"] for row in rows(small_splits, tmp_path / "log.csv", 100) if row["_error"]]
    assert len(errors) == 1
    assert errors[0].startswith(f"{UNREADABLE}log.csv, record 1002: byte 0xe9 is not utf-8 text")


@pytest.mark.spark
def test_a_header_unlike_the_first_files_is_refused(small_splits: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"u,i\n" + b"1,x\n" * 1000)
    (tmp_path / "b.csv").write_bytes(b"i,u\n" + b"1,x\n" * 1000)
    errors = [row["_error"] for row in rows(small_splits, tmp_path, 100) if row["_error"]]
    assert len(errors) == 1
    assert "b.csv: its header differs from that of the first file" in errors[0]


@pytest.mark.spark
def test_a_record_over_lines_is_not_cut(
    small_splits: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.csv").write_bytes(b"u,i\n" + b"1,x\n" * 500 + b'2,"a\nb"\n' + b"1,x\n" * 500)
    found = rows(small_splits, tmp_path / "log.csv", 100)
    assert found == rows(small_splits, tmp_path / "log.csv", 1 << 30)
    assert found[500]["i"] == "a\nb"

    def remote(*arguments: Any) -> Any:
        return [replace(part, is_local=False) for part in list_parts(*arguments)]

    monkeypatch.setattr(sources, "list_parts", remote)
    with pytest.raises(SourceError, match=r"log\.csv is larger than 100 bytes and has a line with an odd number"):
        rows(small_splits, tmp_path / "log.csv", 100)
    with pytest.raises(SourceError, match=r"written in cp1252: expected UTF-8"):
        rows(small_splits, tmp_path / "log.csv", 100, encoding="cp1252")
