"""The address of this site's webhook: what it is, and whether the gateway could reach it.

A gateway accepts any address, and whatever it posts to a wrong one is lost silently. So the address is checked before
it is registered. The messages of `WebhookAddressError` are in the active language.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext

from .conf import kpwa_settings
from .contents import is_out_of_reach
from .exceptions import WebhookAddressError
from .logs import without_controls
from .site_urls import find_url

if TYPE_CHECKING:
    from .gateway.transport import Call

TRY_SECONDS = 5.0
"""Time limit for the site's request to itself, including connecting."""
ANSWER = {"status": "ok"}
"""The webhook view's answer to a GET, whatever the token."""

_NO_TOKEN = "0" * 43
"""A token of the real length, but invalid: the request's path is logged by servers on the way."""
_MAX_ANSWER_BYTES = 64 * 1024
# Domains reserved for documentation, and the national ones that people write in their place.
_PLACEHOLDER = re.compile(
    r"(?:.*\.)?(?:example|invalid|example\.[a-z]{2,4}|example\.(?:com?|net|org?|web|my|biz|ac|go)\.[a-z]{2})",
    re.IGNORECASE,
)
_HOST = re.compile(r"[\w.-]+|\[[0-9a-f:.]+\]", re.IGNORECASE)


def webhook_url(token: str) -> str:
    """Return the URL of this site's webhook under `token`.

    Raises `WebhookAddressError` if `PUBLIC_URL` is not set or the site does not include our URLs.
    """
    __traceback_hide__ = True
    public_url = kpwa_settings().PUBLIC_URL
    if not public_url.startswith(("https://", "http://")):
        raise WebhookAddressError(
            gettext(
                'Set KPWA["PUBLIC_URL"] to the address at which the gateway can reach this site, e.g. '
                '"https://shop.example".'
            )
        )
    return public_url.rstrip("/") + webhook_path(token)


def webhook_path(token: str) -> str:
    """Return the path of that URL. Raises `WebhookAddressError` if the site does not include our URLs."""
    __traceback_hide__ = True
    # In the site's default language: with `i18n_patterns()`, the path would depend on the active language.
    with translation.override(settings.LANGUAGE_CODE):
        path = find_url("django_kpwa:webhook", token)
    if not path:
        raise WebhookAddressError(
            gettext(
                'The webhook has no address: add path("kpwa/", include("django_kpwa.urls")) to the site\'s urls.py.'
            )
        )
    return path


def useless(public_url: str, base_urls: Iterable[str]) -> str:
    """Return why a gateway at `base_urls` cannot reach `public_url`, judged by the names alone; empty if it may."""
    try:
        parts = urlsplit(public_url)
        is_address = bool(_HOST.fullmatch(parts.netloc.rpartition(":")[0] if parts.port else parts.netloc))
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment:
        return gettext(
            'KPWA["PUBLIC_URL"] is not a URL: write its scheme and host, and its port if it has one, e.g. '
            '"https://toko-anda.id".'
        )
    host = parts.hostname or ""
    if _PLACEHOLDER.fullmatch(host.rstrip(".")):
        return gettext(
            'KPWA["PUBLIC_URL"] still has the placeholder %(host)s, which nobody can reach. Write this site\'s own '
            'address; beside a sandbox on the same machine, "http://127.0.0.1:8000".'
        ) % {"host": host}
    gateways = [urlsplit(base_url).hostname or "" for base_url in base_urls]
    if is_out_of_reach(host) and not settings.DEBUG and not all(map(is_out_of_reach, gateways)):
        return gettext(
            'KPWA["PUBLIC_URL"] names %(host)s, which is only reachable from this machine or its network: the '
            "gateway cannot reach it. Write the site's public address."
        ) % {"host": host}
    return ""


def check(base_urls: Iterable[str], *, is_tried: bool = True) -> None:
    """Raise `WebhookAddressError` if a webhook would not arrive, judged by the URL and, with `is_tried`, by a GET."""
    public_url = kpwa_settings().PUBLIC_URL
    url = webhook_url(_NO_TOKEN)
    if reason := useless(public_url, base_urls):
        raise WebhookAddressError(reason)
    if is_tried and (reason := not_answering(url)):
        raise WebhookAddressError(reason, was_tried=True)


def not_answering(url: str, *, seconds: float = TRY_SECONDS) -> str:
    """Return why a webhook posted to `url` would be lost, judged by a GET of at most `seconds`; empty if it arrives."""
    # Imported only here, to keep the import of this module cheap.
    from urllib3.exceptions import HTTPError

    from .gateway.http import ask_once
    from .gateway.transport import Call

    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    call = Call(_MAX_ANSWER_BYTES)
    try:
        answer = ask_once(url, {"Accept": "application/json"}, call, seconds)
    except (OSError, HTTPError) as error:
        return gettext("This site does not answer at %(origin)s: %(reason)s.") % {
            "origin": origin,
            "reason": _reason(call, call.connect_error or error, seconds),
        }
    if 300 <= answer.status < 400:
        return gettext(
            "%(origin)s redirects the webhook to %(target)s, but gateways do not follow redirects. Write that "
            'address in KPWA["PUBLIC_URL"], or exclude the webhook from the redirect.'
        ) % {"origin": origin, "target": _target(parts, answer.headers.get("Location", ""))}
    if answer.status == 200 and _is_ours(answer.data):
        return ""
    if answer.status == 200:
        return gettext("Something other than this site's webhook answers at %(origin)s%(path)s.") % {
            "origin": origin,
            "path": _mount(parts),
        }
    return gettext(
        "%(origin)s%(path)s answers %(status)s, but this site's webhook would answer 200: a server, a firewall "
        "or a middleware answers in its place, or the address belongs to another site."
    ) % {"origin": origin, "path": _mount(parts), "status": answer.status}


def _is_ours(body: bytes) -> bool:
    try:
        return bool(json.loads(body) == ANSWER)
    except ValueError:
        return False


def _mount(parts: SplitResult) -> str:
    return f"{parts.path.rstrip('/').rpartition('/')[0]}/…/"


def _target(asked: SplitResult, location: str) -> str:
    """Return a redirect's target without the end of its path, which may repeat the token."""
    try:
        to = urlsplit(without_controls(location))
        port = f":{to.port}" if to.port else ""
    except ValueError:
        return gettext("an invalid address")
    if (to.scheme, to.netloc) not in ((asked.scheme, asked.netloc), ("", "")):
        return f"{to.scheme or asked.scheme}://{to.hostname}{port}"
    return f"{asked.scheme}://{asked.netloc}/{to.path.strip('/').partition('/')[0]}…"


def _reason(call: Call, error: BaseException, seconds: float) -> str:
    if call.timed_out:
        return gettext("it took longer than %(seconds)s seconds") % {"seconds": round(seconds)}
    for link in _chain(error):
        if isinstance(link, ssl.SSLError):
            words = getattr(link, "verify_message", "") or link.reason or "TLS"
            return gettext("its TLS certificate or handshake is not valid (%(words)s)") % {"words": words}
        if isinstance(link, socket.gaierror):
            return gettext("its host name does not resolve")
        if isinstance(link, TimeoutError):
            return gettext("it took longer than %(seconds)s seconds") % {"seconds": round(seconds)}
        if isinstance(link, ConnectionRefusedError):
            return gettext("nothing is listening there")
    return gettext("the connection failed (%(words)s)") % {"words": type(error).__name__}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
