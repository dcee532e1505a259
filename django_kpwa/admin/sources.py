"""Links to the objects that messages and receipt failures are about, on their own pages of the same admin site.

The objects themselves are never fetched: a list of fifty messages would fetch fifty sales.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.db import DEFAULT_DB_ALIAS, router
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from ..models import OutboundMessage, ReceiptFailure, stored_name


@dataclass(frozen=True)
class Source:
    """What a message, or a failure, is about. `url` is empty where this person can't open it here."""

    name: str
    url: str = ""


class Sources:
    """The sources of one page's records; each content type is looked at once."""

    def __init__(self, site: AdminSite, request: HttpRequest) -> None:
        self._site = site
        self._request = request
        self._types: dict[int, tuple[str, str, str]] = {}

    def of(self, record: OutboundMessage | ReceiptFailure) -> Source | None:
        type_id = record.source_content_type_id
        if type_id is None:
            return None
        if type_id not in self._types:
            self._types[type_id] = self._read(ContentType.objects.get_for_id(type_id))
        name, page, database = self._types[type_id]
        if record.source_database != database:
            # Its page would be that of another object of the same key.
            return Source(f"{name} {record.source_id} ({record.source_database or DEFAULT_DB_ALIAS})")
        return Source(f"{name} {record.source_id}", self._url(page, record.source_id))

    def _read(self, content_type: ContentType) -> tuple[str, str, str]:
        """The type's name, the name of the page of one of its objects where this person may see it, and the database
        whose objects have these pages.
        """
        model = content_type.model_class()
        if model is None:
            return content_type.name, "", ""
        database = stored_name(router.db_for_write(model))
        # A proxy may be known to the admin by its concrete model alone.
        for known in (model, model._meta.concrete_model):
            if known is not None and self._may_view(known):
                return content_type.name, f"admin:{known._meta.app_label}_{known._meta.model_name}_change", database
        return content_type.name, "", database

    def _may_view(self, model: type[Model]) -> bool:
        if not self._site.is_registered(model):
            return False
        return self._site.get_model_admin(model).has_view_or_change_permission(self._request)

    def _url(self, page: str, source_id: str) -> str:
        if not page:
            return ""
        try:
            return reverse(page, args=[quote(source_id)], current_app=self._site.name)
        except NoReverseMatch:
            return ""
