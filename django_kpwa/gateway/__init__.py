"""The client of the gateway: an interface, its implementations, and the meaning of each outcome.

Implementations are chosen by dotted path (`KPWA["GATEWAY"]`), so that importing this package imports no HTTP client.
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
