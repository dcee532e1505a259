"""The sandbox's state as JSON, for the page and for tests. Lists without a natural limit are cut to the newest."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from .chats import Chat, ChatMessage
from .world import Account, Sandbox

CHATS_SHOWN = 200
MESSAGES_SHOWN = 200
LOG_ENTRIES_SHOWN = 100


def of_sandbox(sandbox: Sandbox, account: Account, chat_id: str) -> dict[str, Any]:
    """Everything that the page shows: all licenses, the chats of `account`, and the messages of one chat."""
    with sandbox.changed:
        chat = account.chats.get(chat_id)
        return {
            "version": sandbox.version,
            "licenses": [_license(sandbox, each) for each in sandbox.accounts],
            "license": account.name,
            "chats": [_chat(each) for each in _newest_first(account)[:CHATS_SHOWN]],
            "chat": {**_chat(chat), "messages": [_message(each) for each in _last(chat)]} if chat else None,
            "deliveries": len(sandbox.ledger),
            "faults": sandbox.faults.settings(),
            "log": list(islice(reversed(sandbox.log), LOG_ENTRIES_SHOWN)),
            "unlinked_status": sandbox.unlinked_status,
            "unregistered": sorted(sandbox.unregistered),
        }


def seconds_to_next_qr(account: Account) -> float:
    """Seconds until the state changes by itself, because the QR code of an unlinked license expires."""
    return max(account.qr_expires_at - time.monotonic(), 0.1)


def _license(sandbox: Sandbox, account: Account) -> dict[str, Any]:
    address = urlencode({"license": account.name, "serial": account.qr_serial})
    return {
        "name": account.name,
        "number": account.number,
        "linked": account.linked,
        "has_webhook": bool(account.webhook_url),
        "qr_url": "" if account.linked else f"/sandbox/qr.png?{address}",
    }


def _chat(chat: Chat) -> dict[str, Any]:
    return {
        "id": chat.id,
        "name": chat.name,
        "is_group": chat.is_group,
        "unread": chat.unread,
        "changed_at": chat.changed_at.isoformat(),
        "last": _message(chat.messages[-1]) if chat.messages else None,
    }


def _message(message: ChatMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "text": message.text,
        "image_url": message.image_url,
        "at": message.at.isoformat(),
        "sender": message.sender,
        "ticks": message.ticks.value,
    }


def _newest_first(account: Account) -> list[Chat]:
    return sorted(account.chats.values(), key=lambda chat: chat.changed_at, reverse=True)


def _last(chat: Chat) -> list[ChatMessage]:
    return list(chat.messages)[-MESSAGES_SHOWN:]
