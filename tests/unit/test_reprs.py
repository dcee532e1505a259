"""What the repr of an object shows, because loggers, error reports and debuggers print any object."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re

import django_kpwa

SECRET = re.compile(
    r"(^|_)(token|secret|password|credential|number|phone|recipient|sender|to|jid|chat|text|body|webhook|form|headers)(_|s?$)"
)
# Our own words, ids and numbers; a webhook without its token; and values that are already a `Secret`.
HARMLESS = {
    "django_kpwa.shop_counter.chips.Shown.send_to_url",
    "django_kpwa.dispatch.driver.Driven.lease_token",
    "django_kpwa.health.Health.senders",
    "django_kpwa.gateway.answers.Answer.secrets",
    # No alert contains a phone number or a message's text.
    "django_kpwa.alerts.texts.Told.text",
    # The tests of a site need to see what was sent.
    "django_kpwa.gateway.locmem.LocmemMessage.text",
    "django_kpwa.gateway.locmem.LocmemMessage.to",
    "django_kpwa.store.results.Content.recipient_type",
    "django_kpwa.store.results.Lease.token",
}


def shown_fields():
    """Return the full name, the name and the type of each field that a dataclass or named tuple prints.

    Classes with their own `__repr__` are left out, because they choose what they print.
    """
    for module in pkgutil.walk_packages(django_kpwa.__path__, "django_kpwa."):
        # The sandbox is a simulated phone, so it shows messages to the person who started it.
        if any(part in module.name for part in ("__main__", ".migrations", ".sandbox")):
            continue
        for found in vars(importlib.import_module(module.name)).values():
            if isinstance(found, type) and found.__module__ == module.name:
                for name, kind in shown_of(found):
                    yield f"{found.__module__}.{found.__qualname__}.{name}", name, kind


def shown_of(found):
    if dataclasses.is_dataclass(found) and hasattr(found.__repr__, "__wrapped__"):
        return [(field.name, field.type) for field in dataclasses.fields(found) if field.repr]
    if hasattr(found, "_fields") and found.__repr__.__module__ == "collections":
        return [(name, found.__annotations__[name].__forward_arg__) for name in found._fields]
    return []


def test_no_class_prints_a_field_that_may_hold_a_secret():
    shown = {
        full_name
        for full_name, name, kind in shown_fields()
        if kind not in ("Secret", "bool", "int", "float") and SECRET.search(name)
    }
    assert shown == HARMLESS
