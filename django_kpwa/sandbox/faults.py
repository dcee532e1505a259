"""The faults that the sandbox can simulate, each with a probability.

They are set on the page, by the command line or over HTTP. `before` and `after` in a name mean that the fault strikes
before or after the message is delivered: this is the difference that a client has to handle. All random numbers come
from one seeded generator, so that a run can be repeated.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

SENDS = ("message", "message-group")
OPERATIONS = ("restart", "status", "login-qr", "check-number", *SENDS, "webhook", "webhook/reset")
ANY, ANY_SEND = "any", "sends"


@dataclass(frozen=True)
class Fault:
    """One fault and its settings.

    `amount`: how strong it is, in `unit`; unused if `unit` is empty.
    `count`: how many more times it may strike; None: no limit.
    `operation`: where it may strike: one of `OPERATIONS`, `any` or `sends`.
    """

    name: str
    about: str
    amount: float = 0
    unit: str = ""
    probability: float = 0
    count: int | None = None
    operation: str = ANY

    def concerns(self, operation: str) -> bool:
        """True if the fault may strike a call of `operation`."""
        return self.operation in (ANY, operation) or (self.operation == ANY_SEND and operation in SENDS)


KNOWN_FAULTS = (
    Fault("latency", "The answer comes late", amount=500, unit="ms"),
    Fault("revoked_key", "401: the key is no longer accepted"),
    Fault("logged_out", "The phone is logged out, then the request is handled"),
    Fault("rate_limited_429", "429 with Retry-After; not delivered", amount=5, unit="s"),
    Fault("error_500", "500 in the documented shape; not delivered"),
    Fault("bad_gateway_502", "502, as while the gateway is being deployed; not delivered"),
    Fault("unavailable_503", "503, as while the gateway is being deployed; not delivered"),
    Fault("timeout_504_before", "504; not delivered"),
    Fault("timeout_504_after", "504; delivered anyway"),
    Fault("reset_before", "Connection reset; not delivered"),
    Fault("reset_after", "Connection reset; delivered anyway"),
    Fault("stall_before", "No answer, then the connection ends; not delivered", amount=120, unit="s"),
    Fault("stall_after", "No answer, then the connection ends; delivered anyway", amount=120, unit="s"),
    Fault("drip", "The answer comes byte by byte, with this time between two bytes; delivered", amount=500, unit="ms"),
    Fault("html_200", "200 with a page of HTML; not delivered"),
    Fault("malformed_json_200", "200 with JSON cut short; delivered"),
    Fault("no_id_200", "200 without result.id; delivered", operation=ANY_SEND),
    Fault("restricted_400", "400 to all cold contacts from this one on; not delivered", amount=12, unit="contacts"),
    Fault("restricted_500", "500 to all cold contacts from this one on; not delivered", amount=12, unit="contacts"),
    Fault("restricted_tick", "A tick of -1 to all cold contacts from this one on", amount=12, unit="contacts"),
    Fault("cold_refused_400", "400 without a reason to all cold contacts from this one on", amount=12, unit="contacts"),
    Fault("cold_failed_500", "500 without a reason to all cold contacts from this one on", amount=12, unit="contacts"),
    Fault("suspended", "WhatsApp restricts the number: the status is “suspended”", operation="status"),
    Fault("passkey_asked", "The phone asks for a passkey after the scan: it is not linked"),
    Fault("check_no_once", "check-number says no, wrongly, when first asked about a number", operation="check-number"),
    Fault("check_no", "check-number says no, wrongly, about every number", operation="check-number"),
    Fault("check_slow", "check-number answers late", amount=10, unit="s", operation="check-number"),
    Fault("no_ticks", "No phone receives it: no tick follows"),
    Fault("undelivered", "Accepted, then reported as not delivered: a tick of -1"),
    Fault("undelivered_wrongly", "Reported as not delivered, and delivered all the same", amount=1, unit="s"),
    Fault("webhook_repeated", "A webhook is posted twice"),
    Fault("webhook_late", "A webhook is posted late", amount=5, unit="s"),
    Fault("webhook_out_of_order", "A webhook is overtaken by the next, or comes late", amount=3, unit="s"),
)


class FaultBoard:
    """All faults with their settings. Thread-safe."""

    def __init__(self, seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._faults = {fault.name: fault for fault in KNOWN_FAULTS}

    def strikes(self, name: str, operation: str = ANY, *, nth: int | None = None) -> Fault | None:
        """Decide at random whether the fault strikes. If it does, reduce its `count` and return it; else return None.

        `nth`: number of the present case; the fault does not strike as long as this is below its amount.
        """
        with self._lock:
            fault = self._faults[name]
            if nth is not None and nth < fault.amount:
                return None
            if not fault.probability or not fault.concerns(operation) or self._random.random() >= fault.probability:
                return None
            if fault.count is not None:
                left = fault.count - 1
                self._faults[name] = replace(fault, count=left or None, probability=fault.probability if left else 0)
            return fault

    def update(self, settings: Mapping[str, object]) -> None:
        """Set faults, by name, each to a probability or an object of `probability`, `count`, `operation`, `amount`.

        Keys that an object omits get their defaults; an omitted probability is 1. Raises `ValueError`, without changing
        anything, for an unknown fault or an invalid setting.
        """
        changed = {
            name: _checked(replace(_default(name), **_as_changes(name, setting))) for name, setting in settings.items()
        }
        with self._lock:
            self._faults.update(changed)

    def clear(self) -> None:
        """Switch all faults off and reset their settings to the defaults."""
        with self._lock:
            self._faults = {fault.name: fault for fault in KNOWN_FAULTS}

    def settings(self) -> list[dict[str, Any]]:
        """Return all faults as plain dicts, in the order of `KNOWN_FAULTS`."""
        with self._lock:
            return [asdict(fault) for fault in self._faults.values()]


def _default(name: str) -> Fault:
    for fault in KNOWN_FAULTS:
        if fault.name == name:
            return fault
    raise ValueError(f"There is no fault {name!r}. Known: {', '.join(fault.name for fault in KNOWN_FAULTS)}.")


def _as_changes(name: str, setting: object) -> dict[str, Any]:
    if isinstance(setting, Mapping):
        unknown = set(setting) - {"probability", "count", "operation", "amount"}
        if unknown:
            raise ValueError(f"{name}: unknown fields: {', '.join(sorted(map(str, unknown)))}.")
        return {"probability": 1, **setting}
    return {"probability": setting}


def _checked(fault: Fault) -> Fault:
    if not _is_number(fault.probability) or not 0 <= fault.probability <= 1:
        raise ValueError(f"{fault.name}: the probability must be a number from 0 to 1.")
    if not _is_number(fault.amount) or not 0 <= fault.amount <= 86_400_000:
        raise ValueError(f"{fault.name}: the amount must be a number of {fault.unit or 'units'}, not negative.")
    if fault.count is not None and (type(fault.count) is not int or fault.count < 1):
        raise ValueError(f"{fault.name}: the count must be a whole number from 1, or null.")
    if fault.operation not in (ANY, ANY_SEND, *OPERATIONS):
        raise ValueError(f"{fault.name}: the operation must be one of any, sends, {', '.join(OPERATIONS)}.")
    return fault


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
