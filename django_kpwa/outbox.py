"""The front door: what a site calls to send a message, and to decide about one.

    from django_kpwa.outbox import send_message
    send_message("0812 3456 7890", "Pesanan Anda siap diambil.", idempotency_key=f"ready:{order.pk}")

A call stores a row in the site's own transaction and never waits for WhatsApp. Anything wrong with the message is
refused here, with the reason, before anything is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from . import announce, phone
from .conf import Settings, kpwa_settings
from .containing import loud
from .contents import is_out_of_reach, says_something, with_line_feeds
from .exceptions import InvalidImageUrlError, InvalidMessageError, LicenseChoiceError
from .logs import get_logger
from .models import (
    MAX_DATABASE_LENGTH,
    NOT_KEPT,
    DatabaseNow,
    License,
    OutboundMessage,
    Priority,
    RecipientType,
    Status,
    database_of,
    idempotency_digest,
    in_seconds,
    is_saved,
    source_id_of,
    stored_name,
    write_alias,
)
from .store import choosing, store
from .store.choosing import GIVEN_AT_ONCE, choose
from .wake import wake_license_on_commit
from .words import UNCHOSEN

logger = get_logger("django_kpwa.outbox")

MAX_TEXT_LENGTH = 65_536
"""WhatsApp's own limit for one message, in characters."""
MAX_IMAGE_URL_LENGTH = 2000
MAX_KEY_LENGTH = 255
MAX_SOURCE_ID_LENGTH = 255
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
    idempotency_key: str | None = field(default=None, repr=False)  # a site may make it of a number
    priority: int = Priority.NORMAL
    send_after: datetime | None = None
    expires_at: datetime | None = None
    source: models.Model | None = None


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
) -> OutboundMessage:
    """Queue a message to a phone number and return it.

    `to`: a number as people write it (`0812…`, `+62 812…`), or an object that knows its own (`as_e164`). `text` may be
    empty where `image_url` (http or https) is given. `idempotency_key`: any text of up to 255 characters; a key that is
    known returns its message, whatever has become of it, and sends nothing. `priority`: lower goes first, see
    `Priority`. `send_after` and `expires_at`: aware datetimes. `source`: the saved object that the message is about.

    `license`: one, or its name; without it, `KPWA["DEFAULT_LICENSE"]`, the default license or the only active one
    sends. Where that does not say which, the message is stored without one, and waits until it does.

    Raises `InvalidMessageError` (its subclasses say what is wrong), and `LicenseChoiceError` for a name that no license
    has, before anything is stored.
    """
    return _enqueue(
        Message(to, text, "", image_url, license, idempotency_key, priority, send_after, expires_at, source)
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
) -> OutboundMessage:
    """Queue a message to the group called `group`, as WhatsApp shows its name. Otherwise like `send_message()`."""
    return _enqueue(
        Message("", text, group, image_url, license, idempotency_key, priority, send_after, expires_at, source)
    )


@sensitive_variables()
@loud(write_alias)
def send_messages(messages: Iterable[Message]) -> list[OutboundMessage]:
    """Queue many messages, in a few statements; returns them in the order given.

    Everything is validated first: `InvalidMessageError.index` says which one is wrong, and then none is stored.
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
    render_after_seconds: float = 0.0,
    expires_after_seconds: float | None = None,
) -> OutboundMessage:
    """Queue a message whose text the receipt that `renderer` names (`receipts/LABEL`) writes just before it is sent.

    `source_database`: the alias of the database that the source was saved in, where the caller knows;
    `source_fingerprint`: what tells it from other rows of its primary key. `render_after_seconds` delays it where the
    source is not committed in one piece. It is not sent any more `expires_after_seconds` after it was stored, by the
    database's clock. Raises as `send_message()` does.
    """
    message = Message(to, license=license, idempotency_key=idempotency_key, source=source)
    row = _build(message, license_of(license), kpwa_settings(), renderer, source_database)
    row.source_fingerprint = source_fingerprint
    if render_after_seconds:
        row.due_at = in_seconds(render_after_seconds)
    if expires_after_seconds is not None:
        row.expires_at = in_seconds(expires_after_seconds)
    return _store(row, kpwa_settings(), wake_after_seconds=render_after_seconds)


@loud(write_alias)
def cancel(message: OutboundMessage) -> bool:
    """Withdraw a waiting message. False: it is being sent or was, so nothing was changed.

    Like the decisions below it waits at most a second for a worker that is at the message, and is then False.
    """
    status = store().cancel(message.pk)
    if status is not None:
        announce.message_became_on_commit(status, message.pk)
    _refresh(message)
    return status is not None


@loud(write_alias)
def resend(message: OutboundMessage) -> bool:
    """Queue a message again that failed, expired, was cancelled or is in doubt. False: its status allows no resend.

    After doubt the customer may get a second copy.
    """
    queued = bool(store().resend(message.pk))
    if queued:
        wake_license_on_commit(message.license_id)
    _refresh(message)
    return queued


@loud(write_alias)
def mark_sent(message: OutboundMessage) -> bool:
    """Say that a message in doubt arrived. False: it is not in doubt."""
    marked = bool(store().mark_sent(message.pk))
    if marked:
        announce.message_became_on_commit(Status.SENT, message.pk)
    _refresh(message)
    return marked


@loud(write_alias)
def dismiss(message: OutboundMessage) -> bool:
    """Leave a message in doubt as it is; it no longer waits for a decision. False: it was not waiting for one."""
    dismissed = bool(store().dismiss(message.pk))
    _refresh(message)
    return dismissed


@sensitive_variables()
@loud(write_alias)
def send_to_another_number(message: OutboundMessage, to: str) -> OutboundMessage:
    """Queue what `message` says to the number `to` as well: a new message of the same license about the same source.

    Asked for twice, the message of the first time is returned. A text that is not written yet is written for each of
    them when its turn comes. Raises `InvalidPhoneNumberError`, or `InvalidMessageError` as `send_message()` does.
    """
    recipient = phone.parse(to)
    conf = kpwa_settings()
    # Read again: what was fetched for a page may have gone stale, or lack the text.
    original = OutboundMessage.objects.select_related("license").get(pk=message.pk)
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
        # A receipt reads in it which event of its source it is about; unique is the digest, which stays this copy's.
        row.idempotency_key = original.idempotency_key
    for name in ("source_content_type_id", "source_id", "source_database", "source_fingerprint"):
        setattr(row, name, getattr(original, name))
    return _store(row, conf)


def copy_key(message: OutboundMessage, recipient: str) -> str:
    """The idempotency key of what goes to the number `recipient` as well."""
    return f"{NOT_KEPT}{message.uuid}:{recipient}"


def choose_license() -> License:
    """The license for `license=None`, for who cannot wait until it is known: `KPWA["DEFAULT_LICENSE"]`, else the
    default one, else the only one that is active.

    Raises `LicenseChoiceError` where that does not say which.
    """
    name = kpwa_settings().DEFAULT_LICENSE
    found = choose(name)
    if found.why_not is not None:
        raise LicenseChoiceError(UNCHOSEN[found.why_not].error.format(name=name))
    return cast(License, found.license)


def license_of(given: License | str | None) -> License | None:
    """The license that a site's code named: itself, by its name, or none.

    Raises `LicenseChoiceError` for a name that no license has, `InvalidMessageError` for what is neither.
    """
    if given is None or isinstance(given, License):
        return given
    if not isinstance(given, str):
        raise InvalidMessageError(f"its license is a {type(given).__name__}; give a License, or its name as a text.")
    found = License.objects.filter(name=given).first()
    if found is None:
        raise LicenseChoiceError(f"There is no license called {given!r}; its name stands in the admin.")
    return found


def give_unassigned(most: int = GIVEN_AT_ONCE) -> bool:
    """Give up to `most` messages that wait for a license to the one that is chosen now, and have its lane looked at.

    False: none waits, or it still cannot be told which license sends.
    """
    license_ = choosing.give_unassigned(kpwa_settings().DEFAULT_LICENSE, most)
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
    """Validate `message` and make its row, unsaved. Raises `InvalidMessageError`."""
    if license_ is not None and not is_saved(license_):
        raise InvalidMessageError("the license has not been saved yet.")
    typed, recipient, recipient_type = _recipient(message, conf.DEFAULT_REGION)
    text, image_url = with_line_feeds(message.text or ""), message.image_url or ""
    if not says_something(text) and not image_url and not renderer:
        raise InvalidMessageError("it has neither text nor image_url that could be seen; give at least one.")
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidMessageError(f"its text has {len(text):,} characters; WhatsApp takes {MAX_TEXT_LENGTH:,}.")
    if "\x00" in text:
        raise InvalidMessageError("its text holds a NUL character, which databases refuse.")
    if image_url:
        check_image_url(image_url)
    content_type, source_id, source_database = _source(message.source, source_database)
    digest = _digest(message.idempotency_key)
    _check_encodable(text, typed, recipient, message.idempotency_key or "", source_id)
    row = OutboundMessage(
        recipient_type=recipient_type,
        recipient_typed=typed,
        recipient=recipient,
        text=text,
        image_url=image_url,
        renderer=renderer,
        idempotency_key=message.idempotency_key or "",
        idempotency_digest=digest,
        priority=_priority(message.priority),
        created_at=_NOW,
        due_at=_NOW if message.send_after is None else _aware("send_after", message.send_after),
        expires_at=None if message.expires_at is None else _aware("expires_at", message.expires_at),
        source_content_type=content_type,
        source_id=source_id,
        source_database=source_database,
    )
    if license_ is not None:
        row.license = license_
    return row


@sensitive_variables()
def _recipient(message: Message, region: str) -> tuple[str, str, RecipientType]:
    if bool(message.to) == bool(message.group):
        raise InvalidMessageError("give either a number (to) or a group's name (group).")
    if message.group:
        name = message.group.strip()
        if not says_something(name) or len(name) > 255:
            raise InvalidMessageError("a group's name has between 1 and 255 characters.")
        if "\x00" in name:
            raise InvalidMessageError("its group's name holds a NUL character, which databases refuse.")
        return message.group[:255], name, RecipientType.GROUP
    number = phone.parse(message.to, region)
    return phone.typed(message.to)[:255], number, RecipientType.NUMBER


def check_image_url(url: str) -> None:
    """Raise `InvalidImageUrlError` where the gateway could not, or should not, fetch `url`.

    A host that only this machine or its network could reach is let pass under `DEBUG` alone.
    """
    if len(url) > MAX_IMAGE_URL_LENGTH:
        raise InvalidImageUrlError(f"its image_url has {len(url)} characters; at most {MAX_IMAGE_URL_LENGTH} are kept.")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise InvalidImageUrlError("its image_url holds white space or control characters; percent-encode them.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidImageUrlError("its image_url is malformed.") from None
    if parts.scheme not in ("http", "https"):
        raise InvalidImageUrlError(f"its image_url begins with {parts.scheme or 'no scheme'!r}; it must be http(s)://.")
    if not host:
        raise InvalidImageUrlError("its image_url names no host.")
    if parts.username is not None or parts.password is not None:
        raise InvalidImageUrlError("its image_url carries a user name; everybody who gets the message would see it.")
    if "\\" in url:
        raise InvalidImageUrlError("its image_url holds a backslash, after which the host is another to some.")
    # In development it is the sandbox beside us that fetches it, or nobody.
    if is_out_of_reach(host) and not settings.DEBUG:
        raise InvalidImageUrlError(
            f"its image_url's host {host!r} is one that only this machine or its network could reach; the gateway "
            "fetches the image over the internet."
        )


@sensitive_variables()
def _check_encodable(*texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidMessageError("it holds half of a surrogate pair, which is not a character.") from None


def _digest(key: str | None) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str):
        raise InvalidMessageError(f"its idempotency_key is a {type(key).__name__}; give a text, or None for no key.")
    if not says_something(key):
        raise InvalidMessageError(
            f"its idempotency_key {key[:20]!r} is empty, blank or invisible, and would be one key for everybody; give "
            "a text that no other message has, or None for no key."
        )
    if len(key) > MAX_KEY_LENGTH:
        raise InvalidMessageError(f"its idempotency_key has {len(key)} characters; at most {MAX_KEY_LENGTH} are kept.")
    if "\x00" in key:
        raise InvalidMessageError("its idempotency_key holds a NUL character, which databases refuse.")
    return idempotency_digest(key)


def _priority(priority: int) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= 32_767:
        raise InvalidMessageError(f"its priority is {priority!r}; it must be a whole number from 0 to 32767.")
    return int(priority)


def _aware(name: str, moment: datetime) -> datetime:
    if not isinstance(moment, datetime) or timezone.is_naive(moment):
        raise InvalidMessageError(f"its {name} must be an aware datetime, e.g. django.utils.timezone.now().")
    return moment


def _source(source: models.Model | None, alias: str = "") -> tuple[ContentType | None, str, str]:
    """By which names it is stored: content type, primary key, database. `alias`: that one, where it is known."""
    if source is None:
        return None, "", ""
    if not isinstance(source, models.Model):
        raise InvalidMessageError(f"its source is a {type(source).__name__}; give a saved model instance.")
    if not is_saved(source):
        raise InvalidMessageError(
            "its source has not been saved yet, so nothing could point to it. One that was made by hand for an "
            "existing row has to be loaded."
        )
    source_id = source_id_of(source)
    if len(source_id) > MAX_SOURCE_ID_LENGTH or "\x00" in source_id:
        raise InvalidMessageError(f"its source's primary key is longer than {MAX_SOURCE_ID_LENGTH} characters, or odd.")
    database = stored_name(alias or database_of(source))
    if len(database) > MAX_DATABASE_LENGTH:
        raise InvalidMessageError(
            f"its source is in a database whose alias has {len(database)} characters; at most {MAX_DATABASE_LENGTH} "
            "are kept."
        )
    content_types = ContentType.objects.db_manager(write_alias())
    return content_types.get_for_model(source, for_concrete_model=False), source_id, database


@sensitive_variables()
def _store(row: OutboundMessage, conf: Settings, *, wake_after_seconds: float = 0.0) -> OutboundMessage:
    """Store the message, or return the one whose key it has. Without a license it is for the one that is chosen."""
    inserted = store().store_message(row, conf.DEFAULT_LICENSE)
    if inserted is None:
        existing = _known(row.idempotency_digest)
        if existing is None:
            raise _not_stored()
        _log_difference(existing, row)
        return existing
    wake_license_on_commit(row.license_id, countdown_seconds=wake_after_seconds, lane=inserted.lane)
    return row


@sensitive_variables()
def _store_many(rows: Sequence[OutboundMessage]) -> list[OutboundMessage]:
    """The same for many, all of them or none."""
    first: dict[str, OutboundMessage] = {}
    for row in rows:
        if row.idempotency_digest is not None:
            first.setdefault(row.idempotency_digest, row)
    # The first of several with one key stands for all.
    fresh = [row for row in rows if row.idempotency_digest is None or first[row.idempotency_digest] is row]
    with transaction.atomic(using=write_alias()):
        inserted = store().store_messages(fresh)
    refused = [digest for digest, row in first.items() if row.uuid not in inserted]
    known = store().find_known_after_clash(refused)
    result = []
    for row in rows:
        digest = row.idempotency_digest
        match = row if digest is None else known.get(digest, first[digest])
        if match.uuid not in inserted and digest not in known:
            raise _not_stored()
        _log_difference(match, row)
        result.append(match)
    return result


def _known(digest: str | None) -> OutboundMessage | None:
    return None if digest is None else store().find_known_after_clash([digest]).get(digest)


def _not_stored() -> LicenseChoiceError:
    """Neither was the message stored, nor is its key known: there is nobody to send it."""
    return LicenseChoiceError("The license of the message is not there any more (deleted?), so nothing was stored.")


def _log_difference(existing: OutboundMessage, row: OutboundMessage) -> None:
    """A repeat that says something else is most likely a key that is not unique enough."""
    if existing.was_purged or (row.pk is not None and existing.pk == row.pk):
        return
    if existing.recipient != row.recipient or (not row.renderer and existing.text != row.text):
        logger.warning(
            "Idempotency key of message %s was used again with another text or recipient; nothing new is sent.",
            existing.pk,
        )


def _refresh(message: OutboundMessage, *names: str) -> None:
    message.refresh_from_db(using=write_alias(), fields=list(names) or None)
