"""Renders a receipt's text in the worker, just before it is first sent, so that the text is up to date."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, models
from django.utils import timezone, translation
from django.utils.translation import gettext

from .. import phone
from ..conf import kpwa_settings
from ..contents import says_something, with_line_feeds
from ..exceptions import InvalidMessageError, KpwaError, LicenseChoiceError
from ..models import License, OutboundMessage, idempotency_digest, is_saved
from ..outbox import license_of
from ..store import store
from ..store.choosing import choose
from ..validation import MAX_TEXT_LENGTH, check_content
from . import registry
from .base import Receipt
from .failures import keep_failure
from .identity import event_id_of, fingerprint_of, occurred_at, reference_of, source_of
from .plain_text import written_late

_MAX_TYPED_LENGTH = 255


@dataclass(frozen=True)
class Rendered:
    """The content of the message. Either `text` or `image_url`, or both, are not empty."""

    text: str = field(repr=False)
    image_url: str = ""
    to: Addressee | None = field(default=None, repr=False)
    """The recipient, if it differs from the one for which the message was queued; else None."""
    reference: str = field(default="", repr=False)
    """The object's current reference."""


@dataclass(frozen=True)
class Addressee:
    """A phone number as typed and in digits."""

    typed: str = field(repr=False)
    digits: str = field(repr=False)


@dataclass(frozen=True)
class Moved:
    """Another license is to send the message now. The text is rendered when it is the message's turn there."""

    license: License


@dataclass(frozen=True)
class Withdrawn:
    """The message must not be sent any more. `reason` is shown to people."""

    reason: str


def render_receipt(message: OutboundMessage) -> Rendered | Withdrawn | Moved:
    """Render the receipt that `message.renderer` names (`receipts/LABEL`) for the object that the message is about.

    The text is rendered in the site's time zone, and in the receipt's language if it has one, else in the site's.

    Returns:
        `Withdrawn` if the object is gone, if `should_send()` now returns False, or if the number was removed. `Moved`
        if another license is to send the message now.

    Raises:
        KpwaError: No such receipt is registered.
        InvalidMessageError: The message cannot be sent.
        LicenseChoiceError: It is not clear which license sends.
        Exception: Whatever the receipt class and its template raise.
    """
    label = message.renderer.partition("/")[2]
    registration = registry.find(label)
    if registration is None:
        raise KpwaError(f"No receipt is registered as {label!r}: was its class renamed, or its app removed?")
    receipt = registration.receipt
    with timezone.override(timezone.get_default_timezone()):
        obj = source_of(registration, message)
        if obj is None or not receipt.should_send(obj):
            return Withdrawn(_why_not(obj))
        to = None
        # A copy has another digest. It goes to the number that a person chose for it, so this does not apply to it.
        if message.idempotency_digest == idempotency_digest(message.idempotency_key):
            try:
                license_, to = _license_now(message, receipt, obj), _addressee_now(message, receipt, obj)
            except (InvalidMessageError, LicenseChoiceError) as error:
                keep_failure(registration, obj, message.source_database or DEFAULT_DB_ALIAS, error)
                raise
            if to is None:
                return Withdrawn(_why_not(obj, is_wanted=True))
            if license_ is not None and license_.pk != message.license_id:
                return Moved(license_)
        fingerprint = fingerprint_of(receipt, obj, occurred_at(receipt, obj))
        if fingerprint != message.source_fingerprint:
            store().keep_fingerprint(message, fingerprint)
        queued_at = message.created_at if message.is_written_late else None
        rendered = write(receipt, obj, message.license, event_id_of(message.idempotency_key), late_since=queued_at)
        if to is not None and to.digits == message.recipient:
            to = None
        return replace(rendered, to=to, reference=reference_of(registration, obj))


def _addressee_now(message: OutboundMessage, receipt: Receipt, obj: models.Model) -> Addressee | None:
    """Return the recipient according to the object's current number; None if it has none.

    Raises `InvalidPhoneNumberError`.
    """
    number = receipt.get_phone_number(obj)
    typed = phone.typed(number)
    if not typed:
        return None
    if typed[:_MAX_TYPED_LENGTH] == message.recipient_typed:
        return Addressee(message.recipient_typed, message.recipient)
    return Addressee(typed[:_MAX_TYPED_LENGTH], phone.parse(number))


def _license_now(message: OutboundMessage, receipt: Receipt, obj: models.Model) -> License | None:
    """Return the license that sends the message now; None if it is not clear which is the default.

    In the latter case the message keeps its license.
    """
    named = license_of(receipt.get_license(obj))
    if named is not None:
        if not is_saved(named):
            raise InvalidMessageError("the license has not been saved yet.")
        return named
    name, present = kpwa_settings().DEFAULT_LICENSE, message.license
    if present is not None and present.is_active and (present.name == name if name else present.is_default):
        return present
    return choose(name).license


def write(
    receipt: Receipt, obj: models.Model, license_: License | None, event_id: str, *, late_since: datetime | None = None
) -> Rendered:
    """Render the text and the image URL, in the receipt's language or else the site's.

    `late_since`: when the message was queued, if that is long ago. The text then begins with the receipt's late notice,
    unless its template has placed that elsewhere.

    Raises `InvalidMessageError` for a message that cannot be sent, and whatever the class and its template raise.
    """
    with translation.override(receipt.language or settings.LANGUAGE_CODE):
        line = "" if late_since is None else str(receipt.get_late_notice(obj, late_since) or "").strip()
        with written_late(line) as notice:
            text = with_line_feeds(receipt.render(obj, license=license_, event_id=event_id))
        image_url = receipt.get_image_url(obj) or ""
    _check(text, image_url)
    if notice.line and not notice.is_written:
        begun = with_line_feeds(f"{notice.line}\n\n{text}".rstrip())
        # The late notice is omitted if the text would become too long with it.
        text = begun if len(begun) <= MAX_TEXT_LENGTH else text
        _check(text, image_url)
    return Rendered(text, image_url)


def _why_not(obj: models.Model | None, *, is_wanted: bool = False) -> str:
    with translation.override(settings.LANGUAGE_CODE):
        if obj is None:
            return gettext("What the receipt was about has been deleted.")
        if is_wanted:
            return gettext("The customer's number had been removed when its turn came.")
        return gettext("No receipt was wanted any more when its turn came.")


def _check(text: str, image_url: str) -> None:
    if not says_something(text) and not image_url:
        raise InvalidMessageError("it rendered neither a visible text nor an image.")
    check_content(text, image_url)
