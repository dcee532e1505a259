"""Who may post a webhook: whoever knows the token in the path and, where the site wants it, a password.

The gateway signs nothing, so these secrets are all there is. A wrong one is looked for by its SHA-256, so the time it
takes says nothing of how near it came; an expired one is told apart from it by nothing. `throttling` keeps a flood of
wrong ones from the database.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from ..conf import Settings
from ..license_actions import OLD_TOKEN_DAYS
from ..models import DatabaseNow, WebhookToken, in_seconds
from ..store.events import KnownToken

HEADER = "X-Webhook-Password"


@sensitive_variables()
def has_password(request: HttpRequest, wanted: Settings) -> bool:
    """Whether the request carries `KPWA["WEBHOOK_PASSWORD"]`, where the site has set one.

    Either as HTTP basic authentication, with `KPWA["WEBHOOK_USERNAME"]`, or alone in the header `X-Webhook-Password`.
    """
    if not wanted.WEBHOOK_PASSWORD:
        return True
    in_header = request.headers.get(HEADER)
    if in_header is not None:
        return _same(in_header, wanted.WEBHOOK_PASSWORD)
    username, password = _basic_credentials(request)
    # Both are always compared, so that the time tells nothing of which was wrong.
    same_username = _same(username, wanted.WEBHOOK_USERNAME) or not wanted.WEBHOOK_USERNAME
    return _same(password, wanted.WEBHOOK_PASSWORD) and same_username


def note_use(token: KnownToken) -> None:
    """With a token's first event, the license's older ones begin to expire: the gateway has changed over."""
    if token.is_used:
        return
    tokens = WebhookToken.objects
    if not tokens.filter(pk=token.pk, first_used_at=None).update(first_used_at=DatabaseNow()):
        return
    siblings = tokens.filter(license_id=token.license_id)
    if not token.is_registered and not siblings.filter(pk__gt=token.pk).exists():
        # Registering it seemed to fail, and did not: the gateway uses it.
        tokens.filter(pk=token.pk, registered_at=None).update(registered_at=DatabaseNow(), expires_at=None)
    # Older ones alone: a late event under an old token must not retire the one that replaces it.
    siblings.filter(pk__lt=token.pk, expires_at=None).update(expires_at=in_seconds(OLD_TOKEN_DAYS * 86400))


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
