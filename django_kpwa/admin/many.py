"""A button pressed for many objects of a list at once: asked first, bounded, and each kept in the admin's log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import model_ngettext
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext, ngettext

from ..conditions import Words
from .buttons import Button, ButtonsAdmin, Done, confirmation

MOST_AT_ONCE = 500
"""One press is for so many: a request ends in seconds, and Django takes no more than 1,000 fields."""

_MOST_NAMED = 10

Tell = Callable[[ButtonsAdmin, HttpRequest, Sequence[Done], int], None]
"""Says what came of it: for those that were pressed, and how many were left alone."""


def press_many(
    admin: ButtonsAdmin,
    request: HttpRequest,
    chosen: QuerySet[Any],
    button: Button,
    *,
    most: int = MOST_AT_ONCE,
    tell: Tell | None = None,
    back: str = "",
) -> HttpResponse | None:
    """Press `button` for each of `chosen` that its state allows. None: Django goes back to the list.

    `back`: where who does not confirm goes; without it, to the address of the request.
    """
    ids = list(chosen.order_by("-pk").values_list("pk", flat=True)[: most + 1])
    if len(ids) > most:
        words = gettext("Choose at most %(count)s at once. Nothing was changed.") % {"count": most}
        admin.message_user(request, words, messages.ERROR)
        return None
    found = list(admin.get_queryset(request).filter(pk__in=ids).order_by("-pk"))
    if "confirmed" not in request.POST:
        return _asked(admin, request, found, button, back or request.get_full_path())
    done = [admin.press(request, button, obj) for obj in found if button.is_offered(obj)]
    (tell or _tell)(admin, request, done, len(found) - len(done))
    return None


def counted(admin: ButtonsAdmin, count: int) -> str:
    """For example "2 messages"."""
    return f"{count} {model_ngettext(admin.opts, count)}"


def _asked(
    admin: ButtonsAdmin, request: HttpRequest, found: list[Any], button: Button, back: str
) -> HttpResponse | None:
    able = [obj for obj in found if button.is_offered(obj)]
    if not able:
        words = gettext("None of those that you chose allows that. Nothing was changed.")
        admin.message_user(request, words, messages.WARNING)
        return None
    warnings: list[Words] = [gettext("This is about %(what)s.") % {"what": counted(admin, len(able))}]
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
    fields = [("action", button.name), *((ACTION_CHECKBOX_NAME, str(obj.pk)) for obj in able)]
    return confirmation(admin, request, button.label, warnings, named, back=back, fields=fields)


def _tell(admin: ButtonsAdmin, request: HttpRequest, done: Sequence[Done], skipped: int) -> None:
    worked = sum(each.level < messages.WARNING for each in done)
    skipped += len(done) - worked
    if worked:
        words = gettext("Done for %(what)s.") % {"what": counted(admin, worked)}
        admin.message_user(request, words, messages.SUCCESS)
    if skipped:
        words = ngettext(
            "%(what)s was left alone: its status does not allow it, or somebody was faster.",
            "%(what)s were left alone: their status does not allow it, or somebody was faster.",
            skipped,
        )
        admin.message_user(request, words % {"what": counted(admin, skipped)}, messages.WARNING)
