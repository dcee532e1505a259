"""Workers, beat and the broker are killed, each alone and all together. Whatever is still running sends an alert.

All times of this site are a tenth of the defaults, which allow two minutes.
"""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from django_kpwa import outside
from django_kpwa.alerts import compare
from django_kpwa.models import Alert, Heartbeat, Lane
from tests.own_redis import OwnRedis, needs_own_redis
from tests.processes import site_environment, start_celery_beat, start_celery_worker, start_manage, wait_until
from tests.servers import HAS_REDIS

pytestmark = [
    pytest.mark.waits,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not HAS_REDIS, reason="workers need a Redis broker"),
]

FASTER = {
    "django_kpwa.models.statistics.SILENT_SECONDS": 9.0,
    "django_kpwa.senders.SILENT_SECONDS": 9.0,
    "django_kpwa.senders.MISSED_BEAT_SECONDS": 4.5,
    "django_kpwa.senders.STARTING_SECONDS": 6.0,
    "django_kpwa.store.heartbeats.NOTE_EVERY_SECONDS": 3.0,
    "django_kpwa.tasks.NOTE_EVERY_SECONDS": 3.0,
    "django_kpwa.alerts.compare.LOOK_EVERY_SECONDS": 2.5,
    "django_kpwa.store.alerts.LOOK_EVERY_SECONDS": 2.5,
    "django_kpwa.store.alerts.FLAPPING_SECONDS": 6.0,
}
TWO_MINUTES = 120 / 10
SLACK_SECONDS = 20.0
"""Extra time for a busy machine: starting and running the processes does not take a tenth of the usual time."""


@pytest.fixture(autouse=True)
def _linked(license_):
    Lane.objects.create(license=license_, session_status="connected", session_seen_at=timezone.now())


def environment(broker_url, folder):
    kpwa = {"ALERT_EMAILS": ["owner@shop.example"], **FASTER}
    return {**site_environment(broker_url=broker_url, kpwa=kpwa), "KPWA_TEST_MAIL_FOLDER": str(folder)}


def told(folder):
    return re.findall(r"^Subject: (.*)$", "\n".join(path.read_text() for path in folder.iterdir()), re.MULTILINE)


def is_looked_after():
    """True once a sweep has run and looks have run for a while, so that alerts can tell what has stopped."""
    a_while_ago = timezone.now() - timedelta(seconds=7)
    looks = Heartbeat.objects.filter(name="alerts", since__lt=a_while_ago)
    return looks.exists() and Heartbeat.objects.filter(name="sweep").exists()


@needs_own_redis
@pytest.mark.parametrize(
    ("killed", "said"),
    [
        ("worker", "No worker"),
        pytest.param("beat", "No beat", marks=pytest.mark.slow),
        pytest.param("broker", "(No worker|Broker does not answer)", marks=pytest.mark.slow),
    ],
)
def test_what_is_left_tells_what_was_killed(tmp_path, killed, said):
    folder = tmp_path / "mail"
    folder.mkdir()
    with OwnRedis() as redis:
        site = environment(redis.url, folder)
        with (
            start_celery_worker(redis.url, environment=site) as worker,
            start_celery_beat(redis.url, schedule_file=tmp_path / "beat", environment=site) as beat,
        ):
            wait_until(is_looked_after, what="sweeps and looks")
            assert told(folder) == []
            {"worker": worker.kill_all, "beat": beat.kill_all, "broker": redis.kill}[killed]()
            wait_until(lambda: told(folder), seconds=TWO_MINUTES + SLACK_SECONDS, what="a mail")
            [subject] = told(folder)
            assert re.fullmatch(f"WhatsApp receipts: {said}", subject)


def test_a_sender_without_celery_that_was_killed_is_told_by_a_request(tmp_path, operator, kpwa, monkeypatch):
    kpwa(ALERT_EMAILS=["owner@shop.example"])
    with start_manage("kpwa", "run", environment=environment("", tmp_path)) as sender:
        wait_until(lambda: Heartbeat.objects.filter(name="sweep").exists(), what="a sweep")
        sender.kill_all()
    for path, value in FASTER.items():
        monkeypatch.setattr(path, value)
    monkeypatch.setattr(compare, "looking", outside.Gate())

    def is_told():
        operator.get("/admin/django_kpwa/dashboard/fresh/")
        return Alert.objects.filter(opened_at__isnull=False, untold="").exists()

    wait_until(is_told, every=0.5, seconds=TWO_MINUTES + SLACK_SECONDS, what="an alert")
    assert [message.subject for message in mail.outbox] == ["WhatsApp receipts: Nobody sends"]
