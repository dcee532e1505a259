"""What was said, in a bubble as WhatsApp shows it: drawn by `admin/django_kpwa/bubble.html` with `message.css`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from django.utils.safestring import SafeString

from ..conditions import Mark, status_mark
from ..models import OutboundMessage, Status
from .whatsapp_text import link_to, wa_html

_NOTHING = SafeString("")
_TICKED = (Status.SENT, Status.DELIVERED, Status.READ)


@dataclass(frozen=True)
class Bubble:
    """One bubble. `ticks` stand beside its time; without a text it says `instead`."""

    text: SafeString = field(default=_NOTHING, repr=False)
    image: SafeString = _NOTHING
    """The image's address: loading the image would tell its server who looks."""
    at: datetime | None = None
    ticks: Mark | None = None
    is_read: bool = False
    is_incoming: bool = False
    instead: str = ""


def bubble_of(message: OutboundMessage, instead: str = "") -> Bubble:
    """The bubble of a message of ours."""
    return Bubble(
        text=wa_html(message.text),
        image=image_link(message.image_url),
        at=message.sent_at or message.created_at,
        ticks=status_mark(message.status) if message.status in _TICKED else None,
        is_read=message.status == Status.READ,
        instead=instead,
    )


def image_link(url: str) -> SafeString:
    return link_to(url) if url else _NOTHING
