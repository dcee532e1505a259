"""What a checkout asks of the database, written out: storing a message for a license, and a look at that one's lane.

Django's ORM builds each statement anew, which costs more than running it, and needs four where one does. The INSERT
stands beside the ORM's form of it, which other databases use (MySQL has no RETURNING), and which a test holds it to.

No savepoint is needed: without a key nothing can clash; a clash of keys raises nothing on PostgreSQL and SQLite, and on
MariaDB it undoes its own statement and no more. So the site's transaction lives on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.views.decorators.debug import sensitive_variables

from .clock import DatabaseNow, write_alias
from .message import OutboundMessage, Status
from .written import as_time, can_write_out, insert, now_sql, unless_known

_MOST_ROWS_A_STATEMENT = 500


@dataclass(frozen=True)
class LaneSeen:
    """A lane at the moment `seen_at`; `taken_at`: when its lease was last taken, where that was asked."""

    seen_at: datetime
    is_driven: bool
    taken_at: datetime | None = None


def look_at_lane(license_id: int) -> LaneSeen | None:
    """The lane of a license now. None: there is no such license."""
    connection = connections[write_alias()]
    with connection.cursor() as cursor:
        cursor.execute(_LOOK.format(now=now_sql(connection.alias)), (license_id,))
        row = cursor.fetchone()
    if row is None:
        return None
    seen_at, is_driven, taken_at = row
    return LaneSeen(_time(seen_at, connection), bool(is_driven), _time(taken_at, connection))


def store_message(row: OutboundMessage, default_name: str = "") -> LaneSeen | None:
    """Insert one unsaved message and give it its key and times; it gets none where its idempotency key is stored.

    A row without a license is for the one called `default_name`, else for the only one; where that does not say which,
    it is not stored either, nor by databases whose statements are not written out here. Returns its lane, where seen.
    """
    connection = connections[write_alias()]
    if _can_write_out([row], connection):
        _, lane = _write_out([row], connection, default_name)
        return lane
    if has_license(row):
        store_portably([row])
    return None


def store_messages(rows: Sequence[OutboundMessage]) -> None:
    """The same for many messages with licenses."""
    connection = connections[write_alias()]
    for batch in _batches(rows, connection):
        if not (_can_write_out(batch, connection) and _write_out(batch, connection)[0]):
            store_portably(batch)


def is_stored(row: OutboundMessage) -> bool:
    """Whether it was: not where its idempotency key was known."""
    return not row._state.adding


def has_license(row: OutboundMessage) -> bool:
    """Whether it is known who sends it."""
    return row.license_id is not None


def store_portably(rows: Sequence[OutboundMessage]) -> None:
    """The ORM's form of `store_messages()`."""
    using = write_alias()
    messages = OutboundMessage.objects.using(using)
    with transaction.atomic(using=using):
        messages.bulk_create(rows, ignore_conflicts=any(row.idempotency_digest for row in rows))
    by_uuid = {row.uuid: row for row in rows}
    for row in rows:
        row.pk, row._state.adding = None, True
    for stored in messages.filter(uuid__in=by_uuid).values_list("uuid", "pk", "license_id", "created_at", "due_at"):
        _take_over(by_uuid[stored[0]], using, *stored[1:])


# --- written out ------------------------------------------------------------------------------------------------------

_LOOK = """
SELECT {now}, lane.lease_token IS NOT NULL AND lane.lease_expires_at > {now}, lane.lease_taken_at
FROM django_kpwa_license license LEFT JOIN django_kpwa_lane lane ON lane.license_id = license.id
WHERE license.id = %s
"""
_INSERT = """
INSERT INTO django_kpwa_outboundmessage (
  uuid, license_id, recipient_type, recipient_typed, recipient, text, image_url, renderer, idempotency_key,
  idempotency_digest, priority, expires_at, source_content_type_id, source_id,
  due_at, created_at, status, reason, reason_words, attempts_made, attempts_spent, in_doubt)
{source} {unless_known}
RETURNING uuid, id, license_id, created_at, due_at, (
  SELECT lane.lease_token IS NOT NULL AND lane.lease_expires_at > {now}
  FROM django_kpwa_lane lane WHERE lane.license_id = django_kpwa_outboundmessage.license_id)
"""
_ROW = (
    "%s, {license}, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, "
    f"COALESCE(%s, {{now}}), {{now}}, '{Status.QUEUED.value}', '', '', 0, 0, FALSE"
)
_NAMED = "SELECT {row} FROM django_kpwa_license license WHERE license.name = %s"
_ONLY = (
    "SELECT {row} FROM django_kpwa_license license "
    "WHERE NOT EXISTS (SELECT 1 FROM django_kpwa_license other WHERE other.id <> license.id)"
)
_PARAMETERS_A_ROW = _ROW.count("%s") + 1


def _can_write_out(rows: Sequence[OutboundMessage], connection: BaseDatabaseWrapper) -> bool:
    # Another expression than the present time is for the ORM to write.
    return can_write_out(connection) and all(isinstance(row.due_at, (DatabaseNow, datetime)) for row in rows)


@sensitive_variables()
def _write_out(
    rows: Sequence[OutboundMessage], connection: BaseDatabaseWrapper, default_name: str = ""
) -> tuple[bool, LaneSeen | None]:
    """Whether the statement was carried out, and the lane of what it stored last.

    False: MariaDB knows a key of theirs, and has therefore stored none of them.
    """
    statement = _statement(connection, len(rows), not has_license(rows[0]), bool(default_name))
    parameters = [value for row in rows for value in _parameters(row, connection)]
    if default_name and not has_license(rows[0]):
        parameters.append(default_name)
    by_uuid = {row.uuid: row for row in rows}
    lane = None
    stored = insert(connection, statement, parameters)
    if stored is None:
        return False, None
    for uuid, primary_key, license_id, *times, is_driven in stored:
        created_at, due_at = (_time(value, connection) for value in times)
        row = by_uuid[uuid if isinstance(uuid, UUID) else UUID(uuid)]
        _take_over(row, connection.alias, primary_key, license_id, created_at, due_at)
        lane = LaneSeen(created_at, bool(is_driven))
    return True, lane


def _statement(connection: BaseDatabaseWrapper, rows: int, chooses: bool, is_named: bool) -> str:
    now = now_sql(connection.alias)
    if chooses:
        row = _ROW.format(license="license.id", now=now)
        source = (_NAMED if is_named else _ONLY).format(row=row)
    else:
        row = _ROW.format(license="%s", now=now)
        source = "VALUES " + ", ".join([f"({row})"] * rows)
    return _INSERT.format(source=source, unless_known=unless_known(connection, "idempotency_digest"), now=now)


@sensitive_variables()
def _parameters(row: OutboundMessage, connection: BaseDatabaseWrapper) -> list[Any]:
    time = connection.ops.adapt_datetimefield_value
    return [
        row.uuid if connection.features.has_native_uuid_field else row.uuid.hex,
        *([row.license_id] if has_license(row) else []),
        str(row.recipient_type),
        row.recipient_typed,
        row.recipient,
        row.text,
        row.image_url,
        row.renderer,
        row.idempotency_key,
        row.idempotency_digest,
        row.priority,
        time(row.expires_at),
        row.source_content_type_id,
        row.source_id,
        time(row.due_at) if isinstance(row.due_at, datetime) else None,
    ]


def _time(value: Any, connection: BaseDatabaseWrapper) -> Any:
    return as_time(value, OutboundMessage._meta.get_field("created_at").cached_col, connection)


def _take_over(
    row: OutboundMessage, using: str, primary_key: int, license_id: int, created_at: datetime, due_at: datetime
) -> None:
    row.pk, row.created_at, row.due_at = primary_key, created_at, due_at
    if not has_license(row):
        row.license_id = license_id
    row._state.adding, row._state.db = False, using


def _batches(rows: Sequence[OutboundMessage], connection: BaseDatabaseWrapper) -> Iterator[Sequence[OutboundMessage]]:
    most = _MOST_ROWS_A_STATEMENT
    if allowed := connection.features.max_query_params:
        most = min(most, allowed // _PARAMETERS_A_ROW)
    for start in range(0, len(rows), most):
        yield rows[start : start + most]
