"""Delimited and JSON-lines files read strictly: every byte decoded or refused, every record numbered.

Spark's own CSV reader turns invalid bytes into U+FFFD, refuses some encodings and numbers no records, so the parsing
is plain Python over a byte stream; Spark only distributes it, a file a task, in batches of Arrow rows.
"""

import bz2
import codecs
import gzip
import io
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, NamedTuple, cast

import pyarrow as pa

from lt_spark.core.errors import SourceError

FILE_COLUMNS = ("_file", "_record", "_error")
"""Columns that the readers add: name of the file, number of the record from 1, what is wrong with it or null."""
UNREADABLE = "file cannot be read: "
"""Start of the ``_error`` of the one row that stands for the rest of a file that cannot be read on."""
REPEATED_HEADER = "repeated header"
UNBALANCED = "unbalanced quotes"

_CHUNK_BYTES = 1 << 20
_BATCH_ROWS = 50_000
_MAX_LINE_CHARS = 64_000_000
_MAX_QUOTED_LINES = 1_000
_SURROGATE = "\\ud"
_UTF8 = frozenset({"utf-8", "utf8", "u8", "utf_8", "utf-8-sig", "utf_8_sig"})


@dataclass(frozen=True)
class FileLayout:
    """How the bytes of a file become records.

    Attributes:
        separator: between fields; one or more characters.
        quote: the quote character; empty: quotes mean nothing.
        columns: names of the columns; empty while the first file's are being found.
    """

    format: Literal["csv", "jsonl"]
    encoding: str
    separator: str
    quote: str
    header: bool
    columns: tuple[str, ...] = ()


class Record(NamedTuple):
    """A record: its number in the file from 1 (header included), its fields, and what is wrong with it."""

    number: int
    fields: Sequence[str | None]
    error: str | None


class _InvalidBytes(Exception):
    """Bytes that are not text in the encoding."""


def unpacked(stream: IO[bytes]) -> IO[bytes]:
    """Return the stream, decompressed where it starts like gzip or bzip2."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, stream))
    magic = buffered.peek(3)[:3]
    if magic[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.GzipFile(fileobj=buffered))
    return bz2.BZ2File(buffered) if magic == b"BZh" else buffered


def _valid_prefix(error: UnicodeDecodeError, encoding: str) -> str:
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(error.object[: error.start])
    except UnicodeDecodeError:
        return ""


def physical_lines(stream: IO[bytes], encoding: str) -> Iterator[str]:
    r"""Yield the lines of a byte stream with their ends (``\n``, ``\r\n`` or ``\r``), a byte order mark taken off.

    Raises:
        _InvalidBytes: after the last line that is whole before the invalid byte.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding.lower() in _UTF8 else encoding)("strict")
    pending = ""
    while True:
        chunk = stream.read(_CHUNK_BYTES)
        invalid = None
        try:
            text = decoder.decode(chunk, not chunk)
        except UnicodeDecodeError as error:
            text, invalid = _valid_prefix(error, encoding), error
        lines = list(io.StringIO(pending + text, newline=""))
        pending = ""
        if (chunk or invalid) and lines and not lines[-1].endswith("\n"):
            pending = lines.pop()  # a lone \r may be half of \r\n
        yield from lines
        if invalid is not None:
            byte = invalid.object[invalid.start : invalid.start + 1].hex()
            raise _InvalidBytes(f"byte 0x{byte} is not {encoding} text")
        if len(pending) > _MAX_LINE_CHARS:
            raise _InvalidBytes(f"a line is longer than {_MAX_LINE_CHARS} characters")
        if not chunk:
            return


def split_quoted(text: str, separator: str, quote: str) -> list[str] | None:
    """Split a record with quotes into its fields.

    Args:
        text: the record without its line end; may hold line breaks between quotes.
        separator: between fields; one or more characters.
        quote: the quote character.

    Returns:
        The fields, doubled quotes undone; None where a quote is still open at the end of ``text``.

    Raises:
        ValueError: where text follows a closing quote.
    """
    fields: list[str] = []
    position = 0
    while True:
        if text.startswith(quote, position):
            parts = []
            start = position + 1
            while True:
                end = text.find(quote, start)
                if end < 0:
                    return None
                if not text.startswith(quote, end + 1):
                    break
                parts.append(text[start : end + 1])
                start = end + 2
            fields.append("".join([*parts, text[start:end]]))
            position = end + 1
            if position == len(text):
                return fields
            if not text.startswith(separator, position):
                raise ValueError("text follows a closing quote")
        else:
            end = text.find(separator, position)
            if end < 0:
                fields.append(text[position:])
                return fields
            fields.append(text[position:end])
            position = end
        position += len(separator)


def _quoted_record(first: str, more: deque[str], lines: Iterator[str], layout: FileLayout) -> list[str] | None:
    """Read the record that starts with the line ``first``; None, with the lines put back, where quotes do not close."""
    taken = [first]
    try:
        fields = split_quoted(first.rstrip("\r\n"), layout.separator, layout.quote)
        while fields is None and len(taken) < _MAX_QUOTED_LINES:
            line = more.popleft() if more else next(lines, None)
            if line is None:
                break
            taken.append(line)
            if layout.quote in line:
                fields = split_quoted("".join(taken).rstrip("\r\n"), layout.separator, layout.quote)
    except ValueError:
        fields = None
    if fields is None:
        more.extendleft(reversed(taken[1:]))
    return fields


def split_records(lines: Iterator[str], layout: FileLayout) -> Iterator[list[str] | None]:
    """Yield the fields of each record that is not blank; None for a line whose quotes do not balance.

    A quote that never closes costs its own line only: the lines after it are read again as records of their own.
    """
    more: deque[str] = deque()
    separator, quote = layout.separator, layout.quote
    while True:
        line = more.popleft() if more else next(lines, None)
        if line is None:
            return
        text = line.rstrip("\r\n")
        if not text:
            continue
        yield _quoted_record(line, more, lines, layout) if quote and quote in text else text.split(separator)


def csv_records(stream: IO[bytes], layout: FileLayout, name: str, first: int = 1) -> Iterator[Record]:
    """Yield the records of a delimited file, without its header.

    Args:
        stream: the file's bytes, decompressed.
        layout: with its columns.
        name: the file's name, for messages.
        first: number of the stream's first record; above 1 where the stream is a later part of a file.

    Returns:
        Records with as many fields as there are columns; ``error`` is set for too few or too many fields, unbalanced
        quotes and a header repeated in the middle.

    Raises:
        SourceError: for a byte that is not text in the encoding, and for a header unlike the first file's.
    """
    columns = list(layout.columns)
    width = len(columns)
    empty: list[str | None] = [None] * width
    number = first - 1
    try:
        for number, fields in enumerate(split_records(physical_lines(stream, layout.encoding), layout), first):
            if fields is None:
                yield Record(number, empty, UNBALANCED)
            elif layout.header and fields == columns:
                if number > 1:
                    yield Record(number, fields, REPEATED_HEADER)
            elif layout.header and number == 1:
                raise SourceError(
                    f"{name}: its header differs from that of the first file: expected {columns}, found {fields}. "
                    "Keep files of other columns in another folder."
                )
            elif len(fields) == width:
                yield Record(number, fields, None)
            else:
                padded: list[str | None] = [*fields[:width], *empty[len(fields) :]]
                few = "too few" if len(fields) < width else "too many"
                yield Record(number, padded, f"{few} fields: {len(fields)} where the header has {width}")
    except _InvalidBytes as error:
        raise _wrong_encoding(name, number + 1, error) from None


def _wrong_encoding(name: str, number: int, error: Exception) -> SourceError:
    return SourceError(
        f"{name}, record {number}: {error}. Set source...encoding to the file's own (utf-8, cp1252, latin-1, gbk, ...)."
    )


def json_text(value: Any) -> str | None:
    """Return a JSON value as text: numbers as they were written, objects and lists as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


def json_objects(
    stream: IO[bytes], layout: FileLayout, name: str, first: int = 1
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield the number and object of each line; None for what is no JSON object. Numbers stay the text they were."""
    number = first - 1
    try:
        lines = (line for line in physical_lines(stream, layout.encoding) if line.strip())
        for number, line in enumerate(lines, first):
            try:
                value = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
                if _SURROGATE in line.lower():
                    # half a pair, as of an emoji cut in two, is no text: Arrow would refuse the whole batch
                    json.dumps(value, ensure_ascii=False).encode()
            except (ValueError, RecursionError):
                value = None
            yield number, value if isinstance(value, dict) else None
    except _InvalidBytes as error:
        raise _wrong_encoding(name, number + 1, error) from None


def json_records(stream: IO[bytes], layout: FileLayout, name: str, first: int = 1) -> Iterator[Record]:
    """Yield the records of a JSON-lines file; a line that is no JSON object has ``error`` set.

    Raises:
        SourceError: for a byte that is not text in the encoding.
    """
    for number, value in json_objects(stream, layout, name, first):
        if value is None:
            yield Record(number, [None] * len(layout.columns), "not a JSON object")
        else:
            yield Record(number, [json_text(value.get(column)) for column in layout.columns], None)


def find_columns(stream: IO[bytes], layout: FileLayout, name: str, sample: int = 10_000) -> tuple[str, ...]:
    """Return the columns of a file: its header, ``0``, ``1``, ... without one, or the keys of the first JSON objects.

    Raises:
        SourceError: for an empty file, a header with a column twice, or bytes that are not text in the encoding.
    """
    if layout.format == "jsonl":
        keys: dict[str, None] = {}
        for number, value in json_objects(stream, layout, name):
            keys.update(dict.fromkeys(value or ()))
            if number >= sample:
                break
        names = list(keys)
    else:
        try:
            fields = next(split_records(physical_lines(stream, layout.encoding), layout), [])
        except _InvalidBytes as error:
            raise _wrong_encoding(name, 1, error) from None
        if fields is None:
            raise SourceError(f"{name}, record 1: {UNBALANCED} in the first record. Correct it, or set source...quote.")
        positions = [str(position) for position in range(len(fields))]
        names = [field or position for field, position in zip(fields, positions, strict=True)]
        names = names if layout.header else positions
    if not names:
        raise SourceError(f"{name}: the file is empty: expected records, found none. Point source...path to the data.")
    lower = [column.lower() for column in [*names, *FILE_COLUMNS]]
    twice = sorted({column for column in names if lower.count(column.lower()) > 1})
    if twice:
        raise SourceError(
            f"{name}: column names must differ (whatever their case) and not be {', '.join(FILE_COLUMNS)}: found twice "
            f"{twice}. Rename them in the file, or set header: false if its first record is data."
        )
    return tuple(names)


def record_batches(
    open_file: Callable[[], IO[bytes]], layout: FileLayout, name: str, first: int = 1
) -> Iterator[list[Sequence[Any]]]:
    """Yield lists of (fields..., name, number, error), at most 50,000 rows each; numbers start at ``first``.

    What stops a file from being read on (a byte not in the encoding, damaged gzip, a lost file) becomes one last row
    whose error starts with ``UNREADABLE``, so that a task does not die with a stack trace.
    """
    parse = csv_records if layout.format == "csv" else json_records
    rows: list[Sequence[Any]] = []
    number = first - 1
    try:
        with open_file() as raw, unpacked(raw) as stream:
            for number, fields, error in parse(stream, layout, name, first):
                rows.append((*fields, name, number, error))
                if len(rows) >= _BATCH_ROWS:
                    yield rows
                    rows = []
    except (SourceError, OSError, EOFError, zlib.error) as error:
        yield [*rows, (*[None] * len(layout.columns), name, number + 1, UNREADABLE + describe_failure(error, name))]
    else:
        if rows:
            yield rows


def to_arrow(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as an Arrow batch of the schema."""
    arrays = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def describe_failure(error: Exception, name: str) -> str:
    """Return what stopped a file from being read, and what to do."""
    if isinstance(error, SourceError):
        return str(error)
    if isinstance(error, PermissionError):
        return f"{name}: no permission to read it. Give the user of the run the right to read the file."
    if isinstance(error, FileNotFoundError):
        return f"{name}: not found by the worker. Put the file where driver and every executor can read it."
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile) or "Invalid data stream" in str(error):
        return f"{name}: damaged compressed file ({error}). Copy it again from its source."
    return f"{name}: {error}."
