"""Waking the workers: what is published, what is not, and what a broken broker costs a checkout."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import threading
import time

import pytest
import redis
from celery import Celery
from celery.app import app_or_default
from django.db import connection, connections, transaction
from django.utils import timezone

from django_kpwa import broker, tasks, wake
from django_kpwa.broker import Broker
from django_kpwa.dispatch import drive
from django_kpwa.models import License, OutboundMessage, Status, WebhookEvent
from django_kpwa.outbox import Message, send_message, send_messages
from django_kpwa.tasks import dispatch_due, process_due_webhooks
from django_kpwa.webhooks.arrivals import store_event
from tests.own_redis import OwnRedis, needs_own_redis
from tests.processes import start_celery_worker, wait_until
from tests.servers import HAS_REDIS
from tests.shop.models import Line, Sale
from tests.stores import take_lane

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "081234567890"
QUEUE = "kpwa-wake-tests"


@pytest.fixture
def use_broker():
    """Make a Celery app with the given broker the current one. The publisher forgets what it knew of another broker."""
    made = []

    def use(url, **settings):
        app = Celery("wake-tests", broker=url, set_as_current=True)
        app.conf.update({"task_default_queue": QUEUE, **settings})
        made.append(app)
        wake.publisher.broker.close()
        wake.publisher.reset()
        return app

    yield use
    wake.publisher.broker.close()
    for app in made:
        app.close()
    Celery("default", set_as_current=True).conf.broker_url = None


@pytest.fixture
def published(use_broker, tmp_path, request):
    """Take the queued tasks from the broker, as (name, args). Without Redis, the broker is in the file system."""
    folder = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path), "control_folder": str(tmp_path / "c")}
    if HAS_REDIS:
        app = use_broker(request.getfixturevalue("redis_url"))
    else:
        app = use_broker("filesystem://", broker_transport_options=folder)
    with app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
        queue.clear()

        def take():
            found = []
            with contextlib.suppress(queue.Empty):
                while True:
                    message = queue.get(block=False)
                    message.ack()
                    found.append((message.headers["task"], message.payload[0]))
            return found

        yield take
        queue.clear()


@contextlib.contextmanager
def silent_server():
    """Accepts connections (by the kernel's backlog) and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield listening.getsockname()[1]


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_stored_message_wakes_its_license_by_id_alone_after_the_commit(license_, published):
    with transaction.atomic():
        send_message(NUMBER, "struk")
        assert published() == []
    assert published() == [("django_kpwa.dispatch_license", [license_.pk])]


def test_a_rolled_back_message_wakes_nobody(license_, published):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        send_message(NUMBER, "struk")
        raise ZeroDivisionError
    assert published() == []
    assert not OutboundMessage.objects.exists()


def test_many_messages_of_a_license_wake_it_once(license_, published):
    send_messages(Message(NUMBER, f"{n}", license=license_) for n in range(50))
    assert len(published()) == 1


def test_a_lane_that_is_being_driven_is_not_woken(license_, published):
    drive(license_.pk)
    take_lane(license_.pk)
    send_message(NUMBER, "struk")
    assert published() == []


@pytest.mark.parametrize("names_license", [False, True], ids=["the only license", "a named license"])
def test_a_storm_for_one_license_wakes_it_once_while_nobody_has_come(license_, published, names_license):
    for n in range(30):
        send_message(NUMBER, f"{n}", license=license_ if names_license else None)
    assert len(published()) == 1


@pytest.mark.parametrize("names_license", [False, True], ids=["the only license", "a named license"])
def test_a_message_after_the_lane_was_driven_wakes_it_again(license_, published, names_license):
    for n in range(3):
        send_message(NUMBER, f"{n}", license=license_ if names_license else None)
        assert len(published()) == 1
        drive(license_.pk)


def test_licenses_wake_each_for_itself(license_, published):
    other = License(name="Cabang")
    other.set_api_key("another-key-000001")
    other.save()
    for row in (license_, other, license_, other):
        send_message(NUMBER, "struk", license=row)
    assert sorted(published()) == [("django_kpwa.dispatch_license", [row.pk]) for row in (license_, other)]


@pytest.fixture
def clock(monkeypatch):
    """The publisher's clock. Tests move `clock.seconds`."""

    class Clock:
        seconds = 1000.0

        def __call__(self):
            return self.seconds

    clock = Clock()
    monkeypatch.setattr(wake.publisher, "clock", clock)
    monkeypatch.setattr(wake.publisher.broker, "clock", clock)
    return clock


def test_a_wake_up_that_nobody_has_answered_for_seconds_is_published_again(license_, published, clock):
    send_message(NUMBER, "first")
    send_message(NUMBER, "second")
    assert len(published()) == 1
    clock.seconds += wake.Publisher.ON_ITS_WAY_SECONDS
    send_message(NUMBER, "third")
    assert len(published()) == 1


def test_a_wake_up_that_the_broker_did_not_take_is_not_on_its_way(license_, use_broker, published, clock):
    app = app_or_default()
    use_broker(f"redis://127.0.0.1:{closed_port()}/0")
    send_message(NUMBER, "first")
    clock.seconds += Broker.QUIET_AFTER_FAILURE_SECONDS
    app.set_current()
    send_message(NUMBER, "second")
    assert len(published()) == 1


def test_a_message_for_later_wakes_by_itself_and_hides_no_other(license_, published):
    wake.wake_license(license_.pk, countdown_seconds=5)
    send_message(NUMBER, "now")
    wake.wake_license(license_.pk, countdown_seconds=5)
    assert len(published()) == 3


def test_a_message_to_a_license_whose_lease_has_run_out_wakes_it(license_, published):
    drive(license_.pk)
    take_lane(license_.pk, -1)
    send_message(NUMBER, "struk")
    assert len(published()) == 1


def test_where_nothing_can_be_published_the_lane_is_not_looked_at(license_, use_broker, django_assert_num_queries):
    use_broker("memory://", task_always_eager=True)
    with django_assert_num_queries(0):
        wake.wake_license(license_.pk)


def test_what_is_on_its_way_is_forgotten_by_a_child_and_bounded(published, monkeypatch):
    monkeypatch.setattr(wake.publisher, "MAX_REMEMBERED", 3)
    publisher, before = wake.publisher, timezone.now()
    licenses = License.objects.bulk_create(License(name=f"{n}", api_key_ciphertext="x") for n in range(4))
    for row in licenses:
        wake.wake_license(row.pk)
    assert [publisher.on_its_way_since(row.pk) is not None for row in licenses] == [False, True, True, True]
    assert publisher.on_its_way_since(licenses[3].pk) >= before
    child = os.fork()
    if not child:
        os._exit(publisher.on_its_way_since(licenses[3].pk) is not None)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not HAS_REDIS or connection.vendor == "sqlite", reason="a worker beside threads that store")
def test_no_message_of_several_senders_is_left_behind_by_a_worker_that_comes_and_goes(license_, use_broker, redis_url):
    """Without beat, which would repair a wrong guess. The worker can finish between any two messages."""
    app = use_broker(redis_url, task_default_queue="celery")

    def send(seed):
        app.set_current()
        drawn = random.Random(seed)
        try:
            for n in range(60):
                time.sleep(drawn.choice([0, 0.001, 0.005, 0.02, 0.05]))
                send_message(NUMBER, f"{n}", license=license_)
        finally:
            connections.close_all()

    with start_celery_worker(redis_url, pool="threads"):
        threads = [threading.Thread(target=send, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Nothing is published any more, so a message left behind would wait for ever.
        wait_until(lambda: not OutboundMessage.objects.exclude(status=Status.SENT).exists())
        assert OutboundMessage.objects.count() == 180


def test_a_single_webhook_is_processed_at_once_and_a_burst_of_them_by_one_task(published, clock):
    at_once = lambda event_id: ("django_kpwa.process_webhook", [event_id])  # noqa: E731
    together = ("django_kpwa.process_due_webhooks", [])
    wake.publish_webhook(1)
    assert published() == [at_once(1)]
    for event_id in range(2, 9):
        wake.publish_webhook(event_id)
    assert published() == [together]
    clock.seconds += wake.Publisher.WEBHOOKS_TOGETHER_SECONDS
    # That task has started and may have missed the new event.
    wake.publish_webhook(9)
    assert published() == [together]
    clock.seconds += 2 * wake.Publisher.WEBHOOKS_TOGETHER_SECONDS
    wake.publish_webhook(10)
    assert published() == [at_once(10)]


@pytest.mark.skipif(not HAS_REDIS, reason="a worker needs a broker that outlives it")
def test_every_webhook_of_a_burst_is_processed_without_beat(license_, use_broker, redis_url):
    use_broker(redis_url, task_default_queue="celery")
    drawn = random.Random(5)
    with start_celery_worker(redis_url, pool="threads"):
        for n in range(100):
            event_id = store_event(license_.pk, b'{"id": "%d", "status": "sent"}' % n, "application/json")
            wake.publish_webhook(event_id)
            time.sleep(drawn.choice([0, 0.001, 0.02, 0.1]))
        wait_until(lambda: not WebhookEvent.objects.filter(status="pending").exists(), seconds=5)
    assert WebhookEvent.objects.count() == 100


def test_a_task_that_processes_webhooks_ends_with_its_slice_and_another_goes_on(license_, published):
    store_event(license_.pk, b"x", "text/plain")
    process_due_webhooks(slice_seconds=0.0)
    assert published() == [("django_kpwa.process_due_webhooks", [])]
    assert WebhookEvent.objects.filter(status="pending").count() == 1
    process_due_webhooks()
    assert published() == []
    assert not WebhookEvent.objects.filter(status="pending").exists()


@pytest.mark.skipif(not HAS_REDIS, reason="a worker needs a broker that outlives it")
def test_after_a_storm_the_first_worker_finds_one_task_and_sends_everything(license_, use_broker, redis_url):
    use_broker(redis_url, task_default_queue="celery")
    for n in range(100):
        send_message(NUMBER, f"{n}", license=license_)
    with start_celery_worker(redis_url) as worker:
        wait_until(lambda: OutboundMessage.objects.filter(status=Status.SENT).count() == 100)
        assert worker.output.count("Task django_kpwa.dispatch_license") <= 4  # two lines each: received, succeeded


@needs_own_redis
def test_a_connection_is_kept_between_wake_ups(license_, use_broker):
    # Redis counts the connections of all its clients, and the Redis of this run has others.
    with OwnRedis() as own, redis.Redis.from_url(own.url) as client:
        use_broker(own.url)
        send_message(NUMBER, "first")
        before = client.info("stats")["total_connections_received"]
        for n in range(5):
            send_message(NUMBER, f"{n}")
        assert client.info("stats")["total_connections_received"] == before


def test_a_broker_whose_client_is_not_installed_says_so_and_loses_nothing(license_, use_broker, caplog):
    use_broker("sqs://")
    with caplog.at_level(logging.WARNING, "django_kpwa"):
        message = send_message(NUMBER, "struk")
    assert OutboundMessage.objects.get(pk=message.pk).status == Status.QUEUED
    assert "its client is not installed" in caplog.text


def test_a_broker_that_refuses_costs_a_checkout_nothing_and_loses_nothing(license_, use_broker, caplog):
    use_broker(f"redis://:hunter2@127.0.0.1:{closed_port()}/0")
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, "django_kpwa"):
        message = send_message(NUMBER, "struk")
    assert time.monotonic() - started < 0.5
    assert OutboundMessage.objects.get(pk=message.pk).status == Status.QUEUED
    assert "Could not publish" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_silent_broker_costs_less_than_half_a_second_once_and_then_nothing(license_, use_broker, scheme):
    with silent_server() as port:
        use_broker(f"{scheme}://127.0.0.1:{port}//")
        started = time.monotonic()
        send_message(NUMBER, "first")
        first = time.monotonic() - started
        for n in range(20):
            send_message(NUMBER, f"{n}")
        others = time.monotonic() - started - first
    assert first < 0.8
    assert others < 0.8
    assert OutboundMessage.objects.count() == 21


def several(form, urls):
    return list(urls) if form == "list" else ";".join(urls)


@pytest.mark.skipif(not HAS_REDIS, reason="the second broker is a Redis; there is no wheel of it for this Python")
@pytest.mark.parametrize("form", ["list", "semicolon"])
@pytest.mark.parametrize("strategy", ["round-robin", "shuffle", iter], ids=["round-robin", "shuffle", "own"])
@pytest.mark.parametrize("is_silent", [False, True], ids=["refused", "silent"])
@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_where_the_first_broker_is_down_the_second_is_used_from_then_on(
    license_, use_broker, form, strategy, is_silent, scheme, redis_url
):
    with silent_server() if is_silent else contextlib.nullcontext(closed_port()) as port:
        app = use_broker(several(form, [f"{scheme}://127.0.0.1:{port}/", redis_url]), broker_failover_strategy=strategy)
        started = time.monotonic()
        assert wake.publish_dispatch(license_.pk)
        assert time.monotonic() - started < 0.8
        started = time.monotonic()
        for _ in range(5):
            assert wake.publish_dispatch(license_.pk)
        assert time.monotonic() - started < 0.25
    with app.connection_for_read(redis_url) as connection, connection.SimpleQueue(QUEUE) as queue:
        assert queue.qsize() == 6
        queue.clear()


@pytest.mark.parametrize("form", ["list", "semicolon"])
@pytest.mark.parametrize(("scheme", "count"), [("redis", 2), ("amqp", 2), ("sentinel", 2), ("redis", 12)])
def test_silent_brokers_cost_a_sale_about_a_second_together_and_the_next_ones_nothing(
    license_, use_broker, form, scheme, count
):
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(silent_server()) for _ in range(count)]
        use_broker(
            several(form, [f"{scheme}://127.0.0.1:{port}/" for port in ports]),
            broker_transport_options={"master_name": "m", "sentinel_kwargs": {"password": "x"}}
            if scheme == "sentinel"
            else {},
        )
        started = time.monotonic()
        send_message(NUMBER, "first")
        assert time.monotonic() - started < 1.8
        started = time.monotonic()
        send_message(NUMBER, "second")
        assert time.monotonic() - started < 0.3


@pytest.mark.rabbitmq
@pytest.mark.parametrize("form", ["list", "semicolon"])
@pytest.mark.parametrize("is_silent", [False, True], ids=["refused", "silent"])
def test_a_second_rabbitmq_takes_the_task_where_the_first_is_down(license_, use_broker, form, is_silent):
    with silent_server() if is_silent else contextlib.nullcontext(closed_port()) as port:
        use_broker(several(form, [f"amqp://127.0.0.1:{port}//", os.environ["RABBITMQ_URL"]]))
        started = time.monotonic()
        assert wake.publish_dispatch(license_.pk)
        assert time.monotonic() - started < 1.2


@pytest.mark.parametrize("is_silent", [False, True], ids=["refused", "silent"])
def test_a_paid_sale_takes_hardly_longer_while_the_broker_is_down(license_, use_broker, is_silent):
    def seconds_for_a_sale():
        started = time.monotonic()
        with transaction.atomic():
            sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone=NUMBER)
            Line.objects.create(sale=sale, name="Kopi", price=18_000)
        return time.monotonic() - started

    use_broker(None)
    usual = seconds_for_a_sale()
    with silent_server() if is_silent else contextlib.nullcontext(closed_port()) as port:
        use_broker(f"redis://127.0.0.1:{port}/0")
        while_down = seconds_for_a_sale()
    assert while_down - usual < 0.5
    assert Sale.objects.count() == OutboundMessage.objects.filter(status=Status.QUEUED).count() == 2


def test_a_broker_that_comes_back_is_used_again(license_, use_broker, clock):
    use_broker(f"redis://127.0.0.1:{closed_port()}/0")
    assert not wake.publish_dispatch(license_.pk)
    assert not wake.publisher.broker.can_publish()
    clock.seconds += Broker.QUIET_AFTER_FAILURE_SECONDS
    assert wake.publisher.broker.can_publish()


def test_without_a_configured_broker_nothing_is_tried(license_, use_broker, monkeypatch):
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    use_broker(None)
    assert not broker.is_configured()
    started = time.monotonic()
    send_message(NUMBER, "struk")
    assert time.monotonic() - started < 0.3


def test_eager_tasks_are_not_run_inside_a_checkout(license_, use_broker):
    use_broker("memory://", task_always_eager=True)
    message = send_message(NUMBER, "struk")
    message.refresh_from_db()
    assert message.status == Status.QUEUED


def test_beat_itself_sends_where_no_task_goes_to_a_worker(license_, use_broker):
    use_broker("memory://", task_always_eager=True)
    message = send_message(NUMBER, "struk")
    tasks.dispatch_due.delay()
    message.refresh_from_db()
    assert message.status == Status.SENT


def test_a_sweep_has_webhooks_processed_that_are_due(license_, published):
    dispatch_due()
    assert published() == []
    store_event(license_.pk, b"x", "text/plain")
    dispatch_due()
    assert published() == [("django_kpwa.process_due_webhooks", [])]


def test_a_sweep_processes_webhooks_itself_where_tasks_run_at_once(license_, use_broker):
    use_broker("memory://", task_always_eager=True)
    store_event(license_.pk, b"x", "text/plain")
    dispatch_due()
    assert not WebhookEvent.objects.filter(status="pending").exists()
