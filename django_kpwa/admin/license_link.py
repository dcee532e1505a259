"""The page that links WhatsApp: it shows the login QR code on request, and notices when the code was scanned.

A QR code is a credential. Only responses to POSTs by users with `link_license` contain it. It is never cached
(`no-store`), and never part of a URL or log. Both views return the whole page, or only its panel if `link.js` asks for
it (`PANEL_HEADER`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib.admin.utils import unquote
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from .. import license_actions
from ..exceptions import UnexpectedAnswerError
from ..gateway import LoginQr, SessionStatus, SessionTrouble, session_trouble_of
from ..license_conditions import lane_of
from ..models import Dashboard, License
from ..words import TROUBLES
from .base import MAY_LINK, MAY_OPERATE, MAY_SEND
from .buttons import refusal
from .gateway_failures import ASKING_ERRORS, ENTER_KEY, RESTART, Failure, failure_of, failure_of_code
from .license_buttons import HARD_TO_GET_BACK
from .license_state import condition_of
from .links import Links

if TYPE_CHECKING:
    from .license_admin import LicenseAdmin

REDRAW_SECONDS = 20
"""Seconds after which the page requests a new code; WhatsApp changes its code about this often."""
POLL_SECONDS = 2
"""Seconds between two checks whether the code was scanned."""
PASSKEY_SECONDS = 60
"""Seconds after the first code after which the page asks whether the phone asks for a passkey."""
STOP_SECONDS = 180
"""Seconds after which the page stops requesting codes by itself."""
CHECK_DEADLINE_SECONDS = 5.0
"""Deadline of one check. It is short because the next check follows after `POLL_SECONDS` anyway."""

IN_USE = {
    "0": _("less than a week"),
    "7": _("less than a month"),
    "31": _("less than half a year"),
    "183": _("longer"),
}
"""The answers to how long a number has been in use with WhatsApp, by the minimum number of days, which is stored."""

PANEL_HEADER = "X-Kpwa-Part"
"""Request header with which `link.js` asks for the panel only."""
_SHOWN = "kpwa_code_shown"
"""Session key: when the log entry about a shown code was made, in Unix seconds by license id."""


class Step(str, Enum):
    """What the panel shows."""

    READY = "ready"
    CODE = "code"
    WAITING = "waiting"
    LINKED = "linked"
    FAILED = "failed"


@dataclass(frozen=True)
class Drawing:
    """A login QR code as an SVG path: `path` fills the dark modules of a `side` × `side` grid, quiet zone included.

    It is inline SVG and not an image: a Content-Security-Policy of `default-src 'self'` forbids `data:` images, and an
    image with a URL of its own could be cached, logged and requested by others. Whoever scans the code controls the
    account, so no repr contains it.

    `image` is a data URI, set only if the modules can't be read from the gateway's image. A site with a
    Content-Security-Policy then needs `img-src data:`.
    """

    side: int = 0
    path: str = field(default="", repr=False)
    image: str = field(default="", repr=False)


class Panel(NamedTuple):
    """The part of the page that changes."""

    step: Step
    drawing: Drawing | None = None
    failure: Failure | None = None
    asks_for_passkey: bool = False


def link_view(admin: LicenseAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Show how to scan the code (GET), or request a code from the gateway and show it (POST)."""
    if not admin.may(request, MAY_LINK):
        return _private(refusal(admin, request, MAY_LINK))
    license_ = _license(admin, request, object_id)
    if request.method == "POST":
        return _answer(admin, request, license_, _asked_for_code(admin, request, license_))
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    return _answer(admin, request, license_, Panel(Step.READY))


def check_view(admin: LicenseAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Ask the gateway whether the code was scanned (POST only). The response never contains a code."""
    if not admin.may(request, MAY_LINK):
        return _private(refusal(admin, request, MAY_LINK))
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    license_ = _license(admin, request, object_id)
    return _answer(admin, request, license_, _checked(admin, request, license_))


def passkey_view(admin: LicenseAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Show what to do if the phone asks for a passkey after the scan."""
    if not admin.may(request, MAY_LINK):
        return _private(refusal(admin, request, MAY_LINK))
    license_ = _license(admin, request, object_id)
    context = {
        "title": gettext("The phone asks for a passkey"),
        "original": license_,
        "list_url": admin.url_of("changelist") if admin.has_view_permission(request) else "",
        "link_url": admin.url_of("link", license_.pk),
    }
    return admin.render_page(request, "license/passkey.html", context)


def in_use_view(admin: LicenseAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Store how long the number has been in use with WhatsApp (POST only), and redirect to the link page."""
    if not admin.may(request, MAY_LINK):
        return _private(refusal(admin, request, MAY_LINK))
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    license_, days = _license(admin, request, object_id), request.POST.get("days", "")
    if days in IN_USE:
        license_.in_use_since = timezone.localdate(timezone=license_.time_zone) - timedelta(days=int(days))
        license_.save(update_fields=["in_use_since", "updated_at"])
        admin.log_change(request, license_, gettext("Said how long the number has been in use."))
    return _private(HttpResponseRedirect(admin.url_of("link", license_.pk)))


@sensitive_variables("qr", "drawing")
def _asked_for_code(admin: LicenseAdmin, request: HttpRequest, license_: License) -> Panel:
    try:
        qr = license_actions.get_login_qr(license_, within_seconds=license_actions.WEB_SECONDS)
    except ASKING_ERRORS as error:
        return Panel(Step.FAILED, failure=failure_of_code(error))
    if qr is None:
        return _linked(admin, request, license_)
    drawing = drawing_of(qr)
    _log_shown(admin, request, license_)
    return Panel(Step.CODE, drawing)


def _checked(admin: LicenseAdmin, request: HttpRequest, license_: License) -> Panel:
    try:
        status = license_actions.check_status(license_, deadline_seconds=CHECK_DEADLINE_SECONDS)
    except ASKING_ERRORS as error:
        return Panel(Step.FAILED, failure=failure_of(error))
    if status.session_status == SessionStatus.CONNECTED:
        return _linked(admin, request, license_)
    trouble = session_trouble_of(status.word)
    if trouble in (None, SessionTrouble.PASSKEY):
        # A phone that asks for a passkey may still get linked, so the page continues to poll.
        return Panel(Step.WAITING, asks_for_passkey=trouble is not None)
    row = TROUBLES[trouble]
    return Panel(Step.FAILED, failure=Failure(row.label, row.explained, status.word))


def _linked(admin: LicenseAdmin, request: HttpRequest, license_: License) -> Panel:
    # Logged only if this session showed a code: opening the page of a linked license is not worth a log entry.
    shown = request.session.get(_SHOWN, {})
    if shown.pop(str(license_.pk), None) is not None:
        request.session[_SHOWN] = shown
        admin.log_change(request, license_, gettext("WhatsApp is linked."))
    return Panel(Step.LINKED)


def _log_shown(admin: LicenseAdmin, request: HttpRequest, license_: License) -> None:
    """Log that a code was shown, once per `STOP_SECONDS`: the page requests a new one every `REDRAW_SECONDS`."""
    shown = request.session.get(_SHOWN, {})
    if time.time() - shown.get(str(license_.pk), 0) < STOP_SECONDS:
        return
    request.session[_SHOWN] = {**shown, str(license_.pk): int(time.time())}
    admin.log_change(request, license_, gettext("Showed the code that links WhatsApp."))


def _license(admin: LicenseAdmin, request: HttpRequest, object_id: str) -> License:
    # Not `get_object_or_404()`: users allowed to link are not necessarily allowed to view the license's own page.
    license_: License | None = admin.get_object(request, unquote(object_id))
    if license_ is None:
        raise Http404
    return license_


@sensitive_variables("panel", "context")
def _answer(admin: LicenseAdmin, request: HttpRequest, license_: License, panel: Panel) -> HttpResponse:
    context = _panel_context(admin, request, license_, panel)
    if PANEL_HEADER in request.headers:
        request.current_app = admin.admin_site.name
        return _private(TemplateResponse(request, "admin/django_kpwa/license/link_panel.html", context))
    context |= {
        "title": gettext("Link WhatsApp"),
        "list_url": admin.url_of("changelist") if admin.has_view_permission(request) else "",
        "redraw_seconds": REDRAW_SECONDS,
        "poll_seconds": POLL_SECONDS,
        "stop_seconds": STOP_SECONDS,
        "passkey_seconds": PASSKEY_SECONDS,
        "warns": not _was_linked_before(license_),
        "in_use_url": admin.url_of("in_use", license_.pk) if license_.in_use_since is None else "",
        "in_use": IN_USE,
    }
    return _private(admin.render_page(request, "license/link.html", context))


@sensitive_variables("panel")
def _panel_context(admin: LicenseAdmin, request: HttpRequest, license_: License, panel: Panel) -> dict[str, Any]:
    may_operate = admin.may(request, MAY_OPERATE)
    may_view = admin.has_view_permission(request, license_)
    context: dict[str, Any] = {
        "original": license_,
        "panel": panel,
        "link_url": admin.url_of("link", license_.pk),
        "check_url": admin.url_of("link_check", license_.pk),
        "passkey_url": admin.url_of("passkey", license_.pk),
        "hard_to_get_back": HARD_TO_GET_BACK,
        "license_url": admin.url_of("change", license_.pk) if may_view else "",
    }
    help_ = panel.failure.help if panel.failure else ""
    if help_ == RESTART and may_operate and may_view:
        context["restart_url"] = admin.url_of("restart", license_.pk)
    if help_ == ENTER_KEY and admin.has_change_permission(request, license_):
        context["key_url"] = admin.url_of("change", license_.pk)
    if panel.step == Step.READY:
        lane = lane_of(license_)
        context["is_linked"] = lane is not None and lane.session_status == SessionStatus.CONNECTED.value
    if panel.step == Step.LINKED:
        # `license_` was fetched before the gateway's answer was recorded.
        fresh = admin.get_object(request, str(license_.pk)) or license_
        context["condition"] = condition_of(fresh)
        context["dashboard_url"] = Links(admin.admin_site, request).to_page(Dashboard, "changelist")
        if may_operate and may_view and admin.may(request, MAY_SEND):
            context["test_url"] = admin.url_of("send_test", license_.pk)
    return context


def _was_linked_before(license_: License) -> bool:
    lane = lane_of(license_)
    return lane is not None and bool(lane.linked_number)


def _private(response: HttpResponse) -> HttpResponse:
    """Set headers that forbid caching and framing, and keep the page's URL from other sites."""
    response["Cache-Control"] = "no-store"
    response["X-Frame-Options"] = "DENY"
    # Not `no-referrer`: browsers would not send the origin either, and over HTTPS Django would refuse the form.
    response["Referrer-Policy"] = "same-origin"
    return response


@sensitive_variables()
def drawing_of(qr: LoginQr) -> Drawing:
    """Return the code as an SVG path, or as the gateway's image if its modules can't be read."""
    try:
        modules = qr.modules()
    except UnexpectedAnswerError:
        return Drawing(image=qr.data_uri())
    return Drawing(len(modules), "".join(_runs(y, row) for y, row in enumerate(modules)))


@sensitive_variables()
def _runs(y: int, row: list[bool]) -> str:
    """Return path commands with a rectangle for each run of dark modules in a row.

    A run at the end of the row would be lost, but the quiet zone ends every row with light modules.
    """
    drawn, start = [], None
    for x, is_dark in enumerate(row):
        if is_dark and start is None:
            start = x
        elif not is_dark and start is not None:
            drawn.append(f"M{start} {y}h{x - start}v1H{start}z")
            start = None
    return "".join(drawn)
