"""Text files too large for one task: Spark's own reader cuts them into lines, the strict reader parses the lines.

A file may be cut between any two lines only where no record spans lines, and each part must know the number of its
first record. One pass over the file checks the one and counts the other; the second parses.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from urllib.parse import unquote

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from lt_spark.core.errors import SourceError
from lt_spark.prepare.files import SourcePart, without_scheme
from lt_spark.prepare.strict_csv import FileLayout, record_batches, to_arrow

_UTF8 = ("utf-8", "utf8", "utf-8-sig", "utf_8", "ascii")


class Lines(io.RawIOBase):
    """Lines as a stream of bytes, each with its line end again."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        """Take the lines, without their ends."""
        self._lines = lines
        self._rest = b""

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill the buffer as far as there are lines, and return the number of bytes."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        filled = 0
        while filled < len(view):
            if not self._rest:
                line = next(self._lines, None)
                if line is None:
                    break
                self._rest = line + b"\n"
            taken = self._rest[: len(view) - filled]
            view[filled : filled + len(taken)] = taken
            self._rest = self._rest[len(taken) :]
            filled += len(taken)
        return filled


def _glob_escaped(path: str) -> str:
    return "".join(f"\\{letter}" if letter in "[]{}*?\\" else letter for letter in path)


def _read_lines(spark: SparkSession, parts: Sequence[SourcePart]) -> DataFrame:
    """Return (path, start of the split in the file, line)."""
    # without partition columns guessed from folder names
    reader = spark.read.option("recursiveFileLookup", "true")
    return reader.text([_glob_escaped(part.path) for part in parts]).select(
        F.col("_metadata.file_path").alias("path"), F.col("_metadata.file_block_start").alias("start"), "value"
    )


def first_records(
    lines: DataFrame, layout: FileLayout, names: Mapping[str, str]
) -> tuple[dict[tuple[str, int], int], list[str]]:
    """Return the number of the first record of each split, and the names of files where a record may span lines.

    Args:
        lines: as Spark's reader cut them: path, start, value.
        layout: how the files are written.
        names: of the files, by path.
    """
    is_record = F.col("value").rlike(r"(?U)\S") if layout.format == "jsonl" else F.col("value") != ""
    quotes = F.lit(0)
    if layout.format == "csv" and layout.quote:
        quotes = F.length("value") - F.length(F.replace("value", F.lit(layout.quote)))
    counted = lines.groupBy("path", "start").agg(
        F.count_if(is_record).alias("n_records"), F.count_if(quotes % 2 != 0).alias("n_open")
    )
    firsts: dict[tuple[str, int], int] = {}
    open_files = set()
    # a row a split, as many as Spark's own plan of the scan holds on the driver
    for path, splits in groupby(counted.orderBy("path", "start").collect(), key=lambda row: row["path"]):
        number = 1
        for split in splits:
            firsts[path, split["start"]] = number
            number += split["n_records"]
            if split["n_open"]:
                open_files.add(names[_plain(path)])
    return firsts, sorted(open_files)


def can_be_cut(layout: FileLayout) -> bool:
    """Tell whether bytes at a line end always mean a line end in the files' encoding."""
    return layout.encoding.lower() in _UTF8


def read_large_text(
    spark: SparkSession, parts: Sequence[SourcePart], layout: FileLayout, schema: StructType, arrow_schema: pa.Schema
) -> tuple[DataFrame | None, list[str]]:
    """Read text files of any size, in parallel.

    Args:
        spark: the session.
        parts: the files.
        layout: how they are written, with their columns; UTF-8.
        schema: of the rows to return: the columns, ``_file``, ``_record``, ``_error``.
        arrow_schema: the same for Arrow.

    Returns:
        The rows and no names; or None and the names of the files that cannot be cut, as a line of theirs has an odd
        number of quotes: a quoted line break, or quotes that do not balance.
    """
    names = {without_scheme(part.path): part.name for part in parts}
    lines = _read_lines(spark, parts)
    firsts, open_files = first_records(lines, layout, names)
    if open_files:
        return None, open_files

    def parse(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for (path, start), own in groupby(_rows(batches), key=lambda row: (row[0], row[1])):
            first = firsts.get((path, start))
            name = names[_plain(path)]
            if first is None:
                raise SourceError(f"{name}: Spark cut it in another way than a moment ago. Run again.")
            stream = io.BufferedReader(Lines(line for _, _, line in own), 1 << 20)
            for rows in record_batches(lambda opened=stream: opened, layout, name, first):  # type: ignore[misc]
                yield to_arrow(rows, arrow_schema)

    return lines.withColumn("value", F.col("value").cast("binary")).mapInArrow(parse, schema), []


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, int, bytes]]:
    for batch in batches:
        yield from zip(*(batch.column(place).to_pylist() for place in range(3)), strict=True)


def _plain(path: str) -> str:
    """Return the path of a file from what ``_metadata`` makes of it: an encoded URI."""
    return without_scheme(unquote(path))
