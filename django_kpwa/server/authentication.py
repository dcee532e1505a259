"""The `X-API-KEY` header. No DRF authentication class: those touch `request.user`, which needs the host's auth app."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from django.http import HttpRequest

from ..exceptions import UnauthorizedError
from ..gateway.base import Gateway

Resolve: TypeAlias = Callable[[str], "Gateway | None"]


def authenticated_gateway(request: HttpRequest, resolve: Resolve) -> Gateway:
    """The gateway of the request's API key.

    Raises `UnauthorizedError` for a key that is missing or unknown. Neither is told apart by more than its sentence,
    and the key is not repeated.
    """
    key = request.headers.get("X-API-KEY", "").strip()
    if not key:
        raise UnauthorizedError("The header X-API-KEY is missing.")
    gateway = resolve(key)
    if gateway is None:
        raise UnauthorizedError("The API key is not valid.")
    return gateway
