"""The eight documented paths, and one that says in JSON that a path is none of them."""

from __future__ import annotations

from django.db import transaction
from django.urls import URLPattern, path, re_path

from . import views
from .authentication import Resolve


def urls(resolve: Resolve) -> list[URLPattern]:
    """URL patterns of the contract, to be put behind the base path (`/backend/`) with `include()`.

    `resolve` returns the gateway of an API key, or None for a key that it does not know. It is called once a request,
    and the gateway that it returned is closed when the request has been answered.
    """

    def serve(view: type[views.GatewayView]) -> views.ViewFunction:
        # A gateway keeps no rows, so a host's ATOMIC_REQUESTS would only hold a transaction open across an HTTP call.
        return transaction.non_atomic_requests(view.as_view(resolve=resolve))

    return [
        path("openapi/wa/restart", serve(views.RestartView)),
        path("openapi/wa/status", serve(views.StatusView)),
        path("openapi/wa/login-qr", serve(views.LoginQrView)),
        # Not <path:…>, which matches no line break: "every character but the digits is removed".
        re_path(r"^openapi/wa/check-number/(?P<phone_number>[\s\S]+)\Z", serve(views.CheckNumberView)),
        path("openapi/wa/message", serve(views.MessageView)),
        path("openapi/wa/message-group", serve(views.GroupMessageView)),
        path("openapi/wa/webhook", serve(views.WebhookView)),
        path("openapi/wa/webhook/reset", serve(views.WebhookResetView)),
        re_path(r"", views.no_such_path),
    ]
