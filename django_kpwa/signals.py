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
"""The gateway accepted the message, or proof of that came later."""
message_failed = Signal()
"""It was refused, its text could not be written, or no attempts were left."""
message_unknown = Signal()
"""It is unknown whether it was sent: it waits for a decision."""
message_expired = Signal()
"""It was not sent by its `expires_at`."""
message_cancelled = Signal()
"""It was withdrawn before it was sent."""
message_delivered = Signal()
"""The recipient's phone has it."""
message_read = Signal()
"""The recipient has opened it."""
message_undelivered = Signal()
"""The gateway accepted it and reported later that it was not delivered."""
message_received = Signal()
"""A customer has written. Sent at least once for each message of a webhook event."""
webhook_received = Signal()
"""A webhook event was processed, understood or not. Sent at least once."""
license_status_changed = Signal()
"""The gateway reported another `SessionStatus` of the license than before."""
alert_opened = Signal()
"""An alert was opened: something keeps receipts from going out."""
alert_closed = Signal()
"""An alert was closed: its cause is gone."""
