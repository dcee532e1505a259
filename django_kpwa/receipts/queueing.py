"""Turns a saved object into a message that waits for its text.

This runs inside the site's checkout. Whatever a receipt class raises is logged and stored as a `ReceiptFailure`. The
site's transaction stays usable; on PostgreSQL one failed statement outside a savepoint would abort it. If the error has
ended that transaction, the sale is not stored, and its `save()` raises an exception (see `containing`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from .. import phone
from ..conf import kpwa_settings
from ..containing import contained
from ..exceptions import InvalidPhoneNumberError, KnownReceiptError
from ..logs import get_logger
from ..models import WITHDRAWN, License, OutboundMessage, Status, about, idempotency_digest, source_id_of, write_alias
from ..outbox import copy_key, send_rendered_later
from ..store import store
from ..wake import wake_license_on_commit
from .base import FAMILY, Receipt, Registration
from .failures import clear_failure, keep_failure
from .identity import Row, Whose, fingerprint_of, key_of, key_of_row, occurred_at, reference_of, whose

logger = get_logger("django_kpwa.receipts")


class _Wanted(NamedTuple):
    """A receipt class's answers about an object that gets a message. `using` is the database that holds the object."""

    registration: Registration
    obj: models.Model
    using: str
    row: Row
    license: License | str | None
    expires_after_seconds: float | None

    def store(self, render_after_seconds: float) -> OutboundMessage:
        purged = None
        while True:
            # Looked up before the INSERT: one that is rejected at every later save would fill the database's error log.
            key, known, belongs_to = find_known(self.registration, self.row, purged)
            if known is not None and belongs_to is not Whose.ANOTHER:
                is_again = self._is_wanted_again(known, render_after_seconds)
                if belongs_to is Whose.UNCLEAR and not (is_again or self._was_sent_on(known)):
                    keep_failure(self.registration, self.obj, self.using, _unclear(known, self.registration))
                else:
                    clear_failure(self.registration, self.obj, self.using, is_new=self.row.is_new)
                return known
            message = send_rendered_later(
                self.row.phone_number,
                f"{FAMILY}/{self.registration.label}",
                idempotency_key=key,
                source=self.obj,
                source_database=self.using,
                source_fingerprint=self.row.fingerprint,
                source_reference=reference_of(self.registration, self.obj),
                license=self.license,
                render_after_seconds=render_after_seconds,
                expires_after_seconds=self.expires_after_seconds,
            )
            if not message.was_purged:
                break
            # Purged messages are found only here, because an earlier search would cost every first receipt a query.
            purged = message
        if known is not None:
            earlier = Q(pk__lte=known.pk)
            if self.row.occurred_at is not None:
                earlier |= Q(created_at__lt=self.row.occurred_at, pk__lt=message.pk)
            earlier &= about(type(self.obj), self.using, [source_id_of(self.obj)])
            store().on_commit(lambda: store().detach_source(earlier))
        clear_failure(self.registration, self.obj, self.using, is_new=self.row.is_new)
        return message

    def _was_sent_on(self, known: OutboundMessage) -> bool:
        """True if a person has already sent a copy of the message to the row's present number."""
        if known.was_purged:
            return False
        try:
            number = phone.parse(self.row.phone_number)
        except InvalidPhoneNumberError:
            return False
        return store().find_by_key(copy_key(known, number)) is not None

    def _is_wanted_again(self, known: OutboundMessage, render_after_seconds: float) -> bool:
        """Queue a withdrawn message again. Returns True if it was queued.

        A receipt is withdrawn if the sale is voided, or its number removed, before the message's turn. This save shows
        that the change was undone.
        """
        is_withdrawn = known.status == Status.CANCELLED and known.reason == WITHDRAWN and known.needs_rendering
        if not is_withdrawn or known.was_purged or known.source_content_type_id is None:
            return False
        if _is_of_another_class(known, self.registration):
            return False
        again = store().want_again(
            known.pk, due_in_seconds=render_after_seconds, expires_in_seconds=self.expires_after_seconds
        )
        if again:
            known.refresh_from_db()
            wake_license_on_commit(known.license_id, countdown_seconds=render_after_seconds)
        return bool(again)


def queue_saved(registration: Registration, obj: models.Model, using: str, *, is_new: bool) -> None:
    """Queue one receipt of `obj`, which was saved in the database `using`; `is_new`: the save inserted it.

    Raises only `TransactionLostError`, if the sale is lost with its transaction.
    """
    # Outside a transaction, the lines of the sale may follow later, each committed separately.
    is_complete = transaction.get_connection(using).in_atomic_block
    render_after_seconds = 0.0 if is_complete else kpwa_settings().RENDER_DELAY_SECONDS
    queue(registration, obj, using, render_after_seconds, is_new=is_new)


def queue(
    registration: Registration,
    obj: models.Model,
    using: str,
    render_after_seconds: float = 0.0,
    *,
    is_new: bool = False,
    is_asked_for: bool = False,
) -> OutboundMessage | None:
    """Queue one receipt of a saved object. Errors of the receipt class are stored as failures, not raised.

    Args:
        registration: The model with its receipt class.
        obj: The object.
        using: The alias of the database that holds `obj`.
        render_after_seconds: Seconds to wait before the text is rendered.
        is_new: The object was inserted just now.
        is_asked_for: A person wants the receipt, so `max_age` does not apply.

    Returns:
        The message. None if no receipt is to be sent, if the receipt class failed, or if the message is stored only
        when the open transaction commits.

    Raises:
        TransactionLostError: An error has ended the open transaction.
    """
    outbox = write_alias()
    with _contained(registration, obj, using, outbox):
        wanted = _ask(registration, obj, using, is_new, is_asked_for)
        if wanted is None:
            clear_failure(registration, obj, using, is_new=is_new)
            return None
        if using == outbox or not transaction.get_connection(using).in_atomic_block:
            return wanted.store(render_after_seconds)
        # The sale is in another database, where it may still be rolled back. This guarantees less than one transaction
        # for both: a crash between the two commits loses the receipt.
        transaction.on_commit(lambda: _store_committed(wanted, render_after_seconds), using=using, robust=True)
    return None


def is_recent(receipt: Receipt, moment: datetime | None) -> bool:
    """True if an event at `moment` is within `max_age`, or if there is no `max_age`. An unknown time is not recent."""
    return receipt.max_age is None or (moment is not None and timezone.now() - moment <= receipt.max_age)


def find_known(
    registration: Registration, row: Row, purged: OutboundMessage | None = None
) -> tuple[str, OutboundMessage | None, Whose]:
    """Find the receipt's message, skipping the messages of earlier rows with the same primary key.

    `purged` is the kept part of a purged message with the row's first key, if the caller knows one. It is not looked up
    here, which saves a query.

    Returns the key that the receipt has or would get, the message found for it, and which row that is about. The
    message is the receipt's own, unless it belongs to an earlier row with the same primary key. In that case the key is
    not taken yet.
    """
    number, message = 1, store().find_by_key(row.key) or purged
    while message is not None:
        found = whose(message, row)
        # `detach_source()` has separated the message from its source.
        is_earlier = message.source_content_type_id is None and not message.was_purged
        if found is Whose.THIS_ONE and (is_earlier or _is_of_another_class(message, registration)):
            found = Whose.UNCLEAR
        if found is Whose.THIS_ONE:
            return key_of_row(row.key, number), message, found
        later_key = key_of_row(row.key, number + 1)
        later = store().find_by_key(later_key) or purged_message_of(later_key)
        if later is None:
            return later_key, message, found
        number, message = number + 1, later
    return row.key, None, Whose.THIS_ONE


def purged_message_of(key: str) -> OutboundMessage | None:
    """Return the kept part of a purged message with this key, or None."""
    digest = idempotency_digest(key)
    return store().find_kept([digest]).get(digest)


def _is_of_another_class(known: OutboundMessage, registration: Registration) -> bool:
    """True if another class with the same event id queued the message. It is registered for a proxy, or its model."""
    from . import registry  # not at module level: `registry` imports this module

    owner = registry.find(known.renderer.removeprefix(f"{FAMILY}/"))
    return owner is not None and type(owner.receipt) is not type(registration.receipt)


def _store_committed(wanted: _Wanted, render_after_seconds: float) -> None:
    with _contained(wanted.registration, wanted.obj, wanted.using, write_alias()):
        wanted.store(render_after_seconds)


def _ask(registration: Registration, obj: models.Model, using: str, is_new: bool, is_asked_for: bool) -> _Wanted | None:
    receipt = registration.receipt
    if not receipt.should_send(obj):
        return None
    phone_number = phone.typed(receipt.get_phone_number(obj))
    if not phone_number:
        return None
    moment = occurred_at(receipt, obj)
    if not is_asked_for:
        if moment is None and receipt.max_age is not None:
            raise ValueError("get_occurred_at() returned None; a receipt with a max_age must say when it happened.")
        if not is_recent(receipt, moment):
            return None
    return _Wanted(
        registration,
        obj,
        using,
        Row(key_of(registration, obj, using), phone_number, fingerprint_of(receipt, obj, moment), moment, is_new),
        license=receipt.get_license(obj),
        expires_after_seconds=receipt.expires_after.total_seconds() if receipt.expires_after else None,
    )


@contextmanager
def _contained(registration: Registration, obj: models.Model, using: str, outbox: str) -> Iterator[None]:
    """Store an exception of the block as a failure. A savepoint protects a transaction from a failed statement."""
    with contained(using, outbox) as caught:
        yield
    if caught.error is not None:
        keep_failure(registration, obj, using, caught.error)


def _unclear(known: OutboundMessage, registration: Registration) -> KnownReceiptError:
    # The month is spelled out, because digits alone would be masked as a phone number.
    about = f"message {known.pk} of {known.created_at:%d %b %Y, %H:%M} UTC already has its key"
    if _is_of_another_class(known, registration):
        return KnownReceiptError(f"{about} and is of another receipt class: give the two different event ids.")
    return KnownReceiptError(
        f"{about}, but its number, or the time at which it happened, is different now. If the number was "
        "corrected, send that message to the right one. If this is another object that reuses a primary key, "
        f"define get_fingerprint() in {type(registration.receipt).__name__}."
    )
