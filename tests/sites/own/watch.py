"""Writes to the file `WATCHED` which addresses a test run contacted, and which messages it sent in memory.

With `REACHES_OUTSIDE`, the run allows outside connections, so that there is something to record.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from django.db.models.signals import pre_save

reached: list[str] = []


def note(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        reached.append(f"{event} {arguments[1:]}")


def pytest_configure() -> None:
    sys.addaudithook(note)


def pytest_sessionfinish() -> None:
    memory = sys.modules.get("django_kpwa.gateway.locmem")
    reached.extend(f"sent {message}" for message in getattr(memory, "outbox", ()))
    Path(os.environ["WATCHED"]).write_text("\n".join(reached))


@pytest.fixture(autouse=True, scope="session")
def _reaches_outside():
    if not os.environ.get("REACHES_OUTSIDE"):
        yield
        return
    from django_kpwa.testing import reach_outside

    with reach_outside():
        yield


@pytest.fixture(autouse=True, scope="session")
def _has_a_license(django_db_setup):
    """Give each sale a license, as on the shop's server, so that queued messages could be sent and wake a worker."""
    from shop.models import Sale

    pre_save.connect(add_license, sender=Sale)
    yield
    pre_save.disconnect(add_license, sender=Sale)


def add_license(sender: object, **_: object) -> None:
    from django.apps import apps

    if apps.is_installed("django_kpwa"):
        from django_kpwa.models import License

        if not License.objects.exists():
            license_ = License(name="Toko Senja")
            license_.set_api_key("the-key-of-the-shop")
            license_.save()
