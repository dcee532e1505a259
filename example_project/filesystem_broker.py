"""Celery's filesystem broker, corrected: for a bare machine without Redis, as this example's default.

kombu's own `filesystem://` shows a message's file before it is written, moves it across file systems to read it, and
rewrites its table of queues in place, so that another process reads half a file and the worker dies. Here every file
is written aside and renamed, and a reader claims a message by renaming it. A reader that is killed between its claim
and its end takes one message along: django-kpwa's beat makes that good, other tasks may want Redis.

    CELERY_BROKER_URL = "filesystem-atomic://localhost"
    CELERY_BROKER_TRANSPORT_OPTIONS = filesystem_broker.transport_options(folder)
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport.filesystem import LOCK_EX, exchange_queue_t, lock, unlock
from kombu.transport.filesystem import Channel as FilesystemChannel
from kombu.transport.filesystem import Transport as FilesystemTransport
from kombu.utils.json import dumps, loads

SCHEME = "filesystem-atomic"


def register() -> None:
    """Let Celery find the transport by `filesystem-atomic://`; before the first connection is made."""
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"


def transport_options(folder: Path) -> dict[str, Any]:
    """Make the folders below `folder`, and return what `CELERY_BROKER_TRANSPORT_OPTIONS` says about them."""
    messages, control = folder / "messages", folder / "control"
    messages.mkdir(parents=True, exist_ok=True)
    control.mkdir(exist_ok=True)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        # kombu's own 1 s would be most of the time between a sale and its receipt.
        "polling_interval": 0.1,
    }


class Channel(FilesystemChannel):
    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        _write(Path(self.data_folder_out, name), dumps(payload))

    def _get(self, queue: str) -> Any:
        # Not Path.iterdir(): an object for each of some thousand waiting messages, at every one that is taken.
        names = os.listdir(self.data_folder_in)  # noqa: PTH208
        for name in sorted(name for name in names if name.partition(".")[2] == f"{queue}.msg"):
            claimed = _aside(Path(self.data_folder_in, name))
            try:
                Path(self.data_folder_in, name).rename(claimed)
            except FileNotFoundError:
                continue  # another worker was faster
            content = claimed.read_text()
            claimed.unlink()
            return loads(content)
        raise Empty

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        row = exchange_queue_t(routing_key or "", pattern or "", queue or "")
        # Every publish binds its queue again: only a change takes the lock.
        if row not in self.get_table(exchange):
            self._change_table(exchange, lambda table: [row, *(known for known in table if known != row)])

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **kwargs: Any) -> None:
        virtual.Channel._delete(self, queue, exchange, routing_key, pattern, *args, **kwargs)
        row = exchange_queue_t(routing_key or "", pattern or "", queue or "")
        self._change_table(exchange, lambda table: [known for known in table if known != row])

    def _change_table(self, exchange: str, change: Callable[[list[Any]], list[Any]]) -> None:
        with self._locked():
            table = self.get_table(exchange)
            changed = change(table)
            if changed != table:
                _write(self._exchange_file(exchange), dumps(changed))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # A lock file of its own: the table's is replaced at every change, and a lock with it.
        with Path(self.control_folder, ".lock").open("w") as file:
            lock(file, LOCK_EX)
            try:
                yield
            finally:
                unlock(file)


class Transport(FilesystemTransport):
    Channel = Channel
    global_state = virtual.BrokerState()


def _write(path: Path, content: str) -> None:
    aside = _aside(path)
    aside.write_text(content)
    aside.replace(path)


def _aside(path: Path) -> Path:
    """A name in the same folder, so that a rename is atomic, which no queue's messages have."""
    return path.with_name(f".{uuid.uuid4().hex}")
