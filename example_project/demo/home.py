"""The folder of a demo's state, and the ports that it uses. Demos that run at the same time share neither.

They are claimed by locks on open files, which end with the process, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from itertools import count
from pathlib import Path
from typing import IO

HOST = "127.0.0.1"
# The files that a demo writes, so that `clear()` never deletes other files in the folder.
_CONTENTS = ("shop.sqlite3*", "secret_key", "broker", "celerybeat-schedule*", "log.txt")


class HomeInUseError(Exception):
    """Another demo uses the given folder."""


class Home:
    """A folder that only this process uses while it runs, and that only this user can read."""

    def __init__(self, folder: Path, lock: IO[str]) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def claim(cls, folder: Path, *, or_next: bool) -> Home:
        """Claim `folder`, and create it if it is missing. `or_next`: if another demo uses it, try `folder-2` and so on.

        Raises `HomeInUseError` if another demo uses it and `or_next` is False.
        """
        for number in count(1):
            candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
            candidate.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _locked(candidate / "lock")
            if lock is not None:
                return cls(candidate, lock)
            if not or_next:
                break
        raise HomeInUseError(f"Another demo runs in {folder}. Stop it, or choose another folder with --home.")

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def clear(self) -> None:
        """Delete the files that earlier demos left in the folder."""
        for path in [path for pattern in _CONTENTS for path in self.folder.glob(pattern)]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class Port:
    """A free port of this machine, claimed so that no other demo of this user takes it."""

    def __init__(self, number: int, lock: IO[str]) -> None:
        self.number = number
        self._lock = lock

    @classmethod
    def claim(cls, wanted: int) -> Port:
        """Claim `wanted`, or the next one above it that is free."""
        for number in range(wanted, 65_536):
            # The lock is needed because the port looks free to other demos until a process started later listens on it.
            lock = _locked(Path(tempfile.gettempdir()) / f"kpwa-demo-{os.getuid()}-port-{number}.lock")
            if lock is None:
                continue
            if _is_free(number):
                return cls(number, lock)
            lock.close()
        raise OSError(f"No port from {wanted} up is free.")


def _locked(path: Path) -> IO[str] | None:
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, so that a port with closing connections (TIME_WAIT) counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
