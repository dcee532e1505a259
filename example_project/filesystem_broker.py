"""A corrected filesystem broker for Celery, the default of this example: it needs no server such as Redis.

kombu's own `filesystem://` shows a message's file before it is completely written, moves it across file systems to read
it, and rewrites its table of queues in place, so that another process may read half a file, and its worker dies. Here
every file is written under a temporary name and then renamed, and a reader claims a message by renaming it. If a reader
is killed after it has claimed a message, that message is lost: django-kpwa's beat recovers from that, but other tasks
may need Redis.

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
    """Register the transport as `filesystem-atomic://`. Call it before the first connection is made."""
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"


def transport_options(folder: Path) -> dict[str, Any]:
    """Create the broker's folders in `folder`, and return the value for `CELERY_BROKER_TRANSPORT_OPTIONS`."""
    messages, control = folder / "messages", folder / "control"
    messages.mkdir(parents=True, exist_ok=True)
    control.mkdir(exist_ok=True)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        # kombu's default of 1 s would be most of the time between a sale and its receipt.
        "polling_interval": 0.1,
    }


class Channel(FilesystemChannel):
    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        _write(Path(self.data_folder_out, name), dumps(payload))

    def _get(self, queue: str) -> Any:
        # Not Path.iterdir(), which would create an object for each of maybe thousands of waiting messages per call.
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
        # Every publish binds its queue again, so the lock is taken only for a change.
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
        # A separate lock file, because each change replaces the table's file, and with it a lock on that file.
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
    """A temporary name in the same folder, so that a rename is atomic. It is never the name of a queue's message."""
    return path.with_name(f".{uuid.uuid4().hex}")
