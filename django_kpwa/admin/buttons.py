"""Buttons on an object's page, which can also be pressed for several objects of a list at once.

Each button is a form that sends a POST. It asks for confirmation if the button has a question, shows the result, and
records it in the admin's log. A GET never changes anything, and everything works without JavaScript.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import model_ngettext
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import gettext, ngettext

from ..containing import outside_transactions
from ..site_urls import is_url_of_this_site
from ..words import Words
from .base import KpwaAdmin

MAX_AT_ONCE = 500
"""Maximum number of objects per press: the request has to end within seconds, and Django accepts at most 1,000 fields
(DATA_UPLOAD_MAX_NUMBER_FIELDS)."""
_MAX_NAMED = 10
"""Maximum number of objects that a confirmation page lists by name."""


class Done(NamedTuple):
    """The result of pressing a button.

    `words` is the sentence shown to the user, with `level` of `django.contrib.messages`. The admin's log records the
    same sentence, or `logged` if that is set; an empty `logged` makes no entry.
    """

    words: Words
    level: int = messages.SUCCESS
    logged: Words | None = None


class Button(NamedTuple):
    """Something that a user can do to an object: a POST to `<object>/<name>/` of its admin.

    `permission` is the codename of a permission of our app. `confirm` is the question asked before the button acts;
    `confirm_for` makes the question depend on the object, and returns an empty text if nothing has to be asked.
    `is_offered` returns True if the object's state allows the action. Pressing the button in any other state must do
    no harm: two users may press it at the same time, or a page may be out of date.
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
        """Return the question to ask before the button acts on `obj`; empty if nothing has to be asked."""
        return self.confirm if self.confirm_for is None else self.confirm_for(obj)


class OfferedButton(NamedTuple):
    """A button with the URL that it posts to, for templates."""

    button: Button
    url: str


Summarise = Callable[["ButtonsAdmin", HttpRequest, Sequence[Done], int], None]
"""Shows the user the results for several objects, and the number of objects that were skipped."""


class ButtonsAdmin(KpwaAdmin):
    """An admin whose objects have `buttons`, shown at the top of an object's page."""

    buttons: Sequence[Button] = ()
    change_form_template = "admin/django_kpwa/change_form.html"

    def get_buttons(self) -> Sequence[Button]:
        """Return `buttons`; an admin whose buttons are expensive to import overrides this."""
        return self.buttons

    def get_urls(self) -> list[Any]:
        own = [
            path(
                f"<path:object_id>/{button.name}/",
                # It may wait seconds for the gateway, which would hold a transaction open, and an error after the
                # gateway's answer must not roll back what was recorded about it.
                outside_transactions(self.admin_site.admin_view(self._view_of(button))),
                name=self.url_name(button.name),
            )
            for button in self.get_buttons()
        ]
        # Before Django's own URLs, whose last pattern `<path:object_id>/` matches everything.
        return [*own, *super().get_urls()]

    def prepare_buttons(self, objects: Sequence[Any]) -> None:
        """Hook for subclasses: prefetch for all `objects` what the buttons' `is_offered` needs."""

    def offered_buttons(self, request: HttpRequest, obj: Model) -> list[OfferedButton]:
        """Return the buttons that the user may press and that the object's state allows."""
        self.prepare_buttons([obj])
        return [
            # A button that asks for confirmation must not be pressed out of habit, so it is not primary.
            OfferedButton(
                button._replace(is_primary=button.is_primary and not button.question(obj)),
                self.url_of(button.name, obj.pk),
            )
            for button in self.get_buttons()
            if self.may(request, button.permission) and button.is_offered(obj)
        ]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        obj = context.get("original")
        context["kpwa_buttons"] = self.offered_buttons(request, obj) if obj is not None else []
        return super().render_change_form(request, context, *args, **kwargs)

    def press(self, request: HttpRequest, button: Button, obj: Any) -> Done:
        """Press `button` for `obj` and record it in the admin's log.

        The caller has to check the permission first. Exceptions of `button.press` are not caught.
        """
        done = button.press(request, obj)
        logged = done.words if done.logged is None else done.logged
        if logged:
            self.log_change(request, obj, f"{button.label}: {logged}")
        return done

    def called(self, obj: Any) -> str:
        """Return the name of `obj` on a confirmation page, whose user may view it."""
        return str(obj)

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
        """Press `button` for all objects of `chosen` whose state allows it, after a confirmation.

        Args:
            limit: Maximum number of objects; if more are chosen, nothing is done.
            summarise: Shows the results; by default the numbers of changed and skipped objects.
            back: URL to return to from the confirmation page; by default the URL of the request.

        Returns:
            The confirmation page, or None if the action was done or refused: Django then redirects to the list.
        """
        ids = list(chosen.order_by("-pk").values_list("pk", flat=True)[: limit + 1])
        if len(ids) > limit:
            words = gettext("Select at most %(count)s at once. Nothing was changed.") % {"count": limit}
            self.message_user(request, words, messages.ERROR)
            return None
        found = list(self.get_queryset(request).filter(pk__in=ids).order_by("-pk"))
        self.prepare_buttons(found)
        if "confirmed" not in request.POST:
            return self._ask_for_many(request, found, button, back or request.get_full_path())
        done = [self.press(request, button, obj) for obj in found if button.is_offered(obj)]
        (summarise or _summarise)(self, request, done, len(found) - len(done))
        return None

    def _ask_for_many(self, request: HttpRequest, found: list[Any], button: Button, back: str) -> HttpResponse | None:
        able = [obj for obj in found if button.is_offered(obj)]
        if not able:
            words = gettext("This action does not apply to any of the selected items. Nothing was changed.")
            self.message_user(request, words, messages.WARNING)
            return None
        warnings: list[Words] = [gettext("This applies to %(what)s.") % {"what": counted(self, len(able))}]
        if button.confirm:
            warnings.append(button.confirm)
        if len(able) < len(found):
            skipped = ngettext(
                "%(count)s other is left unchanged, because its status does not allow it.",
                "%(count)s others are left unchanged, because their status does not allow it.",
                len(found) - len(able),
            )
            warnings.append(skipped % {"count": len(found) - len(able)})
        named = [self.called(obj) for obj in able[:_MAX_NAMED]]
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
                return confirmation(self, request, button.label, [question], [self.called(obj)], back=back)
            done = self.press(request, button, obj)
            self.message_user(request, str(done.words), done.level)
            return HttpResponseRedirect(back)

        return view


def confirmation(
    admin: KpwaAdmin,
    request: HttpRequest,
    label: Words,
    warnings: Sequence[Words],
    objects: Sequence[str],
    *,
    back: str,
    fields: Sequence[tuple[str, str]] = (),
) -> TemplateResponse:
    """Return a page that asks for confirmation.

    Its "yes" button posts to the same URL again, with `confirmed` and `fields`.

    Args:
        label: The page's title and the button's label.
        warnings: What the user has to know before confirming.
        objects: The objects that are listed on the page.
        back: URL of the "no" link, posted as `next`.
        fields: Names and values of hidden form fields.
    """
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
    """Return a page with status 403 that names the missing permission of our app."""
    named: dict[str, Words] = {}
    for model in apps.get_app_config(admin.opts.app_label).get_models():
        named |= dict(model._meta.permissions)
    permission = named.get(codename, codename)
    context = {"title": gettext("You may not do this"), "permission": permission}
    return admin.render_page(request, "refused.html", context, status=403)


def counted(admin: KpwaAdmin, count: int) -> str:
    """Return the number with the model's name, for example "2 messages"."""
    return f"{count} {model_ngettext(admin.opts, count)}"


def _back(request: HttpRequest, otherwise: str) -> str:
    """Return the posted `next` if it is a URL of this site (no open redirect), else `otherwise`."""
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
            "%(what)s was left unchanged: its status does not allow it, or somebody else was faster.",
            "%(what)s were left unchanged: their status does not allow it, or somebody else was faster.",
            skipped,
        )
        admin.message_user(request, words % {"what": counted(admin, skipped)}, messages.WARNING)
