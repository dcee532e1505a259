"""Signals, sent with `send_robust` outside any transaction: a receiver that raises is logged (by Django) and changes
nothing else.

| signal | sender | arguments |
|---|---|---|
| `message_sent`, `message_failed`, `message_unknown` | `OutboundMessage` | `message` |
| `message_expired`, `message_cancelled` | `OutboundMessage` | `message` |
| `message_delivered`, `message_read` | `OutboundMessage` | `message`, `event` (the `WebhookEvent`, or None) |
| `message_undelivered` | `OutboundMessage` | `message`, `event`; it was accepted and then reported as not delivered |
| `message_received` | `WebhookEvent` | `event`, `incoming` (a `webhooks.parsers.ParsedEvent`) |
| `webhook_received` | `WebhookEvent` | `event` |
| `alert_opened`, `alert_closed` | `Alert` | `alert`, `title` and `text` in the site's language |
| `license_status_changed` | `License` | `license`, `session_status`, `previous_session_status` |
"""

from __future__ import annotations

from django.dispatch import Signal

message_sent = Signal()
message_failed = Signal()
message_unknown = Signal()
message_expired = Signal()
message_cancelled = Signal()
message_delivered = Signal()
message_read = Signal()
message_undelivered = Signal()
message_received = Signal()
webhook_received = Signal()
license_status_changed = Signal()
alert_opened = Signal()
alert_closed = Signal()
