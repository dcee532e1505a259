"""How a site sets up its workers: with their own queues, and with database connections that are kept."""

from __future__ import annotations

import re

import pytest
import redis
from celery import Celery
from django.db import connection

from django_kpwa import wake
from django_kpwa.models import OutboundMessage, Status, WebhookEvent
from django_kpwa.outbox import send_message
from django_kpwa.webhooks.arrivals import store_event
from tests.processes import site_environment, start_celery_beat, start_celery_worker, wait_until
from tests.servers import HAS_REDIS

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not HAS_REDIS, reason="workers need a broker that outlives them"),
]

NUMBER = "0812 3456 7890"
ROUTES = {
    "django_kpwa.dispatch_*": {"queue": "kpwa-messages"},
    "django_kpwa.process_*": {"queue": "kpwa-webhooks"},
    "django_kpwa.*": {"queue": "kpwa-housekeeping"},
}


@pytest.fixture
def site(redis_url):
    """The web process's Celery app: `site(task_routes=…)`."""
    made = []

    def configure(**settings):
        app = Celery("workers-tests", broker=redis_url, set_as_current=True)
        app.conf.update(settings)
        made.append(app)
        wake.publisher.reset()

    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield configure
        client.flushdb()
    wake.publisher.broker.close()
    for app in made:
        app.close()


def test_tasks_go_to_the_queues_that_the_site_routes_them_to(license_, site, redis_url):
    site(task_routes=ROUTES)
    message = send_message(NUMBER, "struk", license=license_)
    wake.publish_webhook(store_event(license_.pk, b"x", "text/plain"))
    with redis.Redis.from_url(redis_url) as client:
        assert [client.llen(queue) for queue in ("celery", "kpwa-messages", "kpwa-webhooks")] == [0, 1, 1]

    def status():
        return OutboundMessage.objects.get(pk=message.pk).status

    def event_status():
        return WebhookEvent.objects.get().status

    with start_celery_worker(redis_url, queues="kpwa-webhooks"):
        wait_until(lambda: event_status() != "pending")
    assert status() == Status.QUEUED
    with start_celery_worker(redis_url, queues="kpwa-messages"):
        wait_until(lambda: status() == Status.SENT)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL ends connections by a query")
def test_a_worker_keeps_its_connection_and_gets_over_its_loss(license_, site, tmp_path, redis_url):
    """Beat repeats the task that met the dead connection, as after a restart of the database."""
    site()
    environment = {**site_environment(broker_url=redis_url), "KPWA_TEST_KEEPS_CONNECTIONS": "yes"}

    def sent(text):
        ended = worker.output.count("dispatch_license[") // 2 + 1
        message = send_message(NUMBER, text, license=license_)
        wait_until(lambda: OutboundMessage.objects.get(pk=message.pk).status == Status.SENT)
        # First the driver looks once more, and then Celery ends the task.
        wait_until(lambda: len(re.findall(r"dispatch_license\[\S+ succeeded", worker.output)) >= ended)

    with start_celery_worker(redis_url, concurrency=1, environment=environment) as worker:
        sent("first")
        before = connections_of_workers()
        for n in range(3):
            sent(f"{n}")
        assert connections_of_workers() == before
        assert len(before) == 1
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", list(before))
        with start_celery_beat(redis_url, schedule_file=tmp_path / "beat", environment=environment):
            sent("last")


def connections_of_workers():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        return {pid for (pid,) in cursor.fetchall()}
