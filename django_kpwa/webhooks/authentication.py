"""Checks who may post a webhook: whoever knows the token in the path and, if the site sets one, a password.

The gateway's reference describes no signature, so these secrets are the only protection. A token is looked up by its
SHA-256, so that the time a lookup takes does not reveal how close a guess came. An expired token gets the same answer
as a wrong one. `throttling` keeps a flood of wrong tokens from the database.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from ..conf import Settings

HEADER = "X-Webhook-Password"


@sensitive_variables()
def has_password(request: HttpRequest, wanted: Settings) -> bool:
    """True if the request carries `KPWA["WEBHOOK_PASSWORD"]`, or if the site has not set one.

    The password comes either in HTTP basic authentication, with `KPWA["WEBHOOK_USERNAME"]` if that is set, or alone in
    the header `X-Webhook-Password`.
    """
    if not wanted.WEBHOOK_PASSWORD:
        return True
    in_header = request.headers.get(HEADER)
    if in_header is not None:
        return _same(in_header, wanted.WEBHOOK_PASSWORD)
    username, password = _basic_credentials(request)
    # Both are always compared, so that the time taken does not reveal which one was wrong.
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
