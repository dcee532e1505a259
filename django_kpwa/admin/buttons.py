"""Buttons on an object's page: each is a form that posts, asks first where it should, says what came of it, and is
kept in the admin's log. Nothing is ever done by a GET, and everything works without JavaScript.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext

from ..conditions import Words
from ..site_urls import is_url_of_this_site
from .base import ModelAdmin
from .reports import without_variables


@dataclass(frozen=True)
class Done:
    """What came of pressing a button. `words` are shown, and logged unless `logged` gives others ("" logs nothing)."""

    words: Words
    level: int = messages.SUCCESS
    logged: Words | None = None


@dataclass(frozen=True)
class Button:
    """One thing that a person can do to an object: a POST to `<object>/<name>/` of its admin.

    `permission` is a codename of our app. `confirm` asks first, in these words; `confirm_for` in words that depend on
    the object, and not at all where they are empty. `is_offered` says whether the object's state allows it; what the
    state does not allow must do no harm all the same, for two people may press at once.
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
        """What is asked before it is done to `obj`; empty where nothing is."""
        return self.confirm if self.confirm_for is None else self.confirm_for(obj)


@dataclass(frozen=True)
class OfferedButton:
    """A button with its address, as templates show it."""

    button: Button
    url: str


class ButtonsAdmin(ModelAdmin):
    """A `ModelAdmin` whose objects have `buttons`, shown above the page of one."""

    buttons: Sequence[Button] = ()
    change_form_template = "admin/django_kpwa/change_form.html"

    @property
    def urls(self) -> list[Any]:
        # Of all pages, whatever a subclass adds to get_urls().
        return [without_variables(each) if isinstance(each, URLPattern) else each for each in self.get_urls()]

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

    def url_name(self, name: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"

    def url_of(self, name: str, *arguments: object) -> str:
        """Address of a page of this admin on its own site: `changelist`, `change` or a button's name."""
        return reverse(f"admin:{self.url_name(name)}", args=arguments, current_app=self.admin_site.name)

    def offered_buttons(self, request: HttpRequest, obj: Model) -> list[OfferedButton]:
        """Those that the person may press and the object's state allows."""
        return [
            OfferedButton(button, self.url_of(button.name, obj.pk))
            for button in self.buttons
            if self.may(request, button.permission) and button.is_offered(obj)
        ]

    def may(self, request: HttpRequest, codename: str) -> bool:
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        obj = context.get("original")
        context["kpwa_buttons"] = self.offered_buttons(request, obj) if obj is not None else []
        return super().render_change_form(request, context, *args, **kwargs)

    def get_object_or_404(self, request: HttpRequest, object_id: str) -> Any:
        """The object of a page of one. Raises `Http404`, and `PermissionDenied` for who may not see it."""
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        return obj

    def press(self, request: HttpRequest, button: Button, obj: Any) -> Done:
        """Press `button` for a person who may, and log it. What it raises is for its own `press` to catch."""
        done = button.press(request, obj)
        logged = done.words if done.logged is None else done.logged
        if logged:
            self.log_change(request, obj, f"{button.label}: {logged}")
        return done

    def _view_of(self, button: Button) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            if not self.may(request, button.permission):
                return refusal(self, request, button.permission)
            obj = self.get_object_or_404(request, object_id)
            back = back_to(request, self.url_of("change", obj.pk))
            question = button.question(obj)
            if question and "confirmed" not in request.POST:
                return confirmation(self, request, button.label, [question], [obj], back=back)
            done = self.press(request, button, obj)
            self.message_user(request, str(done.words), done.level)
            return HttpResponseRedirect(back)

        return view


def outside_transactions(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """`view` outside of ATOMIC_REQUESTS: it may ask the gateway, for seconds, and what it did must last."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def back_to(request: HttpRequest, otherwise: str) -> str:
    """Where to go on afterwards: the `next` that was posted, where it is an address of this site."""
    wanted = request.POST.get("next", "")
    return wanted if is_url_of_this_site(request, wanted) else otherwise


def confirmation(
    admin: ModelAdmin,
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
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": label,
        "label": label,
        "warnings": warnings,
        "objects": objects,
        "fields": [*fields, ("next", back), ("confirmed", "yes")],
        "back": back,
    }
    request.current_app = admin.admin_site.name
    return TemplateResponse(request, "admin/django_kpwa/confirm.html", context)


def refusal(admin: ModelAdmin, request: HttpRequest, codename: str) -> TemplateResponse:
    """A page that says in words that the person lacks the permission `codename` of our app, with status 403."""
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": gettext("You may not do this"),
        "permission": dict(admin.opts.permissions).get(codename, codename),
    }
    request.current_app = admin.admin_site.name
    return TemplateResponse(request, "admin/django_kpwa/refused.html", context, status=403)
