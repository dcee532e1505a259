"""From the outbox to the phone over each broker, with real workers, a real gateway server and real kills."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from datetime import datetime
from itertools import pairwise

import pytest
import redis

from django_kpwa import wake
from django_kpwa.models import Lane, License, OutboundMessage, Status
from django_kpwa.outbox import Message, send_messages
from tests import servers
from tests.celery_app import app, configure_broker
from tests.processes import start_celery_beat, start_celery_worker, wait_until
from tests.sandbox import SandboxProcess
from tests.servers import HAS_REDIS

# Short limits, so that the lease of a lost worker expires within a test.
IMPATIENT = {
    "CALL_DEADLINE_SECONDS": 2,
    "PROBE_SECONDS": 1,
}

pytestmark = pytest.mark.django_db(transaction=True)

_workers = [("filesystem", "threads"), pytest.param("filesystem", "prefork", marks=pytest.mark.slow)]
if HAS_REDIS:
    _workers += [("redis", "prefork"), pytest.param("redis", "threads", marks=pytest.mark.slow)]
_workers.append(pytest.param("rabbitmq", "prefork", marks=pytest.mark.rabbitmq))
every_broker = pytest.mark.parametrize(("broker", "pool"), _workers)


class Site:
    """The site under test: this process sells, and the site's workers and beats send."""

    def __init__(self, broker, folder, sandbox):
        self.broker_url = servers.broker_url(broker)
        self.folder = folder
        self.kpwa = {"GATEWAY": "django_kpwa.gateway.http.HttpGateway", "BASE_URLS": [sandbox.base_url], **IMPATIENT}
        self.sandbox = sandbox
        configure_broker(app, self.broker_url, str(folder))
        app.set_current()
        app.set_default()
        wake.publisher.broker.close()
        wake.publisher.reset()
        with contextlib.suppress(Exception):
            app.control.purge()

    def worker(self, pool="prefork"):
        return start_celery_worker(self.broker_url, pool=pool, broker_folder=self.folder, kpwa=self.kpwa)

    def beat(self):
        return start_celery_beat(
            self.broker_url, schedule_file=self.folder / "beat", broker_folder=self.folder, kpwa=self.kpwa
        )

    def close(self):
        wake.publisher.broker.close()
        app.conf.broker_url = None
        app.close()


@pytest.fixture
def sandbox():
    with SandboxProcess("--linked") as running:
        yield running


@pytest.fixture
def make_site(tmp_path, sandbox):
    with contextlib.ExitStack() as stack:

        def make(broker):
            site = Site(broker, tmp_path, sandbox)
            stack.callback(site.close)
            return site

        yield make


@pytest.fixture
def shop_license(db):
    license_ = License(name="Toko")
    license_.set_api_key(SandboxProcess.key)
    license_.save()
    return license_


def sell(license_, count):
    return send_messages(
        Message(f"0812000{n:05}", f"Struk {n}", license=license_, idempotency_key=f"sale-{n}") for n in range(count)
    )


def statuses():
    return Counter(OutboundMessage.objects.values_list("status", flat=True))


def is_settled():
    return not OutboundMessage.objects.filter(status__in=[Status.QUEUED, Status.SENDING]).exists()


def arrived(sandbox):
    return Counter(delivery["text"] for delivery in sandbox.ledger())


@every_broker
def test_every_message_arrives_once(shop_license, make_site, sandbox, broker, pool):
    site = make_site(broker)
    with site.worker(pool):
        sell(shop_license, 30)
        wait_until(is_settled, 30, "all messages to be settled")
    assert statuses() == {Status.SENT: 30}
    assert arrived(sandbox) == {f"Struk {n}": 1 for n in range(30)}


@every_broker
def test_the_pace_is_kept_by_tasks_that_pass_the_lease_on(shop_license, make_site, sandbox, broker, pool):
    License.objects.update(pace_min_seconds=0.4, pace_max_seconds=0.5)
    site = make_site(broker)
    with site.worker(pool):
        sell(shop_license, 4)
        wait_until(is_settled, 30, "all messages to be settled")
    times = [datetime.fromisoformat(delivery["accepted_at"]) for delivery in sandbox.ledger()]
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert len(pauses) == 3
    assert min(pauses) >= 0.39


@pytest.mark.slow
def test_a_killed_worker_leaves_at_most_one_message_in_doubt_and_the_rest_arrive_once(shop_license, make_site, sandbox):
    site = make_site("redis" if HAS_REDIS else "filesystem")
    sandbox.set_faults(latency={"probability": 1, "amount": 150})
    with site.beat():
        with site.worker() as worker:
            sell(shop_license, 20)
            sandbox.wait_for_deliveries(4)
            worker.kill_all()
        with site.worker():
            wait_until(is_settled, 60, "all messages to be settled")
    unknown = list(OutboundMessage.objects.filter(status=Status.UNKNOWN))
    assert len(unknown) <= 1
    assert all(message.reason == "worker_lost" for message in unknown)
    assert statuses()[Status.SENT] == 20 - len(unknown)
    counts = arrived(sandbox)
    assert set(counts.values()) == {1}
    assert {f"Struk {n}" for n in range(20)} - set(counts) <= {message.text for message in unknown}


@pytest.mark.slow
@pytest.mark.skipif(not HAS_REDIS, reason="needs Redis, which has no wheel for this Python")
def test_a_flushed_redis_loses_nothing_beat_makes_it_good(shop_license, make_site, sandbox):
    site = make_site("redis")
    sell(shop_license, 500)
    with redis.Redis.from_url(site.broker_url) as client:
        assert client.llen("celery") >= 1
        client.flushdb()
    with site.worker(), site.beat():
        wait_until(is_settled, 60, "all messages to be settled")
    assert statuses() == {Status.SENT: 500}
    assert set(arrived(sandbox).values()) == {1}


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_a_worker_told_to_stop_records_its_call_and_gives_the_lane_back(shop_license, make_site, sandbox, pool):
    site = make_site("redis" if HAS_REDIS else "filesystem")
    sandbox.set_faults(latency={"probability": 1, "amount": 400})
    with site.worker(pool) as worker:
        sell(shop_license, 10)
        sandbox.wait_for_deliveries(2)
        assert worker.stop(signal.SIGTERM) == 0
    assert Status.SENDING not in statuses()
    assert Status.UNKNOWN not in statuses()
    assert 2 <= statuses()[Status.SENT] < 10
    assert statuses()[Status.SENT] == len(sandbox.ledger())
    assert Lane.objects.get().lease_token is None
