"""Ends the demo's processes if the demo itself was killed. It is run as a file, with only the standard library.

Its standard input is a pipe from the demo, which writes `+PID` for a process group that it started and `-PID` for one
that ended. The end of the pipe shows that the demo is gone, whatever killed it. It works on any system with process
groups.
"""

from __future__ import annotations

import os
import signal
import sys
import time

GRACE_SECONDS = 3.0


def main() -> None:
    # The demo handles Ctrl-C and hang-ups; this process must outlive it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        (groups.add if line[0] == "+" else groups.discard)(group)
    _end(groups)


def _end(groups: set[int]) -> None:
    gives_up_at = time.monotonic() + GRACE_SECONDS
    alive = {group for group in groups if _signal(group, signal.SIGTERM)}
    while alive and time.monotonic() < gives_up_at:
        time.sleep(0.05)
        alive = {group for group in alive if _signal(group, 0)}
    for group in alive:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
