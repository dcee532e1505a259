"""Where a demo keeps its state, and which ports it takes. Several demos at the same time share neither.

What is claimed here is held by locks on open files: they end with the process, however it ends.
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
# What a demo writes, so that `clear()` never deletes what somebody else put into the folder.
_CONTENTS = ("shop.sqlite3*", "secret_key", "broker", "celerybeat-schedule*", "log.txt")


class HomeInUseError(Exception):
    """Another demo uses the folder that was asked for."""


class Home:
    """A folder that this process alone uses while it lives, and this user alone may look into."""

    def __init__(self, folder: Path, lock: IO[str]) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def claim(cls, folder: Path, *, or_next: bool) -> Home:
        """Claim `folder`, made where it is missing; where another demo has it, with `or_next`, `folder-2` and so on.

        Raises `HomeInUseError` without `or_next`.
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
        """Delete what earlier demos left here."""
        for path in [path for pattern in _CONTENTS for path in self.folder.glob(pattern)]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class Port:
    """A port of this machine that nobody listens on, claimed against other demos of this user."""

    def __init__(self, number: int, lock: IO[str]) -> None:
        self.number = number
        self._lock = lock

    @classmethod
    def claim(cls, wanted: int) -> Port:
        """Claim `wanted`, or the next one above it that is free."""
        for number in range(wanted, 65_536):
            # Between this look and the listening of a process started later, another demo would see it free too.
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
        # As the servers do: a port whose last connections are still winding down is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
