"""Python imports this where its folder is on PYTHONPATH: no connection leaves this host, and who tries is noted.

ONLY_HERE names a folder: a file a process that obeys, with a line an address that it was refused.
"""

import os
import socket
import sys
from pathlib import Path
from typing import Any

_NOTES = Path(os.environ["ONLY_HERE"])


def _note(text: str) -> None:
    with (_NOTES / str(os.getpid())).open("a") as file:
        file.write(text)


def _guard(name: str) -> None:
    plain = getattr(socket.socket, name)

    def guarded(self: socket.socket, address: Any, *rest: Any) -> Any:
        here = self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "localhost")
        if not here:
            _note(f"refused {name} {address}\n")
            raise PermissionError(f"{name} to {address}: only 127.0.0.1 may be reached")
        return plain(self, address, *rest)

    setattr(socket.socket, name, guarded)


def _guard_names() -> None:
    plain = socket.getaddrinfo

    def guarded(host: Any, *rest: Any, **options: Any) -> Any:
        if host not in (None, "127.0.0.1", "localhost", "0.0.0.0"):
            _note(f"refused name {host}\n")
            raise PermissionError(f"the name {host}: only this host may be asked for")
        return plain(host, *rest, **options)

    socket.getaddrinfo = guarded


for _name in ("connect", "connect_ex"):
    _guard(_name)
_guard_names()
_note(" ".join(sys.orig_argv) + "\n")
