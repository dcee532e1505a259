"""Posts the sandbox's webhooks to a site.

The real gateway's payloads, retries and signatures are not documented. The sandbox posts JSON, with field names that
gateways of this family use, and retries a few times if the site fails. Each license has its own thread, so that a site
which hangs delays only its own webhooks. The webhooks of a license arrive in order unless a fault changes it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import requests

from ..logs import mask_paths_in
from .faults import FaultBoard
from .timeline import Timeline

TIMEOUT_SECONDS = (3.05, 10)
RETRY_SECONDS = (0.5, 1, 2, 4, 8)

mask_paths_in("urllib3.connectionpool")


@dataclass(frozen=True)
class Webhook:
    """One event for one URL. `kind` is `incoming` or the status word; `tries` is how often it has been posted."""

    license: str
    url: str = field(repr=False)
    kind: str
    payload: dict[str, Any] = field(repr=False)
    tries: int = 0
    era: int = 0
    """Number of `forget()` calls before the webhook was made. One from an earlier era is dropped."""


class Deliveries:
    """Posts webhooks, subject to the faults. `on_posted` is called after every try with the HTTP status (0: none)."""

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
    """The HTTP status of the site's answer, or 0 without an answer."""
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
