"""Links from our pages to other pages of the same admin site, for one user.

The URL of a page that the site does not have, or that the user may not open, is an empty string.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.http import urlencode

from ..models import OutboundMessage, ReceiptFailure, name_by_key, stored_name
from ..site_urls import find_url


class Source(NamedTuple):
    """The object that a message or a failure is about. `url` is empty if the user can't open its page on this site."""

    name: str
    url: str = ""

    @property
    def html(self) -> str:
        return format_html('<a href="{}">{}</a>', self.url, self.name) if self.url else format_html("{}", self.name)


def admins_of(site: AdminSite, model: type[Model]) -> list[ModelAdmin[Any]]:
    """Return the site's admins of `model`. A proxy may be registered itself, or only by its concrete model, or both."""
    models = (model, model._meta.concrete_model)
    return [site.get_model_admin(known) for known in models if known is not None and site.is_registered(known)]


class Links:
    """Builds the links of one request. The permission for each model is checked once and cached."""

    def __init__(self, site: AdminSite, request: HttpRequest) -> None:
        self._site = site
        self._request = request
        self._viewable: dict[type[Model], ModelAdmin[Any] | None] = {}

    def to_object(self, model: type[Model], primary_key: object) -> str:
        """Return the URL of an object's page; empty if the user may not view its model."""
        return self.to_page(model, "change", quote(str(primary_key)))

    def to_page(self, model: type[Model], page: str, *arguments: object, **query: str) -> str:
        """Return the URL of a page of the admin of `model`; empty if the user may not view that model.

        Args:
            page: `changelist`, `change`, or the name of a page that the admin adds.
            arguments: The URL's positional arguments.
            query: Parameters of the query string.
        """
        admin = self._admin_for_viewing(model)
        if admin is None:
            return ""
        name = f"admin:{admin.opts.app_label}_{admin.opts.model_name}_{page}"
        url = find_url(name, *arguments, current_app=self._site.name)
        return f"{url}?{urlencode(query)}" if url and query else url

    def to_source_of(self, record: OutboundMessage | ReceiptFailure) -> Source | None:
        """Return the object that `record` is about, named by its reference if it has one; None if there is none.

        The object itself is never fetched: a list of fifty messages would fetch fifty sales.
        """
        if record.source_content_type_id is None:
            return Source(record.source_reference) if record.source_reference else None
        # No query for each record: Django caches content types in memory.
        content_type = ContentType.objects.get_for_id(record.source_content_type_id)
        model = content_type.model_class()
        name = record.source_reference or name_by_key(content_type.name, record.source_id)
        if record.source_database != (stored_name(router.db_for_write(model)) if model else ""):
            # No link: the page would show another object that has the same key in the model's own database.
            return Source(f"{name} ({record.source_database or DEFAULT_DB_ALIAS})")
        return Source(name, self.to_object(model, record.source_id) if model else "")

    def _admin_for_viewing(self, model: type[Model]) -> ModelAdmin[Any] | None:
        if model not in self._viewable:
            admins = admins_of(self._site, model)
            viewable = (admin for admin in admins if admin.has_view_or_change_permission(self._request))
            self._viewable[model] = next(viewable, None)
        return self._viewable[model]
