"""The dashboard's list of messages that need a decision, and the view that decides about several of them.

The decisions themselves (effect, question, log entry) are defined in the message admin; this module only offers its
buttons in another place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext

from ..counts import MAX_COUNTED, count_up_to
from ..formatting import short_time
from ..models import OutboundMessage
from ..words import reason_row
from .base import MAY_DECIDE
from .buttons import Button, OfferedButton
from .message_admin import IT_ARRIVED, LEAVE_IT, SEND_AGAIN, MessageAdmin
from .message_lines import recipient_of

MAX_LISTED = 25
CHOICES: dict[str, Button] = {button.name: button for button in (SEND_AGAIN, IT_ARRIVED, LEAVE_IT)}


def look_at_decisions(site: AdminSite, request: HttpRequest, names: Mapping[int, str]) -> dict[str, Any]:
    """Return the newest messages that need a decision, at most `MAX_LISTED`, and the number of all (`total`).

    `rows` is empty if the user may not view messages, `buttons` if the user may not decide about them. `is_cut` is True
    if there are more messages than `rows`.

    Args:
        names: The licenses' names by id; empty if messages need not show their license.
    """
    total = count_up_to(MAX_COUNTED, OutboundMessage.objects.undecided())
    admin = _message_admin(site)
    if admin is None or not admin.has_view_permission(request):
        return {"total": total}
    may_decide = admin.may(request, MAY_DECIDE)
    undecided = admin.get_queryset(request).undecided()  # type: ignore[attr-defined]
    found = list(undecided.select_related(None).order_by("-created_at", "-pk")[:MAX_LISTED])
    admin.prepare_page(request, found)
    admin.prepare_buttons(found)
    rows = [_row(admin, message, names, may_decide) for message in found]
    return {
        "total": total,
        "rows": rows,
        "buttons": list(CHOICES.values()) if may_decide else [],
        "list_url": f"{admin.url_of('changelist')}?needs_decision=yes",
        "is_cut": total.number > len(rows),
    }


def decide(site: AdminSite, request: HttpRequest, back: str) -> HttpResponse:
    """Press the posted button for the posted messages, after a confirmation.

    The caller has to check the permissions first.

    Args:
        back: URL of the dashboard.

    Returns:
        The confirmation page, or a redirect to `back`.
    """
    admin = _message_admin(site)
    button = CHOICES.get(request.POST.get("action", ""))
    if admin is None or button is None:
        return HttpResponseRedirect(back)
    chosen = [pk for pk in request.POST.getlist(ACTION_CHECKBOX_NAME) if pk.isascii() and pk.isdigit() and len(pk) < 19]
    if not chosen:
        admin.message_user(request, gettext("Select at least one message first."), messages.WARNING)
        return HttpResponseRedirect(back)
    answer = admin.press_many(request, admin.get_queryset(request).filter(pk__in=chosen), button, back=back)
    return answer or HttpResponseRedirect(back)


def _message_admin(site: AdminSite) -> MessageAdmin | None:
    """Return the site's admin of messages; None if there is none, or if the site replaced it by a class of its own."""
    registered: Any = site.get_model_admin(OutboundMessage) if site.is_registered(OutboundMessage) else None
    return registered if isinstance(registered, MessageAdmin) else None


def _row(admin: MessageAdmin, message: OutboundMessage, names: Mapping[int, str], may_decide: bool) -> dict[str, Any]:
    offered = (button for button in CHOICES.values() if button.is_offered(message))
    choices = [OfferedButton(button, admin.url_of(button.name, message.pk)) for button in offered]
    return {
        "message": message,
        "url": admin.url_of("change", message.pk),
        "recipient": recipient_of(message),
        "first_line": message.kpwa_first_line,  # type: ignore[attr-defined]
        "reason": reason_row(message).label,
        "license": names.get(message.license_id or 0, ""),
        "when": short_time(message.settled_at or message.created_at),
        "source": message.kpwa_source,  # type: ignore[attr-defined]
        "choices": choices if may_decide else [],
    }
