"""From a saved object to a message that waits for its text.

This runs inside the site's checkout. Whatever a receipt class raises is logged and kept as a `ReceiptFailure`, and
leaves the site's transaction usable: on PostgreSQL one failed statement outside a savepoint would end it. Where
what was raised is that transaction's own end, the sale is not stored, and its `save()` raises (see `containing`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.utils import timezone

from .. import phone
from ..conf import kpwa_settings
from ..containing import contained, replace_if_broken
from ..contents import says_something
from ..exceptions import LicenseChoiceError
from ..models import (
    MAX_DATABASE_LENGTH,
    DatabaseNow,
    License,
    OutboundMessage,
    ReceiptFailure,
    idempotency_digest,
    source_id_of,
    stored_name,
    write_alias,
)
from ..outbox import send_rendered_later
from ..rendering import masked_traceback, words_of
from .base import Receipt, Registration

logger = logging.getLogger("django_kpwa.receipts")

FAMILY = "receipts"
"""The family that renders these messages (see `rendering`)."""
_MOST_OF_A_PART = 80
_MARK = "~"  # follows no percent sign in a part that is quoted


@dataclass(frozen=True)
class _Wanted:
    """What a receipt class answered about an object that gets a message."""

    registration: Registration
    obj: models.Model
    using: str
    key: str
    phone_number: str = field(repr=False)
    license: License | str | None
    expires_at: datetime | None

    def store(self, render_after_seconds: float) -> OutboundMessage:
        # Looked for first: a refused INSERT at every later save would fill the database's error log.
        known = OutboundMessage.objects.using(write_alias()).filter(idempotency_digest=idempotency_digest(self.key))
        return known.first() or send_rendered_later(
            self.phone_number,
            f"{FAMILY}/{self.registration.label}",
            idempotency_key=self.key,
            source=self.obj,
            source_database=self.using,
            license=self.license,
            render_after_seconds=render_after_seconds,
            expires_at=self.expires_at,
        )


def queue_saved(registration: Registration, obj: models.Model, using: str) -> None:
    """Queue one receipt of `obj`, which was saved on the database `using`.

    Raises `TransactionLostError` where the sale is lost with its transaction, and nothing else.
    """
    # Outside a transaction the lines of the sale may still be coming, each committed by itself.
    is_complete = transaction.get_connection(using).in_atomic_block
    queue(registration, obj, using, 0.0 if is_complete else kpwa_settings().RENDER_DELAY_SECONDS)


def queue(
    registration: Registration,
    obj: models.Model,
    using: str,
    render_after_seconds: float = 0.0,
    *,
    is_asked_for: bool = False,
) -> OutboundMessage | None:
    """Queue one receipt of `obj`, which lives on the database `using`; returns its message where that is stored now.

    `is_asked_for`: a person wants it, whatever its age. Raises nothing because of the receipt class, and
    `TransactionLostError` where a transaction that was open came to its end meanwhile.
    """
    outbox = write_alias()
    with _contained(registration, obj, using, outbox):
        wanted = _ask(registration, obj, using, is_asked_for)
        if wanted is None:
            return None
        if using == outbox or not transaction.get_connection(using).in_atomic_block:
            return wanted.store(render_after_seconds)
        # Another database: the sale may yet be rolled back there. Weaker, for a crash between the two commits loses it.
        transaction.on_commit(lambda: _store_committed(wanted, render_after_seconds), using=using, robust=True)
    return None


def key_of(registration: Registration, obj: models.Model, using: str) -> str:
    """The idempotency key of a receipt of `obj`, which is in the database `using`: four parts between colons.

    A proxy's rows are its concrete model's: saved through either, a sale is one sale. Raises `ValueError` for an event
    id that is none.
    """
    event_id = registration.receipt.get_event_id(obj)
    if not isinstance(event_id, str) or not says_something(event_id):
        raise ValueError(f"get_event_id() returned {event_id!r}; it must be a text that is not empty or blank.")
    concrete = obj._meta.concrete_model or type(obj)
    database = f"@{_short(_quoted(using))}" if stored_name(using) else ""
    return f"receipt{database}:{concrete._meta.label_lower}:{_short(_quoted(source_id_of(obj)))}:{_quoted(event_id)}"


def event_id_of(key: str) -> str:
    """The event id in a key that `key_of()` made."""
    return key.split(":")[3].replace("%3A", ":").replace("%25", "%")


def _quoted(part: str) -> str:
    """`part` without colons, and no two parts alike."""
    return part.replace("%", "%25").replace(":", "%3A")


def _short(part: str) -> str:
    """A quoted part of any length, in the room that a key has. What it stands for is stored beside the key."""
    return part if len(part) <= _MOST_OF_A_PART else f"%{_MARK}{idempotency_digest(part)}"


def is_recent(receipt: Receipt, obj: models.Model) -> bool:
    """Whether `obj` is young enough for a save to send. Raises `ValueError` for a time that is none."""
    occurred_at = receipt.get_occurred_at(obj)
    if occurred_at is None or receipt.max_age is None:
        return True
    if not isinstance(occurred_at, datetime) or timezone.is_naive(occurred_at):
        raise ValueError(f"get_occurred_at() returned {occurred_at!r}; it must be an aware datetime or None.")
    return timezone.now() - occurred_at <= receipt.max_age


def _store_committed(wanted: _Wanted, render_after_seconds: float) -> None:
    with _contained(wanted.registration, wanted.obj, wanted.using, write_alias()):
        wanted.store(render_after_seconds)


def _ask(registration: Registration, obj: models.Model, using: str, is_asked_for: bool) -> _Wanted | None:
    receipt = registration.receipt
    if not receipt.should_send(obj) or not (is_asked_for or is_recent(receipt, obj)):
        return None
    phone_number = phone.typed(receipt.get_phone_number(obj))
    if not phone_number:
        return None
    return _Wanted(
        registration,
        obj,
        using,
        key=key_of(registration, obj, using),
        phone_number=phone_number,
        license=receipt.get_license(obj),
        expires_at=timezone.now() + receipt.expires_after if receipt.expires_after else None,
    )


@contextmanager
def _contained(registration: Registration, obj: models.Model, using: str, outbox: str) -> Iterator[None]:
    """Keep what is raised inside as a failure; a failed statement ends in a savepoint."""
    with contained(using, outbox) as caught:
        yield
    if caught.error is not None:
        _keep_failure(registration, obj, using, caught.error)


def _keep_failure(registration: Registration, obj: models.Model, saved_in: str, error: Exception) -> None:
    if isinstance(error, LicenseChoiceError):
        _warn_of_license(str(error))
    else:
        _log_failure(registration, obj, error)
    using = write_alias()
    replace_if_broken(using)
    with contained(using) as caught:
        ReceiptFailure(
            receipt=registration.label,
            source_content_type=ContentType.objects.db_manager(using).get_for_model(obj, for_concrete_model=False),
            source_id=source_id_of(obj)[:255],
            source_database=stored_name(saved_in)[:MAX_DATABASE_LENGTH],
            error=words_of(error),
            occurred_at=DatabaseNow(),
        ).save(using=using, force_insert=True)
    if caught.error is not None:
        logger.error("Nor could that be kept for the admin (%s).", type(caught.error).__name__)


def _log_failure(registration: Registration, obj: models.Model, error: Exception) -> None:
    trace = masked_traceback(error)
    logger.error("Receipt %s of %s %s was not queued: %s", registration.label, obj._meta.label, obj.pk, trace)


@cache
def _warn_of_license(words: str) -> None:
    """Once a process: each sale fails alike, and the traceback would lead nowhere. Each is shown in the admin."""
    logger.warning("Receipts are not queued. %s", words)
