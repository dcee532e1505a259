"""What a checkout asks of the database, written out: storing a message for a license, and a look at that one's lane.

Django's ORM builds each statement anew, which costs more than running it, and needs four where one does. The INSERT
stands beside the ORM's form of it, which other databases use (MySQL has no RETURNING), and which a test holds it to.

Nothing here waits for a row that a worker may hold, nor holds one that a worker wants: license and lane are read
without locks. MariaDB locks what an INSERT reads, so that it is asked by a SELECT before.

No savepoint is needed: without a key nothing can clash; a clash of keys raises nothing on PostgreSQL and SQLite, and on
MariaDB it undoes its own statement and no more. So the site's transaction lives on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.views.decorators.debug import sensitive_variables

from ..models.clock import DatabaseNow, in_seconds
from ..models.database import write_alias
from ..models.kept_key import NOT_KEPT, KeptKey
from ..models.license import License
from ..models.message import OutboundMessage, Status, idempotency_digest
from .choosing import choose
from .sql import as_time, can_write_out, insert, now_sql, unless_known, with_tables

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
        look = _LOOK.format(now=now_sql(connection.alias), more="")
        cursor.execute(with_tables(look, connection.alias), (license_id,))
        row = cursor.fetchone()
    return None if row is None else _lane_seen(row, connection)


def store_message(row: OutboundMessage, default_name: str = "") -> LaneSeen | None:
    """Insert one unsaved message and give it its key and times; it gets none where its idempotency key is stored.

    A row without a license is for the one that is chosen (`choosing`); where it cannot be told which, it is stored
    without one, and waits. Returns its lane, where seen.
    """
    connection = connections[write_alias()]
    if _can_write_out([row], connection):
        return _insert_one(row, connection, default_name)
    if not has_license(row):
        row.license = choose(default_name).license
    if _has_licenses([row]):
        store_portably([row])
    return None


def store_messages(rows: Sequence[OutboundMessage]) -> None:
    """The same for many messages, with the licenses that they have: none is stored where one of these is gone.

    Nor is one stored whose key is known, be it of a message that was purged.

    In the order of their keys, so that two calls with keys in common wait for each other and do not deadlock. Those
    that are due at once are due a microsecond after one another then, and go out in the order given.
    """
    connection = connections[write_alias()]
    if not _has_licenses(rows):
        return
    if connection.vendor != "postgresql":
        rows = _without_kept(rows)
    places: dict[UUID, int] = {}
    if connection.vendor != "sqlite" and sum(row.idempotency_digest is not None for row in rows) > 1:
        # SQLite has one writer at a time.
        places = {row.uuid: place for place, row in enumerate(rows)}
        rows = sorted(rows, key=lambda row: row.idempotency_digest or "")
        if connection.vendor == "mysql":
            # Each of these is a refused statement there, and another for the rest.
            known = find_known([row.idempotency_digest for row in rows if row.idempotency_digest])
            rows = [row for row in rows if row.idempotency_digest not in known]
    for batch in _batches(rows, connection):
        if not (_can_write_out(batch, connection) and _insert_many(batch, connection, places)):
            for row in batch:
                due_at: Any = row.due_at
                if places.get(row.uuid) and isinstance(due_at, DatabaseNow):
                    row.due_at = in_seconds(places[row.uuid] / 1e6)
            store_portably(batch)


def find_known(digests: Sequence[str]) -> dict[str, OutboundMessage]:
    """The messages with these digests of idempotency keys that are in their table, by digest."""
    write_alias()
    found: dict[str, OutboundMessage] = {}
    for start in range(0, len(digests), _MOST_ROWS_A_STATEMENT):
        some = OutboundMessage.objects.filter(idempotency_digest__in=digests[start : start + _MOST_ROWS_A_STATEMENT])
        found |= {message.idempotency_digest or "": message for message in some}
    return found


def find_by_key(key: str) -> OutboundMessage | None:
    """The message of an idempotency key that is in its table. Each first receipt asks this, and is answered: none."""
    using = write_alias()
    found = OutboundMessage.objects.raw(_select_by_digest(using), [idempotency_digest(key)])
    return next(iter(found), None)


@cache
def _select_by_digest(using: str) -> str:
    """The ORM's statement, built once: that costs more than it takes the database to answer."""
    query = OutboundMessage.objects.filter(idempotency_digest="").query
    return str(query.get_compiler(using).as_sql()[0])


def find_known_after_clash(digests: Sequence[str]) -> dict[str, OutboundMessage]:
    """The same, of keys that were refused just now, with what is left of purged messages.

    One that is not seen was stored after this transaction's snapshot.

    Where MariaDB repeats its reads, those are read over another connection: in this one a read that sees them would
    wait for whoever has locked their rows.
    """
    found = find_known(digests)
    connection = connections[write_alias()]
    if missing := [digest for digest in digests if digest not in found]:
        found |= find_kept(missing, connection.alias)
    missing = [digest for digest in digests if digest not in found]
    if not missing or connection.vendor != "mysql" or not connection.in_atomic_block:
        return found
    names = [field.attname for field in OutboundMessage._meta.concrete_fields]
    other = connection.copy()
    try:
        for start in range(0, len(missing), _MOST_ROWS_A_STATEMENT):
            some = OutboundMessage.objects.filter(
                idempotency_digest__in=missing[start : start + _MOST_ROWS_A_STATEMENT]
            )
            for values in some.order_by().query.get_compiler(connection=other).results_iter():
                message = OutboundMessage.from_db(connection.alias, names, values)
                found[message.idempotency_digest or ""] = message
    finally:
        other.close()
    return found


def is_stored(row: OutboundMessage) -> bool:
    """Whether it was: not where its idempotency key was known."""
    return not row._state.adding


def has_license(row: OutboundMessage) -> bool:
    """Whether it is known who sends it."""
    return row.license_id is not None


def store_portably(rows: Sequence[OutboundMessage]) -> None:
    """The ORM's form of `store_messages()`."""
    using = write_alias()
    rows = _without_kept(rows)
    messages = OutboundMessage.objects
    with transaction.atomic(using=using):
        messages.bulk_create(rows, ignore_conflicts=any(row.idempotency_digest for row in rows))
    by_uuid = {row.uuid: row for row in rows}
    for row in rows:
        row.pk, row._state.adding = None, True
    kept = ("uuid", "pk", "license_id", "created_at", "due_at", "expires_at")
    for stored in messages.filter(uuid__in=by_uuid).values_list(*kept):
        _keep(by_uuid[stored[0]], using, *stored[1:])


def _without_kept(rows: Sequence[OutboundMessage]) -> Sequence[OutboundMessage]:
    """Those whose key is not that of a message that was purged."""
    digests = [row.idempotency_digest for row in rows if row.idempotency_digest is not None]
    kept: set[str] = set()
    for start in range(0, len(digests), _MOST_ROWS_A_STATEMENT):
        kept |= find_kept(digests[start : start + _MOST_ROWS_A_STATEMENT], write_alias()).keys()
    return [row for row in rows if row.idempotency_digest not in kept] if kept else rows


def _has_licenses(rows: Sequence[OutboundMessage]) -> bool:
    """Whether the licenses of all of them are stored: the database itself does not see to it."""
    wanted = {row.license_id for row in rows if row.license_id is not None}
    return License.objects.filter(pk__in=wanted).count() == len(wanted)


# --- what is left of purged messages ---------------------------------------------------------------------------------


def keep_keys(messages: QuerySet[OutboundMessage]) -> None:
    """Keep the keys of messages that are to be deleted."""
    columns = ("idempotency_digest", "pk", "created_at", "status", "source_fingerprint")
    keyed = messages.exclude(idempotency_digest=None).exclude(idempotency_key__startswith=NOT_KEPT)
    KeptKey.objects.using(messages.db).bulk_create(
        [
            KeptKey(digest=digest, message_id=message_id, created_at=at, status=status, source_fingerprint=fingerprint)
            for digest, message_id, at, status, fingerprint in keyed.values_list(*columns)
        ],
        ignore_conflicts=True,
    )


def find_kept(digests: Iterable[str], using: str) -> dict[str, OutboundMessage]:
    """What is kept of purged messages, by the digests of their keys."""
    return {kept.digest: kept.as_message() for kept in KeptKey.objects.filter(digest__in=list(digests))}


# --- written out ------------------------------------------------------------------------------------------------------

_IS_KEPT = "EXISTS (SELECT 1 FROM django_kpwa_keptkey kept WHERE kept.digest = %s)"
_LOOK = """
SELECT {now}, lane.lease_token IS NOT NULL AND lane.lease_expires_at > {now}, lane.lease_taken_at{more}
FROM django_kpwa_license license LEFT JOIN django_kpwa_lane lane ON lane.license_id = license.id
WHERE license.id = %s
"""
# What is given for each message, and its type in PostgreSQL; the order is that of `_parameters()`.
_GIVEN = {
    "uuid": "uuid",
    "license_id": "bigint",
    "recipient_type": "text",
    "recipient_typed": "text",
    "recipient": "text",
    "text": "text",
    "image_url": "text",
    "renderer": "text",
    "idempotency_key": "text",
    "idempotency_digest": "text",
    "priority": "integer",
    "source_content_type_id": "bigint",
    "source_id": "text",
    "source_database": "text",
    "source_fingerprint": "text",
    "expires_at": "timestamptz",
    "due_at": "timestamptz",
}
_INSERT = f"""
INSERT INTO django_kpwa_outboundmessage (
  {", ".join(_GIVEN)}, created_at, status, reason, reason_words, attempts_made, attempts_spent, in_doubt)
{{source}} {{unless_known}}
RETURNING uuid, id, license_id, created_at, due_at, expires_at
"""
_IS_DRIVEN = """, (
  SELECT lane.lease_token IS NOT NULL AND lane.lease_expires_at > {now}
  FROM django_kpwa_lane lane WHERE lane.license_id = django_kpwa_outboundmessage.license_id)
"""
_THE_REST = f"{{now}}, '{Status.QUEUED.value}', '', '', 0, 0, FALSE"
_ROW = f"%s, {{license}}, {'%s, ' * (len(_GIVEN) - 4)}{{expires}}, COALESCE(%s, {{due}}), {_THE_REST}"
# The license that is chosen, as by `choosing.choose()`; NULL where it cannot be told. MIN: two rows would fail the
# checkout.
_NAMED = "(SELECT MIN(license.id) FROM django_kpwa_license license WHERE license.name = %s AND license.is_active)"
_CHOSEN = """(
  SELECT MIN(license.id) FROM django_kpwa_license license
  WHERE license.is_active AND (license.is_default OR NOT EXISTS (
    SELECT 1 FROM django_kpwa_license other WHERE other.is_active AND other.id <> license.id)))"""
# In a SELECT PostgreSQL does not see what a value is for, where the driver sends it apart.
_TYPES = [type_ for column, type_ in _GIVEN.items() if column not in ("uuid", "license_id", "expires_at", "due_at")]
_TYPED_ROW = (
    f"%s::uuid, {{license}}, {', '.join(f'%s::{type_}' for type_ in _TYPES)}, "
    f"{{expires}}, COALESCE(%s::timestamptz, {{due}}), {_THE_REST}"
)
_FOR_LICENSE = "SELECT {row} FROM django_kpwa_license license WHERE license.id = %s"
# PostgreSQL: a list for each column, however many rows. To read the values of thousands one by one takes longer.
_LISTS = f"""
SELECT {", ".join(column for column in _GIVEN if column != "due_at")},
  COALESCE(due_at, {{now}} + place * INTERVAL '1 microsecond'), {_THE_REST}
FROM UNNEST({", ".join(f"%s::{type_}[]" for type_ in _GIVEN.values())}, %s::integer[])
  AS given ({", ".join(_GIVEN)}, place)
"""  # noqa: S608 - every part of it stands in this file; values are parameters


# No EXISTS, which becomes a join: they are stored in the order given, and each is looked up by itself.
_ARE_NOT_KEPT = " WHERE (SELECT kept.id FROM django_kpwa_keptkey kept WHERE kept.digest = idempotency_digest) IS NULL"


def _can_write_out(rows: Sequence[OutboundMessage], connection: BaseDatabaseWrapper) -> bool:
    # Another expression than the present time is for the ORM to write; of one row alone, when it expires may be one.
    return can_write_out(connection) and all(
        isinstance(row.due_at, (DatabaseNow, datetime))
        and (len(rows) == 1 or row.expires_at is None or isinstance(row.expires_at, datetime))
        for row in rows
    )


@sensitive_variables()
def _insert_one(row: OutboundMessage, connection: BaseDatabaseWrapper, default_name: str) -> LaneSeen | None:
    """Its lane, where it was stored."""
    now = now_sql(connection.alias)
    if connection.vendor == "mysql":
        return _insert_after_look(row, connection, default_name)
    expires, parameters = _with_expiry(row, connection)
    written = _TYPED_ROW if connection.vendor == "postgresql" else _ROW
    if has_license(row):
        source = _FOR_LICENSE.format(row=written.format(license="license.id", now=now, due=now, expires=expires))
        parameters.append(parameters.pop(1))
    else:
        chosen = _NAMED if default_name else _CHOSEN
        source = f"SELECT {written.format(license=chosen, now=now, due=now, expires=expires)} WHERE TRUE"
        parameters[1:2] = [default_name] if default_name else []
    if row.idempotency_digest is not None:
        source += f" AND NOT {_IS_KEPT}"
        parameters.append(row.idempotency_digest)
    stored = insert(connection, _statement(source, connection) + _IS_DRIVEN.format(now=now), parameters)
    if not stored:
        return None
    _, *values, is_driven = stored[0]
    _take_over(row, connection, *values)
    return LaneSeen(row.created_at, bool(is_driven))


@sensitive_variables()
def _insert_after_look(row: OutboundMessage, connection: BaseDatabaseWrapper, default_name: str) -> LaneSeen | None:
    """The same in two statements, of which the second reads no other table."""
    lane = None
    now = now_sql(connection.alias)
    if row.idempotency_digest is not None:
        if row.license_id is None:
            asked = f"SELECT {_NAMED if default_name else _CHOSEN}, {_IS_KEPT}"
            given: list[Any] = [default_name, row.idempotency_digest] if default_name else [row.idempotency_digest]
        else:
            asked, given = _LOOK.format(now=now, more=f", {_IS_KEPT}"), [row.idempotency_digest, row.license_id]
        with connection.cursor() as cursor:
            cursor.execute(with_tables(asked, connection.alias), given)
            seen = cursor.fetchone()
        if seen is None or seen[-1]:
            return None
        if row.license_id is None:
            row.license_id = seen[0]
        else:
            lane = _lane_seen(seen, connection)
    elif row.license_id is None:
        row.license = choose(default_name).license
    else:
        lane = look_at_lane(row.license_id)
        if lane is None:
            return None
    expires, parameters = _with_expiry(row, connection)
    source = f"VALUES ({_ROW.format(license='%s', now=now, due=now, expires=expires)})"
    stored = insert(connection, _statement(source, connection), parameters)
    if not stored:
        return None
    _take_over(row, connection, *stored[0][1:])
    return lane


@sensitive_variables()
def _insert_many(rows: Sequence[OutboundMessage], connection: BaseDatabaseWrapper, places: Mapping[UUID, int]) -> bool:
    """Whether the statement was carried out. Where MariaDB knows a key of theirs it is not, and has stored none."""
    now = now_sql(connection.alias)
    given = [_parameters(row, connection) for row in rows]
    parameters: list[Any]
    if connection.vendor == "postgresql":
        source = _LISTS.format(now=now)
        if any(row.idempotency_digest is not None for row in rows):
            source += _ARE_NOT_KEPT
        parameters = [list(column) for column in zip(*given, strict=True)]
        parameters.append([places.get(row.uuid, 0) for row in rows])
    else:
        due = [f"{now} + INTERVAL {places[row.uuid]:d} MICROSECOND" if places.get(row.uuid) else now for row in rows]
        source = "VALUES " + ", ".join(
            f"({_ROW.format(license='%s', now=now, due=each, expires='%s')})" for each in due
        )
        parameters = [value for values in given for value in values]
    stored = insert(connection, _statement(source, connection), parameters)
    if stored is None:
        return False
    by_uuid = {row.uuid: row for row in rows}
    for uuid, *values in stored:
        _take_over(by_uuid[uuid if isinstance(uuid, UUID) else UUID(uuid)], connection, *values)
    return True


def _statement(source: str, connection: BaseDatabaseWrapper) -> str:
    return _INSERT.format(source=source, unless_known=unless_known(connection, "idempotency_digest"))


@sensitive_variables()
def _parameters(row: OutboundMessage, connection: BaseDatabaseWrapper) -> list[Any]:
    time = connection.ops.adapt_datetimefield_value
    return [
        row.uuid if connection.features.has_native_uuid_field else row.uuid.hex,
        row.license_id,
        str(row.recipient_type),
        row.recipient_typed,
        row.recipient,
        row.text,
        row.image_url,
        row.renderer,
        row.idempotency_key,
        row.idempotency_digest,
        row.priority,
        row.source_content_type_id,
        row.source_id,
        row.source_database,
        row.source_fingerprint,
        time(row.expires_at) if isinstance(row.expires_at, datetime) else None,
        time(row.due_at) if isinstance(row.due_at, datetime) else None,
    ]


@sensitive_variables()
def _with_expiry(row: OutboundMessage, connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
    """How one row's `expires_at` is written, and its `_parameters()`. So long from now is by the database's clock."""
    parameters = _parameters(row, connection)
    expires: Any = row.expires_at
    if expires is None or isinstance(expires, datetime):
        return "%s::timestamptz" if connection.vendor == "postgresql" else "%s", parameters
    query = OutboundMessage.objects.all().query
    # Resolved, it is what the ORM would write: each database adds seconds in its own way.
    sql, given = query.get_compiler(connection.alias).compile(expires.resolve_expression(query))
    parameters[-2:-1] = given
    return sql, parameters


def _lane_seen(row: Sequence[Any], connection: BaseDatabaseWrapper) -> LaneSeen:
    seen_at, is_driven, taken_at, *_ = row
    return LaneSeen(_time(seen_at, connection), bool(is_driven), _time(taken_at, connection))


def _time(value: Any, connection: BaseDatabaseWrapper) -> Any:
    return as_time(value, OutboundMessage._meta.get_field("created_at").cached_col, connection)


def _take_over(
    row: OutboundMessage,
    connection: BaseDatabaseWrapper,
    primary_key: int,
    license_id: int | None,
    created_at: Any,
    due_at: Any,
    expires_at: Any,
) -> None:
    """Keep what a written-out statement returned of the row."""
    times = (_time(moment, connection) for moment in (created_at, due_at, expires_at))
    _keep(row, connection.alias, primary_key, license_id, *times)


def _keep(
    row: OutboundMessage,
    using: str,
    primary_key: int,
    license_id: int | None,
    created_at: datetime,
    due_at: datetime,
    expires_at: datetime | None,
) -> None:
    row.pk, row.created_at, row.due_at, row.expires_at = primary_key, created_at, due_at, expires_at
    if not has_license(row):
        row.license_id = license_id
    row._state.adding, row._state.db = False, using


def _batches(rows: Sequence[OutboundMessage], connection: BaseDatabaseWrapper) -> Iterator[Sequence[OutboundMessage]]:
    most = _MOST_ROWS_A_STATEMENT
    if allowed := connection.features.max_query_params:
        most = min(most, allowed // len(_GIVEN))
    for start in range(0, len(rows), most):
        yield rows[start : start + most]
