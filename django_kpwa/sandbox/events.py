"""Payloads of the sandbox's webhooks. The real ones are not documented; these use field names of similar gateways."""

from __future__ import annotations

from typing import Any

from .chats import Chat, ChatMessage, Ticks, utc_now


def incoming_event(chat: Chat, message: ChatMessage) -> dict[str, Any]:
    """The payload for a customer's message."""
    payload = {
        "id": message.id,
        "from": chat.id if chat.is_group else f"{message.sender}@s.whatsapp.net",
        "phone": message.sender,
        "message": message.text,
        "isFromMe": False,
        "isGroup": chat.is_group,
        "timestamp": int(message.at.timestamp()),
    }
    if chat.is_group:
        payload.update(member=f"{message.sender}@s.whatsapp.net", group=chat.name)
    return payload


def status_event(chat: Chat, message: ChatMessage, ticks: Ticks) -> dict[str, Any]:
    """The payload for a message from the shop that has reached the state `ticks`."""
    return {
        "id": message.id,
        "status": ticks.value.capitalize(),
        "phone": chat.id,
        "isFromMe": True,
        "timestamp": int(utc_now().timestamp()),
    }
