"""Keys, code versions and the owner of a lock, without Spark."""

import os
import socket
import subprocess
import sys

from lt_spark.core import runs


def test_a_key_depends_on_content_and_not_on_order() -> None:
    assert runs.stage_key({"a": 1, "b": 2}) == runs.stage_key({"b": 2, "a": 1})
    assert runs.stage_key({"a": 1}) != runs.stage_key({"a": 2})


def test_run_ids_differ() -> None:
    assert runs.new_run_id() != runs.new_run_id()


def test_an_owner_is_gone_when_its_process_is() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host = socket.gethostname()
    assert runs._is_gone(f"{host}:{child.pid}")
    assert not runs._is_gone(f"{host}:{os.getpid()}")
    assert not runs._is_gone(f"another-host:{child.pid}")
