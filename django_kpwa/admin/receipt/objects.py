"""The objects that a receipt can be previewed for: those that the person may see on this site, newest first.

Where the site has an admin of their model, that decides who sees which rows, and its own page is linked.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.utils import quote
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.text import Truncator, capfirst

from ...containing import contained

MOST_NEWEST = 10
_NAME_CHARACTERS = 100


class Objects:
    def __init__(self, site: AdminSite, request: HttpRequest, model: type[Model]) -> None:
        self._site = site
        self._request = request
        self._model = model
        # A read that is no replica's, as the one before a send.
        self._using = router.db_for_write(model)
        self._admin = self._find_admin()

    @property
    def may_view(self) -> bool:
        if self._admin is not None:
            return self._admin.has_view_permission(self._request)
        opts = self._model._meta
        return self._request.user.has_perm(f"{opts.app_label}.{get_permission_codename('view', opts)}")

    def check_may_view(self) -> None:
        if not self.may_view:
            raise PermissionDenied

    def newest(self) -> list[Model]:
        """The newest few, by their primary keys."""
        ids = list(self._allowed().order_by("-pk").values_list("pk", flat=True)[:MOST_NEWEST])
        found = self._every().in_bulk(ids)
        return [found[primary_key] for primary_key in ids if primary_key in found]

    def find(self, typed: str) -> Model | None:
        """The object whose primary key was typed. Raises `PermissionDenied` where the person may not see this one."""
        try:
            primary_key = self._model._meta.pk.to_python(typed.replace("\x00", ""))
            if not self._allowed().filter(pk=primary_key).exists():
                return None
            obj = self._every().filter(pk=primary_key).first()
        except (ValidationError, ValueError, TypeError, OverflowError):
            return None
        if obj is not None and self._admin is not None and not self._admin.has_view_permission(self._request, obj):
            raise PermissionDenied
        return obj

    def url_of(self, obj: Model) -> str:
        """Address of the object's own page on this site, or nothing."""
        if self._admin is None:
            return ""
        opts = self._admin.opts
        name = f"admin:{opts.app_label}_{opts.model_name}_change"
        try:
            return reverse(name, args=[quote(str(obj.pk))], current_app=self._site.name)
        except NoReverseMatch:
            return ""

    def _find_admin(self) -> ModelAdmin[Any] | None:
        # A proxy may be known to the admin by its concrete model alone.
        for known in (self._model, self._model._meta.concrete_model):
            if known is not None and self._site.is_registered(known):
                return self._site.get_model_admin(known)
        return None

    def _every(self) -> QuerySet[Any]:
        return self._model._default_manager.using(self._using)

    def _allowed(self) -> QuerySet[Any]:
        if self._admin is None:
            return self._every()
        return self._admin.get_queryset(self._request).using(self._using)


def name_of(obj: Model) -> str:
    """How the object calls itself, cut where that is long; a `__str__` that raises is the site's own, and no 500."""
    name = ""
    with contained(router.db_for_read(type(obj), instance=obj)):
        name = str(obj)
    return Truncator(name or f"{capfirst(obj._meta.verbose_name)} {obj.pk}").chars(_NAME_CHARACTERS)
