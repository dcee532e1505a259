"""Stores webhook events: finds a token's license, inserts, claims and records an event, and finds its attempts."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F, Q, QuerySet
from django.views.decorators.debug import sensitive_variables

from ..models.database import DatabaseNow, in_seconds
from ..models.lane import Lane
from ..models.license import WebhookToken
from ..models.message import SendAttempt
from ..models.webhook_event import EventStatus, SeenId, WebhookEvent
from .base import StoreBase
from .compiled import Parameter, first_of
from .insertion import Column, can_write, columns_of, insert
from .locks import brief_statements, waited_too_long
from .sql import now_sql, with_tables

OLD_TOKEN_DAYS = 1
_MYSQL_DEADLOCK = 1213
_TRIES_TO_RECORD = 5
MAX_MATCHES_PER_ID = 20
"""Number of attempts with the same gateway id from which the id identifies none of them."""
_MAX_MATCHES = 2000
"""Upper limit for all ids of an event together."""
CLAIMED_COLUMNS = (
    "id", "uuid", "license_id", "body", "content_type", "content_encoding", "received_at", "tries", "processed_at"
)  # fmt: skip
"""The columns that processing needs; an event's other fields are deferred."""


class Attempt(NamedTuple):
    """What processing needs to know about an attempt. `status` is the status of its message."""

    message_id: int
    number: int
    outcome: str
    gateway_id: str
    status: str
    pk: int


class KnownToken(NamedTuple):
    """A webhook token that is stored and has not expired."""

    pk: int
    license_id: int
    is_used: bool
    is_registered: bool


class Seen(NamedTuple):
    """The first event that acted on an id, and the message that it moved if the id belongs to a message of ours."""

    event_id: int
    message_id: int | None


class Events(StoreBase):
    """Webhook tokens, events, and the ids on which events have acted."""

    @sensitive_variables()
    def find_token(self, digest: str) -> KnownToken | None:
        """Return the stored token whose SHA-256 is `digest`; None if it is unknown or has expired."""
        found = first_of(self.connection, _token, {"digest": digest})
        if found is None or not hmac.compare_digest(found["digest"], digest):
            return None
        is_used, is_registered = found["first_used_at"] is not None, found["registered_at"] is not None
        return KnownToken(found["pk"], found["license_id"], is_used, is_registered)

    def add_token(self, license_id: int, digest: str) -> int:
        """Store a license's new token by its SHA-256, and return its id. The gateway does not know it yet."""
        return WebhookToken.objects.create(license_id=license_id, digest=digest, created_at=DatabaseNow()).pk

    def note_token_registered(self, token_id: int) -> None:
        """Store that the token's URL was registered with the gateway."""
        WebhookToken.objects.filter(pk=token_id).update(registered_at=DatabaseNow())

    def note_token_used(self, token: KnownToken) -> None:
        """At a token's first event, let the license's older tokens expire: the gateway now posts under this one."""
        if token.is_used:
            return
        tokens = WebhookToken.objects
        if not tokens.filter(pk=token.pk, first_used_at=None).update(first_used_at=DatabaseNow()):
            return
        siblings = tokens.filter(license_id=token.license_id)
        if not token.is_registered and not siblings.filter(pk__gt=token.pk).exists():
            # Registering the token seemed to fail, but it succeeded: the gateway uses the token.
            tokens.filter(pk=token.pk, registered_at=None).update(registered_at=DatabaseNow(), expires_at=None)
        # Only older tokens: a late event under an old token must not retire the token that replaces it.
        self.expire_tokens(token.license_id, pk__lt=token.pk)

    def expire_tokens(self, license_id: int, **which: int) -> None:
        """Let the license's tokens expire in `OLD_TOKEN_DAYS`; with the lookup `which`, only those that match it."""
        tokens = WebhookToken.objects.filter(license_id=license_id, expires_at=None, **which)
        tokens.update(expires_at=in_seconds(OLD_TOKEN_DAYS * 86400))

    @sensitive_variables()
    def insert_event(
        self,
        license_id: int,
        body: bytes,
        content_type: str,
        digest: str,
        *,
        content_encoding: str = "",
        under_token: str | None = None,
    ) -> int | None:
        """Insert the event of a webhook call and return its id.

        Args:
            license_id: The license to which the webhook belongs.
            body: The request's body, as it was received.
            content_type: The header Content-Type.
            digest: Identifies the event, so that a repeat is not stored again.
            content_encoding: The header Content-Encoding.
            under_token: The digest of a token. The event is inserted only if the license has this token, which must
                have been used before and not have expired. This saves `find_token()` in the usual case.

        Returns:
            None if an event with this digest is stored already, or if the condition of `under_token` is not met. With
            `under_token` it is always None on MySQL.
        """
        given = {
            "license_id": license_id,
            "body": body,
            "content_type": content_type,
            "content_encoding": content_encoding,
            "digest": digest,
        }
        connection = self.connection
        if not can_write(connection):
            return None if under_token else self._insert_event_portably(WebhookEvent(**given, **_AT_FIRST))
        given["uuid"] = uuid.uuid4()
        values, columns = _new_event(self.using)
        parameters = [column.prepared(given[column.field.attname], connection) for column in columns]
        source = f"SELECT {values} WHERE TRUE"
        if under_token:
            is_good = with_tables(_WHILE_GOOD.format(now=self.now_sql), self.using)
            source = f"SELECT {values} {is_good}"
            parameters += [under_token, license_id]
        stored = insert(WebhookEvent, connection, (source, parameters), unless_known="digest", returning="id")
        return int(stored[0]["id"]) if stored else None

    @sensitive_variables()
    def _insert_event_portably(self, event: WebhookEvent) -> int | None:
        try:
            with transaction.atomic(using=self.using):
                event.save(using=self.using, force_insert=True)
        except IntegrityError:
            return None
        return event.pk

    def count_repeat(self, digest: str) -> bool:
        """Count a repeat of the stored event with this digest. Returns False if there is no such event.

        If another process keeps the event locked, the repeat is not counted: the gateway must not wait for the lock.
        """
        try:
            with brief_statements(self.using):
                repeats = WebhookEvent.objects.filter(digest=digest)
                return bool(repeats.update(times_received=F("times_received") + 1, last_received_at=DatabaseNow()))
        except OperationalError as error:
            if not self.can_be_left(error):
                raise
            return True

    def free_digest(self, event_id: int, after_seconds: float) -> bool:
        """Allow the event's body to be stored as a new event, unless it last came within `after_seconds`.

        Returns True if it may be stored.
        """
        old = WebhookEvent.objects.filter(pk=event_id, last_received_at__lte=in_seconds(-after_seconds))
        with brief_statements(self.using):
            return bool(old.update(digest=None))

    def free_event(self, event_id: int) -> bool:
        """Make a stored event due now, as if it had never been tried.

        Its signals are sent again only if it was not understood before. Returns False if a worker is processing it, or
        if it has no body.
        """
        held = Q(processed_at=None, tries__gt=0, next_try_at__gt=DatabaseNow())
        # Without its body, the event could only be parsed as one that was not understood.
        idle = WebhookEvent.objects.filter(~held, pk=event_id).exclude(body=b"")
        not_understood = Q(status__in=[EventStatus.UNRECOGNISED, EventStatus.FAILED])
        anew = {"next_try_at": DatabaseNow(), "tries": 0}
        return bool(
            idle.filter(not_understood).update(**anew, processed_at=None) or idle.filter(~not_understood).update(**anew)
        )

    @sensitive_variables()
    def claim_event(self, event_id: int, lease_seconds: float) -> tuple[WebhookEvent, str] | None:
        """Claim an event that is due, for `lease_seconds`. Returns it and its license's linked number (may be empty).

        Returns None if it is not due, if another worker has claimed it, or if it was deleted.
        """
        rows = WebhookEvent.objects.filter(pk=event_id)
        try:
            with brief_statements(self.using):
                is_claimed = rows.to_process().update(tries=F("tries") + 1, next_try_at=in_seconds(lease_seconds))
        except OperationalError as error:
            # If many workers claim one row at once, MySQL ends some of them as deadlocked. Another worker has the row
            # then. In a caller's transaction the error is raised again, because MySQL has rolled back all of it.
            is_locked = waited_too_long(error) and not self.connection.in_atomic_block
            if not is_locked and not self._ended_by_deadlock(error):
                raise
            return None
        event = rows.only(*CLAIMED_COLUMNS).order_by().first() if is_claimed else None
        if event is None:
            return None
        lanes = Lane.objects.filter(pk=event.license_id)
        return event, lanes.values_list("linked_number", flat=True).order_by().first() or ""

    @sensitive_variables()
    def find_attempts(self, license_id: int, gateway_ids: Sequence[str]) -> list[Attempt] | None:
        """Find the attempts of a license that have one of `gateway_ids`, newest first, by one statement.

        On MariaDB they include attempts whose id differs only in case. Returns None if there are too many to tell them
        apart (`max_matches()`).
        """
        limit = max_matches(gateway_ids)
        attempts = SendAttempt.objects.filter(gateway_id__in=gateway_ids, message__license_id=license_id)
        names = ("message_id", "number", "outcome", "gateway_id", "message__status", "pk")
        found = [Attempt(*row) for row in attempts.order_by("-pk").values_list(*names)[:limit]]
        return found if len(found) < limit else None

    @sensitive_variables()
    def record_event(
        self, event: WebhookEvent, columns: Mapping[str, Any], *, next_try_in: float | None, is_processed: bool = False
    ) -> bool:
        """Write `columns` of a claimed event.

        Args:
            event: The event, as it was claimed.
            columns: The values by the fields' names.
            next_try_in: Seconds until the event is due again; None: never.
            is_processed: True if its signals were sent, or have no receivers.

        Returns:
            False, with nothing written, if another worker has claimed the event since.
        """
        held = WebhookEvent.objects.filter(pk=event.pk, tries=event.tries)
        written = {
            "next_try_at": None if next_try_in is None else in_seconds(next_try_in),
            **({"processed_at": DatabaseNow()} if is_processed else {}),
            **columns,
        }
        tries = 1
        while True:
            try:
                with brief_statements(self.using):
                    return bool(held.update(**written))
            except OperationalError as error:
                # If other workers try to claim the event at the same time, MySQL may end this statement as deadlocked.
                # It has changed nothing then, and can be run again.
                if tries == _TRIES_TO_RECORD or not self._ended_by_deadlock(error):
                    raise
                tries += 1

    def _ended_by_deadlock(self, error: OperationalError) -> bool:
        """True if MySQL ended the statement as deadlocked, and it may be run again.

        In a caller's transaction it may not, because MySQL has rolled back all of that.
        """
        return error.args[:1] == (_MYSQL_DEADLOCK,) and not self.connection.in_atomic_block

    def find_seen(self, digests: Collection[str]) -> dict[str, Seen]:
        """Return those of `digests` on which an event has acted, each with that event."""
        rows = SeenId.objects.filter(digest__in=digests)
        return {
            digest: Seen(event_id, message_id)
            for digest, event_id, message_id in rows.values_list("digest", "event_id", "message_id")
        }

    @sensitive_variables()
    def claim_seen(self, event_id: int, claims: Sequence[tuple[str, int | None]]) -> dict[str, Seen]:
        """Claim digests for an event. `claims` are pairs of a digest and a message id.

        Returns, by digest, the event that holds it now, which may be an earlier one. Of several events that claim a
        digest at once, exactly one gets it, because the column is unique.
        """
        # Sorted, so that two events with digests in common lock them in the same order and cannot deadlock.
        wanted = dict(sorted(claims))
        rows = [
            SeenId(digest=digest, event_id=event_id, message_id=message_id, seen_at=DatabaseNow())
            for digest, message_id in wanted.items()
        ]
        with self.brief():
            SeenId.objects.bulk_create(rows, ignore_conflicts=True)
        return self.find_seen(wanted)


_AT_FIRST = dict.fromkeys(("received_at", "last_received_at", "next_try_at"), DatabaseNow())
_DIFFERS = ("uuid", "license_id", "body", "content_type", "content_encoding", "digest")


@cache
def _new_event(using: str) -> tuple[str, list[Column]]:
    """Return a new event's values as SQL, and the columns that have a placeholder in it, in the same order.

    All other columns have a literal, their default. The SQL is built once: a model instance for each event, or a
    parameter for each column, would cost more than the rest of the INSERT.
    """
    event, now = WebhookEvent(), now_sql(using)
    parts: list[str] = []
    differing: list[Column] = []
    for column in columns_of(WebhookEvent, using):
        name = column.field.attname
        if name in _DIFFERS:
            parts.append(column.placeholder)
            differing.append(column)
        elif name in _AT_FIRST:
            parts.append(now)
        else:
            parts.append(column.placeholder.replace("%s", _literal(getattr(event, name))))
    return ", ".join(parts), differing


def _literal(default: Any) -> str:
    """Return a column's default as SQL: NULL, a number, one of our own words or an empty JSON object."""
    if default is None:
        return "NULL"
    if isinstance(default, int):
        return str(int(default))
    return f"'{json.dumps(default) if isinstance(default, dict) else default}'"


def max_matches(gateway_ids: Sequence[str]) -> int:
    """Return the number of attempts from which `gateway_ids` no longer identify any of them."""
    return min(MAX_MATCHES_PER_ID * len(gateway_ids), _MAX_MATCHES)


def seen_digest(license_id: int, use: str, *parts: str) -> str:
    """Return the SHA-256 digest under which an id is stored; `use` separates different uses of the same id."""
    lengths = ":".join(str(len(part)) for part in parts)
    return hashlib.sha256(f"{license_id}:{use}:{lengths}:{''.join(parts)}".encode("utf-8", "surrogatepass")).hexdigest()


def _token() -> QuerySet[WebhookToken, Any]:
    digest = Parameter("digest", WebhookToken._meta.get_field("digest"))
    tokens = WebhookToken.objects.filter(digest=digest).exclude(expires_at__lte=DatabaseNow())
    return tokens.order_by().values("pk", "digest", "license_id", "first_used_at", "registered_at")


_WHILE_GOOD = """
FROM django_kpwa_webhooktoken token WHERE token.digest = %s AND token.license_id = %s
AND token.first_used_at IS NOT NULL AND (token.expires_at IS NULL OR token.expires_at > {now})"""
