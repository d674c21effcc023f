"""Files that are no tables, in a folder that driver, executors and training processes all reach. No Spark."""

import errno
import functools
import json
import os
import shutil
import stat
import uuid
from pathlib import Path
from urllib.parse import quote, urlsplit

import pyarrow as pa
from pyarrow import fs

from lt_spark.core.errors import StorageError

MARKER = "_lt_spark_marker"
"""A folder is removed only where this file lies in it."""
_SCHEMES = {"s3": "s3", "s3a": "s3", "s3n": "s3", "gs": "gs", "gcs": "gs", "hdfs": "hdfs", "viewfs": "viewfs"}
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class Folder:
    """A folder named as Spark names it: local path, file:, dbfs:/, s3a://, gs:// or hdfs://.

    It keeps nothing but that name, so that it can be sent to another process. Names inside are single names: a file
    in a folder of this folder is ``folder.child("a").read("b")``.

    Attributes:
        uri: the folder's name, without a trailing slash.
    """

    def __init__(self, uri: str) -> None:
        """Bind a folder that may or may not be there yet.

        Raises:
            StorageError: where the scheme is none that pyarrow can open, or the path is not absolute.
        """
        self.uri = uri.rstrip("/")
        self.opened()

    def __repr__(self) -> str:
        """``Folder('s3a://bucket/files')``."""
        return f"Folder({self.uri!r})"

    def __eq__(self, other: object) -> bool:
        """Folders of one name are equal."""
        return isinstance(other, Folder) and other.uri == self.uri

    def __hash__(self) -> int:
        """Of the name."""
        return hash(self.uri)

    @property
    def filesystem(self) -> fs.FileSystem:
        """The folder as a pyarrow file system whose root it is."""
        files, path = self.opened()
        return fs.SubTreeFileSystem(path, files)

    def child(self, name: str) -> "Folder":
        """Return a folder inside this one.

        Raises:
            StorageError: where the name is not a single name.
        """
        return Folder(f"{self.uri}/{_single(name)}")

    def exists(self, name: str) -> bool:
        """Tell whether a file or folder of that name is there."""
        files, path = self.opened()
        return bool(files.get_file_info(f"{path}/{_single(name)}").type != fs.FileType.NotFound)

    def names(self) -> list[str]:
        """Return the names of files and folders directly inside, sorted; none where the folder is absent.

        Hidden ones (``.part.crc``, files not yet whole) are left out.
        """
        files, path = self.opened()
        inside = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return sorted(info.base_name for info in inside if not info.base_name.startswith("."))

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            StorageError: where there is no such file.
        """
        files, path = self.opened()
        try:
            with files.open_input_stream(f"{path}/{_single(name)}", compression=None) as stream:
                return bytes(stream.read())
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(
                f"no file {name} can be read in {self.uri}: expected one that lt_spark wrote, found: {error}. Run "
                "again the stage that writes it."
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole: whoever reads it sees the old bytes or the new ones, never a part.

        Raises:
            StorageError: where the disk is full or the folder cannot be written; what was there is as it was.
        """
        files, path = self.opened()
        target = f"{path}/{_single(name)}"
        unfinished = f"{path}/.{name}.{uuid.uuid4().hex}.unfinished"
        try:
            if isinstance(files, fs.LocalFileSystem):
                _write_local(unfinished, target, data)
            elif isinstance(files, fs.HadoopFileSystem):
                _write_hadoop(files, unfinished, target, data)
            else:  # an object appears when its last byte is there
                with files.open_output_stream(target, compression=None) as stream:
                    stream.write(data)
        except OSError as error:
            what = "the disk is full" if error.errno in _FULL_DISK else str(error)
            raise StorageError(
                f"{name} ({len(data)} bytes) cannot be written in {self.uri}: {what}. Nothing was overwritten. Free "
                "some space or set files.root to a folder that can be written, and run the same command again."
            ) from error

    def remove_file(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        files, path = self.opened()
        if self.exists(name):
            files.delete_file(f"{path}/{name}")

    def mark(self, created: float) -> None:
        """Make the folder one of lt_spark's own, that ``remove`` may remove.

        Args:
            created: seconds since 1970 (UTC).

        Raises:
            StorageError: where it holds something and bears no marker: it is somebody else's.
        """
        if not self.exists(MARKER) and self.names():
            raise StorageError(
                f"{self.uri} holds files of somebody else: expected an empty folder or one with {MARKER}, found "
                f"{self.names()[:3]}. Set files.root to a folder for lt_spark alone."
            )
        self.write(MARKER, json.dumps({"created": created}).encode())

    def marked_at(self) -> float | None:
        """Return when the folder was marked, in seconds since 1970 (UTC); None where it bears no readable marker."""
        if not self.exists(MARKER):
            return None
        try:
            return float(json.loads(self.read(MARKER))["created"])
        except (StorageError, ValueError, TypeError, KeyError):
            return None

    def remove(self) -> None:
        """Remove the folder and all in it; one that is not there is no error.

        Raises:
            StorageError: where it does not bear the marker, is a symbolic link, or cannot be removed.
        """
        files, path = self.opened()
        if files.get_file_info(path).type == fs.FileType.NotFound:
            return
        if not self.exists(MARKER) or (isinstance(files, fs.LocalFileSystem) and os.path.islink(path)):
            raise StorageError(
                f"{self.uri} is not removed: expected a folder with the file {MARKER}, which lt_spark's own folders "
                "bear; found none. Remove it by hand if it is not needed."
            )
        try:
            if isinstance(files, fs.LocalFileSystem):
                _remove_local(path)
            else:
                files.delete_dir(path)
        except OSError as error:
            raise StorageError(f"{self.uri} cannot be removed: {error}. Remove it by hand.") from error

    def opened(self) -> tuple[fs.FileSystem, str]:
        """Return pyarrow's file system and the folder's path in it.

        Raises:
            StorageError: where pyarrow has none for it.
        """
        return _open(self.uri)


@functools.lru_cache(maxsize=64)
def _open(uri: str) -> tuple[fs.FileSystem, str]:
    local = _local_path(uri)
    if local is not None:
        if not local.startswith("/"):
            raise StorageError(f"folder {uri!r} is not absolute: expected /..., file:/..., dbfs:/... or scheme://...")
        return fs.LocalFileSystem(), local
    parts = urlsplit(uri)
    # Spark takes a path's % as it stands and pyarrow decodes it
    path = quote(uri.split("://", 1)[-1].removeprefix(parts.netloc))
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise StorageError(
            f"no file system for {uri!r}: expected a local path, file:, dbfs:/, "
            f"{', '.join(f'{known}://' for known in sorted(_SCHEMES))}; found {parts.scheme}:. Mount it and name the "
            "mounted path, or set files.root to a folder in one of these."
        )
    try:
        files, root = fs.FileSystem.from_uri(f"{scheme}://{parts.netloc}{path}")
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StorageError(f"{uri} cannot be opened: {error}. Set files.root to a folder that can.") from error
    return files, root


def _local_path(uri: str) -> str | None:
    """Return the path of a folder that the operating system reaches; None of one that it does not."""
    if uri.startswith("dbfs:/"):
        path = "/" + uri.removeprefix("dbfs:").lstrip("/")
        return path if path.startswith("/Volumes/") else f"/dbfs{path}"
    if uri.startswith("file:"):
        return "/" + uri.removeprefix("file:").lstrip("/")
    if "://" in uri or urlsplit(uri).scheme:
        return None if not uri.startswith(("/", ".")) else uri
    return uri


def _single(name: str) -> str:
    if not name or "/" in name or name in (".", "..") or "\0" in name:
        raise StorageError(f"{name!r} is no name of a file: expected one without '/', and neither '.' nor '..'.")
    return name


def _write_local(unfinished: str, target: str, data: bytes) -> None:
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(unfinished, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _write_hadoop(files: fs.FileSystem, unfinished: str, target: str, data: bytes) -> None:
    files.create_dir(target.rsplit("/", 1)[0], recursive=True)
    with files.open_output_stream(unfinished, compression=None) as stream:
        stream.write(data)
    if files.get_file_info(target).type != fs.FileType.NotFound:
        files.delete_file(target)  # Hadoop's rename does not replace
    files.move(unfinished, target)


def _remove_local(path: str) -> None:
    """Remove a folder, its marker last: what a kill leaves behind can still be removed."""
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name == MARKER):
        if stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(path)
