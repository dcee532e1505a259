"""A registered receipt class in words, and how often it raised of late."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.text import capfirst
from django.utils.timesince import timesince
from django.utils.translation import get_language_info, gettext

from ...counts import BoundedCount, count_up_to
from ...models import ReceiptFailure
from ...receipts import Receipt, Registration

MOST_COUNTED = 100
_ISSUES_EVENT_IDS = Receipt.get_event_id


@dataclass(frozen=True)
class Description:
    """What the class says about itself, each in words; a template that is empty is none, the class renders itself."""

    name: str
    about: str
    model: str
    event: str
    template: str
    language: str
    max_age: str
    expires_after: str


@dataclass(frozen=True)
class Failures:
    """How often the class raised, and where that is listed."""

    count: BoundedCount
    url: str


def described(registration: Registration) -> Description:
    receipt = registration.receipt
    has_own_ids = type(receipt).get_event_id is not _ISSUES_EVENT_IDS
    return Description(
        name=type(receipt).__name__,
        about=(type(receipt).__doc__ or "").strip().partition("\n")[0],
        model=str(capfirst(registration.model._meta.verbose_name)),
        event=gettext("told apart by get_event_id()") if has_own_ids else receipt.event or type(receipt).__name__,
        template=receipt.template_name,
        language=_language(receipt.language),
        max_age=_span(receipt.max_age),
        expires_after=_span(receipt.expires_after),
    )


def failures_of(registration: Registration, list_url: str) -> Failures | None:
    """None where the person may not view them."""
    if not list_url:
        return None
    failures = ReceiptFailure.objects.filter(receipt=registration.label)
    return Failures(count_up_to(MOST_COUNTED, failures), f"{list_url}?{urlencode({'receipt': registration.label})}")


def _span(span: timedelta | None) -> str:
    if span is None:
        return gettext("no limit")
    now = timezone.now()
    return timesince(now - span, now)


def _language(code: str) -> str:
    try:
        name = str(get_language_info(code or settings.LANGUAGE_CODE)["name_translated"])
    except KeyError:
        name = code or settings.LANGUAGE_CODE
    return name if code else gettext("%(language)s (the site's)") % {"language": name}
