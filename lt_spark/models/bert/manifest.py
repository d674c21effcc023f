"""What an export holds, as its manifest says. No Spark: training processes read it too."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from lt_spark.core.errors import StorageError
from lt_spark.core.files import Folder

MANIFEST = "manifest.json"
PAD = -1
"""Item of a place before a history begins."""
COLUMNS = {"user_idx": "int", "window": "int", "items": "array<int>", "orders": "array<int>", "weights": "array<float>"}
"""The columns of a shard and their Spark types."""
SCHEMA_HASH = hashlib.sha256(json.dumps(["bert-export-1", *COLUMNS.items()]).encode()).hexdigest()


@dataclass(frozen=True)
class Shard:
    """A file of an export.

    Attributes:
        name: its path from the export's folder; empty where the shard has no rows.
        n_rows: rows in its Parquet footer.
    """

    name: str
    n_rows: int


@dataclass(frozen=True)
class Manifest:
    """What an export holds.

    Attributes:
        table: the table that the rows were made of.
        version: its Delta version.
        fold: valid, test or live.
        length: inputs, and targets, of a row; its arrays are ``length + 1`` long.
        n_items: items are numbered 0 to ``n_items - 1``.
        n_rows: rows of all shards.
        n_events: targets of all shards: events that are not the first of their row.
        schema_hash: SHA-256 of the columns and their types.
        shards: a shard a file, in the order of their numbers.
    """

    table: str
    version: int
    fold: str
    length: int
    n_items: int
    n_rows: int
    n_events: int
    schema_hash: str
    shards: tuple[Shard, ...]

    def to_json(self) -> str:
        """Return the manifest as text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: where it is cut off, or is no manifest.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            shards = tuple(Shard(str(shard["name"]), int(shard["n_rows"])) for shard in fields["shards"])
            manifest = cls(**{**fields, "shards": shards})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not the fields of a manifest ({error})") from error
        if sum(shard.n_rows for shard in shards) != manifest.n_rows:
            raise ValueError(f"{manifest.n_rows} rows in all, and other numbers of its shards")
        return manifest


def read_manifest(folder: Folder) -> Manifest:
    """Read an export's manifest, which is written last.

    Raises:
        StorageError: where it is not there, cut off, or of other columns than this version reads.
    """
    if not folder.exists(MANIFEST):
        raise StorageError(
            f"{folder.uri} holds no whole export: expected {MANIFEST}, which is written last, found "
            f"{folder.names()[:5]}. Export again."
        )
    try:
        manifest = Manifest.from_json(folder.read(MANIFEST).decode())
    except ValueError as error:
        raise StorageError(
            f"{MANIFEST} in {folder.uri} is no whole manifest: expected what this version writes, found {error}. "
            "Export again."
        ) from error
    if manifest.schema_hash != SCHEMA_HASH:
        raise StorageError(
            f"the export in {folder.uri} has other columns than this version reads: expected schema "
            f"{SCHEMA_HASH[:12]}, found {str(manifest.schema_hash)[:12]}. Export again."
        )
    return manifest
