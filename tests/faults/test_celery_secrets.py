"""All data that Celery gets, at its most verbose: bytes through Redis, events, arguments, DEBUG logs."""

from __future__ import annotations

import base64
import binascii
import os
import re
import threading

import pytest
import redis
from django.test import Client
from django.urls import reverse

from django_kpwa import outbox, wake
from django_kpwa.dispatch import drive
from django_kpwa.models import License, OutboundMessage, Status, WebhookEvent
from tests import processes
from tests.celery_app import app, configure_broker
from tests.faults.webhooks import new_token
from tests.integration.test_secrets import EVENT, KEY, NUMBER, TOKEN, TYPED, leaks
from tests.processes import site_environment, start_celery_beat, wait_until
from tests.shop.models import Sale

pytestmark = pytest.mark.django_db(transaction=True)

CARELESS = {
    "GATEWAY": "tests.integration.careless.UnopenableGateway",
    "WEBHOOK_PARSER": "tests.integration.careless.RaisingParser",
    "RENDER_DELAY_SECONDS": 0,
}


class Overheard(threading.Thread):
    """Every command that this Redis receives, from its own MONITOR."""

    def __init__(self, url):
        super().__init__(daemon=True)
        # redis-py stops listening after five quiet seconds.
        self._client = redis.Redis.from_url(url, socket_timeout=None)
        self._told = []
        self._monitor = self._client.monitor()
        self._monitor.__enter__()

    def run(self):
        try:
            for command in self._monitor.listen():
                self._told.append(command["command"])
        except (redis.exceptions.RedisError, OSError, ValueError, AttributeError):
            pass  # closed at the end

    def text(self):
        """The commands, and the base64 data in them, decoded: Celery packs tasks in it."""
        told = "\n".join(self._told)
        return told + "\n".join(_unpacked(told))

    def close(self):
        self._monitor.connection.disconnect()
        self.join(10)
        self._client.close()


def _unpacked(text):
    for packed in re.findall(r"[A-Za-z0-9+/]{24,}={0,2}", text):
        try:
            yield base64.b64decode(packed, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue


@pytest.fixture
def overheard(redis_url):
    listening = Overheard(redis_url)
    listening.start()
    yield listening
    listening.close()


@pytest.fixture
def broker(redis_url):
    configure_broker(app, redis_url)
    app.conf.task_send_sent_event = True
    app.set_current()
    app.set_default()
    wake.publisher.reset()
    app.control.purge()
    yield
    wake.publisher.broker.close()
    wake.publisher.reset()
    app.conf.task_send_sent_event = False
    configure_broker(app, os.environ.get("CELERY_BROKER_URL", ""))


@pytest.fixture
def canary_license(db):
    row = License(name="Toko Utama")
    row.set_api_key(KEY)
    row.save()
    new_token(row, TOKEN)
    return row


def talkative_worker(environment):
    command = [*processes._celery("worker"), "--pool", "prefork", "--concurrency", "2", "--loglevel", "DEBUG", "-E"]
    return processes._running(command, environment)


def test_celery_learns_ids_and_nothing_else(canary_license, broker, overheard, tmp_path, redis_url):
    environment = site_environment(broker_url=redis_url, kpwa=CARELESS)
    schedule = {"schedule_file": tmp_path / "schedule", "environment": environment}
    with talkative_worker(environment) as worker, start_celery_beat(redis_url, **schedule) as beat:
        worker.wait_for_output(" ready.")
        outbox.send_message(TYPED, f"Struk {NUMBER}", license=canary_license)
        Sale.objects.create(status=Sale.Status.PAID, customer_phone=TYPED)
        Client().post(reverse("django_kpwa:webhook", args=[TOKEN]), EVENT, content_type="application/json")
        worker.wait_for_output("TaskFailedError")
        worker.wait_for_output("could not be parsed")
        asked = app.control.inspect(timeout=5)
        told = [asked.active(), asked.reserved(), asked.scheduled(), asked.conf(), asked.stats()]
        wait_until(lambda: "task-failed" in overheard.text(), seconds=60, what="the worker's events")
        wait_until(lambda: beat.output.count("dispatch_due") >= 2, what="the beat")
    heard = overheard.text()
    for sign in ("task-sent", "task-received", "task-failed", "django_kpwa.dispatch_license", "process_webhook"):
        assert sign in heard, f"MONITOR did not show it: {sign}"
    assert leaks(heard, worker.output, beat.output, *told) == []


def test_a_tasks_arguments_are_numbers_of_rows(canary_license, broker):
    sent = []
    original = app.send_task
    app.send_task = lambda name, arguments=(), **options: (
        sent.append((name, arguments)) or original(name, arguments, **options)
    )
    try:
        outbox.send_message(TYPED, f"Struk {NUMBER}", license=canary_license)
        Client().post(reverse("django_kpwa:webhook", args=[TOKEN]), EVENT, content_type="application/json")
        drive(canary_license.pk)
    finally:
        del app.send_task
    assert OutboundMessage.objects.get().status == Status.SENT
    assert dict(sent) == {
        "django_kpwa.dispatch_license": (canary_license.pk,),
        "django_kpwa.process_webhook": (WebhookEvent.objects.get().pk,),
    }
