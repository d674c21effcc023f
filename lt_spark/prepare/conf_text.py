"""The commented configuration that ``lt-spark init`` writes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lt_spark.engines.found_encoder import FoundEncoder
from lt_spark.prepare.guesses import Inspection
from lt_spark.prepare.heads import Head

FILL_IN = "FILL-IN"
_LOG, _ITEMS = "source.interactions", "source.items"
_LOG_COLUMNS = ("user", "item", "time", "event_type", "value")
_ITEM_COLUMNS = ("item", "title", "text", "is_available", "available_from", "available_until")
_NOT_FOUND = {
    "event_type": "kind of event (view, cart, buy): none found",
    "value": "rating, quantity or seconds: none found",
    "is_available": "true or false, to keep an item from being recommended: none found",
    "available_from": "recommended from this time on: none found",
    "available_until": "recommended until this time: none found",
}


def conf_text(inspection: Inspection, encoder: FoundEncoder | None = None) -> str:
    """Return the configuration as YAML: each guess with its reason, and what was not found said.

    Args:
        inspection: what was found out.
        encoder: the sentence encoder that reads the items' text; None: it is left out.
    """
    return "\n".join(_lines(inspection, encoder)) + "\n"


def files_root(inspection: Inspection) -> str:
    """Return the ``files.root`` that the configuration names."""
    return f"warehouse/{_folder_name(inspection.log.path)}/files"


def _lines(inspection: Inspection, encoder: FoundEncoder | None) -> Iterator[str]:
    name = _folder_name(inspection.log.path)
    yield "# Written by lt-spark init from the first rows of your files. Every line is a guess: read the reasons."
    yield "# All other keys, with their defaults: lt-spark config show"
    for note in inspection.notes:
        yield f"# LOOK: {_comment(note)}"
    yield ""
    yield "tables:"
    yield "  # folder of the Delta tables that lt-spark writes"
    yield f"  root: {_yaml(f'warehouse/{name}')}"
    yield ""
    yield "files:"
    yield "  # folder of what is not a table"
    yield f"  root: {_yaml(files_root(inspection))}"
    yield ""
    yield "source:"
    yield ""
    yield "  # the log: what users did"
    yield "  interactions:"
    yield from _file(inspection.log)
    yield from _columns(inspection, _LOG, _LOG_COLUMNS)
    yield from _log_settings(inspection)
    yield ""
    yield "  # the catalogue: what the items are"
    if inspection.catalogue is None:
        yield "  # none was given: the items of the log are the catalogue, without titles"
        return
    yield "  items:"
    yield from _file(inspection.catalogue)
    yield from _columns(inspection, _ITEMS, _ITEM_COLUMNS)
    yield from _encoder(encoder)
    yield from _language_model(inspection, encoder)


def _encoder(encoder: FoundEncoder | None) -> Iterator[str]:
    """Yield what makes vectors of the items' text, for the models that read them."""
    if encoder is None:
        return
    yield ""
    yield "# Vectors of the items' titles, on the executors: als, semantic and bert read them."
    yield "embed:"
    yield f"  # sentence encoder: {_comment(encoder.why)}"
    yield f"  model: {_yaml(encoder.folder)}"


def _language_model(inspection: Inspection, encoder: FoundEncoder | None) -> Iterator[str]:
    """Yield what lets a language model describe the tail, commented out: it needs models, and time."""
    texts = inspection.value(f"{_ITEMS}.columns.text") or []
    yield ""
    yield "# A language model can describe the items of the tail by the example of their neighbours (docs/engines.md)."
    yield "# Get its models with `lt-spark models fetch`, take the marks away, and keep under keyword_fields what says"
    yield "# what an item is (category, genre), and under input_fields the others that a prompt may show."
    for line in (
        *(() if encoder else ("embed:", "  model: models/all-minilm-l6-v2")),
        "language_model:",
        "  model: models/smollm2-135m-instruct",
        "describe:",
        "  enabled: true",
        f"  keyword_fields: {_yaml(list(texts))}",
        "  input_fields: []",
    ):
        yield f"# {line}"


def _file(head: Head) -> Iterator[str]:
    yield f"    path: {_yaml(head.path)}"
    yield f"    format: {head.format}"
    if head.format in ("csv", "jsonl"):
        yield from _explained("encoding", head.encoding, head.whys.get("encoding", ""))
    if head.format == "csv":
        for key in ("separator", "header", "quote"):
            yield from _explained(key, getattr(head, key), head.whys.get(key, ""))


def _columns(inspection: Inspection, part: str, keys: tuple[str, ...]) -> Iterator[str]:
    head = inspection.log if part == _LOG else inspection.catalogue
    assert head is not None  # noqa: S101  (asked for only where there is one)
    yield f"    # the file's columns: {_comment(', '.join(head.columns))}"
    yield "    columns:"
    guessed = {guess.key: guess for guess in inspection.guesses}
    missing = {key for key, _, _ in inspection.missing}
    for name in keys:
        key = f"{part}.columns.{name}"
        if key in missing:
            yield "      # could not be guessed: write one of the columns above"
            yield f"      {name}: {FILL_IN}"
        elif key in guessed:
            yield f"      # {_comment(guessed[key].why)}"
            yield f"      {name}: {_yaml(guessed[key].value)}"
        else:
            yield f"      # {_NOT_FOUND[name]}"
            yield f'      {name}: ""'


def _log_settings(inspection: Inspection) -> Iterator[str]:
    guessed = {guess.key: guess for guess in inspection.guesses}
    yield "    # ISO text, epoch seconds, milliseconds or microseconds by size; numbers below 10^8 are positions"
    yield "    time_format: auto"
    for name, hint in (
        ("event_weights", "confidence by kind of event, such as {view: 1, cart: 3, buy: 5}"),
        ("where", "keep only some rows, in SQL over the file's columns: \"country = 'AT'\""),
    ):
        if guess := guessed.get(f"{_LOG}.{name}"):
            yield f"    # {_comment(guess.why)}"
            yield f"    {name}: {_yaml(guess.value)}"
        else:
            yield f"    # {hint}"
            yield f"    # {name}:"
    if column := inspection.value(f"{_LOG}.columns.value"):
        numbers = [float(value) for value in inspection.log.values(column)]
        yield "    # Every row counts as interest, whatever its value. Where values are ratings, low ones may mean"
        yield "    # dislike: this keeps only the rows with at least this value."
        yield f"    # min_value: {0.8 * max(numbers):g}"


def _explained(key: str, value: Any, why: str) -> Iterator[str]:
    if why:
        yield f"    # {_comment(why)}"
    yield f"    {key}: {_yaml(value)}"


def _yaml(value: Any) -> str:
    """Return a value as JSON, which is YAML on one line; what does not print is escaped."""
    return json.dumps(value, ensure_ascii=not json.dumps(value, ensure_ascii=False).isprintable())


def _comment(text: str) -> str:
    """Return text for a comment: on one line, printable, bounded."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= 400 else line[:399] + "…"


def _folder_name(path: str) -> str:
    stem = Path(path.rstrip("/")).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_") or "tables"
