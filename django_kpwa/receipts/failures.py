"""Failures of receipt classes, kept for the admin: one for a receipt of an object, until a save of it goes well.

All of it runs inside the site's checkout. Whether there is anything to clear is asked now and then only: nearly always
there is not, and a sale does not pay for that.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connections, models
from django.db.models import F

from ..containing import contained, replace_if_broken
from ..exceptions import KnownReceiptError, LicenseChoiceError
from ..logs import get_logger
from ..masking import masked_traceback, words_of
from ..models import MAX_DATABASE_LENGTH, DatabaseNow, ReceiptFailure, source_id_of, stored_name, write_alias
from .base import Registration

logger = get_logger("django_kpwa.receipts")

_BELIEVED_SECONDS = 2.0

# By outbox (and its schema, where each tenant of a site has one) and label: until when no failure is believed to stand.
_none_until: dict[tuple[str, str, str], float] = {}


def keep_failure(registration: Registration, obj: models.Model, saved_in: str, error: Exception) -> None:
    """Log what a receipt class raised about `obj`, which was saved in that database, and keep it for the admin."""
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
    with contained(using) as caught:
        _count(using, {**_one(registration, obj, saved_in), "error": words_of(error), "occurred_at": DatabaseNow()})
    if caught.error is not None:
        logger.error("Nor could that be kept for the admin (%s).", type(caught.error).__name__)


def clear_failure(registration: Registration, obj: models.Model, saved_in: str, *, is_new: bool) -> None:
    """A save of `obj` went well: nothing is wrong with this receipt of it any more."""
    outbox = _outbox_of(registration)
    # The row of an object that was inserted just now has not failed before.
    if is_new or time.monotonic() < _none_until.get(outbox, 0.0):
        return
    failures = ReceiptFailure.objects.filter(receipt=registration.label).order_by()
    if not failures.exists():
        _none_until[outbox] = time.monotonic() + _BELIEVED_SECONDS
        return
    # By their key: on MariaDB a DELETE that finds nothing would lock the gap where others store theirs.
    ids = list(failures.filter(**_one(registration, obj, saved_in)).values_list("pk", flat=True))
    if ids:
        failures.filter(pk__in=ids).delete()


def _one(registration: Registration, obj: models.Model, saved_in: str) -> dict[str, Any]:
    """What a failure is told from others by."""
    content_types = ContentType.objects.db_manager(write_alias())
    return {
        "receipt": registration.label,
        "source_content_type": content_types.get_for_model(obj, for_concrete_model=False),
        "source_id": source_id_of(obj)[:255],
        "source_database": stored_name(saved_in)[:MAX_DATABASE_LENGTH],
    }


def _count(using: str, values: dict[str, Any]) -> None:
    """Store it, or count it with those before. The INSERT goes first: an UPDATE that finds nothing would lock a gap."""
    failures = ReceiptFailure.objects
    one = [name for name in values if name not in ("error", "occurred_at")]
    names_them = connections[using].features.supports_update_conflicts_with_target
    failures.bulk_create(
        [ReceiptFailure(**values, times=0)],
        update_conflicts=True,
        update_fields=["error", "occurred_at"],
        unique_fields=one if names_them else None,
    )
    failures.filter(**{name: values[name] for name in one}).update(times=F("times") + 1)


def _outbox_of(registration: Registration) -> tuple[str, str, str]:
    using = write_alias()
    return using, str(getattr(connections[using], "schema_name", "")), registration.label


@cache
def _warn_of_license(words: str) -> None:
    """Once a process: each sale fails alike, and the traceback would lead nowhere. Each is shown in the admin."""
    logger.warning("Receipts are not queued. %s", words)
