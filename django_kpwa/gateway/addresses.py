"""Restricts the gateway's addresses: a user allowed to change a license must not be able to send its API key anywhere.

Nothing here uses the network, so that a user who probes addresses learns nothing about those that are not allowed.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from django.conf import settings

from ..conf import DOCUMENTED_BASE_URLS, Settings

# Stricter than URLs may be, so that no two libraries can read different hosts from one address.
_BASE_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9][a-z0-9.-]*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:/[\w.~/-]*)?",
    re.IGNORECASE | re.ASCII,
)
# The URL of a page: its path may contain more characters, as Telegram's does, and a query may follow.
_PAGE = re.compile(r"(?P<base>https?://[^/?]+)(?:/[\w.~:@!$&'()*+,;=%/-]*)?(?:\?[\w.~:@!$&'()*+,;=%/?-]*)?", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_LONG = re.compile(r"[^/]{25,}")

Origin = tuple[str, str, int]
"""Scheme, host and port."""


def origin_of(base_url: str) -> Origin | None:
    """Return the origin of a base URL, or None if the URL could be parsed in more than one way."""
    found = _BASE_URL.fullmatch(base_url)
    if found is None:
        return None
    scheme, host, port = found["scheme"].lower(), found["host"].lower(), found["port"]
    return scheme, host, int(port) if port else _PORTS[scheme]


def is_loopback(base_url: str) -> bool:
    """True if a base URL is on this machine, judged by its name alone (`localhost` or a loopback address)."""
    origin = origin_of(base_url)
    if origin is None:
        return False
    host = origin[1].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_in_the_clear(base_url: str) -> bool:
    """True if the API key and the customers' texts would leave this machine unencrypted."""
    return not base_url.lower().startswith("https:") and not is_loopback(base_url)


def is_page(url: str, *, may_be_in_the_clear: bool = False) -> bool:
    """True if `url`, from a developer's settings, is unambiguous and is https, or http to a private address.

    Private addresses are this machine and private IP addresses. `may_be_in_the_clear`: allow http to any host.
    """
    found = _PAGE.fullmatch(url)
    origin = origin_of(found["base"]) if found else None
    if found is None or origin is None:
        return False
    scheme, host, _ = origin
    if scheme == "https" or may_be_in_the_clear or is_loopback(found["base"]):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        return False


def is_allowed(base_url: str, read: Settings) -> bool:
    """True if a license may use this base URL under the settings `read`.

    The documented origins, those of `KPWA["BASE_URLS"]`, the hosts of `KPWA["ALLOWED_GATEWAY_HOSTS"]` and, under DEBUG,
    this machine are allowed. A host without a port allows only the scheme's default port, so that nobody can scan the
    host's ports from here.
    """
    origin = origin_of(base_url)
    if origin is None or (is_in_the_clear(base_url) and not settings.DEBUG):
        return False
    if origin in {origin_of(known) for known in (*DOCUMENTED_BASE_URLS, *read.BASE_URLS)}:
        return True
    scheme, host, port = origin
    names = {f"{host}:{port}"} | ({host} if port == _PORTS[scheme] else set())
    return bool(names & {allowed.lower() for allowed in read.ALLOWED_GATEWAY_HOSTS}) or (
        settings.DEBUG and is_loopback(base_url)
    )


def shown(base_url: str) -> str:
    """Return a base URL for the log, without user name, query and any part of its path that might be a secret."""
    if not base_url:
        return "the configured addresses"
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        return "…"
    name = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}{_LONG.sub('…', parts.path)}"
