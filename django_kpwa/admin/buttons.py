"""Buttons on an object's page, which can also be pressed for many objects of a list at once.

Each is a form that posts, asks first where it should, says what happened, and is recorded in the admin's log. A GET
never changes anything, and everything works without JavaScript.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import model_ngettext
from django.db import connections, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import gettext, ngettext

from ..site_urls import is_url_of_this_site
from ..words import Words
from .base import KpwaAdmin

MAX_AT_ONCE = 500
"""Maximum number of objects of one press: a request ends in seconds, and Django takes no more than 1,000 fields."""
_MAX_NAMED = 10


@dataclass(frozen=True)
class Done:
    """The result of pressing a button. `words` are shown, and logged unless `logged` replaces them ("": no entry)."""

    words: Words
    level: int = messages.SUCCESS
    logged: Words | None = None


@dataclass(frozen=True)
class Button:
    """Something that a person can do to an object: a POST to `<object>/<name>/` of its admin.

    `permission` is a codename of our app. `confirm` is asked before it is done; `confirm_for` words the question by the
    object, and returns an empty text where nothing needs to be asked. `is_offered` tells whether the object's state
    allows it. Pressing it in any other state must do no harm: two people may press at the same time.
    """

    name: str
    label: Words
    permission: str
    press: Callable[[HttpRequest, Any], Done]
    confirm: Words = ""
    is_offered: Callable[[Any], bool] = lambda _: True
    is_primary: bool = False
    confirm_for: Callable[[Any], Words] | None = None

    def question(self, obj: Any) -> Words:
        """What is asked before it is done to `obj`; empty if nothing is asked."""
        return self.confirm if self.confirm_for is None else self.confirm_for(obj)


@dataclass(frozen=True)
class OfferedButton:
    """A button with its address, as templates show it."""

    button: Button
    url: str


Summarise = Callable[["ButtonsAdmin", HttpRequest, Sequence[Done], int], None]
"""Tells the person the results of those that were pressed, and how many were skipped."""


class ButtonsAdmin(KpwaAdmin):
    """An admin whose objects have `buttons`, shown at the top of an object's page."""

    buttons: Sequence[Button] = ()
    change_form_template = "admin/django_kpwa/change_form.html"

    def get_urls(self) -> list[Any]:
        own = [
            path(
                f"<path:object_id>/{button.name}/",
                outside_transactions(self.admin_site.admin_view(self._view_of(button))),
                name=self.url_name(button.name),
            )
            for button in self.buttons
        ]
        return [*own, *super().get_urls()]

    def offered_buttons(self, request: HttpRequest, obj: Model) -> list[OfferedButton]:
        """The buttons that the person may press and the object's state allows."""
        return [
            OfferedButton(button, self.url_of(button.name, obj.pk))
            for button in self.buttons
            if self.may(request, button.permission) and button.is_offered(obj)
        ]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        obj = context.get("original")
        context["kpwa_buttons"] = self.offered_buttons(request, obj) if obj is not None else []
        return super().render_change_form(request, context, *args, **kwargs)

    def press(self, request: HttpRequest, button: Button, obj: Any) -> Done:
        """Press `button` and log it; the caller has checked the permission. Exceptions are left to `button.press`."""
        done = button.press(request, obj)
        logged = done.words if done.logged is None else done.logged
        if logged:
            self.log_change(request, obj, f"{button.label}: {logged}")
        return done

    def press_many(
        self,
        request: HttpRequest,
        chosen: QuerySet[Any],
        button: Button,
        *,
        limit: int = MAX_AT_ONCE,
        summarise: Summarise | None = None,
        back: str = "",
    ) -> HttpResponse | None:
        """Press `button` for each of `chosen` whose state allows it, after asking.

        Args:
            limit: With more than this many, nothing is done.
            back: Where the question leads back to; by default the address of the request.

        Returns:
            The question, or None once it is done or refused: Django then goes back to the list.
        """
        ids = list(chosen.order_by("-pk").values_list("pk", flat=True)[: limit + 1])
        if len(ids) > limit:
            words = gettext("Choose at most %(count)s at once. Nothing was changed.") % {"count": limit}
            self.message_user(request, words, messages.ERROR)
            return None
        found = list(self.get_queryset(request).filter(pk__in=ids).order_by("-pk"))
        if "confirmed" not in request.POST:
            return self._ask_for_many(request, found, button, back or request.get_full_path())
        done = [self.press(request, button, obj) for obj in found if button.is_offered(obj)]
        (summarise or _summarise)(self, request, done, len(found) - len(done))
        return None

    def _ask_for_many(self, request: HttpRequest, found: list[Any], button: Button, back: str) -> HttpResponse | None:
        able = [obj for obj in found if button.is_offered(obj)]
        if not able:
            words = gettext("None of those that you chose allows that. Nothing was changed.")
            self.message_user(request, words, messages.WARNING)
            return None
        warnings: list[Words] = [gettext("This is about %(what)s.") % {"what": counted(self, len(able))}]
        if button.confirm:
            warnings.append(button.confirm)
        if len(able) < len(found):
            skipped = ngettext(
                "%(count)s other is left alone, because its status does not allow it.",
                "%(count)s others are left alone, because their status does not allow it.",
                len(found) - len(able),
            )
            warnings.append(skipped % {"count": len(found) - len(able)})
        named: list[object] = list(able[:_MAX_NAMED])
        if len(able) > _MAX_NAMED:
            named.append(gettext("… and %(count)s more") % {"count": len(able) - _MAX_NAMED})
        fields = [("action", button.name), *((ACTION_CHECKBOX_NAME, str(obj.pk)) for obj in able)]
        return confirmation(self, request, button.label, warnings, named, back=back, fields=fields)

    def _view_of(self, button: Button) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            if not self.may(request, button.permission):
                return refusal(self, request, button.permission)
            obj = self.get_object_or_404(request, object_id)
            back = _back(request, self.url_of("change", obj.pk))
            question = button.question(obj)
            if question and "confirmed" not in request.POST:
                return confirmation(self, request, button.label, [question], [obj], back=back)
            done = self.press(request, button, obj)
            self.message_user(request, str(done.words), done.level)
            return HttpResponseRedirect(back)

        return view


def outside_transactions(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Take `view` out of ATOMIC_REQUESTS: it may wait seconds for the gateway, and what it did has to be kept."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def confirmation(
    admin: KpwaAdmin,
    request: HttpRequest,
    label: Words,
    warnings: Sequence[Words],
    objects: Sequence[object],
    *,
    back: str,
    fields: Sequence[tuple[str, str]] = (),
) -> TemplateResponse:
    """A page that asks before something is done; "yes" posts the same address again with `confirmed` and `fields`."""
    context = {
        "title": label,
        "label": label,
        "warnings": warnings,
        "objects": objects,
        "fields": [*fields, ("next", back), ("confirmed", "yes")],
        "back": back,
    }
    return admin.render_page(request, "confirm.html", context)


def refusal(admin: KpwaAdmin, request: HttpRequest, codename: str) -> TemplateResponse:
    """A page with status 403 that names the permission of our app that the person lacks."""
    permission = dict(admin.opts.permissions).get(codename, codename)
    context = {"title": gettext("You may not do this"), "permission": permission}
    return admin.render_page(request, "refused.html", context, status=403)


def counted(admin: KpwaAdmin, count: int) -> str:
    """For example "2 messages"."""
    return f"{count} {model_ngettext(admin.opts, count)}"


def _back(request: HttpRequest, otherwise: str) -> str:
    """Where to go afterwards: the `next` that was posted, if it is an address of this site."""
    wanted = request.POST.get("next", "")
    return wanted if is_url_of_this_site(request, wanted) else otherwise


def _summarise(admin: ButtonsAdmin, request: HttpRequest, done: Sequence[Done], skipped: int) -> None:
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
