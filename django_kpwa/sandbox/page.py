"""The page that looks like a phone, and `/sandbox/api/…`, which serves the JSON from which `phone.js` draws the page.

Tests read and change the sandbox by the same API. There is no login and no CSRF cookie. Instead, a change must be a
POST (for faults also PUT or DELETE) that does not come from another site's page.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from inspect import signature
from itertools import islice
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from ..gateway.qr import LoginQr
from ..logs import get_logger, lines_of, traceback_of
from ..phone import gateway_reading, mask_numbers
from .chats import Chat, ChatMessage, Ticks
from .world import Account, Sandbox, current

View = Callable[..., HttpResponse]

MAX_WAIT_SECONDS = 25.0
# Lists that may grow without limit are cut to their newest entries.
CHATS_SHOWN = 200
MESSAGES_SHOWN = 200
LOG_ENTRIES_SHOWN = 100
# Images may come from anywhere, because receipts link to them. Everything else comes from this server. frame-ancestors
# is left out, because the demo shows the phone in a frame beside its till, and its address is not known here.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https: http:; "
    "form-action 'none'; base-uri 'none'"
)

logger = get_logger(__name__)


@require_http_methods(["GET", "HEAD"])
def phone_page(request: HttpRequest) -> HttpResponse:
    """Show the phone. With `?embed=1` the panels beside it are left out, for use in a frame."""
    response = render(request, "sandbox/phone.html", {"embedded": "embed" in request.GET})
    response["Content-Security-Policy"] = _POLICY
    response["Referrer-Policy"] = "no-referrer"
    return response


@require_http_methods(["GET", "HEAD"])
def qr_image(request: HttpRequest) -> HttpResponse:
    """Return the current QR code of `license` as PNG.

    The URL's `serial` is ignored: it only gives each code another URL.
    """
    sandbox = current()
    try:
        account = sandbox.account(request.GET.get("license", ""))
    except LookupError as error:
        return JsonResponse({"message": str(error)}, status=404)
    response = HttpResponse(LoginQr.from_text(sandbox.current_qr(account)).png(), content_type="image/png")
    response["Cache-Control"] = "no-store"
    return response


# The API


def guarded(view: View) -> View:
    """Decorate a view so that it refuses changes from other sites' pages, and answers exceptions as JSON.

    A `LookupError` becomes a 404, and a `ValueError` a 400.
    """

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method != "GET" and not _is_same_origin(request):
            return JsonResponse({"message": "Another site's page may not change the sandbox."}, status=403)
        try:
            return view(request, *args, **kwargs)
        except LookupError as error:
            return JsonResponse({"message": str(error.args[0])}, status=404)
        except ValueError as error:
            return JsonResponse({"message": str(error)}, status=400)

    return wrapper


@require_http_methods(["GET"])
@guarded
def state(request: HttpRequest) -> HttpResponse:
    """Return the state as the page shows it. `license` and `chat` choose what is included in full.

    With `since` (a version) and `wait` (seconds), the answer is delayed until the state changes or the time is over.
    """
    sandbox = current()
    account = sandbox.account(request.GET.get("license", ""))
    if not account.linked:
        sandbox.current_qr(account)
    if "since" in request.GET:
        wait = min(float(request.GET.get("wait", "0")), MAX_WAIT_SECONDS)
        if not account.linked:
            wait = min(wait, seconds_to_next_qr(account))
        sandbox.wait_for_change(int(request.GET["since"]), wait)
        if not account.linked:
            sandbox.current_qr(account)
    return JsonResponse(state_of(sandbox, account, request.GET.get("chat", "")))


@require_http_methods(["GET"])
@guarded
def ledger(request: HttpRequest) -> HttpResponse:
    """Return all accepted deliveries in their order, or those `after` a sequence number."""
    after = int(request.GET.get("after", "0"))
    sandbox = current()
    with sandbox.changed:
        entries = sandbox.ledger[max(after, 0) :]  # sequence numbers start at 1 and have no gaps
    return JsonResponse({"deliveries": [asdict(entry) for entry in entries]})


@require_http_methods(["GET"])
@guarded
def log(request: HttpRequest) -> HttpResponse:
    """Return the latest requests and webhooks, oldest first."""
    sandbox = current()
    with sandbox.changed:
        return JsonResponse({"log": list(sandbox.log)})


@require_http_methods(["GET", "PUT", "DELETE"])
@guarded
def faults(request: HttpRequest) -> HttpResponse:
    """GET returns all faults. PUT sets those in `{NAME: probability or {…}}`. DELETE switches all faults off."""
    sandbox = current()
    if request.method == "PUT":
        sandbox.faults.update(_content(request))
        sandbox.faults_changed()
    if request.method == "DELETE":
        sandbox.faults.clear()
        sandbox.faults_changed()
    return JsonResponse({"faults": sandbox.faults.settings()})


@require_http_methods(["POST"])
@guarded
def act(request: HttpRequest, action: str) -> HttpResponse:
    """Run one of `_ACTIONS`, with its arguments from a JSON object."""
    if action not in _ACTIONS:
        raise LookupError(f"There is no {action!r}. Known: {', '.join(_ACTIONS)}.")
    sandbox = current()
    arguments = _content(request)
    for name, value in arguments.items():
        if type(value) is not _ARGUMENT_TYPES.get(name, str):
            raise ValueError(f"{name} must be a {_ARGUMENT_TYPES.get(name, str).__name__}.")
    try:
        bound = signature(_ACTIONS[action]).bind(sandbox, **arguments)
    except TypeError as error:
        raise ValueError(f"{error}.") from None
    _ACTIONS[action](*bound.args, **bound.kwargs)
    return JsonResponse({"version": sandbox.version})


def _scan(sandbox: Sandbox, *, license: str = "") -> None:
    sandbox.scan(sandbox.account(license))


def _log_out(sandbox: Sandbox, *, license: str = "") -> None:
    sandbox.log_out(sandbox.account(license))


def _answer(
    sandbox: Sandbox, *, text: str, chat: str = "", group: str = "", sender: str = "", license: str = ""
) -> None:
    """Add a customer's message.

    `chat` is a number in any spelling, or a chat's id. For a group, `group` is its name and `sender` a member's number.
    """
    account = sandbox.account(license)
    if group:
        chat = sandbox.group(account, group).id
    if not text.strip():
        raise ValueError("text must be given.")
    sandbox.answer(account, _chat_id(chat), text, sender=gateway_reading(sender))


def _read(sandbox: Sandbox, *, chat: str = "", id: str = "", license: str = "") -> None:
    account = sandbox.account(license)
    if id:
        sandbox.mark_message(account, id, Ticks.READ)
    else:
        sandbox.mark_read(account, _chat_id(chat))


def _delivered(sandbox: Sandbox, *, id: str, license: str = "") -> None:
    sandbox.mark_message(sandbox.account(license), id, Ticks.DELIVERED)


def _groups(sandbox: Sandbox, *, name: str, license: str = "") -> None:
    if not name.strip():
        raise ValueError("name must be given.")
    sandbox.add_group(sandbox.account(license), name.strip())


def _registered(sandbox: Sandbox, *, number: str, registered: bool) -> None:
    sandbox.set_registered(gateway_reading(number), registered)


_ACTIONS: dict[str, Callable[..., None]] = {
    "scan": _scan,
    "logout": _log_out,
    "answer": _answer,
    "read": _read,
    "delivered": _delivered,
    "groups": _groups,
    "registered": _registered,
    "unlinked-status": Sandbox.set_unlinked_status,
    "reset": Sandbox.reset,
}
_ARGUMENT_TYPES: dict[str, type] = {"registered": bool, "status": int}  # all others are text


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"message": "The request cannot be read."}, status=400)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"message": "Not found."}, status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    error = sys.exc_info()[1]
    # Logged here, because Django's own log record, which the settings suppress, would show the path.
    logger.error("The sandbox failed.\n%s", lines_of(mask_numbers(traceback_of(error))) if error else "")
    return JsonResponse({"message": "Internal server error", "error": "The sandbox failed.", "code": None}, status=500)


def _chat_id(chat: str) -> str:
    return chat if chat.endswith("@g.us") else gateway_reading(chat)


def _is_same_origin(request: HttpRequest) -> bool:
    # Browsers name the page from which a POST comes. Other programs do not, and have no session that could be abused.
    origin = request.headers.get("Origin")
    if origin is not None:
        return urlsplit(origin).netloc == request.get_host()
    return request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")


def _content(request: HttpRequest) -> dict[str, Any]:
    content = json.loads(request.body or b"{}")
    if not isinstance(content, dict):
        raise ValueError("The body must be a JSON object.")
    return content


# The state as JSON


def state_of(sandbox: Sandbox, account: Account, chat_id: str) -> dict[str, Any]:
    """Return everything that the page shows: all licenses, the chats of `account`, and the messages of one chat."""
    with sandbox.changed:
        chat = account.chats.get(chat_id)
        newest_first = sorted(account.chats.values(), key=lambda each: each.changed_at, reverse=True)
        messages = [_message(each) for each in list(chat.messages)[-MESSAGES_SHOWN:]] if chat else []
        return {
            "version": sandbox.version,
            "licenses": [_license(sandbox, each) for each in sandbox.accounts],
            "license": account.name,
            "chats": [_chat(each) for each in newest_first[:CHATS_SHOWN]],
            "chat": {**_chat(chat), "messages": messages} if chat else None,
            "deliveries": len(sandbox.ledger),
            "faults": sandbox.faults.settings(),
            "log": list(islice(reversed(sandbox.log), LOG_ENTRIES_SHOWN)),
            "unlinked_status": sandbox.unlinked_status,
            "unregistered": sorted(sandbox.unregistered),
        }


def seconds_to_next_qr(account: Account) -> float:
    """Return the seconds until the state changes by itself, because the QR code of an unlinked license expires."""
    return max(account.qr_expires_at - time.monotonic(), 0.1)


def _license(sandbox: Sandbox, account: Account) -> dict[str, Any]:
    address = urlencode({"license": account.name, "serial": account.qr_serial})
    return {
        "name": account.name,
        "number": account.number,
        "linked": account.linked,
        "has_webhook": bool(account.webhook_url),
        "qr_url": "" if account.linked else f"/sandbox/qr.png?{address}",
    }


def _chat(chat: Chat) -> dict[str, Any]:
    return {
        "id": chat.id,
        "name": chat.name,
        "is_group": chat.is_group,
        "unread": chat.unread,
        "changed_at": chat.changed_at.isoformat(),
        "last": _message(chat.messages[-1]) if chat.messages else None,
    }


def _message(message: ChatMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "text": message.text,
        "image_url": message.image_url,
        "at": message.at.isoformat(),
        "sender": message.sender,
        "ticks": message.ticks.value,
    }
