"""The default pace, 4 to 8 seconds. The other tests run without a pace."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import pairwise

import pytest

from django_kpwa import wake
from django_kpwa.conf import Settings
from django_kpwa.dispatch import drive
from django_kpwa.models import License, OutboundMessage, SendAttempt, Status
from django_kpwa.outbox import Message, send_messages
from tests.celery_app import app, configure_broker
from tests.processes import start_celery_beat, start_celery_worker, start_manage, wait_until
from tests.sandbox import SandboxProcess
from tests.servers import HAS_REDIS, broker_url

from .lanes import lane_of

pytestmark = [pytest.mark.waits, pytest.mark.django_db(transaction=True)]

SHORTEST, LONGEST = Settings.PACE_SECONDS
BROKER = "redis" if HAS_REDIS else "filesystem"
SLACK_SECONDS = 30
"""Extra time that a busy machine may need to begin a task."""


@pytest.fixture
def shops():
    """Two licenses, each with a pace of its own."""
    made = []
    for name in ("Pusat", "Cabang"):
        license_ = License(name=name)
        license_.set_api_key(f"key-of-{name}-0123456789")
        license_.save()
        made.append(license_)
    return made


@pytest.fixture
def phone(shops):
    licenses = [part for shop in shops for part in ("--license", f"{shop.name}:{shop.get_api_key().reveal()}")]
    with SandboxProcess("--linked", *licenses) as sandbox:
        yield sandbox


@pytest.fixture
def site(phone):
    """The settings in which the processes of the site differ from tests/settings.py."""
    kpwa = {"GATEWAY": "django_kpwa.gateway.http.HttpGateway", "BASE_URLS": [phone.base_url]}
    return {"kpwa": {**kpwa, "PACE_SECONDS": Settings.PACE_SECONDS}}


@pytest.fixture
def broker(tmp_path):
    """Configure the web process' Celery app, and return the options that start a worker of the same broker."""
    url = broker_url(BROKER)
    configure_broker(app, url, str(tmp_path))
    app.set_current()
    app.set_default()
    wake.publisher.broker.close()
    wake.publisher.reset()
    app.control.purge()
    yield {"broker_url": url, "broker_folder": tmp_path}
    wake.publisher.broker.close()
    app.conf.broker_url = None
    app.close()


def sell(shops, count):
    send_messages(Message(f"0812000{n:05}", f"{shop.name} {n}", license=shop) for n in range(count) for shop in shops)


def all_sent():
    return not OutboundMessage.objects.exclude(status=Status.SENT).exists()


def accepted_at(phone, shop):
    deliveries = [delivery for delivery in phone.ledger() if delivery["text"].startswith(shop.name)]
    return [datetime.fromisoformat(delivery["accepted_at"]) for delivery in deliveries]


def assert_pace(times, count):
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert len(pauses) == count - 1
    assert min(pauses) >= SHORTEST
    assert max(pauses) <= LONGEST + SLACK_SECONDS


def test_the_second_message_waits_for_the_pace_and_the_lease_is_passed_on(license_, settings):
    settings.KPWA = {name: value for name, value in settings.KPWA.items() if name != "PACE_SECONDS"}
    send_messages(Message("081234567890", text, license=license_) for text in ("a", "b"))
    driven = drive(license_.pk)
    assert driven.attempts == 1
    assert SHORTEST - 1 < driven.wait_seconds <= LONGEST
    assert lane_of(license_).lease_token == driven.lease_token
    # The worker's broker or its thread waits like this.
    time.sleep(driven.wait_seconds)
    assert drive(license_.pk, driven.lease_token).attempts == 1
    assert all_sent()
    assert_pace(list(SendAttempt.objects.order_by("pk").values_list("started_at", flat=True)), 2)


def test_one_worker_keeps_the_pace_of_each_license_and_waits_for_none(shops, phone, site, broker):
    """The worker has one thread: it could not send for the second license if it slept through the first one's wait."""
    url, folder = broker["broker_url"], broker["broker_folder"]
    with start_celery_worker(url, pool="threads", concurrency=1, broker_folder=folder, **site):
        sell(shops, 2)
        wait_until(all_sent, LONGEST + SLACK_SECONDS, "all messages to be sent")
    for shop in shops:
        assert_pace(accepted_at(phone, shop), 2)
    firsts, seconds = zip(*(accepted_at(phone, shop) for shop in shops), strict=True)
    assert max(firsts) < min(seconds)


@pytest.mark.slow
def test_kpwa_run_keeps_the_pace_of_each_license(shops, phone, site):
    with start_manage("kpwa", "run", "--threads", "1", **site):
        sell(shops, 4)
        wait_until(all_sent, 3 * LONGEST + SLACK_SECONDS, "all messages to be sent")
    for shop in shops:
        assert_pace(accepted_at(phone, shop), 4)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_pace_goes_on_where_the_worker_is_exchanged(shops, phone, site, broker, tmp_path):
    """As in a deployment, the first worker's next task is lost with it, and beat replaces the task."""
    url, folder = broker["broker_url"], broker["broker_folder"]
    with start_celery_worker(url, broker_folder=folder, **site) as first:
        sell(shops, 3)
        phone.wait_for_deliveries(2)
        assert first.stop() == 0
    with (
        start_celery_worker(url, broker_folder=folder, **site),
        start_celery_beat(url, schedule_file=tmp_path / "beat", broker_folder=folder, **site),
    ):
        wait_until(all_sent, 3 * LONGEST + SLACK_SECONDS, "all messages to be sent")
    for shop in shops:
        assert_pace(accepted_at(phone, shop), 3)
