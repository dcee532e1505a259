"""The sandbox's state: licenses with their phones, the ledger and the log, protected by one lock.

Every change increments `version` and wakes the threads that wait for a change. So the page and the tests can wait for
the next version instead of polling. Nothing outlives the process.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..encryption import Secret, clean_api_key
from .chats import Chat, ChatMessage, Delivery, Ticks, new_group_id, new_message_id, utc_now
from .faults import FaultBoard
from .webhooks import Deliveries, Timeline, Webhook, incoming_event, status_event, undelivered_event

DEFAULT_LICENSE, DEFAULT_KEY = "sandbox", "sandbox-key"
QR_SECONDS = 20.0
DELIVERED_AFTER_SECONDS = 0.3
LOG_ENTRIES_KEPT = 300
RESTRICTED = "463: reach-out time-lock"
"""WhatsApp's error for a message from a restricted number to somebody who has not written to it."""
_TICKS_IN_ORDER = list(Ticks)


@dataclass(eq=False)
class Account:
    """One license, and the phone that is or can be linked to it."""

    name: str
    key: Secret
    number: str
    linked: bool = False
    webhook_url: str = field(default="", repr=False)
    chats: dict[str, Chat] = field(default_factory=dict, repr=False)
    wrote: set[str] = field(default_factory=set, repr=False)
    """Numbers that have written to the phone. All other numbers are cold."""
    cold_contacts: set[str] = field(default_factory=set, repr=False)
    """Numbers to which a message was sent while they were cold, including rejected ones."""
    asked_about: set[str] = field(default_factory=set, repr=False)
    """Numbers that were passed to check-number."""
    qr_text: str = field(default="", repr=False)
    qr_serial: int = 0
    qr_expires_at: float = 0.0
    """Time by `time.monotonic()`."""


class Sandbox:
    """All licenses of one process. All methods are thread-safe.

    Methods that look up a license, chat, group or message raise `LookupError` if there is none.
    """

    def __init__(self, *, seed: int | None = None) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 0
        self.accounts: list[Account] = []
        self.ledger: list[Delivery] = []
        self.log: deque[dict[str, Any]] = deque(maxlen=LOG_ENTRIES_KEPT)
        self.unregistered: set[str] = set()
        self.unlinked_status = 400
        """Status of the answer to a send while the license is not linked: 400 or 500. The reference names neither."""
        self.faults = FaultBoard(seed)
        self._sequence = itertools.count(1)
        self._log_sequence = itertools.count(1)
        self._timeline = Timeline()
        self._deliveries = Deliveries(self.faults, self._timeline, self._note_webhook)

    # Licenses

    def add_account(self, name: str, key: str, *, linked: bool = False, groups: Iterable[str] = ()) -> Account:
        """Add a license with the API key `key`.

        `linked`: link the phone at once. `groups`: names of groups that the phone is a member of.

        Raises `ValueError` if the name or the key exists already, or if the key is invalid.
        """
        key = clean_api_key(key)
        with self.changed:
            if self.account_of_key(key) or any(account.name == name for account in self.accounts):
                raise ValueError(f"There is a license called {name!r} already, or one with the same key.")
            account = Account(name, Secret(key), str(6281100000001 + len(self.accounts)), linked=linked)
            self.accounts.append(account)
            for group in groups:
                self.add_group(account, group)
            self._touch()
        return account

    def account_of_key(self, key: str) -> Account | None:
        """Return the license with the API key `key`, or None."""
        wanted = Secret(key)
        with self.changed:
            return next((account for account in self.accounts if account.key == wanted), None)

    def account(self, name: str = "") -> Account:
        """Return the license called `name`, or the first one if no name is given."""
        with self.changed:
            for account in self.accounts:
                if name in ("", account.name):
                    return account
        raise LookupError(f"There is no license {name!r}.")

    def scan(self, account: Account) -> None:
        """Link the phone, as if the QR code had been scanned. If a fault requires a passkey, it is not linked."""
        with self.changed:
            account.linked = account.linked or not self.faults.strikes("passkey_asked")
            self._touch()

    def log_out(self, account: Account) -> None:
        """Unlink the phone, as if a person had logged it out, and show a new QR code."""
        with self.changed:
            account.linked = False
            self.renew_qr(account)

    def current_qr(self, account: Account) -> str:
        """Return the text of the QR code, which is replaced every `QR_SECONDS`."""
        with self.changed:
            if time.monotonic() >= account.qr_expires_at:
                self.renew_qr(account)
            return account.qr_text

    def renew_qr(self, account: Account) -> None:
        """Replace the QR code by a new one."""
        with self.changed:
            # This has the form of WhatsApp's own text: a reference, and three keys.
            account.qr_text = "2@" + ",".join(secrets.token_urlsafe(size) for size in (64, 32, 32, 32))
            account.qr_serial += 1
            account.qr_expires_at = time.monotonic() + QR_SECONDS
            self._touch()

    def set_webhook(self, account: Account, url: str) -> None:
        """Post the license's events to `url`; an empty string removes the webhook."""
        with self.changed:
            account.webhook_url = url
            self._touch()

    # Numbers and groups

    def is_registered(self, number: str) -> bool:
        """True if a number has WhatsApp. All numbers of a possible length do, except those set as unregistered."""
        with self.changed:
            return 8 <= len(number) <= 15 and number not in self.unregistered

    def denies(self, account: Account, number: str) -> bool:
        """Store that check-number was called for `number`. True if a fault turns the answer into "no"."""
        with self.changed:
            is_first = number not in account.asked_about
            account.asked_about.add(number)
            wrongly_once = is_first and self.faults.strikes("check_no_once", "check-number")
            return bool(wrongly_once or self.faults.strikes("check_no", "check-number"))

    def set_registered(self, number: str, registered: bool) -> None:
        """Set whether a number has WhatsApp."""
        with self.changed:
            (self.unregistered.discard if registered else self.unregistered.add)(number)
            self._touch()

    def add_group(self, account: Account, name: str) -> Chat:
        """Return the group called `name`. It is created if it does not exist."""
        with self.changed:
            try:
                return self.group(account, name)
            except LookupError:
                group = Chat(new_group_id(), name, is_group=True)
            account.chats[group.id] = group
            self._touch()
            return group

    def group(self, account: Account, name: str) -> Chat:
        """Return the group called `name`."""
        with self.changed:
            for chat in account.chats.values():
                if chat.is_group and chat.name == name:
                    return chat
        raise LookupError("There is no group of that name.")

    # Messages

    def accept(self, account: Account, chat_id: str, text: str, image_url: str) -> ChatMessage:
        """Deliver a message from the shop to a number, or to a group's id. When this returns, it is in the ledger."""
        with self.changed:
            chat = account.chats.get(chat_id) or account.chats.setdefault(chat_id, Chat(chat_id, f"+{chat_id}"))
            message = ChatMessage(new_message_id(), text, image_url, utc_now(), ticks=Ticks.SENT)
            chat.messages.append(message)
            chat.changed_at = message.at
            self.ledger.append(
                Delivery(
                    sequence=next(self._sequence),
                    id=message.id,
                    license=account.name,
                    recipient="" if chat.is_group else chat_id,
                    group=chat.name if chat.is_group else "",
                    text=text,
                    image_url=image_url,
                    is_cold=not chat.is_group and chat_id not in account.wrote,
                    accepted_at=message.at.isoformat(timespec="microseconds"),
                )
            )
            self._touch()
        self._timeline.later(DELIVERED_AFTER_SECONDS, lambda: self._reach_phone(account, chat, message))
        return message

    def restricts(self, account: Account, number: str, fault: str) -> bool:
        """Store that a message to `number` was tried. True if `fault` rejects it.

        It rejects messages to cold numbers, once there were as many of these numbers as the fault's amount.
        """
        with self.changed:
            if number in account.wrote:
                return False
            account.cold_contacts.add(number)
            return self.faults.strikes(fault, nth=len(account.cold_contacts)) is not None

    def answer(self, account: Account, chat_id: str, text: str, *, sender: str = "") -> ChatMessage:
        """Add a message that a customer writes, and post its webhook. In a group, `sender` is the member's number."""
        with self.changed:
            chat = account.chats.get(chat_id)
            if chat is None:
                if not chat_id.isdigit():
                    raise LookupError("There is no such chat.")
                chat = account.chats[chat_id] = Chat(chat_id, f"+{chat_id}")
            author = sender or ("6281299990001" if chat.is_group else chat_id)
            account.wrote.add(author)
            message = ChatMessage(new_message_id(), text, "", utc_now(), sender=author)
            chat.messages.append(message)
            chat.changed_at = message.at
            self._touch()
        self.mark_read(account, chat_id)
        self._post(account, "incoming", incoming_event(chat, message))
        return message

    def mark_read(self, account: Account, chat_id: str) -> None:
        """Mark all messages in a chat as read, as if the customer opened it, and post their webhooks."""
        with self.changed:
            chat = self._chat(account, chat_id)
            waiting = [message for message in chat.messages if message.ticks in (Ticks.SENT, Ticks.DELIVERED)]
        for message in waiting:
            self._advance(account, chat, message, Ticks.READ)

    def mark_message(self, account: Account, message_id: str, ticks: Ticks) -> None:
        """Move one message from the shop forward to `delivered` or `read`, and post its webhook."""
        with self.changed:
            for chat in account.chats.values():
                for message in chat.messages:
                    if message.id == message_id:
                        self._advance(account, chat, message, ticks)
                        return
        raise LookupError("There is no such message.")

    def reset(self) -> None:
        """Empty the chats, ledger and log, remove webhooks, and switch off faults. Licenses, links and groups stay."""
        with self.changed:
            self.ledger.clear()
            self._sequence = itertools.count(1)
            self.log.clear()
            self.faults.clear()
            self.unregistered.clear()
            self.unlinked_status = 400
            for account in self.accounts:
                account.webhook_url = ""
                account.wrote.clear()
                account.cold_contacts.clear()
                account.asked_about.clear()
                groups = [chat for chat in account.chats.values() if chat.is_group]
                account.chats = {group.id: Chat(group.id, group.name, is_group=True) for group in groups}
            self._touch()
        self._deliveries.forget()

    # Watching

    def wait_for_change(self, since: int, seconds: float) -> None:
        """Wait until the version differs from `since`, for at most `seconds`."""
        with self.changed:
            self.changed.wait_for(lambda: self.version != since, timeout=seconds)

    def note(self, **entry: Any) -> None:
        """Add an entry to the log that the page shows. Callers must mask keys and tokens."""
        with self.changed:
            self.log.append({"sequence": next(self._log_sequence), "at": utc_now().isoformat(), **entry})
            self._touch()

    def set_unlinked_status(self, status: int) -> None:
        """Set `unlinked_status`. Raises `ValueError` for anything but 400 and 500."""
        if status not in (400, 500):
            raise ValueError("The status must be 400 or 500.")
        with self.changed:
            self.unlinked_status = status
            self._touch()

    def faults_changed(self) -> None:
        """Wake the waiting threads after a change of `faults`, which does not do so itself."""
        with self.changed:
            self._touch()

    def _touch(self) -> None:
        self.version += 1
        self.changed.notify_all()

    def _chat(self, account: Account, chat_id: str) -> Chat:
        try:
            return account.chats[chat_id]
        except KeyError:
            raise LookupError("There is no such chat.") from None

    def _reach_phone(self, account: Account, chat: Chat, message: ChatMessage) -> None:
        """Deliver a message to the recipient's phone, subject to the faults. One from before a reset is dropped."""
        if not self._has(account, chat):
            return
        if self.faults.strikes("no_ticks"):
            return
        if self._turns_out_restricted(account, chat):
            self._post(account, "failed", undelivered_event(chat, message, RESTRICTED))
            return
        never, wrongly = self.faults.strikes("undelivered"), self.faults.strikes("undelivered_wrongly")
        if never or wrongly:
            self._post(account, "failed", undelivered_event(chat, message))
        if wrongly and not never:
            self._timeline.later(wrongly.amount, lambda: self._advance(account, chat, message, Ticks.DELIVERED))
        elif not never:
            self._advance(account, chat, message, Ticks.DELIVERED)

    def _turns_out_restricted(self, account: Account, chat: Chat) -> bool:
        with self.changed:
            is_a_person = self._has(account, chat) and not chat.is_group
            return is_a_person and self.restricts(account, chat.id, "restricted_tick")

    def _has(self, account: Account, chat: Chat) -> bool:
        """False if a reset has replaced the chat."""
        return account.chats.get(chat.id) is chat

    def _advance(self, account: Account, chat: Chat, message: ChatMessage, ticks: Ticks) -> None:
        with self.changed:
            if not self._has(account, chat):
                return
            if message.ticks is Ticks.NONE or _TICKS_IN_ORDER.index(ticks) <= _TICKS_IN_ORDER.index(message.ticks):
                return
            message.ticks = ticks
            self._touch()
        self._post(account, ticks.value, status_event(chat, message, ticks))

    def _post(self, account: Account, kind: str, payload: dict[str, Any]) -> None:
        if account.webhook_url:
            self._deliveries.post(Webhook(account.name, account.webhook_url, kind, payload))

    def _note_webhook(self, webhook: Webhook, status: int) -> None:
        self.note(license=webhook.license, direction="out", operation=f"webhook: {webhook.kind}", status=status)


_current: Sandbox | None = None


def current() -> Sandbox:
    """Return the sandbox of this process. If none was installed, one with a default license is created."""
    global _current
    if _current is None:
        _current = Sandbox()
        _current.add_account(DEFAULT_LICENSE, DEFAULT_KEY)
    return _current


def install(sandbox: Sandbox) -> None:
    """Make `current()` return `sandbox`."""
    global _current
    _current = sandbox
