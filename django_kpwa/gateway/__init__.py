"""The gateway's client side: an interface, its implementations, and what an outcome means.

The implementations are named by dotted path (`KPWA["GATEWAY"]`), so that importing this package imports no HTTP client.
"""

from .base import (
    Gateway,
    NumberCheck,
    SentMessage,
    ServiceStatus,
    SessionStatus,
    WebhookAnswer,
    load_gateway_class,
)
from .qr import LoginQr

__all__ = [
    "Gateway",
    "LoginQr",
    "NumberCheck",
    "SentMessage",
    "ServiceStatus",
    "SessionStatus",
    "WebhookAnswer",
    "load_gateway_class",
]
