"""Stores messages in a site's checkout, finds them by their keys, and purges them.

Nothing that a checkout calls waits for a row that a worker may have locked, or locks a row that a worker needs. The
license and the lane are read without locks: by the INSERT itself, or by a SELECT before it where the INSERT would lock
the rows that it reads, as on MariaDB under REPEATABLE READ.

No savepoint is needed to keep the site's transaction usable. Without an idempotency key nothing can clash. A clash of
keys raises no error on PostgreSQL and SQLite, and on MariaDB the failed statement undoes only itself.
"""

# ruff: noqa: S608 - every part of the statements stands in this package; values are parameters

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import BooleanField, Exists, ExpressionWrapper, F, OuterRef, Q, QuerySet
from django.views.decorators.debug import sensitive_variables

from ..models.database import DatabaseNow, in_seconds
from ..models.license import License
from ..models.message import NOT_KEPT, KeptKey, OutboundMessage, RecipientType, SendAttempt, Status, idempotency_digest
from ..models.recipient import Recipient, StopReason
from ..models.webhook_event import WebhookEvent
from .compiled import Parameter, compiled, first_of
from .insertion import can_write, columns_of, insert, written
from .recipients import Recipients, forms_of

MAX_ROWS_PER_STATEMENT = 500
_ANSWERED_FOR_SECONDS = 86_400.0
_RETURNED = "id, license_id, uuid, created_at, due_at, expires_at"
"""The columns of a message that the database computes, or that are chosen by the INSERT itself."""
_AND_LANE = f"""{_RETURNED}, (
  SELECT lane.lease_token IS NOT NULL AND lane.lease_expires_at > {{now}}
  FROM django_kpwa_lane lane WHERE lane.license_id = django_kpwa_outboundmessage.license_id) AS is_driven"""


class LaneSeen(NamedTuple):
    """A lane's state at `seen_at`, by the database's clock. `taken_at`: when its lease was last taken, if known."""

    seen_at: datetime
    is_driven: bool
    taken_at: datetime | None = None


class Inserted(NamedTuple):
    """The result of inserting a message. `lane`: the state of its lane; None if it has no license."""

    lane: LaneSeen | None = None


class Messages(Recipients):
    """Storing, finding and purging messages."""

    def look_at_lane(self, license_id: int) -> LaneSeen | None:
        """Return the current state of a license's lane; None if there is no such license."""
        found = first_of(self.connection, _bound(_look, "license", False, 0), {"license": license_id})
        return None if found is None else _lane_of(found)

    @sensitive_variables()
    def store_message(
        self, row: OutboundMessage, default_name: str = "", *, heeds_stops: bool = True
    ) -> Inserted | None:
        """Insert one unsaved message, and set the row's primary key, license and times.

        A row without a license gets the one that is chosen (see `choosing`). If none can be chosen, it is stored
        without a license, and waits.

        Args:
            row: The message.
            default_name: The value of `KPWA["DEFAULT_LICENSE"]`.
            heeds_stops: False for the answer to a stop, and for a message that is stored as cancelled by a stop.

        Returns:
            None, with nothing inserted, if the idempotency key is known (even from a purged message), if the license
            was deleted, or if the recipient wants no messages (`why_stopped()`).
        """
        forms = forms_of(row.recipient) if heeds_stops and row.recipient_type == RecipientType.NUMBER else []
        if can_write(self.connection) and self.dialect.reads_without_locks(self.connection):
            inserted = self._choose_and_insert(row, default_name, forms)
            if inserted is not None:
                return inserted
        # Nothing was inserted, either for one of the reasons to return None, or because no license can be chosen.
        found, is_kept = self._look(row, default_name, forms)
        if is_kept or (found is None and row.license_id is not None):
            return None
        if forms and (self.why_stopped(row.recipient) if found is None else found["is_stopped"]):
            return None
        if found is not None:
            row.license_id = found["pk"]
        if self._insert([row]):
            return None
        return Inserted(_lane_of(found) if found is not None else None)

    @sensitive_variables()
    def store_stopped(self, row: OutboundMessage, default_name: str = "") -> bool:
        """Insert a receipt as `cancelled` because its recipient wants no messages. The reason is shown to people.

        Returns False, with nothing inserted, if its idempotency key is known or its license was deleted.
        """
        row.reason = self.why_stopped(row.recipient) or StopReason.STOPPED
        row.status, row.settled_at = Status.CANCELLED, DatabaseNow()
        return self.store_message(row, default_name, heeds_stops=False) is not None

    @sensitive_variables()
    def store_answer(self, stopped: Recipient, row: OutboundMessage) -> Inserted | None:
        """Insert the message that confirms a stop, which is sent in spite of it.

        Returns None if another confirmation was stored within a day.
        """
        recipient = Recipient.objects.filter(pk=stopped.pk)
        # In one transaction, because a driver must not see the message before it is known as the answer.
        with self.brief():
            unanswered = Q(answered_at=None) | Q(answered_at__lte=in_seconds(-_ANSWERED_FOR_SECONDS))
            if not recipient.filter(unanswered).update(answered_at=DatabaseNow()):
                return None
            inserted = self.store_message(row, heeds_stops=False)
            recipient.update(answer_id=row.pk)
            return inserted

    @sensitive_variables()
    def store_messages(self, rows: Sequence[OutboundMessage]) -> set[UUID]:
        """Insert many unsaved messages in one transaction. Returns the `uuid` of each row that was not inserted.

        Rows whose idempotency key is known are not inserted. All rows have their licenses already; if one of those was
        deleted, no row is inserted.

        Rows are inserted in the order of their keys: two calls with keys in common then wait for each other, and cannot
        deadlock. So that they are still sent in the order given, messages that are due at once become due one
        microsecond after another.
        """
        with transaction.atomic(using=self.using):
            return self._store_messages(rows)

    @sensitive_variables()
    def _store_messages(self, rows: Sequence[OutboundMessage]) -> set[UUID]:
        if not self._has_licenses(rows):
            return {row.uuid for row in rows}
        digests = [row.idempotency_digest for row in rows if row.idempotency_digest is not None]
        known = self.find_known(digests).keys() | self.find_kept(digests).keys()
        skipped = {row.uuid for row in rows if row.idempotency_digest in known}
        rows = [row for row in rows if row.uuid not in skipped]
        # SQLite has one writer at a time, so that no order of inserts can deadlock there.
        if len(digests) > 1 and self.connection.features.has_select_for_update:
            in_order(rows)
            rows = sorted(rows, key=lambda row: row.idempotency_digest or "")
        return skipped.union(*(self._insert(batch) for batch in self._batches(rows)))

    @sensitive_variables()
    def _choose_and_insert(self, row: OutboundMessage, default_name: str, forms: Sequence[str]) -> Inserted | None:
        """Insert the message by one statement, which also chooses the license. Returns None if it inserts nothing."""
        values, given = written(OutboundMessage, row.__dict__, self.connection, {"license_id": ("chosen_id", [])})
        build, asked = _asked(_choose, row, default_name, forms)
        chosen, conditions = compiled(self.using, build).with_values(asked, self.connection)
        # Without WHERE, SQLite would read the ON of ON CONFLICT as that of a join.
        source = f"SELECT {values} FROM ({chosen}) chosen WHERE TRUE", [*given, *conditions]
        stored = insert(
            OutboundMessage, self.connection, source,
            unless_known="idempotency_digest", returning=_AND_LANE.format(now=self.now_sql),
        )  # fmt: skip
        if not stored:
            return None
        self.keep_what_was_returned([row], stored)
        return Inserted(LaneSeen(row.created_at, bool(stored[0]["is_driven"])))

    @sensitive_variables()
    def _look(
        self, row: OutboundMessage, default_name: str, forms: Sequence[str]
    ) -> tuple[dict[str, Any] | None, bool]:
        """Return the license that sends the message, with its lane's state; and True if a purged message has its key.

        The license is None if it was deleted, or if none can be chosen. `forms`: the forms of the recipient whose stops
        apply.
        """
        digest = row.idempotency_digest
        build, values = _asked(_look, row, default_name, forms)
        found = first_of(self.connection, build, values)
        if found is None and digest is not None:
            return None, KeptKey.objects.filter(digest=digest).exists()
        return found, found is not None and digest is not None and found["is_kept"]

    @sensitive_variables()
    def _insert(self, rows: Sequence[OutboundMessage]) -> set[UUID]:
        """Insert the rows whose key is not known; returns the `uuid` of each row that was not inserted."""
        stored = None
        if can_write(self.connection):
            # Without a generator: Django's report of an error would show the values in its frame.
            lists: list[str] = []
            parameters: list[Any] = []
            for row in rows:
                sql, values = written(OutboundMessage, row.__dict__, self.connection, {})
                lists.append(f"({sql})")
                parameters += values
            stored = self._insert_source(f"VALUES {', '.join(lists)}", parameters)
        if stored is None and (len(rows) > 1 or not can_write(self.connection)):
            # MariaDB has refused all of several rows because one is known; MySQL cannot return rows at all.
            stored = self._insert_portably(rows)
        return self.keep_what_was_returned(rows, stored or [])

    def _insert_source(self, source: str, parameters: list[Any]) -> list[dict[str, Any]] | None:
        return insert(
            OutboundMessage, self.connection, (source, parameters),
            unless_known="idempotency_digest", returning=_RETURNED,
        )  # fmt: skip

    @sensitive_variables()
    def _insert_portably(self, rows: Sequence[OutboundMessage]) -> list[dict[str, Any]]:
        with transaction.atomic(using=self.using):
            OutboundMessage.objects.bulk_create(rows, ignore_conflicts=any(row.idempotency_digest for row in rows))
        for row in rows:
            row.pk, row._state.adding = None, True
        stored = OutboundMessage.objects.filter(uuid__in=[row.uuid for row in rows])
        return list(stored.values(*_RETURNED.split(", ")))

    @sensitive_variables()
    def keep_what_was_returned(self, rows: Sequence[OutboundMessage], stored: Iterable[Mapping[str, Any]]) -> set[UUID]:
        """Set the returned values on the rows that were inserted; returns the `uuid` of each row that was not."""
        by_uuid = {row.uuid: row for row in rows}
        for values in stored:
            row = by_uuid.pop(values["uuid"])
            row.pk = values["id"]
            if row.license_id is None:
                row.license_id = values["license_id"]
            row.created_at, row.due_at, row.expires_at = (
                values[name] for name in ("created_at", "due_at", "expires_at")
            )
            row._state.adding, row._state.db = False, self.using
        return set(by_uuid)

    def _has_licenses(self, rows: Sequence[OutboundMessage]) -> bool:
        """True if the licenses of all rows exist. No foreign key constraint checks that, see `OutboundMessage`."""
        wanted = {row.license_id for row in rows if row.license_id is not None}
        return License.objects.filter(pk__in=wanted).count() == len(wanted)

    def _batches(self, rows: Sequence[OutboundMessage]) -> Iterator[Sequence[OutboundMessage]]:
        limit = MAX_ROWS_PER_STATEMENT
        if allowed := self.connection.features.max_query_params:
            limit = min(limit, allowed // len(columns_of(OutboundMessage, self.using)))
        for start in range(0, len(rows), limit):
            yield rows[start : start + limit]

    # --- by their keys ---

    def find_by_key(self, key: str) -> OutboundMessage | None:
        """Return the stored message with this idempotency key; None if there is none, or if it was purged.

        This is a compiled query, because a checkout runs it for each receipt.
        """
        found = first_of(self.connection, _by_digest, {"digest": idempotency_digest(key)})
        return None if found is None else OutboundMessage.from_db(self.using, list(found), list(found.values()))

    def find_known(self, digests: Sequence[str]) -> dict[str, OutboundMessage]:
        """Return the stored messages with these digests of idempotency keys, by digest, without purged ones."""
        found: dict[str, OutboundMessage] = {}
        for some in _parts(digests):
            messages = OutboundMessage.objects.filter(idempotency_digest__in=some)
            found |= {message.idempotency_digest or "": message for message in messages}
        return found

    def find_kept(self, digests: Collection[str]) -> dict[str, OutboundMessage]:
        """Return unsaved messages for purged ones with these digests of idempotency keys, by digest."""
        found: dict[str, OutboundMessage] = {}
        for some in _parts(list(digests)):
            found |= {kept.digest: kept.as_message() for kept in KeptKey.objects.filter(digest__in=some)}
        return found

    def find_known_after_clash(self, digests: Sequence[str]) -> dict[str, OutboundMessage]:
        """Return the messages, stored or purged, whose digests an INSERT has just refused, by digest.

        Under MariaDB's REPEATABLE READ, a message that was stored after this transaction's snapshot is not visible to
        plain reads, and a locking read would wait for the lock on its row. So such messages are read over another
        connection.
        """
        found = self.find_known(digests)
        if missing := [digest for digest in digests if digest not in found]:
            found |= self.find_kept(missing)
        missing = [digest for digest in digests if digest not in found]
        if not missing or not self.dialect.keeps_snapshots or not self.connection.in_atomic_block:
            return found
        names = [field.attname for field in OutboundMessage._meta.concrete_fields]
        other = self.connection.copy()
        try:
            for part in _parts(missing):
                some = OutboundMessage.objects.filter(idempotency_digest__in=part).order_by()
                for values in some.query.get_compiler(connection=other).results_iter():
                    message = OutboundMessage.from_db(self.using, names, values)
                    found[message.idempotency_digest or ""] = message
        finally:
            other.close()
        return found

    def detach_source(self, messages: Q) -> None:
        """Detach these messages from their object, because another object has its primary key now.

        Messages that another process has locked are left as they are.
        """
        with self.brief():
            ids = list(self.locked(OutboundMessage.objects.filter(messages)).values_list("pk", flat=True))
            OutboundMessage.objects.filter(pk__in=ids).update(source_content_type=None)

    # --- their end ---

    def purge(self, rows: QuerySet[Any], ids: Sequence[int]) -> int:
        """Delete those of `rows`, from any of our tables, that have the primary keys `ids`. Returns how many.

        A message is deleted with its attempts. Its events stay without it, and its idempotency key is kept. With the
        last message and event about a number, its `Recipient` is deleted too, unless the owner has asked to stop.

        Raises `IntegrityError`, with nothing deleted, if a table of the site refers to one of the rows.
        """
        if rows.model is OutboundMessage:
            # Committed before the messages are deleted, so that a concurrent send finds the key in at least one place.
            with self.brief():
                self.keep_keys(rows.filter(pk__in=ids))
        numbers: set[str] = set()
        if column := _NUMBER_OF.get(rows.model):
            numbers = set(rows.filter(pk__in=ids).order_by().values_list(column, flat=True))
        with self.brief():
            if rows.model is OutboundMessage:
                # Filtered again, because a person may have queued a message again since it was found.
                ids = list(rows.filter(pk__in=ids).select_for_update().values_list("pk", flat=True))
                # Raw deletes load no rows, but do not cascade: rows that refer to a message go first.
                SendAttempt.objects.filter(message_id__in=ids)._raw_delete(self.using)
                WebhookEvent.objects.filter(message_id__in=ids).update(message=None)
            rows.model._default_manager.filter(pk__in=ids)._raw_delete(self.using)
        self.drop_recipients(numbers)
        return len(ids)

    def keep_keys(self, messages: QuerySet[OutboundMessage]) -> None:
        """Store the idempotency keys of messages that are about to be purged, so that repeats are still recognised."""
        columns = ("idempotency_digest", "pk", "created_at", "status", "source_fingerprint")
        keyed = messages.exclude(idempotency_digest=None).exclude(idempotency_key__startswith=NOT_KEPT)
        KeptKey.objects.bulk_create(
            [
                KeptKey(
                    digest=digest, message_id=message_id, created_at=at, status=status, source_fingerprint=fingerprint
                )
                for digest, message_id, at, status, fingerprint in keyed.values_list(*columns)
            ],
            ignore_conflicts=True,
        )


_NUMBER_OF = {OutboundMessage: "recipient", WebhookEvent: "sender_number"}


def in_order(rows: Iterable[OutboundMessage]) -> None:
    """Make those rows that are due at once become due one microsecond after another, in the order given."""
    for place, row in enumerate(rows):
        due_at: Any = row.due_at
        if place and isinstance(due_at, DatabaseNow):
            row.due_at = in_seconds(place / 1e6)


def _parts(digests: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(digests), MAX_ROWS_PER_STATEMENT):
        yield digests[start : start + MAX_ROWS_PER_STATEMENT]


def _by_digest() -> QuerySet[OutboundMessage, Any]:
    field = OutboundMessage._meta.get_field("idempotency_digest")
    names = [column.attname for column in OutboundMessage._meta.concrete_fields]
    found = OutboundMessage.objects.filter(idempotency_digest=Parameter("digest", field)).order_by()
    columns: QuerySet[OutboundMessage, Any] = found.values(*names)
    return columns


_Licenses = QuerySet[License, Any]


def _candidates(by: str, is_keyed: bool, forms: int) -> _Licenses:
    """Return the query for the license that sends a message, with what forbids to store it.

    `by`: how the license is found: `license` (by primary key), `name`, or `choice` (as by `choosing.choose()`).
    `is_keyed`: check as well whether a purged message has the idempotency key.
    `forms`: number of forms of the recipient. If it is not 0, check as well whether its owner has asked to stop.
    """
    if by == "license":
        licenses = License.objects.filter(pk=Parameter("license", License._meta.pk))
    elif by == "name":
        licenses = License.objects.active().filter(name=Parameter("name", License._meta.get_field("name")))
    else:
        others = License.objects.active().exclude(pk=OuterRef("pk"))
        licenses = License.objects.active().filter(Q(is_default=True) | ~Exists(others))
    found: _Licenses = licenses.order_by("pk")
    if is_keyed:
        digest = Parameter("digest", KeptKey._meta.get_field("digest"))
        found = found.annotate(is_kept=Exists(KeptKey.objects.filter(digest=digest)))
    if forms:
        number = Recipient._meta.get_field("number")
        numbers = [Parameter(f"form {place}", number) for place in range(forms)]
        found = found.annotate(
            is_stopped=Exists(Recipient.objects.filter(number__in=numbers, stopped_at__isnull=False))
        )
    return found


def _look(by: str, is_keyed: bool, forms: int) -> _Licenses:
    """Return the query for a license with its lane's state. For arguments see `_candidates()`."""
    is_driven = ExpressionWrapper(
        Q(lane__lease_token__isnull=False, lane__lease_expires_at__gt=DatabaseNow()), BooleanField()
    )
    seen: _Licenses = _candidates(by, is_keyed, forms).annotate(now=DatabaseNow(), is_driven=is_driven)
    forbidden = (["is_kept"] if is_keyed else []) + (["is_stopped"] if forms else [])
    found: _Licenses = seen.values("pk", "now", "is_driven", "lane__lease_taken_at", *forbidden)
    return found


def _choose(by: str, is_keyed: bool, forms: int) -> _Licenses:
    """Return the query for a license, without a row if the message must not be stored. Arguments as above."""
    forbidden = {"is_kept": False} if is_keyed else {}
    if forms:
        forbidden["is_stopped"] = False
    found: _Licenses = _candidates(by, is_keyed, forms).filter(**forbidden).values(chosen_id=F("pk"))
    return found


@cache
def _bound(query: Callable[..., _Licenses], by: str, is_keyed: bool, forms: int) -> Callable[[], _Licenses]:
    """Return `query` with these arguments, always as the same object, so that it is compiled only once."""
    return partial(query, by, is_keyed, forms)


def _asked(
    query: Callable[..., _Licenses], row: OutboundMessage, default_name: str, forms: Sequence[str]
) -> tuple[Callable[[], _Licenses], dict[str, Any]]:
    """Return `query`, `_look()` or `_choose()`, for this message, and the values of its parameters."""
    by = "license" if row.license_id is not None else "name" if default_name else "choice"
    digest = row.idempotency_digest
    values = {"license": row.license_id, "name": default_name, "digest": digest}
    values |= {f"form {place}": form for place, form in enumerate(forms)}
    return _bound(query, by, digest is not None, len(forms)), values


def _lane_of(found: Mapping[str, Any]) -> LaneSeen:
    return LaneSeen(found["now"], bool(found["is_driven"]), found["lane__lease_taken_at"])
