"""People's verdicts on what the language model wrote: out to a spreadsheet, and back."""

import csv
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from pyspark.sql import Window
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, DataError, StorageError
from lt_spark.core.runs import RunLock, new_run_id
from lt_spark.core.storage import Storage
from lt_spark.kernels.answer_form import parse_answer, parse_plain
from lt_spark.kernels.hostile import clean_text, spreadsheet_safe
from lt_spark.kernels.written import Written

COLUMNS = (
    "key", "title", "description", "keywords", "status", "reason", "shown_instead", "verdict", "reviewed_by"
)  # fmt: skip
VERDICTS = ("accept", "reject", "edit")
_MAX_CHARS = 2_000
_MAX_ERRORS_SHOWN = 8
_MAX_ROWS = 100_000
"""A person's work, read on the driver; above this it is another kind of file."""
_NEEDED = ("key", "description", "keywords", "verdict", "reviewed_by")
_DELIMITERS = ",;\t"
"""Spreadsheets of countries with a decimal comma write semicolons."""


def export_reviews(storage: Storage, file: Path, n_rows: int, seed: int, *, force: bool) -> int:
    """Write a sample of the current texts that nobody judged yet, as many of each status and reason as of the others.

    Where there are fewer of one, the others fill its place. Items that the engine failed on have no text to judge.

    Args:
        storage: the tables.
        file: the CSV file (UTF-8 with a byte-order mark, so that spreadsheets read it right).
        n_rows: most rows.
        seed: of the sample.
        force: overwrite a file that is there.

    Returns:
        The number of rows written.

    Raises:
        ConfigError: where the file is there already, or cannot be written.
    """
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already, and is not overwritten. Give --force, or another name.")
    unjudged = F.col("is_current") & F.col("reviewed_by").isNull() & (F.col("status") != "failed")
    stratum = F.concat_ws(": ", "status", F.element_at(F.split("reason", ", "), 1))
    drawn = F.xxhash64("key", F.lit(seed))
    place = F.row_number().over(Window.partitionBy("stratum").orderBy(drawn))
    chosen = (
        _enrichments(storage)
        .where(unjudged)
        .withColumn("stratum", stratum)
        .withColumn("place", place)
        .join(storage.read(t.ITEMS).select("item_idx", "title"), "item_idx")
        .orderBy("place", "stratum")  # the first of each, then the second of each...
        .limit(n_rows)
        .orderBy("stratum", "place")
        .collect()  # at most n_rows
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="", encoding="utf-8-sig") as handle:
            writer = csv.writer(handle)
            writer.writerow(COLUMNS)
            for row in chosen:
                writer.writerow([spreadsheet_safe(cell) for cell in _cells(row.asDict())])
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror or error}. Give another name.") from None
    return len(chosen)


def import_reviews(storage: Storage, config: Config, file: Path) -> dict[str, int]:
    """Take verdicts back into ``silver.item_enrichments``, in one transaction, under the run's lock.

    accept: the model's text is used, as the file shows it. reject: the fallback is, and the item is never asked again
    while its own text stays the same. edit: the row's description and keywords are used. Rows without a verdict are
    passed over.

    Args:
        storage: the tables.
        config: for the lock, which is held under a run id of this import.
        file: the CSV file that :func:`export_reviews` wrote, with ``verdict`` and ``reviewed_by`` filled in.

    Returns:
        How many rows were accepted, rejected, edited, and had no verdict.

    Raises:
        DataError: where a row cannot be used; nothing is written then.
    """
    given = _read(file)
    judged = [(number, row) for number, row in given if row["verdict"].strip()]
    known = {}
    if judged:
        keys = storage.spark.createDataFrame([(row["key"],) for _, row in judged], "key string")
        found = _enrichments(storage).join(keys.distinct(), "key").collect()  # at most _MAX_ROWS
        known = {row["key"]: row.asDict() for row in found}
    now = datetime.now(UTC)
    errors: list[str] = []
    changed: dict[str, dict[str, Any]] = {}
    for number, row in judged:
        try:
            if row["key"] in changed:
                raise DataError("its key stands in an earlier record too")
            changed[row["key"]] = _changed(row, known.get(row["key"])) | {"reviewed_at": now}
        except DataError as error:
            errors.append(f"record {number}: {error}")
    if errors:
        more = f"\n  and {len(errors) - _MAX_ERRORS_SHOWN} more" if len(errors) > _MAX_ERRORS_SHOWN else ""
        told = "\n  ".join(errors[:_MAX_ERRORS_SHOWN])
        raise DataError(f"{file}: {len(errors)} verdicts cannot be used, and none was taken:\n  {told}{more}")
    if changed:
        _write(storage, config, changed)
    counts = Counter(row["verdict"].strip().lower() for _, row in judged)
    named = {"accepted": counts["accept"], "rejected": counts["reject"], "edited": counts["edit"]}
    return named | {"without a verdict": len(given) - len(judged)}


def _enrichments(storage: Storage) -> Any:
    if not storage.exists(t.ITEM_ENRICHMENTS):
        raise StorageError(
            f"silver.item_enrichments is not at {storage.location(t.ITEM_ENRICHMENTS)} yet: run stage describe first."
        )
    return storage.read(t.ITEM_ENRICHMENTS)


def _cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row: what the model wrote, and what stands in its place where it was refused."""
    written = _written(row)
    is_used = row["status"] == "accepted"
    cells = {
        "key": row["key"],
        "title": row["title"],
        "description": written.description if written else "",
        "keywords": ", ".join(written.keywords) if written else "",
        "status": row["status"],
        "reason": row["reason"],
        "shown_instead": "" if is_used else row["description"],
        "verdict": "",
        "reviewed_by": "",
    }
    return [clean_text(str(cells[name] or ""), _MAX_CHARS) for name in COLUMNS]


def _written(row: dict[str, Any]) -> Written | None:
    """Return what the model wrote of an item, accepted or not, without what a cell cannot show; None: no text."""
    if row["status"] == "accepted":
        return _cleaned(row["keywords"] or (), row["description"] or "")
    answer = row["answer"] or ""
    parsed = parse_answer(answer, "Keywords:")
    if parsed is None and row["engine"] == "imported":
        parsed = parse_plain(answer)
    return None if parsed is None else _cleaned(parsed.keywords, parsed.description)


def _cleaned(keywords: Iterable[str], description: str) -> Written:
    words = (clean_text(word, _MAX_CHARS).lower() for word in keywords)
    return Written(tuple(dict.fromkeys(filter(None, words))), clean_text(description, _MAX_CHARS))


def _read(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the file's records with their numbers, the header being the first."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            header = handle.readline()
            handle.seek(0)
            delimiter = max(_DELIMITERS, key=header.count)
            reader = csv.reader(handle, delimiter=delimiter, strict=True)
            names = next(reader, [])
            records = list(islice(reader, _MAX_ROWS + 1))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}. Name the file with the verdicts.") from None
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as CSV in UTF-8: {error}. Save it as CSV UTF-8.") from None
    if len(records) > _MAX_ROWS:
        raise DataError(f"{file}: expected at most {_MAX_ROWS:,} verdicts, found more. Import it in several files.")
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise DataError(f"{file}: expected the columns that `lt-spark review export` writes; {missing} missing.")
    return [
        (number, {name: _plain(cell) for name, cell in zip_longest(names, record[: len(names)], fillvalue="")})
        for number, record in enumerate(records, start=2)
        if record
    ]


def _plain(cell: str) -> str:
    """Return a cell without the apostrophe that kept a spreadsheet from taking it for a formula."""
    return cell[1:] if cell.startswith("'") and spreadsheet_safe(cell[1:]) == cell else cell


def _changed(row: dict[str, str], known: dict[str, Any] | None) -> dict[str, Any]:
    """Return the new values of a row of ``silver.item_enrichments``."""
    verdict, who = row["verdict"].strip().lower(), clean_text(row["reviewed_by"], 100)
    if known is None:
        raise DataError("no text has its key: expected a key of silver.item_enrichments")
    if verdict not in VERDICTS:
        raise DataError(f"verdict: expected one of {', '.join(VERDICTS)}, found another word")
    if not who:
        raise DataError("reviewed_by is empty: expected who judged")
    if verdict == "reject":
        text, keywords = known["fallback_description"] or "", list(known["fallback_keywords"] or ())
        status = "fallback" if text or keywords else "refused"
        return {"key": row["key"], "status": status, "reason": "rejected by a person", "description": text or None,
                "keywords": keywords, "has_own_keywords": False, "reviewed_by": who}  # fmt: skip
    if verdict == "accept":
        written = _written(known)
        if written is None or not written.text:
            raise DataError("nothing was written that could be accepted: expected reject, or edit with a text")
    else:
        written = _cleaned(row["keywords"].split(","), row["description"])
        if not written.description:
            raise DataError("description is empty: expected the edited text")
    return {"key": row["key"], "status": "accepted", "reason": None, "description": written.description,
            "keywords": list(written.keywords), "has_own_keywords": bool(written.keywords),
            "reviewed_by": who}  # fmt: skip


def _write(storage: Storage, config: Config, changed: dict[str, dict[str, Any]]) -> None:
    fields = {field.name: field for field in t.ITEM_ENRICHMENTS.schema.fields}
    names = ("key", "status", "reason", "description", "keywords", "has_own_keywords", "reviewed_by", "reviewed_at")
    schema = ", ".join(f"{name} {fields[name].dataType.simpleString()}" for name in names)
    rows = storage.spark.createDataFrame([tuple(row[name] for name in names) for row in changed.values()], schema)
    # a lock without a run id would be nobody's: a run could start beside the import
    own = Storage(storage.spark, config, storage.run_id or f"review-{new_run_id()}")
    with RunLock(own, config):
        merge = storage.delta(t.ITEM_ENRICHMENTS).alias("old").merge(rows.alias("new"), "old.key = new.key")
        merge.whenMatchedUpdate(set={name: f"new.{name}" for name in names[1:]}).execute()
