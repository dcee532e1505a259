"""What is done to many messages of the list at once: asked first, bounded, and each kept in the admin's log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext, ngettext

from ...conditions import Words
from ..buttons import Button, confirmation

if TYPE_CHECKING:
    from . import MessageAdmin

MOST_AT_ONCE = 500
"""One press decides about so many: a request ends in seconds, and Django takes no more than 1,000 fields."""

_MOST_NAMED = 10


def decide_many(
    admin: MessageAdmin, request: HttpRequest, chosen: QuerySet[Any], button: Button, *, back: str = ""
) -> HttpResponse | None:
    """Press `button` for each of `chosen` that its status allows. None: Django goes back to the list.

    `back`: where who does not confirm goes; without it, to the address of the request.
    """
    ids = list(chosen.order_by("-pk").values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
    if len(ids) > MOST_AT_ONCE:
        words = gettext("Choose at most %(count)s messages at once. Nothing was changed.") % {"count": MOST_AT_ONCE}
        admin.message_user(request, words, messages.ERROR)
        return None
    found = list(admin.get_queryset(request).filter(pk__in=ids).order_by("-pk"))
    if "confirmed" not in request.POST:
        return _asked(admin, request, found, button, back or request.get_full_path())
    done = 0
    for message in found:
        if button.is_offered(message):
            done += admin.press(request, button, message).level < messages.WARNING
    _tell(admin, request, done, len(found) - done)
    return None


def _asked(
    admin: MessageAdmin, request: HttpRequest, found: list[Any], button: Button, back: str
) -> HttpResponse | None:
    able = [message for message in found if button.is_offered(message)]
    if not able:
        admin.message_user(
            request, gettext("None of the chosen messages allows that. Nothing was changed."), messages.WARNING
        )
        return None
    count = ngettext("This is about %(count)s message.", "This is about %(count)s messages.", len(able))
    warnings: list[Words] = [count % {"count": len(able)}]
    if button.confirm:
        warnings.append(button.confirm)
    if len(able) < len(found):
        skipped = ngettext(
            "%(count)s other is left alone, because its status does not allow it.",
            "%(count)s others are left alone, because their status does not allow it.",
            len(found) - len(able),
        )
        warnings.append(skipped % {"count": len(found) - len(able)})
    named: list[object] = list(able[:_MOST_NAMED])
    if len(able) > _MOST_NAMED:
        named.append(gettext("… and %(count)s more") % {"count": len(able) - _MOST_NAMED})
    fields = [("action", button.name), *((ACTION_CHECKBOX_NAME, str(message.pk)) for message in able)]
    return confirmation(admin, request, button.label, warnings, named, back=back, fields=fields)


def _tell(admin: MessageAdmin, request: HttpRequest, done: int, skipped: int) -> None:
    if done:
        words = ngettext("Done for %(count)s message.", "Done for %(count)s messages.", done)
        admin.message_user(request, words % {"count": done}, messages.SUCCESS)
    if skipped:
        words = ngettext(
            "%(count)s message was left alone: its status does not allow it, or somebody was faster.",
            "%(count)s messages were left alone: their status does not allow it, or somebody was faster.",
            skipped,
        )
        admin.message_user(request, words % {"count": skipped}, messages.WARNING)
