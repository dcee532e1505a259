"""The gateway's client side: an interface, its implementations, and what an outcome means."""

from .base import Gateway, NumberCheck, SentMessage, ServiceStatus, SessionStatus, WebhookAnswer
from .qr import LoginQr

__all__ = ["Gateway", "LoginQr", "NumberCheck", "SentMessage", "ServiceStatus", "SessionStatus", "WebhookAnswer"]
