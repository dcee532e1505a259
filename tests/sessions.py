"""Sessions at the database that end as at its restart or failover."""

from __future__ import annotations

import contextlib

from django.db import connections


def end_session(alias: str = "default") -> None:
    """End the session of this thread's connection; the next statement over it fails. Not on SQLite, which has none."""
    ours = connections[alias]
    with contextlib.closing(ours.copy()) as other, other.cursor() as cursor:
        if ours.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [ours.connection.info.backend_pid])
        else:
            cursor.execute(f"KILL {ours.connection.thread_id()}")
