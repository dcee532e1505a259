"""Stores failures of receipt classes for the admin: one for each receipt of an object, until a save succeeds.

This code runs inside the site's checkout. There is hardly ever a failure to clear, so the query for it runs only every
few seconds, and sales do not become slower by it.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from django.db import models
from django.db.models import F

from ..containing import contained, replace_if_broken
from ..exceptions import InvalidPhoneNumberError, KnownReceiptError, LicenseChoiceError
from ..logs import get_logger
from ..masking import masked_traceback, words_of
from ..models import (
    MAX_DATABASE_LENGTH,
    DatabaseNow,
    FailureCause,
    ReceiptFailure,
    content_types,
    outbox_key,
    source_id_of,
    stored_name,
    write_alias,
)
from ..store import store
from .base import Registration
from .identity import reference_of

logger = get_logger("django_kpwa.receipts")

_BELIEVED_SECONDS = 2.0

# Monotonic times until which no failure is assumed to exist. The keys are the outbox, its schema (a site may have one
# for each tenant) and the receipt's label.
_none_until: dict[tuple[str, str, str], float] = {}


def keep_failure(registration: Registration, obj: models.Model, saved_in: str, error: Exception) -> None:
    """Log an error that a receipt class raised for `obj`, and store it for the admin.

    `saved_in` is the database that holds `obj`. If the error cannot be stored, that is only logged.
    """
    if isinstance(error, LicenseChoiceError):
        _warn_of_license(str(error))
    elif isinstance(error, KnownReceiptError):
        logger.warning("Receipt %s of %s %s was not sent: %s", registration.label, obj._meta.label, obj.pk, error)
    else:
        trace = masked_traceback(error)
        logger.error("Receipt %s of %s %s was not queued: %s", registration.label, obj._meta.label, obj.pk, trace)
    using = write_alias()
    replace_if_broken(using)
    _none_until.pop(_outbox_of(registration), None)
    reference = ""
    with contained(using, saved_in):
        reference = reference_of(registration, obj)
    with contained(using) as caught:
        latest = {
            "cause": _cause_of(error),
            "error": words_of(error),
            "occurred_at": DatabaseNow(),
            "source_reference": reference,
        }
        _count(_one(registration, obj, saved_in), latest)
    if caught.error is not None:
        logger.error("This failure could not be stored for the admin either (%s).", type(caught.error).__name__)


def clear_failure(registration: Registration, obj: models.Model, saved_in: str, *, is_new: bool) -> None:
    """Delete the failure of this receipt of `obj` after a save that succeeded. `is_new`: the save inserted `obj`."""
    outbox = _outbox_of(registration)
    # An object that was inserted just now cannot have failed before.
    if is_new or time.monotonic() < _none_until.get(outbox, 0.0):
        return
    failures = ReceiptFailure.objects.filter(receipt=registration.label).order_by()
    if not failures.exists():
        _none_until[outbox] = time.monotonic() + _BELIEVED_SECONDS
        return
    # Deleted by primary key: on MariaDB a DELETE without a match locks the gap into which other processes insert.
    ids = list(failures.filter(**_one(registration, obj, saved_in)).values_list("pk", flat=True))
    if ids:
        failures.filter(pk__in=ids).delete()


def _one(registration: Registration, obj: models.Model, saved_in: str) -> dict[str, Any]:
    """Return the columns that identify a failure."""
    return {
        "receipt": registration.label,
        "source_content_type": content_types().get_for_model(obj, for_concrete_model=False),
        "source_id": source_id_of(obj)[:255],
        "source_database": stored_name(saved_in)[:MAX_DATABASE_LENGTH],
    }


def _cause_of(error: Exception) -> FailureCause:
    if isinstance(error, InvalidPhoneNumberError):
        return FailureCause.NUMBER
    if isinstance(error, LicenseChoiceError):
        return FailureCause.LICENSE
    return FailureCause.UNCLEAR if isinstance(error, KnownReceiptError) else FailureCause.RAISED


def _count(one: dict[str, Any], latest: dict[str, Any]) -> None:
    """Store a failure, or count a repeat. The INSERT comes first, because an UPDATE without a match locks a gap."""
    store().upsert([ReceiptFailure(**one, **latest, times=0)], unique=list(one), update=list(latest))
    ReceiptFailure.objects.filter(**one).update(times=F("times") + 1)


def _outbox_of(registration: Registration) -> tuple[str, str, str]:
    return *outbox_key(), registration.label


@cache
def _warn_of_license(words: str) -> None:
    """Log once per process. All sales fail in the same way, without a useful traceback, and the admin shows each."""
    logger.warning("Receipts are not queued. %s", words)
