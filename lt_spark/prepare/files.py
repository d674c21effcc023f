"""Which files a source path means: a file, a folder of parts or a glob; local or on Hadoop's file systems."""

import os
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from pyspark.sql import SparkSession

from lt_spark.core.errors import SourceError, nearest


@dataclass(frozen=True)
class SourcePart:
    """A file of a source.

    Attributes:
        path: local path or URI.
        name: what reports call it: its file name, or its path within the source's folder.
        size: bytes.
        modified: time of its last change; nanoseconds or milliseconds since 1970.
        is_local: whether Python opens it by its path.
    """

    path: str
    name: str
    size: int
    modified: int
    is_local: bool


def without_scheme(path: str) -> str:
    """Return a path without a leading ``file:``."""
    for prefix in ("file://", "file:"):
        if path.startswith(prefix):
            return path.removeprefix(prefix)
    return path


def _has_other_scheme(path: str) -> bool:
    scheme, colon, _ = path.partition(":")
    return bool(colon) and scheme != "file" and scheme.isalnum() and len(scheme) > 1 and path.startswith(f"{scheme}:/")


def _not_found(path: str, kind: str) -> SourceError:
    local = Path(without_scheme(path))
    siblings = []
    if local.parent.is_dir() and not has_magic(str(local)):
        siblings = sorted(entry.name for entry in local.parent.iterdir())
    return SourceError(
        f"source.{kind}.path '{path}': not found: expected a file, folder, glob, Delta folder or table name."
        f"{nearest(local.name, siblings)} Correct the path (relative ones start at {os.getcwd()})."
    )


def _files_under(folder: str) -> list[str]:
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        found += [os.path.join(here, name) for name in sorted(names) if name[0] not in "._"]
    return found


def _local_parts(path: str) -> list[SourcePart]:
    """Return the files of a local path in the order of their names; hidden ones (``.``, ``_``) are left out."""
    matches = [path] if os.path.exists(path) else sorted(glob(path)) if has_magic(path) else []
    base = path if os.path.isdir(path) else os.path.dirname(path.split("*")[0].split("?")[0].split("[")[0])
    files = [file for match in matches for file in (_files_under(match) if os.path.isdir(match) else [match])]
    parts = []
    for file in files:
        facts = os.stat(file)
        name = os.path.relpath(file, base or ".")
        parts.append(SourcePart(os.path.abspath(file), name, facts.st_size, facts.st_mtime_ns, True))
    return sorted(parts, key=lambda part: part.name)


def list_parts(spark: SparkSession, path: str, kind: str) -> list[SourcePart]:
    """Return the files that a source path means, by name.

    Local files are listed without Spark; others by Spark's ``binaryFile`` reader, which then reads no content.

    Args:
        spark: lists what is not local.
        path: file, folder or glob.
        kind: ``interactions`` or ``items``, for messages.

    Raises:
        SourceError: nothing is there, or it may not be read.
    """
    try:
        parts = [] if _has_other_scheme(path) else _local_parts(without_scheme(path))
    except PermissionError as error:
        raise SourceError(
            f"source.{kind}.path '{path}': no permission to read {error.filename}. Give the user of the run the right."
        ) from None
    if parts or path.startswith("file:") or (not _has_other_scheme(path) and os.path.exists(without_scheme(path))):
        if not parts:
            raise SourceError(f"source.{kind}.path '{path}': an empty folder: expected files, found none.")
        return parts
    try:
        reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
        # a row a file, as many as Spark's own listing of the folder holds on the driver
        rows = reader.load(path).select("path", "length", "modificationTime").collect()
    except Exception as error:  # Java's and Spark's exceptions share no type
        if "PATH_NOT_FOUND" in str(error) or "does not exist" in str(error):
            raise _not_found(path, kind) from None
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise SourceError(
            f"source.{kind}.path '{path}': cannot be listed ({reason}). Check path and rights."
        ) from error
    if not rows:
        raise _not_found(path, kind)
    found = [
        SourcePart(
            row["path"],
            row["path"].rsplit("/", 1)[-1],
            row["length"],
            int(row["modificationTime"].timestamp() * 1e3),
            False,
        )
        for row in rows
    ]
    return sorted(found, key=lambda part: part.path)
