"""Finds objects whose receipt was never queued, and queues it.

`bulk_create()`, `update()` and raw SQL send no signal, and a process may be killed after a save.

`Receipt.get_candidates()` returns the objects that could have had a receipt. They are read in batches by primary key,
however many there are. Only those without a message are loaded, and the class's methods are called for them as at a
save. Looking stores nothing. Sending works as at a save, with the receipt's own key. So it can be repeated, and can run
at the same time as a till or another process that sends the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, NamedTuple, cast

from django.db import models, router
from django.utils import timezone

from .. import phone
from ..containing import contained
from ..masking import words_of
from ..models import (
    NOT_KEPT,
    OutboundMessage,
    ReceiptFailure,
    about,
    idempotency_digest,
    name_by_key,
    stored_name,
    types_of,
    write_alias,
)
from ..store import store
from ..words import STATUSES, Fate
from . import registry
from .base import FAMILY, Receipt, Registration
from .identity import Row, Whose, event_id_of, fingerprint_of, is_of_an_earlier_row, key_of, occurred_at, reference_of
from .queueing import find_known, is_recent, queue

GRACE = timedelta(seconds=60)
"""Minimum age of an object whose receipt counts as missing. The receipt of a younger one may be about to be queued."""

MISSING = (Fate.NEVER_QUEUED, Fate.FAILURE, Fate.RAISED)
"""Fates of objects without a message, which `send_missing()` tries to fix."""
# If a receipt has several messages, because a copy went to another number, the first of these fates applies.
_BEST_FIRST = (Fate.ARRIVED, Fate.WAITING, Fate.DOUBT, Fate.FAILED, Fate.EXPIRED, Fate.CANCELLED)


class Named(NamedTuple):
    """An object without its receipt. `words`: the error that its class raised, with numbers masked; empty otherwise."""

    source_id: str
    reference: str
    fate: Fate
    words: str = ""


@dataclass
class Found:
    """The state of the receipts of one class, for objects from `since` to `until`."""

    MAX_NAMED: ClassVar = 100

    registration: Registration
    since: datetime
    until: datetime
    counts: Counter[Fate] = field(default_factory=Counter)
    named: list[Named] = field(default_factory=list)
    """The first `MAX_NAMED` objects without their receipt."""
    queued: int = 0
    """Number of missing receipts that were queued by `send_missing()`."""
    is_complete: bool = True
    """False if the look was ended before the last object."""
    error: str = ""
    """The error that `get_candidates()` or its queryset raised, with numbers masked; empty if none."""

    @property
    def looked_at(self) -> int:
        """The number of objects."""
        return self.counts.total()

    @property
    def missing(self) -> int:
        """The number of objects that should have a message but have none."""
        return sum(self.counts[fate] for fate in MISSING)


def classes(name: str = "") -> list[Registration]:
    """Return the registrations whose class defines its candidates. `name`: only those with this label or class name.

    Raises `LookupError` if no receipt is registered under that name.
    """
    named = [
        registration
        for registration in registry.registrations()
        if name in ("", registration.label, type(registration.receipt).__name__)
    ]
    if name and not named:
        known = ", ".join(registration.label for registration in registry.registrations())
        raise LookupError(f"No receipt is registered as {name!r}. Known: {known or 'none'}.")
    return [each for each in named if type(each.receipt).get_candidates is not Receipt.get_candidates]


def look_for_missing(
    registration: Registration,
    since: datetime,
    until: datetime,
    *,
    among: models.QuerySet[Any] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Found], None] = lambda found: None,
) -> Found:
    """Find the state of the receipts of the objects from `since` to `until`. Stores nothing.

    Args:
        registration: The model with its receipt class.
        since: Begin of the period, as an aware datetime.
        until: End of the period, as an aware datetime.
        among: Only the objects of this queryset.
        should_stop: Called before each batch and each object. If it returns True, the look ends.
        tell: Called after each batch, with the result so far.

    Raises:
        DatabaseError: The outbox's database failed.
    """
    return _Look(Found(registration, since, until), among, should_stop, tell, is_sending=False).run()


def send_missing(
    registration: Registration,
    since: datetime,
    until: datetime,
    *,
    among: models.QuerySet[Any] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[Found], None] = lambda found: None,
) -> Found:
    """Find missing receipts, and queue those not older than `max_age`. Returns the state after that.

    Call it outside of transactions, because each receipt is committed separately. For a receipt that fails again, a
    `ReceiptFailure` is stored. The arguments are as for `look_for_missing()`.
    """
    return _Look(Found(registration, since, until), among, should_stop, tell, is_sending=True).run()


class _Told(NamedTuple):
    """A message of an object, as far as a look needs it."""

    pk: int
    uuid: str
    fate: Fate
    key: str
    renderer: str
    created_at: datetime


@dataclass
class _Asked:
    """An object to check with its class, with its messages and the kept part of a purged one with its key."""

    obj: models.Model
    source_id: str
    messages: list[_Told]
    kept: OutboundMessage | None = None


class _Look:
    """One look at one class."""

    BATCH_SIZE = 1000

    def __init__(
        self,
        found: Found,
        among: models.QuerySet[Any] | None,
        should_stop: Callable[[], bool],
        tell: Callable[[Found], None],
        *,
        is_sending: bool,
    ) -> None:
        self.found, self.among = found, among
        self.registration, self.receipt = found.registration, found.registration.receipt
        self.should_stop, self.tell, self.is_sending = should_stop, tell, is_sending
        family = [each for each in registry.registrations() if type(each.receipt) is type(self.receipt)]
        self.labels = [each.label for each in family]
        # If the class does not override `get_event_id()`, all its objects have the same event.
        has_one_event = type(self.receipt).get_event_id is Receipt.get_event_id
        self.event = self.receipt.get_event_id(None) if has_one_event else ""
        self.alias = ""

    def run(self) -> Found:
        with contained(write_alias()) as caught:
            candidates = self._candidates()
        if caught.error is None and candidates is not None:
            caught.error = self._read(candidates)
        if caught.error is not None:
            self.found.error, self.found.is_complete = words_of(caught.error), False
        return self.found

    def _candidates(self) -> models.QuerySet[Any] | None:
        """Return the class's queryset, ordered by primary key. None if it is for another model of the class."""
        given = self.receipt.get_candidates(self.found.since, self.found.until)
        if given is None:
            return None
        if not isinstance(given, models.QuerySet):
            raise TypeError(f"get_candidates() returned a {type(given).__name__}; it must return a queryset or None.")
        if given.model is not self.registration.model:
            if any(given.model is registration.model for registration in registry.registrations()):
                return None
            raise TypeError(f"get_candidates() returned a queryset of {given.model._meta.label}, which has no receipt.")
        # Not read from a replica: the receipt must be about the row as it is in the primary database.
        rows: Any = given
        self.alias = rows._db or router.db_for_write(given.model)
        if self.among is not None:
            rows = rows.filter(pk__in=self.among.order_by().values("pk"))
        return cast("models.QuerySet[Any]", rows.using(self.alias).order_by("pk"))

    def _read(self, candidates: models.QuerySet[Any]) -> Exception | None:
        """Look at each batch. Returns the error that the site's own queryset raised, or None."""
        ahead = candidates
        while True:
            if self.should_stop():
                self.found.is_complete = False
                return None
            with contained(self.alias) as caught:
                # By primary key, because an offset would read everything before it again for each batch.
                read = list(ahead.values_list("pk", flat=True)[: self.BATCH_SIZE])
            if caught.error is not None:
                return caught.error
            # A join may return one object several times.
            ids = list(dict.fromkeys(read))
            if ids and (error := self._look_at(candidates, ids)):
                return error
            self.tell(self.found)
            if len(read) < self.BATCH_SIZE or not self.found.is_complete:
                return None
            ahead = candidates.filter(pk__gt=ids[-1])

    def _look_at(self, candidates: models.QuerySet[Any], ids: list[Any]) -> Exception | None:
        told = _messages_about(self.registration.model, self.alias, map(str, ids))
        loaded = []
        for primary_key in ids:
            messages = told.get(str(primary_key), [])
            fate = None
            # The class has to be called if it overrides `get_event_id()`. It also has to be called if a message is
            # older than the period, because that message may be about an earlier row with the same primary key.
            if self.event and all(message.created_at >= self.found.since for message in messages):
                fate = self._fate_by(messages, self.event)
            if fate is None:
                loaded.append(primary_key)
            else:
                self.found.counts[fate] += 1
        if not loaded:
            return None
        with contained(self.alias) as caught:
            objects = {obj.pk: obj for obj in candidates.filter(pk__in=loaded)}
        if caught.error is not None:
            return caught.error
        failed = self._failed(map(str, objects))
        keys = {primary_key: self._key_of(obj) for primary_key, obj in objects.items()}
        kept = store().find_kept([idempotency_digest(key) for key in keys.values() if key])
        for primary_key, obj in objects.items():
            if self.should_stop():
                self.found.is_complete = False
                return None
            asked = _Asked(obj, str(primary_key), told.get(str(primary_key), []))
            asked.kept = kept.get(idempotency_digest(keys[primary_key]))
            self._judge(asked, has_failed=asked.source_id in failed)
        return None

    def _key_of(self, obj: models.Model) -> str:
        """Return the receipt's key; empty if the class raises an exception, which it will raise again in `_ask()`."""
        key = ""
        with contained(self.alias, write_alias()):
            key = key_of(self.registration, obj, self.alias)
        return key

    def _fate_by(self, messages: Iterable[_Told], event: str) -> Fate | None:
        """Return the fate of the receipt `event` of an object with these messages; None if it has no message."""
        own = [message for message in messages if _event_of(message.key) == event and not self._is_of_another(message)]
        uuids = {message.uuid for message in own}
        copies = [
            message for message in messages if message.key.startswith(NOT_KEPT) and message.key.split(":")[1] in uuids
        ]
        fates = {message.fate for message in (*own, *copies)}
        return next((fate for fate in _BEST_FIRST if fate in fates), None)

    def _is_of_another(self, message: _Told) -> bool:
        """True if another registered class queued the message. A class that was renamed since is not another one."""
        label = message.renderer.removeprefix(f"{FAMILY}/")
        return label not in self.labels and registry.find(label) is not None

    def _failed(self, source_ids: Iterable[str]) -> set[str]:
        """Return the ids of objects with a failure of this receipt."""
        failures = ReceiptFailure.objects.filter(
            receipt__in=self.labels,
            source_content_type__in=types_of(self.registration.model),
            source_database=stored_name(self.alias),
            source_id__in=list(source_ids),
        )
        return set(failures.order_by().values_list("source_id", flat=True))

    def _judge(self, asked: _Asked, *, has_failed: bool) -> None:
        """Count the fate of a loaded object's receipt. If this look sends, a missing receipt is queued before that."""
        words = ""
        fate = Fate.RAISED
        with contained(self.alias, write_alias()) as caught:
            fate = self._ask(asked)
        if caught.error is not None:
            fate, words = Fate.RAISED, words_of(caught.error)
        if has_failed and fate in (*MISSING, Fate.JUST_NOW):
            fate = Fate.FAILURE
        if self.is_sending and fate in MISSING:
            if queue(self.registration, asked.obj, self.alias) is None:
                fate = Fate.FAILURE
            else:
                fate = Fate.WAITING
                self.found.queued += 1
        self.found.counts[fate] += 1
        if fate in MISSING and len(self.found.named) < self.found.MAX_NAMED:
            self.found.named.append(Named(asked.source_id, self._reference(asked.obj), fate, words))

    def _ask(self, asked: _Asked) -> Fate:
        """Return the fate of an object's receipt. Raises whatever the class raises."""
        obj, key = asked.obj, key_of(self.registration, asked.obj, self.alias)
        of_this_row = self._without_earlier_rows(asked.messages, obj)
        if known := self._fate_by(of_this_row, event_id_of(key)):
            return known
        receipt = self.receipt
        if not receipt.should_send(obj):
            return Fate.NOT_WANTED
        phone_number = phone.typed(receipt.get_phone_number(obj))
        if not phone_number:
            return Fate.NO_NUMBER
        moment = occurred_at(receipt, obj)
        if moment is None and receipt.max_age is not None:
            raise ValueError("get_occurred_at() returned None; a receipt with a max_age must say when it happened.")
        if asked.kept is not None:
            row = Row(key, phone_number, fingerprint_of(receipt, obj, moment), moment)
            _, message, belongs_to = find_known(self.registration, row, asked.kept)
            if message is not None and belongs_to is not Whose.ANOTHER:
                return STATUSES[message.status].fate
        if not is_recent(receipt, moment):
            return Fate.TOO_OLD
        is_new = moment is not None and timezone.now() - moment < GRACE
        return Fate.JUST_NOW if is_new else Fate.NEVER_QUEUED

    def _without_earlier_rows(self, messages: list[_Told], obj: models.Model) -> list[_Told]:
        """Return those of `messages` that are about `obj`, and not about an earlier row with its primary key."""
        doubtful = [message.pk for message in messages if message.created_at < self.found.since]
        if not doubtful:
            return messages
        rows = OutboundMessage.objects.filter(pk__in=doubtful).defer("text")
        earlier = {message.pk for message in rows if is_of_an_earlier_row(message, self.receipt, obj)}
        return [message for message in messages if message.pk not in earlier]

    def _reference(self, obj: models.Model) -> str:
        """Return the object's reference."""
        reference = ""
        with contained(self.alias, write_alias()):
            reference = reference_of(self.registration, obj)
        return reference or name_by_key(str(obj._meta.verbose_name), str(obj.pk))


def _messages_about(model: type[models.Model], alias: str, source_ids: Iterable[str]) -> Mapping[str, list[_Told]]:
    """Return the messages about these objects, by the objects' primary keys as text."""
    told: dict[str, list[_Told]] = {}
    rows = OutboundMessage.objects.filter(about(model, alias, source_ids)).order_by()
    columns = ("source_id", "pk", "uuid", "status", "idempotency_key", "renderer", "created_at")
    for source_id, pk, uuid, status, key, renderer, created_at in rows.values_list(*columns):
        message = _Told(pk, str(uuid), STATUSES[status].fate, key, renderer, created_at)
        told.setdefault(source_id, []).append(message)
    return told


def _event_of(key: str) -> str:
    """Return the event id in the key of a receipt; empty for any other key."""
    return event_id_of(key) if key.startswith("receipt") and key.count(":") >= 3 else ""
