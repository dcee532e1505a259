"""`KpwaMessagesInline`: shows a sale's messages on the sale's own page in the site's admin.

Messages have neither a foreign key to the sale nor a generic relation, because deleting the sale would then delete
them. They refer to their source by content type and id. Therefore the formset has no forms: it only passes the messages
to the template, ignores what is posted, and saves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.checks import InlineModelAdminChecks
from django.db.models import Model, QuerySet
from django.forms.models import BaseModelFormSet, modelformset_factory
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .. import outbox, ticks
from ..models import OutboundMessage, database_of, source_id_of, stored_name, types_of
from ..receipts import registry
from ..words import status_row
from .base import UNDER_UNFOLD, ReadOnly, TabularInline
from .links import Links
from .message_lines import first_line_of, lines_repeated_in, recipient_of, starts_of

MAX_SHOWN = 20

if TYPE_CHECKING:
    _FormSet = BaseModelFormSet[OutboundMessage, Any]
else:
    _FormSet = BaseModelFormSet


class MessagesFormSet(_FormSet):
    """Passes messages to the template.

    `kpwa_rows` are the newest messages about `instance`; if `kpwa_has_more` is True, `kpwa_list_url` leads to all.
    """

    kpwa_links: Links
    """Set on the subclass that `get_formset()` creates for each request."""

    def __init__(self, *args: Any, instance: Model | None = None, queryset: Any = None, **kwargs: Any) -> None:
        # Never bound: the posted data of the site's own form may be out of date, or have no data for this formset.
        prefix = kwargs.get("prefix")
        super().__init__(queryset=OutboundMessage.objects.none(), prefix=prefix)
        self.new_objects: list[Any] = []
        self.changed_objects: list[Any] = []
        self.deleted_objects: list[Any] = []
        self._source = instance

    @property
    def kpwa_rows(self) -> list[dict[str, Any]]:
        repeated = lines_repeated_in(self._messages)
        return [
            {
                "message": message,
                "mark": status_row(message),
                "recipient": recipient_of(message),
                "first_line": first_line_of(message, repeated),
                "needs_somebody": message.needs_somebody and outbox.arrived_elsewhere(message) is None,
                "url": self.kpwa_links.to_object(OutboundMessage, message.pk),
            }
            for message in self._messages[:MAX_SHOWN]
        ]

    @property
    def kpwa_has_more(self) -> bool:
        return len(self._messages) > MAX_SHOWN

    @property
    def kpwa_list_url(self) -> str:
        if self._source is None:
            return ""
        return self.kpwa_links.to_page(
            OutboundMessage,
            "changelist",
            source_content_type__in=",".join(str(each.pk) for each in types_of(type(self._source))),
            source_id__exact=source_id_of(self._source),
            source_database__exact=stored_name(database_of(self._source)),
        )

    def is_valid(self) -> bool:
        return True

    def has_changed(self) -> bool:
        return False

    def save(self, commit: bool = True) -> list[Any]:
        return []

    def save_m2m(self) -> None:
        """Do nothing. Sites that save formsets with `commit=False` call this."""

    @property
    def _messages(self) -> list[OutboundMessage]:
        if not hasattr(self, "_found"):
            self._found: list[OutboundMessage] = [] if self._source is None else _about(self._source)
        return self._found


class _WithoutForeignKey(InlineModelAdminChecks):
    def _check_relation(self, obj: Any, parent_model: Any) -> list[Any]:
        return []

    def _check_exclude_of_parent_model(self, obj: Any, parent_model: Any) -> list[Any]:
        return []


class KpwaMessagesInline(ReadOnly, TabularInline):
    """An inline for the admin of a model that messages are about, such as the site's sales.

    Users allowed to view messages see the newest ones, with links to their pages.
    """

    model = OutboundMessage
    formset: Any = MessagesFormSet
    checks_class = _WithoutForeignKey
    template = "admin/django_kpwa/messages_inline.html"
    verbose_name = _("WhatsApp message")
    verbose_name_plural = _("WhatsApp messages")
    fields = ()
    extra = 0
    max_num = 0
    can_delete = False
    kpwa_is_under_unfold = UNDER_UNFOLD

    class Media:
        css = {"all": ["django_kpwa/admin.css", "django_kpwa/inline.css"]}

    def get_formset(self, request: HttpRequest, obj: Model | None = None, **kwargs: Any) -> Any:
        formset = modelformset_factory(
            OutboundMessage, form=forms.ModelForm, formset=self.formset, fields=[], extra=0, max_num=0
        )
        formset.kpwa_links = Links(self.admin_site, request)  # type: ignore[attr-defined]
        return formset

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboundMessage]:
        return OutboundMessage.objects.none()

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # An object that is being added has no messages yet.
        return obj is not None and super().has_view_permission(request, obj)


def _about(source: Model) -> list[OutboundMessage]:
    messages = OutboundMessage.objects.for_source(source)
    newest = list(starts_of(messages).order_by("-pk")[: MAX_SHOWN + 1])
    ticks.mark_lacking(newest)
    return registry.without_earlier_rows(newest, source)
