"""`/sandbox/api/…`: the API that the page uses, and with which tests read and change the sandbox.

There is no login and no CSRF cookie. Instead, a change must be a POST (for faults also PUT or DELETE) that does not
come from another site's page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from inspect import signature
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_http_methods

from ..logs import get_logger, lines_of, traceback_of
from ..phone import gateway_reading, mask_numbers
from . import snapshot
from .chats import Ticks
from .world import Sandbox, current

MAX_WAIT_SECONDS = 25.0
View = Callable[..., HttpResponse]

logger = get_logger(__name__)


def guarded(view: View) -> View:
    """Decorate a view to refuse changes from other sites' pages, and to answer its exceptions as JSON.

    `LookupError` becomes 404 and `ValueError` 400.
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
    """The state as the page shows it. `license` and `chat` choose what is included in full.

    With `since` (a version) and `wait` (seconds), the answer is delayed until the state changes.
    """
    sandbox = current()
    account = sandbox.account(request.GET.get("license", ""))
    if not account.linked:
        sandbox.current_qr(account)
    if "since" in request.GET:
        wait = min(float(request.GET.get("wait", "0")), MAX_WAIT_SECONDS)
        if not account.linked:
            wait = min(wait, snapshot.seconds_to_next_qr(account))
        sandbox.wait_for_change(int(request.GET["since"]), wait)
        if not account.linked:
            sandbox.current_qr(account)
    return JsonResponse(snapshot.of_sandbox(sandbox, account, request.GET.get("chat", "")))


@require_http_methods(["GET"])
@guarded
def ledger(request: HttpRequest) -> HttpResponse:
    """All accepted deliveries in order, or those `after` a sequence number."""
    after = int(request.GET.get("after", "0"))
    sandbox = current()
    with sandbox.changed:
        entries = sandbox.ledger[max(after, 0) :]  # sequence numbers start at 1 and have no gaps
    return JsonResponse({"deliveries": [asdict(entry) for entry in entries]})


@require_http_methods(["GET"])
@guarded
def log(request: HttpRequest) -> HttpResponse:
    """The latest requests and webhooks, oldest first."""
    sandbox = current()
    with sandbox.changed:
        return JsonResponse({"log": list(sandbox.log)})


@require_http_methods(["GET", "PUT", "DELETE"])
@guarded
def faults(request: HttpRequest) -> HttpResponse:
    """GET returns all faults, PUT sets those in `{NAME: probability or {…}}`, DELETE switches all off."""
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
    """`chat` is a number in any spelling or a chat's id; `group` is a group's name, with a member as `sender`."""
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


def _unlinked_status(sandbox: Sandbox, *, status: int) -> None:
    sandbox.set_unlinked_status(status)


def _reset(sandbox: Sandbox) -> None:
    sandbox.reset()


_ACTIONS: dict[str, Callable[..., None]] = {
    "scan": _scan,
    "logout": _log_out,
    "answer": _answer,
    "read": _read,
    "delivered": _delivered,
    "groups": _groups,
    "registered": _registered,
    "unlinked-status": _unlinked_status,
    "reset": _reset,
}
_ARGUMENT_TYPES: dict[str, type] = {"registered": bool, "status": int}  # all others are text


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"message": "The request cannot be read."}, status=400)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"message": "There is nothing here."}, status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    error = sys.exc_info()[1]
    # Logged here, because Django's own log record, which the settings suppress, would show the path.
    logger.error("The sandbox failed.\n%s", lines_of(mask_numbers(traceback_of(error))) if error else "")
    return JsonResponse({"message": "Internal server error", "error": "The sandbox failed.", "code": None}, status=500)


def _chat_id(chat: str) -> str:
    return chat if chat.endswith("@g.us") else gateway_reading(chat)


def _is_same_origin(request: HttpRequest) -> bool:
    # Browsers name the page that sends a POST. Other programs do not, and have no session that could be abused.
    origin = request.headers.get("Origin")
    if origin is not None:
        return urlsplit(origin).netloc == request.get_host()
    return request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")


def _content(request: HttpRequest) -> dict[str, Any]:
    content = json.loads(request.body or b"{}")
    if not isinstance(content, dict):
        raise ValueError("The body must be a JSON object.")
    return content
