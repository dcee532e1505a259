"""The least code that sends waiting messages, on each database: the floors of the lanes.

It has no lease, attempts, statistics or doubt. If it dies, messages that are `sending` are lost.
"""

from __future__ import annotations

import contextlib
import os
from urllib.parse import urlsplit

import requests

API_KEY = "a-key-of-the-benchmarks"


def post(session: requests.Session, gateway_url: str, recipient: str, text: str) -> str:
    """Send one message; returns the gateway's id."""
    answer = session.post(
        f"{gateway_url}/openapi/wa/message",
        data={"phoneNumber": recipient, "message": text},
        headers={"X-API-KEY": API_KEY, "Accept": "application/json"},
        timeout=(5, 30),
    )
    answer.raise_for_status()
    return str(answer.json()["result"]["id"])


def psycopg_loop(license_id: int, gateway_url: str) -> int:
    """PostgreSQL, over psycopg alone."""
    import psycopg

    url = os.environ["DATABASE_URL"].replace("postgres://", "postgresql://", 1)
    sent = 0
    with psycopg.connect(url, autocommit=True) as connection, requests.Session() as session:
        while True:
            row = connection.execute(
                "UPDATE django_kpwa_outboundmessage SET status = 'sending', attempts_made = attempts_made + 1 "
                "WHERE id = (SELECT id FROM django_kpwa_outboundmessage WHERE license_id = %s AND status = 'queued' "
                "AND due_at <= now() ORDER BY priority, due_at, id LIMIT 1) AND status = 'queued' "
                "RETURNING id, recipient, text",
                (license_id,),
            ).fetchone()
            if row is None:
                return sent
            message_id, recipient, text = row
            post(session, gateway_url, recipient, text)
            connection.execute(
                "UPDATE django_kpwa_outboundmessage SET status = 'sent', sent_at = now(), settled_at = now() "
                "WHERE id = %s",
                (message_id,),
            )
            sent += 1


def mysqlclient_loop(license_id: int, gateway_url: str) -> int:
    """MariaDB, over mysqlclient alone. Its UPDATE returns no rows, so the claim is a SELECT and an UPDATE."""
    import MySQLdb

    parts = urlsplit(os.environ["DATABASE_URL"])
    connection = MySQLdb.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=parts.username or "",
        passwd=parts.password or "",
        db=parts.path[1:],
        charset="utf8mb4",
        autocommit=True,
    )
    sent = 0
    with contextlib.closing(connection), requests.Session() as session, connection.cursor() as cursor:
        while True:
            cursor.execute(
                "SELECT id, recipient, text FROM django_kpwa_outboundmessage WHERE license_id = %s "
                "AND status = 'queued' AND due_at <= UTC_TIMESTAMP(6) ORDER BY priority, due_at, id LIMIT 1",
                (license_id,),
            )
            row = cursor.fetchone()
            if row is None:
                return sent
            message_id, recipient, text = row
            claimed = cursor.execute(
                "UPDATE django_kpwa_outboundmessage SET status = 'sending', attempts_made = attempts_made + 1 "
                "WHERE id = %s AND status = 'queued'",
                (message_id,),
            )
            if not claimed:
                continue
            post(session, gateway_url, recipient, text)
            cursor.execute(
                "UPDATE django_kpwa_outboundmessage SET status = 'sent', sent_at = UTC_TIMESTAMP(6), "
                "settled_at = UTC_TIMESTAMP(6) WHERE id = %s",
                (message_id,),
            )
            sent += 1


def sqlite_loop(license_id: int, gateway_url: str) -> int:
    """SQLite, over sqlite3 alone, with the journal mode that our README sets."""
    import sqlite3

    connection = sqlite3.connect(os.environ["DATABASE_URL"].removeprefix("sqlite:///"), isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
    now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    sent = 0
    with contextlib.closing(connection), requests.Session() as session:
        while True:
            row = connection.execute(
                "UPDATE django_kpwa_outboundmessage SET status = 'sending', attempts_made = attempts_made + 1 "
                "WHERE id = (SELECT id FROM django_kpwa_outboundmessage WHERE license_id = ? AND status = 'queued' "
                f"AND due_at <= {now} ORDER BY priority, due_at, id LIMIT 1) AND status = 'queued' "
                "RETURNING id, recipient, text",
                (license_id,),
            ).fetchall()
            if not row:
                return sent
            message_id, recipient, text = row[0]
            post(session, gateway_url, recipient, text)
            connection.execute(
                f"UPDATE django_kpwa_outboundmessage SET status = 'sent', sent_at = {now}, settled_at = {now} "
                "WHERE id = ?",
                (message_id,),
            )
            sent += 1
