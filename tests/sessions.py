"""Ends database sessions, as a restart or failover of the database does."""

from __future__ import annotations

import contextlib

from django.db import connections


def end_session(alias: str = "default") -> None:
    """End the session of this thread's connection, so that its next statement fails. SQLite has no sessions."""
    ours = connections[alias]
    with contextlib.closing(ours.copy()) as other, other.cursor() as cursor:
        if ours.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [ours.connection.info.backend_pid])
        else:
            cursor.execute(f"KILL {ours.connection.thread_id()}")
