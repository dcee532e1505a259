"""`Receipt`, the class that a site subclasses for each kind of receipt.

One instance is shared by all request and worker threads of the process, so a receipt must not keep state on `self`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils.functional import Promise
from django.utils.text import camel_case_to_spaces, capfirst
from django.utils.translation import gettext

from ..formatting import date_and_time, sentence
from ..validation import name_of
from .plain_text import render_plain

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet

    from ..models import License

FAMILY = "receipts"
"""Prefix of `OutboundMessage.renderer` for receipts: the full value is `receipts/LABEL`."""

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")


class Receipt:
    """A receipt of one model.

    Every receipt needs a template, a recipient and a time. Set `template_name`, `phone_number_field` and
    `occurred_at_field`. If a column is not enough, define `get_phone_number()`, `should_send()` and
    `get_occurred_at()`.
    """

    template_name: str = ""
    """Name of the text's template. Nothing is escaped in it: pass customers' text through the filters of
    `{% load kpwa %}`."""
    phone_number_field: str = ""
    """Name of the model's field or property that holds the recipient's number, for `get_phone_number()`."""
    occurred_at_field: str = ""
    """Name of the model's field or property that holds when the event happened, for `get_occurred_at()`.

    An object gets the receipt as soon as it has that time, unless `should_send()` says otherwise. So name a field that
    is empty until then (`paid_at`), not one that each row has (`created_at`).
    """
    verbose_name: str | Promise = ""
    """Name shown to people, for example `_("Receipt")`. If it is empty, it is derived from the class's name."""
    event: str = ""
    """Name of the event that this receipt reports, for example `"paid"`. If it is empty, the class's name is used.

    An object gets one message per event. If you change this value, every object that is saved and not older than
    `max_age` gets another message.
    """
    max_age: timedelta | None = timedelta(days=2)
    """An object that is older, by `get_occurred_at()`, gets no receipt when it is saved: editing last year's sale sends
    nothing.

    None: objects of any age may get one.
    """
    expires_after: timedelta | None = timedelta(days=2)
    """A receipt that waited longer than this, e.g. because WhatsApp was logged out, is not sent. None: no limit."""
    language: str = ""
    """Code of the language in which the text is rendered. If it is empty, the site's `LANGUAGE_CODE` is used."""

    def should_send(self, obj: Any) -> bool:
        """Return True if `obj` gets this receipt. Called at every save, and again just before the text is rendered.

        By default, True if `occurred_at_field` has a time.
        """
        if not self.occurred_at_field:
            raise NotImplementedError
        return getattr(obj, self.occurred_at_field) is not None

    def get_phone_number(self, obj: Any) -> object:
        """Return the recipient's number as people write it. No receipt is sent for empty, None, `-`, `0` and the like.

        Called at every save, and again just before the text is rendered. If the result has an attribute `as_e164`, as
        the numbers of django-phonenumber-field have, that is used. By default this returns `phone_number_field`.
        """
        if not self.phone_number_field:
            raise NotImplementedError
        return getattr(obj, self.phone_number_field)

    def get_image_url(self, obj: Any) -> str | None:
        """Return the http(s) URL of an image to send with the text, or None. Called when the text is rendered."""
        return None

    def get_license(self, obj: Any) -> License | str | None:
        """Return the license (or its name) that sends, for example the outlet's. None: the default license.

        Called whenever `get_phone_number()` is.
        """
        return None

    def get_occurred_at(self, obj: Any) -> datetime | None:
        """Return when the event happened, as an aware datetime. It may be None only if `max_age` is None.

        Without a time, a sale of today cannot be distinguished from an old one that is edited or imported. By default
        this returns `occurred_at_field`, or None if that is not set.
        """
        return getattr(obj, self.occurred_at_field) if self.occurred_at_field else None

    def get_event_id(self, obj: Any) -> str:
        """Return a text that distinguishes this receipt from other receipts of `obj`.

        For example `f"refund-{refund_number}"`, if there is a receipt for each refund. By default this is `event`, or
        the class's name.
        """
        return self.event or type(self).__name__

    def get_fingerprint(self, obj: Any) -> str:
        """Return a text that distinguishes `obj` from an earlier object with the same primary key, or an empty text.

        Return an invoice number or a UUID, for example. The value must never change, because an edit that changes it
        sends a second receipt. If it is empty, the two objects are distinguished by `get_occurred_at()` and the phone
        number. If those do not decide, nothing is sent and a `ReceiptFailure` is stored.
        """
        return ""

    def get_reference(self, obj: Any) -> str:
        """Return the name that people use for `obj`, such as an invoice number. It is shown, searchable and exported.

        It is cut at 80 characters. By default it is `str(obj)`, or empty if the model does not define `__str__()`.
        Lists then show the model's name and the primary key (of a UUID, its beginning). If this raises an exception,
        the receipt is sent without a reference, unless it is an error of the database.

        Called when the receipt is queued, and again when its text is rendered.
        """
        return name_of(obj)

    def get_late_notice(self, obj: Any, queued_at: datetime) -> str:
        """Return the first line of a text that is written more than 30 minutes after it was queued; empty: no line.

        Called in the receipt's language. `{% kpwa_late_notice %}` places the line elsewhere in the template.
        """
        words = gettext("Sorry, this message comes late. It was to be sent on %(time)s.")
        return sentence(words % {"time": date_and_time(queued_at)})

    def get_candidates(self, since: datetime, until: datetime) -> QuerySet[Any] | None:
        """Return a queryset of the objects from `since` to `until` (aware) that could have had this receipt.

        It may include objects for which no receipt is wanted. Return None if the class does not support this. With a
        queryset, `receipts.missing` finds objects whose receipt was never queued: they were saved by `bulk_create()`,
        `update()` or raw SQL, or their process was killed. Compare the time that `get_occurred_at()` returns, in a
        column with an index.

        The objects are read by primary key, in batches. Those without a message are loaded by this queryset, so add
        what the methods above need, for example `select_related()`.
        """
        return None

    def get_context_data(self, obj: Any, **context: Any) -> dict[str, Any]:
        """Return more variables for the template, as a dict. You need not call `super()`: `render()` adds its own.

        `context` contains what the package passes before a send: `license` and `event_id`.
        """
        return {**_promised(obj), **context}

    def render(self, obj: Any, **context: Any) -> str:
        """Return the text of `obj`'s receipt. Several blank lines in a row, as template tags leave them, become one.

        The template's variables are:

        - `object`
        - the same object under the name of its model (`sale`), and of each model of which that is a proxy or subclass
        - `context`
        - what `get_context_data()` returns, which takes precedence

        Raises `ValueError` if `get_context_data()` replaces the object by None or does not return a dict, or if the
        template reads unknown variables and nothing of the object.
        """
        promised = _promised(obj)
        added = self.get_context_data(obj, **context)
        if not isinstance(added, Mapping):
            raise ValueError(f"get_context_data() returned {type(added).__name__}; it must be a dict.")
        if taken := [name for name in promised if name not in context and added.get(name, obj) is None]:
            raise ValueError(
                f"get_context_data() returned None as {taken[0]!r}: the receipt would have labels without values."
            )
        says_something = {*promised, *added} - set(context)
        text = render_plain(self.template_name, {**promised, **context, **added}, reads=says_something)
        return _BLANK_LINES.sub("\n\n", text.replace("\r\n", "\n")).strip()


def _promised(obj: Any) -> dict[str, Any]:
    """Return the object under each of its names, so that its model's template also serves proxies and subclasses."""
    models = [base for base in type(obj).__mro__ if hasattr(base, "_meta") and not base._meta.abstract]
    return {"object": obj, **{model._meta.model_name: obj for model in models}}


@dataclass(frozen=True)
class Registration:
    """A model with one of its receipts (a shared instance). Messages store the label (`sales.sale.PaidReceipt`)."""

    model: type[Model]
    receipt: Receipt
    label: str

    @property
    def name(self) -> str:
        """The receipt's name for people: its `verbose_name`, or else `Paid receipt` for a class `PaidReceipt`."""
        return capfirst(str(self.receipt.verbose_name or camel_case_to_spaces(type(self.receipt).__name__)))
