"""Possible faults of a site's own code: it raises, hangs, or returns nonsense.

`{"render": "hang", "message_sent": "raise"}` sets the fault of each; it applies to numbers that end in `UNLUCKY`. Code
that hangs does so for longer than any lease.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

UNLUCKY = "13"
HANG_SECONDS = 20.0
"""Longer than a lease of the tests. The task's time limit, which would really end it, is ten minutes."""


def make_careless(plan: dict[str, str]) -> None:
    if "render" in plan:
        _make_render_careless(plan["render"])
    if "message_sent" in plan:
        _make_receiver_careless(plan["message_sent"])
    for method in ("get_phone_number", "get_candidates"):
        if method in plan:
            _make_receipt_careless(method, plan[method])


def misbehave(how: str) -> Any:
    if how == "hang":
        time.sleep(HANG_SECONDS)
        return "It hung."
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raise":
        raise RuntimeError("The site's own code failed.")
    return object()


def _make_render_careless(how: str) -> None:
    from tests.shop.whatsapp import PaidReceipt

    original = PaidReceipt.render

    def render(self: Any, sale: Any, **context: Any) -> Any:
        if sale.customer_phone.endswith(UNLUCKY):
            return misbehave(how)
        return original(self, sale, **context)

    PaidReceipt.render = render


def _make_receipt_careless(method: str, how: str) -> None:
    """Fails for every sale, whatever its number."""
    from tests.shop.whatsapp import PaidReceipt

    setattr(PaidReceipt, method, lambda *_: misbehave(how))


def _make_receiver_careless(how: str) -> None:
    from django_kpwa.signals import message_sent

    def careless(sender: object, message: Any, **_: object) -> object:
        return misbehave(how) if message.recipient.endswith(UNLUCKY) else None

    message_sent.connect(careless, weak=False)


def make_parser() -> type:
    """A parser that misbehaves if a body says how."""
    from django_kpwa.webhooks import DefaultParser

    class CarelessParser(DefaultParser):
        def parse(self, body: bytes, content_type: str, *, linked_number: str) -> Any:
            for how in ("hang", "raise", "nonsense"):
                if how.encode() in body:
                    return misbehave(how)
            return super().parse(body, content_type, linked_number=linked_number)

    return CarelessParser


def __getattr__(name: str) -> Any:
    if name == "CarelessParser":
        return make_parser()
    raise AttributeError(name)
