"""The usual case on MariaDB, MySQL and SQLite: a few written-out statements in one transaction.

They have no statement that writes several tables and says what it found; what costs there is to build the same queries
for every message anew. What is not the usual case goes on in the portable form, in the same transaction.
"""

# ruff: noqa: S608 - every part of the statements stands in this file; values are parameters

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from django.db import connections, transaction
from django.views.decorators.debug import sensitive_variables

from ...models.lane import Lane
from ..locks import FINISH_SECONDS
from ..results import Claim, Claimed, Idle, Lease, LeaseLost
from ..sql import with_tables
from . import portable


@dataclass(frozen=True)
class _Statements:
    renew: str
    record_lane: str
    record_message: str
    record_attempt: str
    find: str
    claim: str
    start_attempt: str


def _written(now: str, later: str, seconds_until: str, patience: str = "") -> _Statements:
    """The statements, where `now` is the time, `later` the time in {} seconds and `seconds_until` a time's distance.

    `patience`: what has a statement wait less long for another's lock.
    """
    held = "WHERE license_id = %(license_id)s AND lease_token = %(token)s"
    return _Statements(
        renew=f"{patience}UPDATE django_kpwa_lane SET lease_expires_at = {later.format('%(lease_seconds)s')} {held}",
        record_lane=f"""{patience}
            UPDATE django_kpwa_lane
            SET lease_expires_at = {later.format("%(lease_seconds)s")},
              next_send_at = {later.format("%(next_send_in_seconds)s")},
              failures = %(failures)s,
              session_status = %(session_status)s, session_seen_at = {now},
              linked_number = CASE WHEN %(linked_number)s <> '' THEN %(linked_number)s ELSE linked_number END,
              confirmed_number = CASE WHEN %(confirms_number)s THEN %(linked_number)s ELSE confirmed_number END
            {held}""",
        record_message=f"""{patience}
            UPDATE django_kpwa_outboundmessage
            SET status = 'sent', sent_at = {now}, settled_at = {now}, reason = '', reason_words = '', in_doubt = 0,
              dismissed_at = NULL
            WHERE id = %(message_id)s AND status = 'sending' AND attempts_made = %(attempt_number)s""",
        record_attempt=f"""{patience}
            UPDATE django_kpwa_sendattempt
            SET finished_at = {now}, outcome = %(outcome)s, cause = %(cause)s, http_status = %(http_status)s,
              code = %(code)s, words = %(words)s, gateway_id = %(gateway_id)s, read_as = %(read_as)s,
              gateway_created_at = %(gateway_created_at)s
            WHERE id = %(attempt_id)s AND outcome = 'running'""",
        find=f"""
            SELECT lane.pause_reason <> '' OR NOT license.is_active, {seconds_until.format("lane.next_send_at")},
              message.expires_at <= {now},
              message.renderer <> '' AND (message.rendered_at IS NULL
                OR (NOT message.in_doubt AND message.rendered_at <= {later.format(-portable.TEXT_KEEPS_SECONDS)})),
              message.id, message.attempts_made, message.attempts_spent, message.recipient_type, message.recipient,
              message.text, message.image_url
            FROM django_kpwa_lane lane
              JOIN django_kpwa_license license ON license.id = lane.license_id
              LEFT JOIN django_kpwa_outboundmessage message ON message.id = (
                SELECT id FROM django_kpwa_outboundmessage
                WHERE license_id = %(license_id)s AND status = 'queued' AND due_at <= {now}
                ORDER BY priority, due_at, id LIMIT 1)
            WHERE lane.license_id = %(license_id)s""",
        claim=f"""{patience}
            UPDATE django_kpwa_outboundmessage
            SET status = 'sending', attempts_made = attempts_made + 1, attempts_spent = attempts_spent + 1
            WHERE id = %s AND status = 'queued' AND attempts_made = %s""",
        start_attempt=f"""
            INSERT INTO django_kpwa_sendattempt
              (message_id, number, started_at, outcome, cause, code, words, gateway_id, read_as, gateway_created_at)
            VALUES (%s, %s, {now}, 'running', '', '', '', '', '', '')""",
    )


_MYSQL = {
    "now": "UTC_TIMESTAMP(6)",
    "later": "UTC_TIMESTAMP(6) + INTERVAL ({} * 1000000) MICROSECOND",
    "seconds_until": "TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), {}) / 1000000",
}
_STATEMENTS = {
    # MySQL has no limit for one statement: there it is the server's, 50 seconds unless set.
    "mysql": _written(**_MYSQL),
    "mariadb": _written(**_MYSQL, patience=f"SET STATEMENT innodb_lock_wait_timeout = {FINISH_SECONDS} FOR "),
    "sqlite": _written(
        now="STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f000', 'NOW')",
        later="STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f000', 'NOW', {} || ' seconds')",
        seconds_until="(JULIANDAY({}) - JULIANDAY('NOW')) * 86400",
    ),
}


def _written_for(using: str) -> _Statements:
    connection: Any = connections[using]
    is_mariadb = connection.vendor == "mysql" and connection.mysql_is_mariadb
    return _named_as_here("mariadb" if is_mariadb else connection.vendor, using)


@cache
def _named_as_here(vendor: str, using: str) -> _Statements:
    written = _STATEMENTS[vendor]
    return _Statements(**{field.name: with_tables(getattr(written, field.name), using) for field in fields(written)})


@sensitive_variables()
def claim_next(using: str, lease: Lease, seconds: float) -> Claimed:
    """Renew the lease and claim the next message."""
    with transaction.atomic(using=using, durable=True), connections[using].cursor() as cursor:
        written = _written_for(using)
        parameters = _of_lease(using, lease, seconds)
        cursor.execute(written.renew, parameters)
        return _claim(cursor, using, lease, written, parameters) if cursor.rowcount else Claimed(LeaseLost())


@sensitive_variables()
def record_accepted(
    using: str, lease: Lease, values: dict[str, Any], seconds: float, *, claims_next: bool
) -> tuple[bool, Claimed | None]:
    """Record an accepted send by its `values` and, where `claims_next`, claim the next message or release the lane.

    Returns whether it is recorded, and what was claimed.
    """
    written = _written_for(using)
    parameters = values | _of_lease(using, lease, seconds)
    with transaction.atomic(using=using, durable=True), connections[using].cursor() as cursor:
        for statement in (written.record_lane, written.record_message, written.record_attempt):
            cursor.execute(statement, parameters)
            if not cursor.rowcount:
                transaction.set_rollback(True, using=using)
                return False, None
        return True, _claim_or_release(cursor, using, lease, written, parameters) if claims_next else None


@sensitive_variables()
def _claim_or_release(
    cursor: Any, using: str, lease: Lease, written: _Statements, parameters: dict[str, Any]
) -> Claimed:
    claimed = _claim(cursor, using, lease, written, parameters)
    return portable.release_idle(using, lease, claimed)


@sensitive_variables()
def _claim(cursor: Any, using: str, lease: Lease, written: _Statements, parameters: dict[str, Any]) -> Claimed:
    """Claim the next message in the open transaction. The lane's row is locked already."""
    cursor.execute(written.find, parameters)
    is_paused, wait_seconds, is_overdue, is_unrendered, message_id, made, spent, *content = cursor.fetchone()
    if is_paused:
        return Claimed(Idle(is_paused=True))
    if message_id is None:
        return Claimed(Idle())
    if is_overdue or is_unrendered:
        return portable.claim(using, lease)
    if wait_seconds is not None and wait_seconds > 0:
        return Claimed(Idle(wait_seconds=float(wait_seconds)))
    cursor.execute(written.claim, (message_id, made))
    if not cursor.rowcount:
        return portable.claim(using, lease)
    cursor.execute(written.start_attempt, (message_id, made + 1))
    return Claimed(Claim(message_id, cursor.lastrowid, made + 1, spent + 1, *content))


def _of_lease(using: str, lease: Lease, seconds: float) -> dict[str, Any]:
    token = Lane._meta.get_field("lease_token").get_db_prep_value(lease.token, connections[using])
    return {"license_id": lease.license_id, "token": token, "lease_seconds": seconds}
