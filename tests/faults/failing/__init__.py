"""An app that makes a process of the test site fail as `KPWA_TEST_FAILPOINTS` says, and records signals.

The plan is JSON:

- `{failpoint: {"do": action, "at": 3}}` acts the third time that any process gets there.
- `{failpoint: {"do": [actions], "rate": 0.05, "seed": 7}}` acts one time in twenty.

The counts are kept in `KPWA_TEST_FOLDER`, so that a restarted process continues counting, and does not fail at the same
place forever.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from django.apps import AppConfig

FOLDER = "KPWA_TEST_FOLDER"
FAILPOINTS = "KPWA_TEST_FAILPOINTS"
HEARS = "KPWA_TEST_HEARS"
CARELESS = "KPWA_TEST_CARELESS"

MID_POST, BEFORE_ANSWER = "mid_post", "before_answer"
"""Failpoints of the transport: half of the request has left; or all of it has, and nothing of an answer was read."""


class FailingConfig(AppConfig):
    name = "tests.faults.failing"
    label = "failing"

    def ready(self) -> None:
        from django_kpwa.dispatch import render
        from django_kpwa.store.engine import Store

        # Wait of a receipt whose worker was killed while rendering it. The default of a minute is too long for a test.
        Store.RENDER_STEP_BACK_SECONDS = 5.0
        render._WAITS_SECONDS = (5.0, 5.0)
        folder = Path(os.environ.get(FOLDER, ""))
        for name, plan in json.loads(os.environ.get(FAILPOINTS, "{}")).items():
            _install(name, _Failpoint(folder, name, plan))
        if os.environ.get("KPWA_TEST_IMPORTS"):
            import_module(os.environ["KPWA_TEST_IMPORTS"])
        if os.environ.get(HEARS):
            _listen(folder / "heard")
        if os.environ.get(CARELESS):
            from .careless import make_careless

            make_careless(json.loads(os.environ[CARELESS]))


class _Failpoint:
    def __init__(self, folder: Path, name: str, plan: dict) -> None:
        self._folder, self._name, self._plan = folder, name, plan

    def __call__(self) -> None:
        count = self._count()
        action = self._chosen(count)
        if action is None:
            return
        # Before the action: whoever waits for the file may see it a moment early, but never misses it.
        note = self._folder / f"{self._name}.{count}"
        note.with_suffix(".new").write_text(f"{action} {os.getpid()}")
        note.with_suffix(".new").rename(note.with_name(f"reached-{note.name}"))
        ACTIONS[action]()

    def _count(self) -> int:
        """How often any process got here: each appends one byte, and the end position is its number."""
        file = os.open(self._folder / f"count-{self._name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, b".")
            return os.lseek(file, 0, os.SEEK_CUR)
        finally:
            os.close(file)

    def _chosen(self, count: int) -> str | None:
        if "rate" not in self._plan:
            return self._plan["do"] if count == self._plan.get("at", 1) else None
        draw = random.Random(f"{self._plan['seed']}:{self._name}:{count}")
        return draw.choice(self._plan["do"]) if draw.random() < self._plan["rate"] else None


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_all() -> None:
    """Kill the worker with all its children."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _disconnect() -> None:
    """Have the server end this process's connection to the database; the process does not notice yet."""
    from django.db import connections

    from django_kpwa.models import write_alias

    connection = connections[write_alias()]
    connection.ensure_connection()
    other = connection.copy()
    with other.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        elif connection.vendor == "mysql":
            cursor.execute("KILL %s", [connection.connection.thread_id()])
    other.close()
    if connection.vendor == "sqlite":
        connection.connection.close()


def _run_out_of_time() -> None:
    from celery.exceptions import SoftTimeLimitExceeded

    raise SoftTimeLimitExceeded


def _fail() -> None:
    """Fail with a secret and a number among the variables of its frame, as site code may have."""
    from django_kpwa.models import License, OutboundMessage

    key = License.objects.get().get_api_key().reveal()
    recipient = OutboundMessage.objects.values_list("recipient", flat=True).first()
    raise RuntimeError(f"Something of the site's failed for +{recipient}." if key else "")


ACTIONS: dict[str, Callable[[], None]] = {
    "kill": _kill,
    "kill_all": _kill_all,
    "stop": _stop,
    "disconnect": _disconnect,
    "run_out_of_time": _run_out_of_time,
    "fail": _fail,
}


def _install(name: str, failpoint: Callable[[], None]) -> None:
    from django_kpwa.dispatch import failpoints

    if name in (MID_POST, BEFORE_ANSWER):
        _install_in_transport(name, failpoint)
        return
    assert hasattr(failpoints, name), f"There is no failpoint {name!r}."
    setattr(failpoints, name, failpoint)


def _install_in_transport(name: str, failpoint: Callable[[], None]) -> None:
    """http.client passes on the head of a request first, then its body."""
    from django_kpwa.gateway.transport import _BoundedSocket

    original = _BoundedSocket.sendall

    def sendall(self: _BoundedSocket, content: bytes) -> None:
        original(self, content)
        is_head = bytes(content[:4]) in (b"POST", b"GET ")
        if is_head:
            self.is_send = b"/openapi/wa/message" in bytes(content[:200])
        if getattr(self, "is_send", False) and is_head == (name == MID_POST):
            failpoint()

    _BoundedSocket.sendall = sendall


def _listen(file: Path) -> None:
    """Record every signal of the package: one line of JSON, with its name and its subject."""
    from django.dispatch import Signal

    from django_kpwa import signals

    def listener(name: str) -> Callable[..., None]:
        def listen(sender: object, **about: object) -> None:
            row = about.get("message") or about.get("event") or about.get("license")
            line = json.dumps({"signal": name, "about": str(row.uuid), "pid": os.getpid()})
            with file.open("a") as heard:
                heard.write(f"{line}\n")

        return listen

    for name, sent in vars(signals).items():
        if isinstance(sent, Signal):
            sent.connect(listener(name), weak=False)
