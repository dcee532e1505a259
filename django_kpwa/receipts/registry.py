"""Registers receipts for models. A receipt is triggered by a save of its model or by `send_now()`.

Each message stores its receipt's label (`sales.sale.PaidReceipt`). If you rename a class, the messages that still wait
for their text fail.

Registering does not import the code that queues receipts. The first save does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from inspect import iscoroutinefunction, signature
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, Error
from django.db.models import CompositePrimaryKey, Model
from django.db.models.signals import post_save
from django.utils.functional import Promise
from django.utils.translation import check_for_language

from ..contents import says_something
from ..exceptions import KpwaError
from ..logs import get_logger
from ..models import OutboundMessage, ReceiptFailure, database_of, is_saved
from .base import FAMILY, Receipt, Registration

logger = get_logger("django_kpwa.receipts")

ReceiptClass = TypeVar("ReceiptClass", bound=type[Receipt])

MAX_LABEL_LENGTH = 190
# Methods that a receipt must define, unless it sets the attribute that names the field to read.
_REQUIRED = {"should_send": "occurred_at_field", "get_phone_number": "phone_number_field"}
# The keyword arguments that each method of a receipt gets in addition to the object.
_ASKED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_REQUIRED, ()),
    **dict.fromkeys(
        ("get_image_url", "get_license", "get_occurred_at", "get_event_id", "get_fingerprint", "get_reference"), ()
    ),
    **dict.fromkeys(("get_context_data", "render"), ("license", "event_id")),
}


_by_label: dict[str, Registration] = {}


def register(*models: type[Model]) -> Callable[[ReceiptClass], ReceiptClass]:
    """Class decorator: send this receipt when an instance of one of `models` is saved.

    Saving a proxy or a subclass of a model sends only if that class is listed as well. Raises `ImproperlyConfigured`,
    with the reason, if a model or the receipt class cannot work.
    """
    if not models:
        raise ImproperlyConfigured("receipts.register() needs a model: @receipts.register(Sale).")
    for model in models:
        _check_model(model)

    def decorate(receipt_class: ReceiptClass) -> ReceiptClass:
        _check_receipt_class(receipt_class)
        for model in models:
            _check_fields(model, receipt_class)
        fresh = [_registration(model, receipt_class) for model in models]
        for registration in fresh:
            _by_label[registration.label] = registration
            post_save.connect(_saved, sender=registration.model, dispatch_uid=_dispatch_uid(registration.model))
        return receipt_class

    return decorate


def unregister(receipt_class: type[Receipt]) -> None:
    """Undo `register()`, for example after a test. Raises `LookupError` if the class is not registered."""
    found = [registration for registration in registrations() if type(registration.receipt) is receipt_class]
    if not found:
        raise LookupError(f"{receipt_class.__name__} is not a registered receipt.")
    for registration in found:
        del _by_label[registration.label]
        if not registrations(registration.model):
            post_save.disconnect(sender=registration.model, dispatch_uid=_dispatch_uid(registration.model))


def send_now(obj: Model, receipt_class: type[Receipt] | None = None) -> list[OutboundMessage]:
    """Queue the receipts of a saved object without a save: after `bulk_create()`, or because a person asks for it.

    Queues all receipts that are registered for the object's class, or only `receipt_class`. `should_send()` applies,
    `max_age` does not.

    Returns the messages, both new and existing ones; an empty list if there is nothing to send. As with a save, an
    error of a receipt class is stored as a `ReceiptFailure`. Inside a transaction on a database other than the
    outbox's, the messages are stored when that transaction commits, and are not returned.

    Raises `LookupError` if no such receipt is registered, and `ValueError` if the object was not saved.
    """
    if not is_saved(obj):
        raise ValueError("It has not been saved yet: save it first; for an existing row, load it from the database.")
    asked_for = [
        registration
        for registration in registrations(type(obj))
        if receipt_class is None or type(registration.receipt) is receipt_class
    ]
    if not asked_for:
        named = receipt_class.__name__ if receipt_class else "A receipt"
        raise LookupError(f"{named} is not registered for {type(obj)._meta.label}.")
    from .queueing import queue

    using = database_of(obj)
    queued = [queue(registration, obj, using, is_asked_for=True) for registration in asked_for]
    return [message for message in queued if message is not None]


def try_again(failure: ReceiptFailure) -> OutboundMessage | None:
    """Queue the receipt that failed, as `send_now()` does, and return its message.

    Returns None in two cases: it failed again, and the failure's row is updated; or it is no longer wanted or its
    object was deleted, and the row is deleted. Raises `LookupError` if the receipt is no longer registered, or if its
    database is missing.
    """
    from .identity import source_of
    from .queueing import queue

    registration = find(failure.receipt)
    if registration is None:
        raise LookupError(f"No receipt is registered as {failure.receipt!r}.")
    try:
        obj = source_of(registration, failure)
    except KpwaError as error:
        raise LookupError(str(error)) from error
    if obj is None:
        failure.delete()
        return None
    return queue(registration, obj, failure.source_database or DEFAULT_DB_ALIAS, is_asked_for=True)


def registrations(model: type[Model] | None = None) -> list[Registration]:
    """Return all registrations in the order in which they were made, or those for exactly the class `model`."""
    return [registration for registration in _by_label.values() if model is None or registration.model is model]


def find(label: str) -> Registration | None:
    """Return the registration under `label`, or None."""
    return _by_label.get(label)


def name_of_label(label: str) -> str:
    """Return the name for people of the receipt that is registered under `label`; the label itself if there is none."""
    registration = find(label)
    return registration.name if registration else label


def without_earlier_rows(messages: list[OutboundMessage], obj: Model) -> list[OutboundMessage]:
    """Return those of `messages` that are about `obj`. Each has `obj` as its source, and the newest comes first.

    The list is cut at the first receipt of an earlier row with the same primary key, because everything older is about
    that row or one before it. Raises `django.db.Error`.
    """
    from .identity import is_of_an_earlier_row

    for place, message in enumerate(messages):
        registration = find(message.renderer.removeprefix(f"{FAMILY}/")) if message.renderer else None
        if registration is None:
            continue
        try:
            is_earlier = is_of_an_earlier_row(message, registration.receipt, obj)
        except Error:
            raise  # it may have ended the caller's transaction
        except Exception as error:
            logger.warning("Could not determine which row message %s is about (%s).", message.pk, type(error).__name__)
            continue
        if is_earlier:
            return messages[:place]
    return messages


def _check_model(model: object) -> None:
    if not (isinstance(model, type) and issubclass(model, Model)):
        raise ImproperlyConfigured(f"receipts.register() takes model classes, not {model!r}.")
    if model._meta.abstract:
        raise ImproperlyConfigured(f"{model.__name__} is abstract: register its concrete models.")
    if isinstance(model._meta.pk, CompositePrimaryKey):
        raise ImproperlyConfigured(f"{model.__name__} has a composite primary key, which a message cannot point to.")


def _check_receipt_class(receipt_class: object) -> None:
    if not (isinstance(receipt_class, type) and issubclass(receipt_class, Receipt)):
        raise ImproperlyConfigured(f"{receipt_class!r} is not a subclass of django_kpwa.receipts.Receipt.")
    name = receipt_class.__name__
    for method, field in _REQUIRED.items():
        if not getattr(receipt_class, field) and getattr(receipt_class, method) is getattr(Receipt, method):
            raise ImproperlyConfigured(f"{name} must define {method}(), or {field}, which names a field to read.")
    if not receipt_class.template_name and receipt_class.render is Receipt.render:
        raise ImproperlyConfigured(f"{name} must name its template in template_name, or define render().")
    for attribute in ("max_age", "expires_after"):
        value = getattr(receipt_class, attribute)
        if value is not None and not (isinstance(value, timedelta) and value > timedelta(0)):
            raise ImproperlyConfigured(f"{name}.{attribute} must be a positive timedelta or None, not {value!r}.")
    has_time = receipt_class.occurred_at_field or receipt_class.get_occurred_at is not Receipt.get_occurred_at
    if receipt_class.max_age is not None and not has_time:
        raise ImproperlyConfigured(
            f"{name} has a max_age but no get_occurred_at(), so each save of an old object would send a "
            "receipt: define get_occurred_at() or occurred_at_field to say when it happened, or set max_age = None to "
            "send for objects of any age."
        )
    if not isinstance(receipt_class.event, str) or (receipt_class.event and not says_something(receipt_class.event)):
        raise ImproperlyConfigured(f"{name}.event must be a visible string, not {receipt_class.event!r}.")
    if not isinstance(receipt_class.verbose_name, (str, Promise)):
        raise ImproperlyConfigured(f"{name}.verbose_name must be a string, not {receipt_class.verbose_name!r}.")
    for method, context in _ASKED.items():
        _check_method(receipt_class(), method, "the object", 1, context)
    _check_method(receipt_class(), "get_candidates", "since and until", 2, ())
    _check_method(receipt_class(), "get_late_notice", "the object and when it was queued", 2, ())
    if receipt_class.language and not check_for_language(receipt_class.language):
        raise ImproperlyConfigured(f"{name}.language is {receipt_class.language!r}, which Django does not support.")


def _check_fields(model: type[Model], receipt_class: type[Receipt]) -> None:
    """Check the names of fields at start-up. With a wrong name, the receipt of each sale would fail."""
    for attribute in ("phone_number_field", "occurred_at_field"):
        field = getattr(receipt_class, attribute)
        if field and not (isinstance(field, str) and hasattr(model, field)):
            raise ImproperlyConfigured(
                f"{receipt_class.__name__}.{attribute} is {field!r}, and {model.__name__} has no such field."
            )


def _check_method(receipt: Receipt, method: str, given: str, count: int, context: Iterable[str]) -> None:
    name, function = f"{type(receipt).__name__}.{method}()", getattr(receipt, method)
    if iscoroutinefunction(function):
        # The coroutine that it returns would always be true.
        raise ImproperlyConfigured(f"{name} is asynchronous, but it is called without await: write it without async.")
    try:
        signature(function).bind(*[object()] * count, **dict.fromkeys(context))
    except TypeError as error:
        more = "; it must take **context" if context else ""
        raise ImproperlyConfigured(f"{name} cannot be called with {given}{more} ({error}).") from None


def _registration(model: type[Model], receipt_class: type[Receipt]) -> Registration:
    label = f"{model._meta.label_lower}.{receipt_class.__name__}"
    if len(label) > MAX_LABEL_LENGTH:
        raise ImproperlyConfigured(f"{label} is longer than {MAX_LABEL_LENGTH} characters: shorten the class's name.")
    event = receipt_class.event or receipt_class.__name__
    for known in registrations():
        other = type(known.receipt)
        if known.label == label:
            raise ImproperlyConfigured(f"{label} is registered already, by {other.__module__}.")
        # The same class may serve a model and its proxies. A row gets its receipt once, whichever of them is saved.
        if known.model._meta.concrete_model is not model._meta.concrete_model or other is receipt_class:
            continue
        # Events are compared only if both classes share one get_event_id(): the result of another one is not known
        # here.
        if other.get_event_id is receipt_class.get_event_id and (other.event or other.__name__) == event:
            raise ImproperlyConfigured(
                f"{receipt_class.__name__} and {other.__name__} both have the event {event!r}: a "
                f"{model.__name__} would get only the first of them. Give one another event, or register one "
                "class for both models."
            )
    return Registration(model, receipt_class(), label)


def _dispatch_uid(model: type[Model]) -> str:
    return f"django_kpwa.receipts:{model._meta.label}"


def _saved(sender: type[Model], instance: Model, created: bool, raw: bool, using: str, **_: Any) -> None:
    if raw:  # loaded from a fixture: not a sale, and the rows it refers to may not exist yet
        return
    from .queueing import queue_saved

    for registration in registrations(sender):
        queue_saved(registration, instance, using, is_new=created)
