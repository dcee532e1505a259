"""`KpwaMessagesInline`: a sale's messages on the sale's own page in the host's admin.

Messages have neither a foreign key to the sale nor a generic relation, which would delete them with it; they name their
source by content type and id. So the formset has no forms: it carries the messages to the template, ignores what is
posted, and saves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.checks import InlineModelAdminChecks
from django.db.models import Model, QuerySet
from django.forms.models import BaseModelFormSet, modelformset_factory
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import OutboundMessage, database_of, source_id_of, stored_name, types_of
from ..receipts import registry
from ..words import STATUSES, Mark
from .base import UNDER_UNFOLD, TabularInline
from .links import Links
from .message_summary import first_line_of, recipient_of, starts_of

MAX_SHOWN = 20

if TYPE_CHECKING:
    _FormSet = BaseModelFormSet[OutboundMessage, Any]
else:
    _FormSet = BaseModelFormSet


@dataclass(frozen=True)
class Row:
    """One message, as the inline shows it."""

    message: OutboundMessage
    mark: Mark
    recipient: str = field(repr=False)
    first_line: str = field(repr=False)
    url: str
    needs_decision: bool


class MessagesFormSet(_FormSet):
    """`kpwa_rows` are the newest messages about `instance`; `kpwa_list_url` leads to all, if there are more."""

    kpwa_links: Links
    """Set on the class that is made for each request."""

    def __init__(self, *args: Any, instance: Model | None = None, queryset: Any = None, **kwargs: Any) -> None:
        # Never bound: what the host's form posts may be anything, or out of date.
        prefix = kwargs.get("prefix")
        super().__init__(queryset=OutboundMessage.objects.none(), prefix=prefix)
        self.new_objects: list[Any] = []
        self.changed_objects: list[Any] = []
        self.deleted_objects: list[Any] = []
        self._source = instance

    @property
    def kpwa_rows(self) -> list[Row]:
        return [
            Row(
                message,
                STATUSES[message.status],
                recipient_of(message),
                first_line_of(message),
                self.kpwa_links.to_object(OutboundMessage, message.pk),
                message.needs_somebody,
            )
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
        """Hosts that save formsets with `commit=False` call it."""

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


class KpwaMessagesInline(TabularInline):
    """For the `inlines` of the admin of a model that messages are about.

    People who may view messages see the newest ones, with links to their pages.
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
        # There are no messages yet about an object that is being added.
        return obj is not None and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _about(source: Model) -> list[OutboundMessage]:
    messages = OutboundMessage.objects.for_source(source)
    return registry.without_earlier_rows(list(starts_of(messages).order_by("-pk")[: MAX_SHOWN + 1]), source)
