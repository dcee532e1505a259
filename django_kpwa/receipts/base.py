"""What a site subclasses: one class a kind of receipt.

An instance is shared by every request and worker thread of the process, so a receipt keeps nothing on `self`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .plain_text import render_plain

if TYPE_CHECKING:
    from django.db.models import Model

    from ..models import License

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")


class Receipt:
    """A receipt of one model.

    `should_send()`, `get_phone_number()`, `get_occurred_at()` and `template_name` are what every one needs.
    """

    template_name: str = ""
    """Template of the text. Nothing is escaped in it: customers' text goes through the filters of `{% load kpwa %}`."""
    event: str = ""
    """What this receipt tells of, e.g. `"paid"`. Empty: the class's name. An object gets one message an event, so
    changing it sends again for what is not older than `max_age`."""
    max_age: timedelta | None = timedelta(days=2)
    """What occurred longer ago (`get_occurred_at()`) gets no receipt: editing last year's sale sends nothing.

    None: every save may send, whatever its age.
    """
    expires_after: timedelta | None = timedelta(days=2)
    """A receipt that waited longer than this (WhatsApp was logged out) is not sent any more. None: it always is."""
    language: str = ""
    """Language code that the text is rendered in. Empty: the site's `LANGUAGE_CODE`."""

    def should_send(self, obj: Any) -> bool:
        """Whether `obj` gets this receipt. Asked at every save, and again just before the text is rendered."""
        raise NotImplementedError

    def get_phone_number(self, obj: Any) -> object:
        """The recipient's number as people write it. Empty, None, `-`, `0` and the like: no receipt.

        Asked at every save, and again when the text is written.
        An object with `as_e164`, as django-phonenumber-field's, is asked for that.
        """
        raise NotImplementedError

    def get_image_url(self, obj: Any) -> str | None:
        """An http(s) URL of an image that is sent with the text. Asked when the text is rendered."""
        return None

    def get_license(self, obj: Any) -> License | str | None:
        """The license to send from, e.g. the outlet's; asked as the number is. None: the default one."""
        return None

    def get_occurred_at(self, obj: Any) -> datetime | None:
        """When it happened, as an aware datetime. None will do only where `max_age` is None as well.

        Nobody could tell a sale of today from an old one that is edited or imported.
        """
        return None

    def get_event_id(self, obj: Any) -> str:
        """What tells this receipt from other receipts of `obj`, e.g. `f"refund-{refund_number}"` for each refund."""
        return self.event or type(self).__name__

    def get_fingerprint(self, obj: Any) -> str:
        """What tells `obj` from another object that had its primary key before: an invoice number, a UUID.

        It never changes, or an edit sends a second receipt. Empty: `get_occurred_at()` and the number tell, where they
        can; where they cannot, nothing is sent, and a `ReceiptFailure` says so.
        """
        return ""

    def get_context_data(self, obj: Any, **context: Any) -> dict[str, Any]:
        """More for the template, as a dict; with `super()` or without, the template keeps what `render()` promises.

        `context`: what the package brings before a send, `license` and `event_id`.
        """
        return {**_promised(obj), **context}

    def render(self, obj: Any, **context: Any) -> str:
        """The text of `obj`'s receipt. More than one blank line in a row, as template tags leave them, becomes one.

        The template has `object`, the same under the name of its model (`sale`) and of each model that this is a proxy
        or subclass of, what `context` brings, and what `get_context_data()` returns, which goes before the others.
        Raises `ValueError` where that takes the object away, or the template asks for it by a name that nobody gave it.
        """
        promised = _promised(obj)
        added = self.get_context_data(obj, **context)
        if not isinstance(added, Mapping):
            raise ValueError(f"get_context_data() returned {type(added).__name__}; it must be a dict.")
        if taken := [name for name in promised if name not in context and added.get(name, obj) is None]:
            raise ValueError(f"get_context_data() returned None as {taken[0]!r}: the receipt would be of bare labels.")
        says_something = {*promised, *added} - set(context)
        text = render_plain(self.template_name, {**promised, **context, **added}, reads=says_something)
        return _BLANK_LINES.sub("\n\n", text.replace("\r\n", "\n")).strip()


def _promised(obj: Any) -> dict[str, Any]:
    """The object by each name that a template has for it: a template for its model serves proxies and subclasses."""
    models = [base for base in type(obj).__mro__ if hasattr(base, "_meta") and not base._meta.abstract]
    return {"object": obj, **{model._meta.model_name: obj for model in models}}


@dataclass(frozen=True)
class Registration:
    """A receipt (one instance, shared) of a model. Its label (`sales.sale.PaidReceipt`) is stored with its messages."""

    model: type[Model]
    receipt: Receipt
    label: str
