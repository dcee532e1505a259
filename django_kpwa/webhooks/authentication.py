"""Checks who may post a webhook: clients that know the token in the path and, if the site sets one, a password.

The gateway's reference describes no signature, so these secrets are the only protection. A token is looked up by its
SHA-256, so that the time of a lookup does not reveal how much of a guess was right. An expired token gets the same
answer as a wrong one. `Flood` keeps wrong tokens from the database if many come at once.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import threading
import time

from django.db.models import Q
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from ..conf import Settings
from ..logs import get_logger
from ..models import DatabaseNow, WebhookToken, outbox_key

logger = get_logger("django_kpwa.webhooks")

HEADER = "X-Webhook-Password"
COPY_SECONDS = 0.1
"""Maximum age of the copy of the stored digests, in seconds."""

_WARNING_SECONDS = 60.0
_MAX_COPIES = 100
_NONE: tuple[frozenset[str], float] = (frozenset(), 0.0)


@sensitive_variables()
def has_password(request: HttpRequest, wanted: Settings) -> bool:
    """True if the request has `KPWA["WEBHOOK_PASSWORD"]`, or if the site has not set one.

    The password comes either by HTTP basic authentication, with `KPWA["WEBHOOK_USERNAME"]` if that is set, or alone in
    the header `X-Webhook-Password`.
    """
    if not wanted.WEBHOOK_PASSWORD:
        return True
    in_header = request.headers.get(HEADER)
    if in_header is not None:
        return _same(in_header, wanted.WEBHOOK_PASSWORD)
    username, password = _basic_credentials(request)
    # Both are always compared, so that the time of the answer does not reveal which one was wrong.
    same_username = _same(username, wanted.WEBHOOK_USERNAME) or not wanted.WEBHOOK_USERNAME
    return _same(password, wanted.WEBHOOK_PASSWORD) and same_username


def _basic_credentials(request: HttpRequest) -> tuple[str, str]:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        username, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return "", ""
    return username, password


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode("utf-8", "surrogateescape"))


class Flood:
    """Keeps a flood of wrong tokens from the database without ever refusing a valid one.

    Nobody is blocked by address: behind a proxy all requests come from the proxy, and anybody can write
    `X-Forwarded-For`. So valid tokens have to be recognised even during a flood.

    As long as there are few wrong tokens in the current second, each costs a query. Beyond that, tokens are compared
    with a copy of the stored digests, which is reloaded at most ten times a second. A token is stored before the
    gateway gets it by an HTTP call, so the copy contains it before its first webhook.
    """

    lookups_per_second = 20
    """Maximum number of wrong tokens per second that this process looks up in the database."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Return to the initial state: no wrong tokens, and no copies."""
        self._lock = threading.Lock()
        self._second = 0
        self._wrong = 0
        # For each outbox: the digests, and the monotonic time until which they are fresh.
        self._copies: dict[tuple[str, str], tuple[frozenset[str], float]] = {}
        self._quiet_until = 0.0

    def refuses(self, digest: str) -> bool:
        """True if the token is known to be wrong, without a lookup. Always False as long as wrong tokens are few."""
        if not self._is_on():
            return False
        # A token in the copy does not wait for a reload, even if the copy is stale: the lookup decides if it is valid.
        key = outbox_key()
        return digest not in self._copies.get(key, _NONE)[0] and digest not in self._read_digests(key)

    def note_wrong(self) -> None:
        """Count a token that the lookup did not find."""
        with self._lock:
            second = int(time.monotonic())
            self._wrong = self._wrong + 1 if second == self._second else 1
            self._second = second
            is_new = self._wrong == self.lookups_per_second and time.monotonic() >= self._quiet_until
            if is_new:
                self._quiet_until = time.monotonic() + _WARNING_SECONDS
        if is_new:
            logger.warning(
                "More than %s webhooks per second have wrong tokens; the excess is refused without querying "
                "the database.",
                self.lookups_per_second,
            )

    def _is_on(self) -> bool:
        return self._wrong >= self.lookups_per_second and int(time.monotonic()) == self._second

    def _read_digests(self, key: tuple[str, str]) -> frozenset[str]:
        with self._lock:
            began = time.monotonic()
            digests, fresh_until = self._copies.get(key, _NONE)
            if began >= fresh_until:
                alive = Q(expires_at=None) | Q(expires_at__gt=DatabaseNow())
                tokens = WebhookToken.objects.filter(alive)
                digests = frozenset(tokens.values_list("digest", flat=True))
                if len(self._copies) >= _MAX_COPIES:
                    self._copies.clear()
                self._copies[key] = (digests, began + COPY_SECONDS)
            return digests


flood = Flood()
