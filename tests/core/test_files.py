"""Folders of files: whole or not there, and never removed without the marker."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from lt_spark.core import files as module
from lt_spark.core.errors import StorageError
from lt_spark.core.files import MARKER, Folder


def test_write_and_read(tmp_path: Path) -> None:
    folder = Folder(f"{tmp_path}/a b%20c#d/")
    assert folder.names() == []
    assert not folder.exists("x.bin")
    folder.child("in").write("x.bin", b"\0\1")
    folder.write("x.bin", b"old")
    folder.write("x.bin", b"new")
    assert folder.read("x.bin") == b"new"
    assert folder.child("in").read("x.bin") == b"\0\1"
    assert folder.names() == ["in", "x.bin"]
    assert folder.exists("in")
    assert folder.uri == f"{tmp_path}/a b%20c#d"
    assert sorted(os.listdir(tmp_path / "a b%20c#d")) == ["in", "x.bin"]  # nothing unfinished stays
    folder.remove_file("x.bin")
    folder.remove_file("x.bin")
    assert folder.names() == ["in"]


def test_the_bytes_are_not_decompressed(tmp_path: Path) -> None:
    Folder(str(tmp_path)).write("x.gz", b"not gzip")
    assert Folder(str(tmp_path)).read("x.gz") == b"not gzip"


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / ".part.crc").write_bytes(b"")
    assert Folder(str(tmp_path)).names() == []


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"no file gone can be read in {tmp_path}.*Run again the stage"):
        Folder(str(tmp_path)).read("gone")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    folder = Folder(str(tmp_path))
    folder.write("x", b"old")

    def full(_: int) -> None:
        raise OSError(code, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"x \(3 bytes\) cannot be written in .*the disk is full"):
        folder.write("x", b"new")
    assert folder.read("x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        Folder(f"{tmp_path}/x").write("y", b"")


def test_a_reader_never_sees_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(str(tmp_path))
    folder.write("x", b"old")
    seen = []
    sync = os.fsync

    def look(number: int) -> None:
        seen.append(folder.read("x"))
        sync(number)

    monkeypatch.setattr(os, "fsync", look)
    with open(tmp_path / "x", "rb") as reader:
        folder.write("x", b"new")
        assert reader.read() == b"old"
    assert seen == [b"old"]
    assert folder.read("x") == b"new"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b"])
def test_names_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    folder = Folder(str(tmp_path))
    for act in (folder.child, folder.read, folder.exists, folder.remove_file, lambda name: folder.write(name, b"")):
        with pytest.raises(StorageError, match="is no name of a file"):
            act(name)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("/a b/c%20d", "/a b/c%20d"),
        ("file:/a/b", "/a/b"),
        ("file:///a/b#c", "/a/b#c"),
        ("dbfs:/a/b", "/dbfs/a/b"),
        ("dbfs:/Volumes/c/s/v", "/Volumes/c/s/v"),
    ],
)
def test_local_names(uri: str, path: str) -> None:
    assert module._open(uri) == (fs.LocalFileSystem(), path)


@pytest.mark.parametrize(
    ("uri", "opened"),
    [
        ("s3a://bucket/a b/c%20d#e", "s3://bucket/a%20b/c%2520d%23e"),
        ("s3://bucket", "s3://bucket"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("hdfs://host:8020/x", "hdfs://host:8020/x"),
        ("hdfs:///x", "hdfs:///x"),
    ],
)
def test_names_of_stores(monkeypatch: pytest.MonkeyPatch, uri: str, opened: str) -> None:
    asked = []

    class Store:
        @staticmethod
        def from_uri(uri: str) -> Any:
            asked.append(uri)
            return "store", "path"

    monkeypatch.setattr(module.fs, "FileSystem", Store)
    assert module._open.__wrapped__(uri) == ("store", "path")
    assert asked == [opened]


@pytest.mark.parametrize("uri", ["abfss://c@a.dfs.core.windows.net/x", "wasbs://x/y", "http://x/y"])
def test_unknown_stores_are_named(uri: str) -> None:
    with pytest.raises(StorageError, match=r"no file system for .*found (abfss|wasbs|http):\. Mount it"):
        Folder(uri)


def test_relative_folder_is_refused() -> None:
    with pytest.raises(StorageError, match=r"folder 'a/b' is not absolute"):
        Folder("a/b")


def test_it_can_be_sent_to_another_process(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("x", b"1")
    sent = pickle.dumps(folder)
    assert len(sent) < 200 + len(str(tmp_path))
    code = "import pickle, sys; print(pickle.loads(bytes.fromhex(sys.argv[1])).names(), 'pyspark' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, sent.hex()], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['x'] False"
    assert pickle.loads(sent) == folder


def test_its_file_system_starts_at_it(tmp_path: Path) -> None:
    Folder(str(tmp_path)).child("a").write("x", b"1")
    with Folder(str(tmp_path)).filesystem.open_input_file("a/x") as file:
        assert file.read() == b"1"


def test_only_marked_folders_are_removed(tmp_path: Path) -> None:
    folder = Folder(f"{tmp_path}/ours")
    folder.remove()  # nothing there
    folder.mark(12.5)
    folder.child("in").write("x", b"1")
    assert folder.marked_at() == 12.5
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/x").write_bytes(b"1")
    theirs = Folder(f"{tmp_path}/theirs")
    assert theirs.marked_at() is None
    for act in (theirs.remove, Folder(f"{tmp_path}/ours/in").remove):
        with pytest.raises(StorageError, match=f"is not removed: expected a folder with the file {MARKER}"):
            act()
    with pytest.raises(StorageError, match=r"holds files of somebody else.*found \['x'\]"):
        theirs.mark(1.0)
    folder.remove()
    assert os.listdir(tmp_path) == ["theirs"]
    assert os.listdir(tmp_path / "theirs") == ["x"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/x").write_bytes(b"1")
    folder = Folder(f"{tmp_path}/ours")
    folder.mark(1.0)
    (tmp_path / "ours/link").symlink_to(tmp_path / "precious")
    (tmp_path / "other").symlink_to(tmp_path / "ours")
    with pytest.raises(StorageError, match="is not removed"):
        Folder(f"{tmp_path}/other").remove()
    folder.remove()
    assert (tmp_path / "precious/x").exists()


def test_a_removal_that_was_cut_off_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(f"{tmp_path}/ours")
    folder.mark(1.0)
    for name in ("a", "z"):
        folder.write(name, b"1")
    unlink, gone = os.unlink, []

    def killed(path: str) -> None:
        if gone:
            raise OSError("killed")
        unlink(path)
        gone.append(path)

    monkeypatch.setattr(os, "unlink", killed)
    with pytest.raises(StorageError, match="cannot be removed: killed"):
        folder.remove()
    monkeypatch.undo()
    folder.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"created": "x"}', "null"])
def test_an_unreadable_marker_has_no_time(tmp_path: Path, text: str) -> None:
    Folder(str(tmp_path)).write(MARKER, text.encode())
    assert Folder(str(tmp_path)).marked_at() is None


def test_a_store_without_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of object stores and of Hadoop, on a local folder behind another file system."""
    behind = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(Folder, "opened", lambda self: (behind, "in"))
    (tmp_path / "in").mkdir()
    folder = Folder("s3://bucket/in")
    folder.write("x", b"old")
    folder.write("x", b"new")
    assert folder.read("x") == b"new"
    monkeypatch.setattr(module.fs, "HadoopFileSystem", fs.SubTreeFileSystem)
    folder.write("x", b"newer")
    folder.write("y", b"1")
    assert folder.read("x") == b"newer"
    assert sorted(os.listdir(tmp_path / "in")) == ["x", "y"]
    with pytest.raises(StorageError, match="is not removed"):
        folder.remove()
    folder.write(MARKER, b'{"created": 1}')
    folder.remove()
    assert os.listdir(tmp_path) == []
