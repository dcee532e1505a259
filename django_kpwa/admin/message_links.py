"""Links to the pages of messages, for who may open them on this site."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from ..models import OutboundMessage


class MessageLinks:
    """Links for one request; the person's permission is asked once."""

    def __init__(self, site: AdminSite, request: HttpRequest) -> None:
        self._site = site
        self._may_view = site.is_registered(OutboundMessage) and site.get_model_admin(
            OutboundMessage
        ).has_view_permission(request)

    def to(self, message_id: object) -> str:
        """Address of the page of a message, or nothing."""
        return self._address("change", message_id)

    def to_list(self) -> str:
        return self._address("changelist")

    def _address(self, page: str, *arguments: object) -> str:
        if not self._may_view:
            return ""
        try:
            return reverse(f"admin:django_kpwa_outboundmessage_{page}", args=arguments, current_app=self._site.name)
        except NoReverseMatch:
            return ""
