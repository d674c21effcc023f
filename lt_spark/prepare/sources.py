"""People's files, folders and tables as DataFrames, each row with its file, its record and what is wrong with it."""

import codecs
import hashlib
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import cache, partial, reduce
from glob import has_magic
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, MapType, StringType, StructField, StructType

from lt_spark.core.config_sources import (
    FileFormat,
    InteractionsSource,
    ItemsSource,
    LinksSource,
    SourceFile,
    TriplesSource,
    UsersSource,
)
from lt_spark.core.errors import ConfigError, SourceError, nearest
from lt_spark.core.names import quoted
from lt_spark.prepare.files import SourcePart, list_parts, without_scheme
from lt_spark.prepare.large_text import can_be_cut, read_large_text
from lt_spark.prepare.strict_csv import (
    FILE_COLUMNS,
    FileLayout,
    describe_failure,
    find_columns,
    record_batches,
    to_arrow,
    unpacked,
)

MAX_WHOLE_FILE_BYTES = 256_000_000
"""A text file above this is read in parts: the bytes of a remote one would go through one task's memory."""
_MAX_HASHED_BYTES = 1_000_000_000
"""Files of more bytes together are known by their times of change: each run would read them an extra time."""

Kind = Literal["interactions", "items", "users", "triples", "links", "rules"]
_NEEDED: dict[Kind, tuple[str, ...]] = {
    "interactions": ("columns.item", "columns.user"),
    "items": ("columns.item",),
    "users": ("columns.user",),
    "triples": ("columns.head", "columns.relation", "columns.tail"),
    "links": ("columns.item", "columns.entity"),
    "rules": (),
}
_WithColumns = InteractionsSource | ItemsSource | UsersSource | TriplesSource | LinksSource
_MAX_TASKS = 200
_MAX_RECORD = (1 << 62) - 1
_ENDINGS: dict[str, FileFormat] = {
    **dict.fromkeys(("csv", "tsv", "txt", "dat", "data", "inter", "item", "user", "kg", "link"), "csv"),
    **dict.fromkeys(("jsonl", "ndjson", "json"), "jsonl"),
    **dict.fromkeys(("parquet", "pq"), "parquet"),
}


def _ending(name: str) -> str:
    parts = name.lower().removesuffix(".gz").removesuffix(".bz2").rsplit(".", 1)
    return parts[1] if len(parts) == 2 else ""


def source_format(spark: SparkSession, source: SourceFile, kind: Kind) -> FileFormat:
    """Return the format of a source: as configured, or by the ending of its (first) file.

    Raises:
        SourceError: where ``auto`` cannot tell, or nothing is there.
    """
    if not source.path:
        raise SourceError(f"source.{kind}.path is empty: expected a file, folder or table name. Set it in the conf.")
    if source.format != "auto":
        return source.format
    local = without_scheme(source.path)
    if (Path(local) / "_delta_log").is_dir():
        return "delta"
    looks_like_file = "/" in source.path or has_magic(local) or Path(local).exists() or _ending(local) in _ENDINGS
    if not looks_like_file and re.fullmatch(r"`?\w+`?(\.`?\w+`?){0,2}", source.path):
        return "table"
    parts = list_parts(spark, source.path, kind)
    if any("_delta_log" in part.path for part in parts):
        return "delta"
    formats = sorted({_ENDINGS.get(_ending(part.path), "auto") for part in parts})
    if len(formats) != 1 or formats[0] == "auto":
        endings = sorted({_ending(part.path) or "none" for part in parts})[:10]
        raise SourceError(
            f"source.{kind}.path '{source.path}': cannot tell the format: expected files that all end in one of "
            f"{', '.join(sorted(_ENDINGS))} (or .gz); found {', '.join(endings)}. Set source.{kind}.format."
        )
    return formats[0]


def read_source(
    spark: SparkSession, source: SourceFile, kind: Kind, *, max_whole_file_bytes: int = MAX_WHOLE_FILE_BYTES
) -> DataFrame:
    """Read a source as it is.

    Args:
        spark: the session.
        source: where it is and how it is written.
        kind: which of the sources; names the settings in messages.
        max_whole_file_bytes: a text file above this is read in parts, where no record of it spans lines; else a local
            one is streamed by one task, and a remote one refused.

    Returns:
        All columns of the source (text of CSV and JSON lines as strings, others with their own types), ``_file``
        string, ``_record`` bigint (number of the record in its file from 1, header included; for tables a hash of the
        row: an order that does not change), ``_error`` string (null: fine).
        A file that cannot be read on has one last row whose ``_error`` starts with ``UNREADABLE``.

    Raises:
        SourceError: missing, empty, unreadable or unknown source.
    """
    found = source_format(spark, source, kind)
    try:
        if found in ("delta", "table"):
            frame = _read_table(spark, source, kind, found)
        elif found == "parquet":
            frame = _read_parquet(spark, source, kind)
        else:
            frame = _read_text(spark, source, kind, "jsonl" if found == "jsonl" else "csv", max_whole_file_bytes)
    except SourceError:
        raise
    except Exception as error:  # Spark raises many types here, Java's among them
        raise _spark_failure(source, kind, found, error) from error
    require_columns(frame, source, kind)
    return frame


def _spark_failure(source: SourceFile, kind: Kind, found: str, error: Exception) -> SourceError:
    text = str(error)
    named = re.search(r"\[[A-Z][A-Z0-9_.]+\] [^\n]*", text)  # Spark's and Delta's error class, wherever it stands
    first_line = (named[0] if named else (text.strip().splitlines() or [type(error).__name__])[0])[:300]
    where = f"source.{kind}.path '{source.path}'"
    if "PROTOCOL_VERSION" in text.upper() or "UNSUPPORTED_FEATURES" in text or "DELTA_UNSUPPORTED" in text:
        return SourceError(
            f"{where}: the Delta table's protocol is newer than this Delta library reads ({first_line}). "
            "Rewrite it with a lower minReaderVersion, or use a newer delta-spark."
        )
    if "TABLE_OR_VIEW_NOT_FOUND" in text or "PATH_NOT_FOUND" in text or "DELTA_MISSING" in text:
        return SourceError(f"{where}: not found as {found} ({first_line}). Correct the path or the name.")
    return SourceError(
        f"{where}: cannot be read as {found} ({first_line}). Check the file, or set source.{kind}.format to what it is."
    )


def source_columns(source: SourceFile) -> dict[str, str]:
    """Return the source columns that the conf names, by their setting; settings left empty are left out."""
    if not isinstance(source, _WithColumns):
        return {}
    named: dict[str, str] = {}
    for setting, value in source.columns.model_dump().items():
        if isinstance(value, tuple):
            named |= {f"columns.{setting}[{place}]": name for place, name in enumerate(value)}
        elif value:
            named[f"columns.{setting}"] = value
    return named


def require_columns(frame: DataFrame, source: SourceFile, kind: Kind) -> None:
    """Check that the source has the columns that the conf names.

    Raises:
        SourceError: names the setting, the column and the nearest right one.
        ConfigError: where the column of users or items is not named at all.
    """
    columns = [column for column in frame.columns if column not in FILE_COLUMNS]
    named = source_columns(source)
    for setting in _NEEDED[kind]:
        if isinstance(source, _WithColumns) and setting not in named:
            raise ConfigError(f"source.{kind}.{setting} is empty: expected the name of a column. Set it in the conf.")
    for setting, name in named.items():
        if name not in columns:
            listed = ", ".join(repr(column)[:80] for column in columns[:30])
            raise SourceError(
                f"source.{kind}.{setting} is '{name}', a column that '{source.path}' lacks.{nearest(name, columns)} "
                f"Found the columns {listed}. Correct source.{kind}.{setting} (or separator, header) in the conf."
            )


def _check_free_names(frame: DataFrame, source: SourceFile, kind: Kind) -> None:
    taken = [column for column in frame.columns if column.lower() in FILE_COLUMNS]
    if taken:
        raise SourceError(f"source.{kind}.path '{source.path}': column {taken[0]} has a reserved name. Rename it.")


def _read_parquet(spark: SparkSession, source: SourceFile, kind: Kind) -> DataFrame:
    parts = list_parts(spark, source.path, kind)
    frame = spark.read.parquet(source.path)
    _check_free_names(frame, source, kind)
    if len(parts) == 1:
        file = F.lit(parts[0].name)
    else:
        base = without_scheme(source.path).rstrip("/").rsplit("/", 1)[-1]
        path = F.url_decode(F.regexp_replace("_metadata.file_path", r"\+", "%2B"))
        file = path if has_magic(source.path) else F.substring_index(path, f"/{base}/", -1)
    return frame.select(
        *[F.col(quoted(column)) for column in frame.columns],
        file.alias("_file"),
        (F.col("_metadata.row_index") + 1).alias("_record"),
        F.lit(None).cast("string").alias("_error"),
    )


def _read_table(spark: SparkSession, source: SourceFile, kind: Kind, found: FileFormat) -> DataFrame:
    if isinstance(source, InteractionsSource) and not source.columns.time:
        raise SourceError(
            f"source.{kind}.path '{source.path}': a table has no order of its own: expected source.{kind}.columns.time "
            "to name a column with a time or a position, found none. Set it in the conf."
        )
    frame = spark.read.table(source.path) if found == "table" else spark.read.format("delta").load(source.path)
    _check_free_names(frame, source, kind)
    frame.isEmpty()  # Delta reads its log as late as it can: what is wrong with it is told here
    hashed = [F.col(quoted(f.name)) for f in frame.schema.fields if not isinstance(f.dataType, MapType)]
    return frame.select(
        *[F.col(quoted(column)) for column in frame.columns],
        F.lit(source.path.rstrip("/").rsplit("/", 1)[-1]).alias("_file"),
        F.xxhash64(*hashed).bitwiseAND(F.lit(_MAX_RECORD)).alias("_record"),
        F.lit(None).cast("string").alias("_error"),
    )


def _layout(source: SourceFile, kind: Kind, format_name: Literal["csv", "jsonl"]) -> FileLayout:
    try:
        codecs.lookup(source.encoding)
    except LookupError:
        raise SourceError(
            f"source.{kind}.encoding: unknown encoding '{source.encoding}': expected a Python codec such as utf-8, "
            "latin-1, cp1252, gbk. Correct the conf."
        ) from None
    separator = source.separator.replace("\\t", "\t")
    if not separator or len(source.quote) > 1:
        raise SourceError(
            f"source.{kind}: expected a separator of at least one character and a quote of at most one; found "
            f"{source.separator!r} and {source.quote!r}. Correct the conf."
        )
    return FileLayout(format_name, source.encoding, separator, source.quote, source.header)


def _open_local(path: str) -> IO[bytes]:
    return Path(path).open("rb")


def _columns_of(open_name: Any, layout: FileLayout, name: str) -> tuple[str, ...]:
    try:
        with open_name() as raw, unpacked(raw) as stream:
            return find_columns(stream, layout, name)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(describe_failure(error, name)) from None


def arrow_rows(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, layout: FileLayout, files: Sequence[tuple[str, str]]
) -> Iterator[pa.RecordBatch]:
    """Parse the files that a task was handed; runs in Spark's Python workers.

    Args:
        batches: ``id`` (place in ``files``), and ``content`` where the bytes come from Spark.
        schema: of the rows to yield.
        layout: how the files are written.
        files: local path and name of each file.
    """
    for batch in batches:
        contents = batch.column(1) if batch.num_columns > 1 else None
        for place, file_id in enumerate(batch.column(0).to_pylist()):
            path, name = files[file_id]
            opened = partial(_open_local, path) if contents is None else partial(io.BytesIO, contents[place].as_py())
            for rows in record_batches(opened, layout, name):
                yield to_arrow(rows, schema)


def _read_text(
    spark: SparkSession, source: SourceFile, kind: Kind, format_name: Literal["csv", "jsonl"], max_bytes: int
) -> DataFrame:
    parts = list_parts(spark, source.path, kind)
    filled = [part for part in parts if part.size > 0]
    if not filled:
        raise SourceError(
            f"source.{kind}.path '{source.path}': empty: expected records, found 0 bytes in {len(parts)} file(s). "
            "Point it to the data."
        )
    layout = _layout(source, kind, format_name)
    first = filled[0]
    if first.is_local:
        columns = _columns_of(partial(_open_local, first.path), layout, first.name)
    else:
        columns = _columns_of(partial(_remote_head, spark, first.path), layout, first.name)
    layout = FileLayout(layout.format, layout.encoding, layout.separator, layout.quote, layout.header, columns)
    schema = StructType(
        [StructField(column, StringType()) for column in (*columns, "_file")]
        + [StructField("_record", LongType()), StructField("_error", StringType())]
    )
    arrow_schema = pa.schema(
        [(f.name, pa.int64() if isinstance(f.dataType, LongType) else pa.string()) for f in schema]
    )
    whole, large = filled, [part for part in filled if part.size > max_bytes]
    frames = []
    if large and can_be_cut(layout):
        rows, open_files = read_large_text(spark, large, layout, schema, arrow_schema)
        if rows is not None:
            frames.append(rows)
            whole = [part for part in filled if part.size <= max_bytes]
        elif not first.is_local:
            raise SourceError(
                f"source.{kind}.path '{source.path}': {open_files[0]} is larger than {max_bytes} bytes and has a line "
                "with an odd number of quotes: expected no line break within quotes in a file that is read in parts. "
                f"Write it as smaller files or Parquet, or set source.{kind}.quote to '' where quotes mean nothing."
            )
    elif large and not first.is_local:
        raise SourceError(
            f"source.{kind}.path '{source.path}': {large[0].name} is larger than {max_bytes} bytes and written in "
            f"{layout.encoding}: expected UTF-8 for a file that is read in parts. Write it as UTF-8, smaller files or "
            "Parquet."
        )
    if whole:
        frames.append(_read_whole(spark, whole, layout, schema, arrow_schema))
    return reduce(DataFrame.unionAll, frames)


def _read_whole(
    spark: SparkSession, parts: Sequence[SourcePart], layout: FileLayout, schema: StructType, arrow_schema: pa.Schema
) -> DataFrame:
    """Read text files, each whole in one task: local ones as a stream, others out of the task's memory."""
    files = [(part.path, part.name) for part in parts]
    parse = partial(arrow_rows, schema=arrow_schema, layout=layout, files=files)
    if all(part.is_local for part in parts):
        ids = spark.range(0, len(files), 1, min(len(files), _MAX_TASKS))
        return ids.mapInArrow(parse, schema)
    ids = spark.createDataFrame([(place, part.path) for place, part in enumerate(parts)], "id bigint, path string")
    content = spark.read.format("binaryFile").load([part.path for part in parts]).select("path", "content")
    return ids.join(content, "path").select("id", "content").mapInArrow(parse, schema)


def _remote_head(spark: SparkSession, path: str, n_bytes: int = 1 << 20) -> IO[bytes]:
    """Return the first bytes of a remote file (all of a small one), cut by Spark before they reach the driver."""
    head = F.substring(F.col("content"), 1, n_bytes).alias("head")
    row = spark.read.format("binaryFile").load(path).select(head).first()
    return io.BytesIO(bytes(row["head"]) if row is not None else b"")


def source_fingerprint(spark: SparkSession, source: SourceFile, kind: Kind = "interactions") -> str:
    """Return a hash that changes when a source changes.

    Of local files of a gigabyte together: names and content, so that the same data written there again make nothing
    anew; of larger ones and of files elsewhere names, sizes and times of change. Of Delta tables: the newest version
    and its time. No Spark job runs for files that the driver reaches as local paths; an empty path gives the hash of
    nothing.

    Raises:
        SourceError: where nothing is there.
    """
    if not source.path:
        return hashlib.sha256(b"").hexdigest()
    found = source_format(spark, source, kind)
    try:
        if found == "delta" and (Path(without_scheme(source.path)) / "_delta_log").is_dir():
            log = Path(without_scheme(source.path)) / "_delta_log"
            newest = max((file for file in log.iterdir() if file.name[:20].isdigit()), key=lambda file: file.name)
            facts: list[tuple[str, int, int | str]] = [(newest.name, newest.stat().st_size, newest.stat().st_mtime_ns)]
        elif found in ("delta", "table"):
            facts = [_table_version(spark, source.path, found)]
        else:
            parts = list_parts(spark, source.path, kind)
            is_hashed = all(part.is_local for part in parts) and sum(part.size for part in parts) <= _MAX_HASHED_BYTES
            facts = [(part.name, part.size, _content(part) if is_hashed else part.modified) for part in parts]
    except SourceError:
        raise
    except Exception as error:
        raise _spark_failure(source, kind, found, error) from error
    return hashlib.sha256(repr([source.path, found, sorted(facts)]).encode()).hexdigest()


@cache
def _content(part: SourcePart) -> str:
    """Return a hash of a local file's content; read again in this process only when its size or time changes."""
    with open(part.path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _table_version(spark: SparkSession, path: str, found: FileFormat) -> tuple[str, int, int]:
    """Return the newest version of a Delta table; of another kind of table, a hash of its files' names."""
    from delta.tables import DeltaTable

    try:
        table = DeltaTable.forName(spark, path) if found == "table" else DeltaTable.forPath(spark, path)
        row = table.history(1).first()
        if row is not None:
            return path, int(row["version"]), int(row["timestamp"].timestamp() * 1e6)
    except Exception:
        if found != "table":
            raise
    names = sorted(spark.read.table(path).inputFiles())
    return hashlib.sha256("\n".join(names).encode()).hexdigest(), len(names), 0
