"""What is printed of an object: loggers, reports of errors and debuggers print whatever they are given."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re

import django_kpwa

SECRET = re.compile(
    r"(^|_)(token|secret|password|credential|number|phone|recipient|sender|to|jid|chat|text|body|webhook|form|headers)(_|s?$)"
)
# Words, ids and numbers of ours; a webhook without its token; and what is a `Secret` already.
HARMLESS = {
    "django_kpwa.shop_counter.widgets.Shown.send_to_url",
    "django_kpwa.dispatch.driver.Driven.lease_token",
    "django_kpwa.health.Health.senders",
    "django_kpwa.gateway.answers.Answer.secrets",
    # No alert names a number or a text of a message.
    "django_kpwa.alerts.texts.Told.text",
    # A site's test wants to see what it sent.
    "django_kpwa.gateway.locmem.LocmemMessage.text",
    "django_kpwa.gateway.locmem.LocmemMessage.to",
    "django_kpwa.store.results.Content.recipient_type",
    "django_kpwa.store.results.Lease.token",
}


def dataclasses_with_a_repr():
    """Those that print their fields; one that has a `__repr__` of its own says there what it prints."""
    for module in pkgutil.walk_packages(django_kpwa.__path__, "django_kpwa."):
        # The sandbox is a phone: it shows what it was sent to whoever started it.
        if any(part in module.name for part in ("__main__", ".migrations", ".sandbox")):
            continue
        for found in vars(importlib.import_module(module.name)).values():
            is_ours = isinstance(found, type) and dataclasses.is_dataclass(found) and found.__module__ == module.name
            if is_ours and hasattr(found.__repr__, "__wrapped__"):
                yield found


def test_no_dataclass_prints_a_field_that_may_hold_a_secret():
    shown = {
        f"{found.__module__}.{found.__qualname__}.{field.name}"
        for found in dataclasses_with_a_repr()
        for field in dataclasses.fields(found)
        if field.repr and field.type not in ("Secret", "bool", "int", "float") and SECRET.search(field.name)
    }
    assert shown == HARMLESS
