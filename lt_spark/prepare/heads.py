"""The heads of people's files: a bounded look at the bytes that says how the file is to be read. No Spark."""

import bz2
import codecs
import csv
import glob
import gzip
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from lt_spark.core.errors import SourceError

HEAD_BYTES = 1_000_000
"""What is looked at of a file; bytes after decompression."""
MAX_ROWS = 5_000
SEPARATORS = ("::", "\t", "|", ";", ",")
_NOT_DATA = {
    ".xlsx": "an Excel workbook: save the sheet as CSV",
    ".xls": "an Excel workbook: save the sheet as CSV",
    ".zip": "a zip archive: unpack it",
    ".7z": "an archive: unpack it",
    ".tar": "an archive: unpack it",
    ".tgz": "an archive: unpack it",
    ".zst": "compressed with zstd: unpack it",
    ".pkl": "a Python pickle, which is never loaded: write it as Parquet",
    ".npz": "a numpy archive: write it as Parquet or CSV",
}
Rows = list[list[str | None]]


@dataclass(frozen=True)
class Head:
    """The first rows of a source, and how they were read.

    Attributes:
        path: the source as it was named.
        format: csv, jsonl, parquet or delta.
        columns: names; ``0``, ``1``, ... where a CSV file has no header.
        rows: at most 5,000 rows of text; None where a value is missing.
        is_whole: whether ``rows`` is all there is.
        whys: why ``encoding``, ``separator``, ``header`` and ``quote`` are what they are.
    """

    path: str
    format: Literal["csv", "jsonl", "parquet", "delta"]
    columns: tuple[str, ...]
    rows: Rows
    is_whole: bool
    encoding: str = "utf-8"
    separator: str = ","
    header: bool = True
    quote: str = '"'
    whys: dict[str, str] = field(default_factory=dict)

    def values(self, column: str) -> list[str]:
        """Return the values of a column that are there and not empty."""
        index = self.columns.index(column)
        return [value for row in self.rows if index < len(row) and (value := row[index]) not in (None, "")]


def read_head(path: str, named_columns: Callable[[Sequence[str]], bool]) -> Head:
    """Look at the first megabyte of a file, of a folder's first part, of a glob's first match, or of a Delta folder.

    Args:
        path: a local file, folder or glob.
        named_columns: tells whether a record looks like column names; decides on a header together with the types.

    Raises:
        SourceError: there is nothing there, it is empty, or it is of a kind that cannot be read.
    """
    if os.path.isdir(os.path.join(path, "_delta_log")):
        return _delta_head(path)
    part = _first_part(path)
    for ending, what in _NOT_DATA.items():
        if part.lower().endswith(ending):
            raise SourceError(f"{part} is {what}, and name the result.")
    data, is_whole = _first_bytes(part)
    if not data.strip():
        raise SourceError(f"{part} is empty: expected rows of a log or of a catalogue.")
    if data.startswith(b"PAR1"):
        return _parquet_head(path, part)
    if b"\0" in data[:4096] and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SourceError(f"{part} is no text (it has zero bytes): expected CSV, JSON lines, Parquet or Delta.")
    text, encoding, why = decode_head(data, is_whole)
    if not is_whole:
        text = text[: text.rfind("\n") + 1] or text  # the last line may be cut
    start = text.lstrip()[:1]
    if start == "[" and not part.lower().endswith((".csv", ".tsv", ".txt")):
        raise SourceError(
            f"{part} is one JSON array: expected one object a line. Convert it: jq -c '.[]' FILE > NEW.jsonl"
        )
    if start == "{":
        return _jsonl_head(path, text, is_whole, encoding, why)
    return _csv_head(path, text, is_whole, encoding, why, named_columns)


def _first_part(path: str) -> str:
    if not os.path.exists(path):
        matches = sorted(glob.glob(os.path.expanduser(path)))
        if not matches:
            raise SourceError(
                f"no file at {path} (from {Path.cwd()}): expected a file, a folder of parts or a Delta folder."
            )
        path = matches[0]
    if not os.path.isdir(path):
        return path
    parts = sorted(
        os.path.join(folder, name)
        for folder, folders, names in os.walk(path)
        for name in names
        if name[0] not in "._" and os.path.basename(folder)[:1] not in ("_", ".")
    )
    if not parts:
        raise SourceError(f"the folder {path} has no files in it.")
    return parts[0]


def _first_bytes(path: str) -> tuple[bytes, bool]:
    try:
        with open(path, "rb") as raw:
            magic = raw.read(3)
        opener: Any = gzip.open if magic[:2] == b"\x1f\x8b" else bz2.open if magic == b"BZh" else open
        with opener(path, "rb") as file:
            data = file.read(HEAD_BYTES + 1)
    except (OSError, EOFError) as error:
        raise SourceError(f"{path} cannot be read: {error}.") from None
    return data[:HEAD_BYTES], len(data) <= HEAD_BYTES


# ---- encoding


def decode_head(data: bytes, is_whole: bool) -> tuple[str, str, str]:
    """Decode the first bytes of a file and tell by which encoding and why.

    Tried in this order: a byte order mark, UTF-8 (strict), GBK where nearly all high bytes come in pairs of common
    Chinese characters, windows-1252, Latin-1 (which every file fits).
    """
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return _decode(data, encoding, is_whole) or "", encoding, "the file starts with a byte order mark"
    seen = "the whole file" if is_whole else "the first megabyte"
    if (text := _decode(data, "utf-8", is_whole)) is not None:
        return text, "utf-8", f"{seen} is {'plain ASCII' if data.isascii() else 'valid UTF-8'}"
    share = _chinese_share(data)
    if share >= 0.8 and (text := _decode(data, "gbk", is_whole)) is not None:
        return text, "gbk", f"not UTF-8; {share:.0%} of its bytes above 127 pair up to common Chinese characters"
    for encoding in ("cp1252", "latin-1"):
        if (text := _decode(data, encoding, is_whole)) is not None:
            break
    sample = next((line.strip() for line in (text or "").splitlines() if not line.isascii()), "")
    return text or "", encoding, f"not UTF-8, not Chinese; check that this reads well: {_plain(sample)[:60]}"


def _decode(data: bytes, encoding: str, is_whole: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(data, is_whole)
    except UnicodeDecodeError:
        return None


def _chinese_share(data: bytes) -> float:
    """Return the share of high bytes that make pairs of GB2312's first level, the common characters."""
    n_high = n_paired = index = 0
    while index < len(data):
        if data[index] < 0x80:
            index += 1
        elif 0xB0 <= data[index] <= 0xD7 and index + 1 < len(data) and data[index + 1] >= 0xA1:
            n_high, n_paired, index = n_high + 2, n_paired + 2, index + 2
        elif 0xA1 <= data[index] <= 0xA3 and index + 1 < len(data) and data[index + 1] >= 0xA1:
            index += 2  # full-width punctuation: tells nothing
        else:
            n_high, index = n_high + 1, index + 1
    return n_paired / n_high if n_high else 0.0


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


# ---- CSV


def _csv_head(
    path: str, text: str, is_whole: bool, encoding: str, why: str, named_columns: Callable[[Sequence[str]], bool]
) -> Head:
    lines = [line for line in split_lines(text) if line.strip()]
    separator, quote, share = _guess_separator(lines[:500])
    records = split_records(text, separator, quote)
    records = [record for record in records if record]
    width = max(Counter(map(len, records[:500])).items(), key=lambda item: item[1])[0]
    header, header_why = _has_header(records, width, named_columns)
    columns = tuple(records[0]) if header else tuple(str(i) for i in range(width))
    columns = (*columns, *(f"_{i}" for i in range(len(columns), width)))
    rows: Rows = [list(record[: len(columns)]) for record in records[1 if header else 0 :][:MAX_ROWS]]
    whys = {
        "encoding": why,
        "separator": f"it cuts {share:.0%} of the first lines into {width} fields",
        "header": header_why,
        "quote": "fields in quotes were seen" if quote and any(quote in line for line in lines) else "",
    }
    if not quote:
        whys["quote"] = "quotes in it are part of the text"
    return Head(path, "csv", columns, rows, is_whole and len(rows) < MAX_ROWS, encoding, separator, header, quote, whys)


def split_lines(text: str) -> list[str]:
    """Cut text at line feeds and carriage returns only; ``str.splitlines`` cuts at more."""
    return re.split("\r\n|\n|\r", text)


def split_records(text: str, separator: str, quote: str, limit: int = MAX_ROWS + 1) -> list[list[str]]:
    """Cut text into records of fields; a separator of several characters knows no quotes."""
    if len(separator) > 1:
        return [line.split(separator) for line in split_lines(text)[:limit]]
    csv.field_size_limit(max(csv.field_size_limit(), HEAD_BYTES))
    style: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    return list(islice(csv.reader(io.StringIO(text, newline=""), delimiter=separator, **style), limit))


def _guess_separator(lines: Sequence[str]) -> tuple[str, str, float]:
    """Return the separator, the quote character and the share of records that then have the same number of fields."""
    best: tuple[float, int, str, str] = (0.0, 1, ",", '"')
    text = "\n".join(lines)
    for separator in SEPARATORS:
        if separator not in text:
            continue
        for quote in ('"', "") if len(separator) == 1 else ("",):
            records = [record for record in split_records(text, separator, quote) if record]
            width, count = Counter(map(len, records)).most_common(1)[0]
            # quotes that hide line breaks make fewer records: a record must be about a line to count in full
            share = round(count / len(records) if quote else count / len(lines), 2)
            if quote and len(records) < 0.2 * len(lines):
                continue  # an unbalanced quote swallowed the file
            if width > 1 and (share, width) > best[:2] and (share > best[0] + 0.05 or width > best[1] or best[0] == 0):
                best = (share, width, separator, quote)
    share, _, separator, quote = best
    if quote and _n_odd_quotes(lines, separator):
        plain = [len(record) for record in split_records(text, separator, "") if record]
        if Counter(plain).most_common(1)[0][1] / len(plain) >= share - 0.005:
            quote = ""  # nothing is hidden in quotes, and some fields have text after a closing one
    return separator, quote, share


def _n_odd_quotes(lines: Sequence[str], separator: str) -> int:
    edge = re.escape(separator)
    odd = re.compile(rf'(?:^|{edge})"(?:[^"]|"")*(?:"(?!{edge}|$|")|$)')
    return sum(bool(odd.search(line)) for line in lines)


def _has_header(
    records: Sequence[Sequence[str]], width: int, named: Callable[[Sequence[str]], bool]
) -> tuple[bool, str]:
    first, rest = records[0], records[1:200]
    names = [name.strip() for name in first]
    if len(names) > width or not all(names) or len(set(names)) < len(names) or any(is_number(name) for name in names):
        return False, "the first record has numbers, gaps or repeats in it: it is no row of names"
    if named(names):
        return True, "the first record has names that are known"
    for index, _ in enumerate(names):
        values = [record[index] for record in rest if index < len(record) and record[index] != ""]
        if values and all(is_number(value) for value in values):
            return True, f"the first record has a word where {names[index]!r} then has numbers"
    later = {value for record in rest for value in record}
    if later & set(names):
        return False, "values of the first record come again in later ones: it is no row of names"
    return True, "the first record's values never come again, so they are taken for names"


def is_number(text: str) -> bool:
    """Tell whether text is a finite number."""
    try:
        value = float(text)
    except ValueError:
        return False
    return value - value == 0


# ---- JSON lines, Parquet, Delta


def _jsonl_head(path: str, text: str, is_whole: bool, encoding: str, why: str) -> Head:
    objects: list[dict[str, Any]] = []
    for number, line in enumerate(split_lines(text)[:MAX_ROWS], 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except json.JSONDecodeError as error:
            raise SourceError(
                f"{path}, line {number}: expected one JSON object a line: {error.msg} at character {error.pos + 1}. "
                "Write each object on one line: jq -c . FILE > NEW.jsonl"
            ) from None
        if isinstance(content, dict):
            objects.append(content)
    columns = tuple(dict.fromkeys(key for content in objects for key in content))
    rows = [[_text(content.get(column)) for column in columns] for content in objects]
    return Head(path, "jsonl", columns, rows, is_whole and len(rows) < MAX_ROWS, encoding, whys={"encoding": why})


def _parquet_head(path: str, part: str) -> Head:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(part)
        batch = next(file.iter_batches(batch_size=MAX_ROWS), None)
    except (OSError, ValueError) as error:
        raise SourceError(f"{part} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    n_rows = file.metadata.num_rows if part == path else MAX_ROWS
    return _arrow_head(path, "parquet", file.schema_arrow.names, batch, n_rows < MAX_ROWS)


def _delta_head(path: str) -> Head:
    try:
        from deltalake import DeltaTable
    except ImportError:
        head = _parquet_head(path, _first_part(path))  # partition columns are missing from it
        return Head(head.path, "delta", head.columns, head.rows, False)
    try:
        dataset = DeltaTable(path).to_pyarrow_dataset()
        table = dataset.head(MAX_ROWS)
    except Exception as error:
        raise SourceError(f"{path} cannot be read as a Delta table: {str(error).splitlines()[0]}") from None
    return _arrow_head(path, "delta", table.column_names, table, table.num_rows < MAX_ROWS)


def _arrow_head(path: str, kind: Literal["parquet", "delta"], names: Sequence[str], batch: Any, is_whole: bool) -> Head:
    columns = [[_text(value) for value in column.to_pylist()] for column in batch.columns] if batch is not None else []
    rows: Rows = [list(row) for row in zip(*columns, strict=True)]
    if not rows:
        raise SourceError(f"{path} has no rows: expected rows of a log or of a catalogue.")
    return Head(path, kind, tuple(names), rows, is_whole)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
