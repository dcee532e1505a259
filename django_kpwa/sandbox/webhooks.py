"""The sandbox's webhooks: their payloads, and how they are posted to a site.

The real gateway's payloads, retries and signatures are not documented. The sandbox posts JSON, with field names that
gateways of this family use, and retries a few times if the site fails. Each license has its own thread, so that a site
that hangs delays only its own webhooks. The webhooks of a license arrive in order, unless a fault changes the order.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import requests

from ..logs import get_logger, lines_of, mask_paths_in, traceback_of
from ..phone import mask_numbers
from .chats import Chat, ChatMessage, Ticks, utc_now
from .faults import FaultBoard

TIMEOUT_SECONDS = (3.05, 10)
RETRY_SECONDS = (0.5, 1, 2, 4, 8)

logger = get_logger(__name__)
mask_paths_in("urllib3.connectionpool")


@dataclass(frozen=True)
class Webhook:
    """One event for one URL.

    `kind`: `incoming`, or the status word. `tries`: how often it has been posted.
    """

    license: str
    url: str = field(repr=False)
    kind: str
    payload: dict[str, Any] = field(repr=False)
    tries: int = 0
    era: int = 0
    """Number of calls of `forget()` before the webhook was made. A webhook from an earlier era is dropped."""


class Deliveries:
    """Posts webhooks, subject to the faults.

    `on_posted` is called after every try, with the HTTP status of the answer (0: no answer).
    """

    def __init__(self, faults: FaultBoard, timeline: Timeline, on_posted: Callable[[Webhook, int], None]) -> None:
        self._faults = faults
        self._timeline = timeline
        self._on_posted = on_posted
        self._lock = threading.Lock()
        self._lines: dict[str, queue.SimpleQueue[Webhook]] = {}
        self._held: dict[str, Webhook] = {}
        self._era = 0

    def forget(self) -> None:
        """Drop all webhooks that have not been posted yet."""
        with self._lock:
            self._era += 1
            self._held.clear()

    def post(self, webhook: Webhook) -> None:
        """Queue a webhook to be posted, and return at once."""
        webhook = replace(webhook, era=self._era)
        for _ in range(2 if self._faults.strikes("webhook_repeated") else 1):
            late = self._faults.strikes("webhook_late")
            if late:
                self._timeline.later(late.amount, lambda: self._enqueue(webhook))
                continue
            overtaken = self._faults.strikes("webhook_out_of_order")
            if overtaken:
                self._hold(webhook, overtaken.amount)
                continue
            self._enqueue(webhook)

    def _hold(self, webhook: Webhook, seconds: float) -> None:
        with self._lock:
            before = self._held.pop(webhook.license, None)
            self._held[webhook.license] = webhook
        if before:
            self._enqueue(before, release_held=False)
        self._timeline.later(seconds, lambda: self._release(webhook))

    def _release(self, webhook: Webhook) -> None:
        with self._lock:
            if self._held.get(webhook.license) is not webhook:
                return
            del self._held[webhook.license]
        self._enqueue(webhook, release_held=False)

    def _enqueue(self, webhook: Webhook, *, release_held: bool = True) -> None:
        with self._lock:
            line = self._lines.get(webhook.license)
            if line is None:
                line = self._lines[webhook.license] = queue.SimpleQueue()
                name = f"sandbox-webhooks-{len(self._lines)}"
                threading.Thread(target=self._drive, args=(line,), name=name, daemon=True).start()
            line.put(webhook)
            held = self._held.pop(webhook.license, None) if release_held else None
            if held:
                line.put(held)

    def _drive(self, line: queue.SimpleQueue[Webhook]) -> None:
        session = requests.Session()
        session.trust_env = False  # no proxy from the environment between two local processes
        while True:
            webhook = line.get()
            if webhook.era != self._era:
                continue
            status = _posted(session, webhook)
            self._on_posted(webhook, status)
            if not _is_final(status) and webhook.tries < len(RETRY_SECONDS):
                again = replace(webhook, tries=webhook.tries + 1)
                self._timeline.later(RETRY_SECONDS[webhook.tries], lambda again=again: self._enqueue(again))  # type: ignore[misc]


def _posted(session: requests.Session, webhook: Webhook) -> int:
    """Post the webhook once. Returns the HTTP status of the site's answer, or 0 if it gave none."""
    try:
        with session.post(
            webhook.url, json=webhook.payload, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True
        ) as answer:
            return answer.status_code
    except (requests.RequestException, ValueError):  # ValueError: URLs that `requests` accepts and urllib3 does not
        return 0


def _is_final(status: int) -> bool:
    """True if a retry would be useless: the site accepted the webhook, or refused it for good."""
    return status != 0 and status != 429 and status < 500


def incoming_event(chat: Chat, message: ChatMessage) -> dict[str, Any]:
    """Return the payload for a customer's message."""
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
        payload |= {"member": f"{message.sender}@s.whatsapp.net", "group": chat.name}
    return payload


def status_event(chat: Chat, message: ChatMessage, ticks: Ticks) -> dict[str, Any]:
    """Return the payload for a message from the shop that has reached the state `ticks`."""
    return {
        "id": message.id,
        "status": ticks.value.capitalize(),
        "phone": chat.id,
        "isFromMe": True,
        "timestamp": int(utc_now().timestamp()),
    }


def undelivered_event(
    chat: Chat, message: ChatMessage, error: str = "The message could not be delivered."
) -> dict[str, Any]:
    """Return the payload for a message from the shop that was accepted but not delivered."""
    return {
        "id": message.id,
        "ack": -1,
        "error": error,
        "phone": chat.id,
        "isFromMe": True,
        "timestamp": int(utc_now().timestamp()),
    }


class Timeline:
    """Runs actions when they are due, in the order of their times: ticks, late webhooks, retries.

    The first action starts the one thread that runs all of them, so they must be quick. With a thread for each message,
    a benchmark would have thousands of threads.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Run `action` in the timeline's thread after `seconds`. An exception of it is logged."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sandbox-timeline", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            try:
                self._next()()
            except Exception as error:
                logger.error("A sandbox action failed.\n%s", lines_of(mask_numbers(traceback_of(error))))

    def _next(self) -> Callable[[], None]:
        with self._changed:
            while True:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
