"""The client of the gateway: an interface, its implementations, and the meaning of each outcome.

Implementations are chosen by dotted path (`KPWA["GATEWAY"]`), so that importing this package imports no HTTP client.
"""

from .base import (
    Gateway,
    NumberCheck,
    SentMessage,
    ServiceStatus,
    SessionStatus,
    SessionTrouble,
    WebhookAnswer,
    load_gateway_class,
    require_content,
    session_trouble_of,
)
from .qr import LoginQr

__all__ = [
    "Gateway",
    "LoginQr",
    "NumberCheck",
    "SentMessage",
    "ServiceStatus",
    "SessionStatus",
    "SessionTrouble",
    "WebhookAnswer",
    "load_gateway_class",
    "require_content",
    "session_trouble_of",
]
