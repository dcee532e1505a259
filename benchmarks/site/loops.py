"""The least code that sends what waits, on each database: the floors of the lanes.

No lease, no attempts, no statistics, no doubt: what is `sending` when it dies is lost.
"""

from __future__ import annotations

import os

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
