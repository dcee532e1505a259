"""What a site subclasses: one class a kind of receipt.

An instance is shared by every request and worker thread of the process, so a receipt keeps nothing on `self`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .plain_text import render_plain

if TYPE_CHECKING:
    from django.db.models import Model

    from ..models import License

_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")


class Receipt:
    """A receipt of one model. `should_send()`, `get_phone_number()` and `template_name` are what every one needs."""

    template_name: str = ""
    """Template of the text. Nothing is escaped in it: customers' text goes through the filters of `{% load kpwa %}`."""
    event: str = ""
    """What this receipt tells of, e.g. `"paid"`. Empty: the class's name. An object gets one message an event, so
    changing it sends again for what is not older than `max_age`."""
    max_age: timedelta | None = timedelta(days=2)
    """What occurred longer ago gets no receipt: editing last year's sale sends nothing. None: no limit."""
    expires_after: timedelta | None = timedelta(days=2)
    """A receipt that waited longer than this (WhatsApp was logged out) is not sent any more. None: it always is."""
    language: str = ""
    """Language code that the text is rendered in. Empty: the site's `LANGUAGE_CODE`."""

    def should_send(self, obj: Any) -> bool:
        """Whether `obj` gets this receipt. Asked at every save, and again just before the text is rendered."""
        raise NotImplementedError

    def get_phone_number(self, obj: Any) -> object:
        """The recipient's number as people write it. Empty, None, `-`, `0` and the like: no receipt.

        An object with `as_e164`, as django-phonenumber-field's, is asked for that.
        """
        raise NotImplementedError

    def get_image_url(self, obj: Any) -> str | None:
        """An http(s) URL of an image that is sent with the text. Asked when the text is rendered."""
        return None

    def get_license(self, obj: Any) -> License | str | None:
        """The license to send from, e.g. the outlet's. None: the default one."""
        return None

    def get_occurred_at(self, obj: Any) -> datetime | None:
        """When it happened, as an aware datetime, for `max_age`. None: now."""
        return None

    def get_event_id(self, obj: Any) -> str:
        """What tells this receipt from other receipts of `obj`, e.g. `f"refund-{refund_number}"` for each refund."""
        return self.event or type(self).__name__

    def get_context_data(self, obj: Any, **context: Any) -> dict[str, Any]:
        """The template's context: `object`, the same under its model's name (`sale`), and what `context` brings.

        Before a send that is `license` and `event_id`.
        """
        return {"object": obj, obj._meta.model_name: obj, **context}

    def render(self, obj: Any, **context: Any) -> str:
        """The text of `obj`'s receipt. More than one blank line in a row, as template tags leave them, becomes one."""
        text = render_plain(self.template_name, self.get_context_data(obj, **context))
        return _BLANK_LINES.sub("\n\n", text.replace("\r\n", "\n")).strip()


@dataclass(frozen=True)
class Registration:
    """A receipt (one instance, shared) of a model. Its label (`sales.sale.PaidReceipt`) is stored with its messages."""

    model: type[Model]
    receipt: Receipt
    label: str
