"""A common log of all processes: every line goes to a file, important ones to the terminal, with the process's name."""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import IO

NAME_WIDTH = 6
_KEPT_LINES = 200
_COLOURS = {"phone": 32, "site": 36, "worker": 33, "beat": 35, "demo": 1}
# The prefix of a process's log lines, which is removed because the terminal shows time and name in its own format.
_PREFIX = re.compile(r"^\[[^\]]*\d\d:\d\d:\d\d[^\]]*\] ?")
# Routine lines that come every few seconds, and the banners of development servers.
_ROUTINE = re.compile(
    r"Scheduler: Sending due task|Task django_kpwa\.\S+ received$"
    r"|Task django_kpwa\.(dispatch_due|process_due_webhooks|roll_up_statistics|purge)\["
    r'|"GET \S+ HTTP/1\.1" (200|304) |"(GET|POST) \S*/webhooks/\S* HTTP/1\.1" 200 '
    r"|Performing system checks|System check identified no issues|Starting .*development server at|Quit the server with"
    r"|^Django version|^\w+ \d\d, \d{4} - \d\d:\d\d:\d\d$"
    r"|Discarding revoked task|^\s*$"
    r"|superuser privileges|absolutely not recommended|specify a different user|User information|_warn_or_raise"
)
# A web server's request lines contain the webhook's path, which is a secret.
_TOKEN = re.compile(r"(/webhooks/)[^/\s]+")
_TASK_DONE = re.compile(r"Task django_kpwa\.(\w+)\[[0-9a-f-]+\] succeeded in ([\d.]+)s: None")


class Log:
    """Written to by one thread per process. `is_shown`: True if the processes' lines are also shown on the terminal."""

    def __init__(self, path: Path, *, is_shown: bool) -> None:
        self.is_shown = is_shown
        self._lock = threading.Lock()
        self._has_colours = sys.stdout.isatty()
        self._kept: dict[str, deque[str]] = {}
        self._file: IO[str] = path.open("w", encoding="utf-8", buffering=1)

    def write(self, name: str, line: str) -> None:
        """Log a line of the process `name`."""
        line = _TOKEN.sub(r"\1…", line.rstrip())
        with self._lock:
            self._file.write(f"{name:<{NAME_WIDTH}} {line}\n")
            self._kept.setdefault(name, deque(maxlen=_KEPT_LINES)).append(line)
            if self.is_shown and not _ROUTINE.search(line):
                self._print(name, _TASK_DONE.sub(_shortened, _PREFIX.sub("", line)))

    def note(self, line: str) -> None:
        """Log a line of the demo itself, which is always shown."""
        with self._lock:
            self._file.write(f"{'demo':<{NAME_WIDTH}} {line}\n")
            self._print("demo", line)

    def last_lines(self, name: str, count: int) -> list[str]:
        with self._lock:
            return list(self._kept.get(name, ()))[-count:]

    def close(self) -> None:
        with self._lock:
            self.is_shown = False
            self._file.close()

    def _print(self, name: str, line: str) -> None:
        label = f"{name:<{NAME_WIDTH}}"
        if self._has_colours:
            label = f"\x1b[{_COLOURS.get(name, 0)}m{label}\x1b[0m"
        try:
            print(f"{datetime.now():%H:%M:%S} {label} │ {line}", flush=True)
        except (BrokenPipeError, UnicodeEncodeError):
            # The terminal was closed, or cannot show a character; the line is in the file.
            pass


def _shortened(task_done: re.Match[str]) -> str:
    return f"{task_done[1]} done in {float(task_done[2]) * 1000:.0f} ms"
