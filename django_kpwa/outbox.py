"""The public API: the functions that a site calls to queue messages, and to cancel, resend or settle them.

    from django_kpwa.outbox import send_message
    send_message("0812 3456 7890", "Pesanan Anda siap diambil.", idempotency_key=f"ready:{order.pk}")

Each call stores a row in the site's own transaction and never waits for WhatsApp. An invalid message is refused here,
with the reason, before anything is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from django.db import models
from django.views.decorators.debug import sensitive_variables

from . import announce, phone
from .conf import Settings, kpwa_settings
from .containing import loud
from .contents import says_something, with_line_feeds
from .exceptions import InvalidMessageError, LicenseChoiceError, RecipientForgottenError, RecipientStoppedError
from .logs import get_logger
from .models import (
    NOT_KEPT,
    DatabaseNow,
    License,
    OutboundMessage,
    Priority,
    Recipient,
    RecipientType,
    Status,
    StopReason,
    in_seconds,
    is_saved,
    write_alias,
)
from .store import choosing, store
from .store.choosing import GIVEN_AT_ONCE, choose
from .validation import (
    check_content,
    check_encodable,
    checked_priority,
    checked_time,
    digest_of,
    name_of,
    recipient_of,
    reference_by,
    source_columns,
)
from .wake import wake_license_on_commit
from .words import UNCHOSEN

logger = get_logger("django_kpwa.outbox")

_MAX_COPIES = 5  # maximum length of the chain of copies that is followed (a copy of a copy …)
_NOW = DatabaseNow()


@dataclass(frozen=True)
class Message:
    """One message for `send_messages()`; the fields are the arguments of `send_message()`.

    Exactly one of `to` (a number) and `group` (a group's name) is given.
    """

    to: str = field(default="", repr=False)
    text: str = field(default="", repr=False)
    group: str = ""
    image_url: str | None = None
    license: License | str | None = None
    idempotency_key: str | None = field(default=None, repr=False)  # not in the repr: it may contain a phone number
    priority: int = Priority.NORMAL
    send_after: datetime | None = None
    expires_at: datetime | None = None
    source: models.Model | None = None
    reference: str = field(default="", repr=False)  # not in the repr, for the same reason


@sensitive_variables()
def send_message(
    to: str,
    text: str = "",
    *,
    image_url: str | None = None,
    license: License | str | None = None,
    idempotency_key: str | None = None,
    priority: int = Priority.NORMAL,
    send_after: datetime | None = None,
    expires_at: datetime | None = None,
    source: models.Model | None = None,
    reference: str = "",
) -> OutboundMessage:
    """Queue a message to a phone number and return the stored row.

    `to`: a number as people write it (`0812…`, `+62 812…`), or an object with an `as_e164` attribute.
    `text`: at most 65,536 characters; may be empty if `image_url` is given.
    `image_url`: an http or https URL that the gateway can fetch over the internet.
    `license`: a `License` or its name. Without it the message is sent by `KPWA["DEFAULT_LICENSE"]`, else the license
    marked as default, else the only active one. If none of these decides, the message is stored without a license and
    waits until one can be chosen.
    `idempotency_key`: any text of up to 255 characters. If a message with this key exists already, that message is
    returned, whatever its status, and nothing is queued.
    `priority`: 0 to 32767; lower is sent first, see `Priority`.
    `send_after`, `expires_at`: aware datetimes: the message is not sent before the first, nor after the second.
    `source`: the saved object that the message is about.
    `reference`: how people refer to the source, e.g. its invoice number, for lists and search in the admin; truncated
    to 80 characters. Empty: `str(source)`, if its model defines `__str__()`.

    Raises `InvalidMessageError` (its subclasses say what is wrong; `RecipientStoppedError`: the owner of the number
    wants no messages), or `LicenseChoiceError` if no license has the given name; nothing is stored then.
    """
    return _enqueue(
        Message(to, text, "", image_url, license, idempotency_key, priority, send_after, expires_at, source, reference)
    )


@sensitive_variables()
def send_group_message(
    group: str,
    text: str = "",
    *,
    image_url: str | None = None,
    license: License | str | None = None,
    idempotency_key: str | None = None,
    priority: int = Priority.NORMAL,
    send_after: datetime | None = None,
    expires_at: datetime | None = None,
    source: models.Model | None = None,
    reference: str = "",
) -> OutboundMessage:
    """Queue a message to a WhatsApp group and return the stored row.

    `group`: the group's name as WhatsApp shows it, 1 to 255 characters. Everything else is as for `send_message()`.
    """
    return _enqueue(
        Message(
            "", text, group, image_url, license, idempotency_key, priority, send_after, expires_at, source, reference
        )
    )


@sensitive_variables()
@loud(write_alias)
def send_messages(messages: Iterable[Message]) -> list[OutboundMessage]:
    """Queue many messages with a few SQL statements, all or none; returns the stored rows in the order given.

    If a message with the same `idempotency_key` exists already, or comes earlier in `messages`, that row is returned.

    Raises `InvalidMessageError` (also `RecipientStoppedError`), whose `index` is the position of the invalid message,
    or `LicenseChoiceError`; nothing is stored then.
    """
    conf = kpwa_settings()
    chosen: dict[str | None, License | None] = {}
    rows: list[OutboundMessage] = []
    for index, message in enumerate(messages):
        try:
            license_ = message.license
            if license_ is None or isinstance(license_, str):
                if license_ not in chosen:
                    chosen[license_] = (
                        choose(conf.DEFAULT_LICENSE).license if license_ is None else license_of(license_)
                    )
                license_ = chosen[license_]
            rows.append(_build(message, license_, conf))
        except InvalidMessageError as error:
            raise type(error)(error.reason, index=index) from None
    _check_stops(rows, is_many=True)
    stored = _store_many(rows)
    for license_id in {row.license_id for row in rows}:
        wake_license_on_commit(license_id)
    return stored


@sensitive_variables()
@loud(write_alias)
def send_rendered_later(
    to: str,
    renderer: str,
    *,
    idempotency_key: str,
    source: models.Model,
    license: License | str | None = None,
    source_database: str = "",
    source_fingerprint: str = "",
    source_reference: str = "",
    render_after_seconds: float = 0.0,
    expires_after_seconds: float | None = None,
) -> OutboundMessage:
    """Queue a message whose text a receipt class writes just before it is sent; returns the stored row.

    `renderer`: the receipt class, as `receipts/LABEL`.
    `source_database`: the alias of the database that the source was saved in, if the caller knows it.
    `source_fingerprint`: distinguishes the source from another row that later gets the same primary key.
    `source_reference`: as `validation.reference_by()` returns it.
    `render_after_seconds`: delay before the text is written, for a source that is not committed all at once.
    `expires_after_seconds`: by the database's clock, counted from when the message was stored; None: it never expires.

    If the owner of the number wants no messages, the row is stored as `cancelled`, with that reason.

    Raises as `send_message()` does.
    """
    message = Message(to, license=license, idempotency_key=idempotency_key, source=source)
    row = _build(message, license_of(license), kpwa_settings(), renderer, source_database)
    row.source_fingerprint, row.source_reference = source_fingerprint, source_reference
    if render_after_seconds:
        row.due_at = in_seconds(render_after_seconds)
    if expires_after_seconds is not None:
        row.expires_at = in_seconds(expires_after_seconds)
    try:
        return _store(row, kpwa_settings(), wake_after_seconds=render_after_seconds)
    except RecipientStoppedError:
        return _store_cancelled(row)


@sensitive_variables()
@loud(write_alias)
def send_stop_answer(license: License, stopped: Recipient, number: str, text: str) -> None:
    """Queue the message that confirms a stop, at most one a day. It is sent although the number is stopped."""
    answer = store().store_answer(stopped, _build(Message(number, text), license, kpwa_settings()))
    if answer is not None:
        wake_license_on_commit(license.pk, lane=answer.lane)


@loud(write_alias)
def cancel(message: OutboundMessage) -> bool:
    """Withdraw a queued message and refresh it. Returns False if it is being sent or is settled already.

    It becomes `cancelled`, or `unknown` again if an earlier attempt is in doubt, because that attempt may have arrived.

    This and the decisions below wait at most one second for a worker that has locked the message, and then return
    False: they are called in web requests, which must not wait for a worker that hangs.
    """
    status = store().cancel(message.pk)
    if status is not None:
        announce.message_became_on_commit(status, message.pk)
    _refresh(message)
    return status is not None


@loud(write_alias)
def resend(message: OutboundMessage) -> bool:
    """Queue a failed, expired, cancelled or doubtful message again and refresh it. Returns True if it was queued.

    A message that was sent and then reported as not delivered can be queued again as well. Its expiry is removed, and
    its attempts are counted from 0 again. If the message was in doubt, or the report was wrong, the recipient may get
    it twice.

    The message is queued even if a copy of it arrived at another number, because the site's code asks for it
    explicitly. The admin no longer offers this then, see `arrived_elsewhere()`.

    Raises, with nothing changed, `RecipientStoppedError` if the owner of its number wants no messages, and
    `RecipientForgottenError` if its number was forgotten.
    """
    _check_known(message)
    _check_stops([message])
    queued = bool(store().resend(message.pk))
    if queued:
        wake_license_on_commit(message.license_id)
    _refresh(message)
    return queued


@loud(write_alias)
def send_now(message: OutboundMessage) -> bool:
    """Send a message that was put off (`can_be_sent_now`) without further waiting, and refresh it.

    A bulk message becomes a normal one. Returns False if the message is not put off, or is put off because WhatsApp
    restricts the number.
    """
    is_due = bool(store().send_now(message.pk))
    if is_due:
        wake_license_on_commit(message.license_id)
    _refresh(message)
    return is_due


@loud(write_alias)
def mark_sent(message: OutboundMessage) -> bool:
    """Record that a message in doubt did arrive, and refresh it. Returns False if it is not in doubt."""
    marked = bool(store().mark_sent(message.pk))
    if marked:
        announce.message_became_on_commit(Status.SENT, message.pk)
    _refresh(message)
    return marked


@loud(write_alias)
def dismiss(message: OutboundMessage) -> bool:
    """Leave a message in doubt as it is, so that it no longer waits for a decision, and refresh the object.

    Returns False if it was not waiting for one.
    """
    dismissed = bool(store().dismiss(message.pk))
    _refresh(message)
    return dismissed


@sensitive_variables()
@loud(write_alias)
def send_to_another_number(message: OutboundMessage, to: str) -> OutboundMessage:
    """Queue a copy of `message` to the number `to` as well: a new message of the same license and source.

    Returns the copy. A second call with the same number returns the first call's copy. If the text of `message` is not
    written yet, it is written for the original and for the copy separately when each is sent.

    Raises `InvalidPhoneNumberError`, `InvalidMessageError` as `send_message()` does, or `RecipientForgottenError` if
    the number of `message` was forgotten, because its text was emptied as well.
    """
    recipient = phone.parse(to)
    conf = kpwa_settings()
    # Fetched again: the caller's instance may be stale, or have its text deferred.
    original = OutboundMessage.objects.select_related("license").get(pk=message.pk)
    _check_known(original)
    is_written = not original.needs_rendering
    row = _build(
        Message(
            to,
            original.text if is_written else "",
            image_url=(original.image_url or None) if is_written else None,
            idempotency_key=copy_key(original, recipient),
        ),
        original.license,
        conf,
        renderer="" if is_written else original.renderer,
    )
    if not is_written:
        # A receipt reads from its key which event of its source it is about, so the copy keeps the original's key.
        # That is safe: only the digest is unique, and the copy's digest is still that of `copy_key()`.
        row.idempotency_key = original.idempotency_key
    for name in ("content_type_id", "id", "database", "fingerprint", "reference"):
        setattr(row, f"source_{name}", getattr(original, f"source_{name}"))
    copy = _store(row, conf)
    if copy.pk is not None and arrived_elsewhere(original) is None:
        store().note_copy(original.pk, copy.pk)
    return copy


def arrived_elsewhere(message: OutboundMessage) -> OutboundMessage | None:
    """Return the copy of `message`, made by `send_to_another_number()`, that arrived; None if none did.

    Takes no query for a message that was not copied.
    """
    for _ in range(_MAX_COPIES):
        if message.copied_to_id is None:
            return None
        copy = OutboundMessage.objects.defer("text").filter(pk=message.copied_to_id).first()
        if copy is None or copy.has_arrived:
            return copy
        message = copy
    return None


@sensitive_variables()
def mark_stopped(messages: Iterable[OutboundMessage]) -> None:
    """Set `is_stopped` on those of `messages` whose recipients have asked for no more messages.

    Takes no query if none of them could be sent again or was withdrawn by a stop.
    """
    asked = [
        message
        for message in messages
        if message.recipient_type == RecipientType.NUMBER
        and not message.is_forgotten
        and (message.can_be_resent or message.reason in StopReason.values)
    ]
    stopped = store().find_stopped({message.recipient for message in asked}) if asked else set()
    for message in asked:
        message.is_stopped = message.recipient in stopped


@sensitive_variables()
@loud(write_alias)
def asks_again(message: OutboundMessage) -> bool:
    """End the stop of the number that `message` goes to, because the customer asks for messages again.

    Returns False if there is no stop. It sends nothing itself: `resend()` becomes possible again.
    """
    if message.recipient_type != RecipientType.NUMBER or message.is_forgotten:
        return False
    message.is_stopped = False
    return store().lift_stop(message.recipient)


def copy_key(message: OutboundMessage, recipient: str) -> str:
    """Return the idempotency key of the copy of `message` that goes to the number `recipient`."""
    return f"{NOT_KEPT}{message.uuid}:{recipient}"


def choose_license() -> License:
    """Return the license that sends messages for which none is given: `KPWA["DEFAULT_LICENSE"]`, else the license
    marked as default, else the only active one. For callers that need a license at once; messages can wait for one.

    Raises `LicenseChoiceError` if none of these decides.
    """
    name = kpwa_settings().DEFAULT_LICENSE
    found = choose(name)
    if found.why_not is not None:
        raise LicenseChoiceError(UNCHOSEN[found.why_not].error.format(name=name))
    return cast(License, found.license)


def license_of(given: License | str | None) -> License | None:
    """Resolve the `license` argument of the functions above: a `License`, a license's name, or None.

    Raises `LicenseChoiceError` if no license has that name, `InvalidMessageError` for a value of another type.
    """
    if given is None or isinstance(given, License):
        return given
    if not isinstance(given, str):
        raise InvalidMessageError(f"its license is a {type(given).__name__}; give a License, or its name as a string.")
    found = License.objects.filter(name=given).first()
    if found is None:
        raise LicenseChoiceError(f"There is no license called {given!r}. The admin lists the names of the licenses.")
    return found


def give_unassigned(limit: int = GIVEN_AT_ONCE) -> bool:
    """Assign up to `limit` messages that were stored without a license to the one that is chosen now, and wake it.

    Returns False if no message waits for a license, or if none can be chosen yet.
    """
    license_ = choosing.give_unassigned(kpwa_settings().DEFAULT_LICENSE, limit)
    if license_ is None:
        return False
    wake_license_on_commit(license_.pk)
    return True


@sensitive_variables()
@loud(write_alias)
def _enqueue(message: Message) -> OutboundMessage:
    conf = kpwa_settings()
    return _store(_build(message, license_of(message.license), conf), conf)


@sensitive_variables()
def _build(
    message: Message, license_: License | None, conf: Settings, renderer: str = "", source_database: str = ""
) -> OutboundMessage:
    """Validate `message` and return its unsaved row. Raises `InvalidMessageError`."""
    if license_ is not None and not is_saved(license_):
        raise InvalidMessageError("the license has not been saved yet.")
    typed, recipient, recipient_type = recipient_of(message.to, message.group, conf.DEFAULT_REGION)
    text, image_url = with_line_feeds(message.text or ""), message.image_url or ""
    if not says_something(text) and not image_url and not renderer:
        raise InvalidMessageError("it has neither a visible text nor an image_url; give at least one.")
    check_content(text, image_url)
    content_type, source_id, source_database = source_columns(message.source, source_database)
    digest = digest_of(message.idempotency_key)
    check_encodable(text, typed, recipient, message.idempotency_key or "", source_id)
    row = OutboundMessage(
        recipient_type=recipient_type,
        recipient_typed=typed,
        recipient=recipient,
        text=text,
        image_url=image_url,
        renderer=renderer,
        idempotency_key=message.idempotency_key or "",
        idempotency_digest=digest,
        priority=checked_priority(message.priority),
        created_at=_NOW,
        due_at=_NOW if message.send_after is None else checked_time("send_after", message.send_after),
        expires_at=None if message.expires_at is None else checked_time("expires_at", message.expires_at),
        source_content_type=content_type,
        source_id=source_id,
        source_database=source_database,
    )
    if not renderer:
        label = f"the {type(message.source).__name__} of a message" if message.source else "a message"
        row.source_reference = reference_by(lambda: message.reference or name_of(message.source), label)
    if message.send_after is not None:
        row.first_due_at = row.due_at
    if license_ is not None:
        row.license = license_
    return row


@sensitive_variables()
def _store(row: OutboundMessage, conf: Settings, *, wake_after_seconds: float = 0.0) -> OutboundMessage:
    """Store the message, or return the existing one with its idempotency key.

    For a row without a license, the store chooses one.
    """
    inserted = store().store_message(row, conf.DEFAULT_LICENSE)
    if inserted is None:
        existing = _known(row.idempotency_digest)
        if existing is None:
            _check_stops([row])
            raise _not_stored()
        _log_difference(existing, row)
        return existing
    wake_license_on_commit(row.license_id, countdown_seconds=wake_after_seconds, lane=inserted.lane)
    return row


@sensitive_variables()
def _store_cancelled(row: OutboundMessage) -> OutboundMessage:
    """Store a receipt as cancelled, because the owner of its number wants no messages: the sale then shows why."""
    if not store().store_stopped(row, kpwa_settings().DEFAULT_LICENSE):
        return _known(row.idempotency_digest) or row
    announce.message_became_on_commit(Status.CANCELLED, row.pk)
    return row


def _check_known(message: OutboundMessage) -> None:
    """Raise `RecipientForgottenError` if the message's number and text were emptied."""
    if message.is_forgotten:
        raise RecipientForgottenError("its number and its text were forgotten.")


@sensitive_variables()
def _check_stops(rows: Sequence[OutboundMessage], *, is_many: bool = False) -> None:
    """Raise `RecipientStoppedError` if the owner of one of the rows' numbers has asked for no more messages.

    `is_many`: set the error's `index` to the position of the row.
    """
    stopped = store().find_stopped(row.recipient for row in rows if row.recipient_type == RecipientType.NUMBER)
    if not stopped:
        return
    for index, row in enumerate(rows):
        if row.recipient_type == RecipientType.NUMBER and row.recipient in stopped:
            told = f"the owner of {phone.mask(row.recipient)} has asked for no more messages."
            raise RecipientStoppedError(told, index=index if is_many else None)


@sensitive_variables()
def _store_many(rows: Sequence[OutboundMessage]) -> list[OutboundMessage]:
    """Store many messages, all or none; for each row, returns it or the existing one with its idempotency key."""
    first: dict[str, OutboundMessage] = {}
    for row in rows:
        if row.idempotency_digest is not None:
            first.setdefault(row.idempotency_digest, row)
    # Of several rows with one key, only the first is inserted; it is the result for the others too.
    fresh = [row for row in rows if row.idempotency_digest is None or first[row.idempotency_digest] is row]
    skipped = store().store_messages(fresh)
    refused = [digest for digest, row in first.items() if row.uuid in skipped]
    known = store().find_known_after_clash(refused)
    result = []
    for row in rows:
        digest = row.idempotency_digest
        match = row if digest is None else known.get(digest, first[digest])
        if match.uuid in skipped and digest not in known:
            raise _not_stored()
        _log_difference(match, row)
        result.append(match)
    return result


def _known(digest: str | None) -> OutboundMessage | None:
    return None if digest is None else store().find_known_after_clash([digest]).get(digest)


def _not_stored() -> LicenseChoiceError:
    """The error for a row that was not inserted although its key is unknown: its license is gone."""
    return LicenseChoiceError(
        "The license of the message no longer exists, so nothing was stored. Choose another license."
    )


def _log_difference(existing: OutboundMessage, row: OutboundMessage) -> None:
    """Log a warning if a repeat has other content: most likely the site's idempotency key is not unique enough."""
    if existing.was_purged or existing.is_forgotten or (row.pk is not None and existing.pk == row.pk):
        return
    if existing.recipient != row.recipient or (not row.renderer and existing.text != row.text):
        logger.warning(
            "The idempotency key of message %s was used again with another text or recipient; nothing new is sent.",
            existing.pk,
        )


def _refresh(message: OutboundMessage, *names: str) -> None:
    message.refresh_from_db(fields=list(names) or None)
