"""Parts of the preview of a receipt: the objects to choose from, and whether the receipt would be sent.

Only objects that the user may view are offered, newest first. If the site has an admin of their model, that admin
decides which rows a user may view, and its pages are linked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.utils import quote
from django.contrib.auth import get_permission_codename
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router
from django.db.models import DateField, IntegerField, Model, QuerySet
from django.http import HttpRequest
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from ..containing import contained
from ..models import name_by_key, source_id_of
from ..receipts import Receipt
from ..receipts.preview import Preview
from ..site_urls import find_url
from ..words import Mark, Tone, Words
from .links import admins_of
from .search import MIN_PART, sources_by_reference

MAX_NEWEST = 10
_MAX_NAME_LENGTH = 100


class Objects:
    """The objects of a receipt's model, as far as the user of `request` may see them."""

    MAX_REFERENCES = 100
    """Number of newest objects whose references are computed for a search."""

    def __init__(self, site: AdminSite, request: HttpRequest, model: type[Model]) -> None:
        self._site = site
        self._request = request
        self._model = model
        # Not from a replica, because sending does not read from one either: both have to see the same row.
        self._using = router.db_for_write(model)
        admins = admins_of(site, model)
        self._admin = admins[0] if admins else None

    @property
    def may_view(self) -> bool:
        """True if the user may view the model: by its admin, or by its permission if the site has no admin of it."""
        if self._admin is not None:
            return self._admin.has_view_permission(self._request)
        opts = self._model._meta
        return self._request.user.has_perm(f"{opts.app_label}.{get_permission_codename('view', opts)}")

    def check_may_view(self) -> None:
        """Raise `PermissionDenied` unless the user may view the model."""
        if not self.may_view:
            raise PermissionDenied

    def newest(self, limit: int = MAX_NEWEST) -> list[Model]:
        """Return the newest objects, newest first, see `_newest_first()`."""
        ids = list(self._allowed().order_by(*_newest_first(self._model)).values_list("pk", flat=True)[:limit])
        found = self._every().in_bulk(ids)
        return [found[primary_key] for primary_key in ids if primary_key in found]

    def find(self, typed: str, receipt: Receipt) -> Model | None:
        """Return the object with the primary key or the reference that the user typed; None if they may view none.

        References and parts of them are searched among the newest messages and failures, and the newest
        `MAX_REFERENCES` objects: `get_reference()` cannot be queried in the database. A whole reference takes
        precedence over a part.

        Raises:
            PermissionDenied: The model's admin does not let the user view this object.
        """
        obj = self.get(typed)
        if obj is not None or len(typed) < MIN_PART:
            return obj
        wanted = typed.casefold()
        newest = [(self._reference_of(obj, receipt).casefold(), obj) for obj in self.newest(self.MAX_REFERENCES)]
        for is_whole in (True, False):
            lookup = "iexact" if is_whole else "icontains"
            for source_id in sources_by_reference(self._model, self._using, **{lookup: typed}):
                if (obj := self.get(source_id)) is not None:
                    return obj
            for reference, obj in newest:
                if reference == wanted if is_whole else wanted in reference:
                    return self.get(str(obj.pk))
        return None

    def name_of(self, obj: Model, receipt: Receipt) -> str:
        """Return the object's name for people, truncated if it is long: its reference, else model and primary key."""
        name = self._reference_of(obj, receipt) or name_by_key(str(obj._meta.verbose_name), str(obj.pk))
        return Truncator(name).chars(_MAX_NAME_LENGTH)

    def _reference_of(self, obj: Model, receipt: Receipt) -> str:
        """Return the reference; empty if the receipt class, which is the site's own code, raises an error."""
        reference = ""
        with contained(self._using):
            reference = str(receipt.get_reference(obj) or "")
        return reference

    def get(self, typed: str) -> Model | None:
        """Return the object with the primary key that the user typed; None if there is none that they may view.

        Raises:
            PermissionDenied: The model's admin does not let the user view this object.
        """
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

    def visible(self) -> QuerySet[Any] | None:
        """Return the objects that the user may view; None if the model's admin does not restrict them."""
        if self._admin is None or type(self._admin).get_queryset is ModelAdmin.get_queryset:
            return None
        return self._allowed()

    def allowed_of(self, source_ids: Sequence[str]) -> dict[str, Model]:
        """Return those of the objects that the user may view, by their primary keys as text."""
        return {source_id_of(obj): obj for obj in self._allowed().filter(pk__in=source_ids)}

    def url_of(self, obj: Model) -> str:
        """Return the URL of the object's own page on this admin site; empty if it has none."""
        if self._admin is None:
            return ""
        opts = self._admin.opts
        name = f"admin:{opts.app_label}_{opts.model_name}_change"
        return find_url(name, quote(str(obj.pk)), current_app=self._site.name)

    def _every(self) -> QuerySet[Any]:
        return self._in_its_database(self._model._default_manager.all())

    def _allowed(self) -> QuerySet[Any]:
        if self._admin is None:
            return self._every()
        return self._in_its_database(self._admin.get_queryset(self._request))

    def _in_its_database(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.using(self._using)


def _newest_first(model: type[Model]) -> list[str]:
    """Return the fields to order by so that the newest objects come first.

    That is the model's `get_latest_by`; else its `ordering`, if that begins with a date or time; else its primary key,
    if that is an integer; else a field with `auto_now_add`.
    """
    opts = model._meta
    if opts.get_latest_by:
        given = [opts.get_latest_by] if isinstance(opts.get_latest_by, str) else list(opts.get_latest_by)
        return [*(name[1:] if name.startswith("-") else f"-{name}" for name in given), "-pk"]
    times = {field.name: field for field in opts.concrete_fields if isinstance(field, DateField)}
    first = str(opts.ordering[0]).lstrip("-") if opts.ordering else ""
    if first in times:
        return [f"-{first}", "-pk"]
    if isinstance(opts.pk, IntegerField):
        return ["-pk"]
    return [*(f"-{name}" for name, field in times.items() if field.auto_now_add), "-pk"][-2:]


Result = tuple[Mark, Words]
"""A mark and a sentence that say whether a previewed receipt would be sent."""


_KNOWN: Result = (
    Mark(Tone.NEUTRAL, "✓", _("exists already")),
    _("This receipt exists already, so it is not sent a second time. Its message shows what became of it."),
)
_UNCLEAR: Result = (
    Mark(Tone.ATTENTION, "?", _("another object's?")),
    _(
        "There is already a message with its key, but its number, or the time at which it happened, is "
        "different now. Nothing more is sent. If the number was corrected, send that message to the right one; "
        "if this is another object that reuses a primary key, the receipt class needs get_fingerprint()."
    ),
)
_RAISES: Result = (
    Mark(Tone.BAD, "✕", _("raises an error")),
    _("The receipt class raised an error. It has to be fixed first."),
)
_NOT_WANTED: Result = (
    Mark(Tone.NEUTRAL, "–", _("not wanted")),
    _("should_send() returned False, so there is no such receipt."),
)
_NO_NUMBER: Result = (
    Mark(Tone.NEUTRAL, "–", _("no number")),
    _("There is no phone number, so there is nobody to send it to."),
)
_BAD_NUMBER: Result = (
    Mark(Tone.BAD, "✕", _("not a phone number")),
    _("The number is not a phone number. Correct it first."),
)
_TOO_OLD: Result = (
    Mark(Tone.ATTENTION, "⊘", _("too old to be sent automatically")),
    _("It happened longer ago than the class allows, so saving it sends nothing. “Send now” sends it anyway."),
)
_READY: Result = (
    Mark(Tone.GOOD, "✓", _("can be sent")),
    _("It has no such receipt yet. It gets one when it is saved, or when you press “Send now”."),
)


def result_of(preview: Preview) -> Result:
    """Return whether the receipt would be sent: the first obstacle, or that it can be sent."""
    if preview.known is not None:
        return _UNCLEAR if preview.is_unclear else _KNOWN
    if preview.problems:
        return _RAISES
    if not preview.is_wanted:
        return _NOT_WANTED
    if not preview.phone_number:
        return _NO_NUMBER
    if not preview.recipient:
        return _BAD_NUMBER
    return _READY if preview.is_recent else _TOO_OLD
