"""Rows 7 to 9: a broker that refuses, goes silent, is flushed, or is killed and has lost everything."""

from __future__ import annotations

import pytest
import redis

from django_kpwa.models import Status
from tests.own_redis import OwnRedis
from tests.processes import wait_until

from .proxy import proxy_for


@pytest.fixture
def shop(make_shop):
    return make_shop(broker="redis")


@pytest.fixture
def wire(shop):
    """The proxy between the shop and its Redis."""
    with proxy_for(shop.broker_url) as proxy:
        shop.use_broker(proxy.in_front_of(shop.broker_url))
        yield proxy


@pytest.mark.parametrize("how", ["refuse", "silence"])
def test_while_the_broker_is_gone_sales_succeed_and_are_sent_once_it_is_back(shop, wire, how):
    shop.start_worker()
    shop.start_beat()
    shop.sell(3)
    shop.settle()
    getattr(wire, how)()
    shop.sell(20)
    # E: the first may take as long as the publisher's timeout; after it, no publish is tried for some seconds.
    assert sum(shop.sold.values()) < 10
    assert shop.statuses()[Status.SENT] == 3
    wire.pass_on()
    wire.cut()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 23}
    assert shop.arrived() == 23


def test_without_any_broker_cron_sends_what_was_sold(shop, wire):
    wire.refuse()
    shop.sell(5)
    dispatch = shop.start_manage("kpwa", "dispatch")
    assert dispatch.process.wait(timeout=120) == 0
    assert shop.statuses() == {Status.SENT: 5}


@pytest.mark.slow
def test_a_flushed_redis_with_a_thousand_waiting_loses_none(shop):
    shop.send(1000)
    with redis.Redis.from_url(shop.broker_url) as client:
        assert client.llen("celery") >= 1
        client.flushdb()
    worker, _beat = shop.start_worker(), shop.start_beat()
    wait_until(lambda: shop.arrived() >= 200, 120, "the first of them")
    with redis.Redis.from_url(shop.broker_url) as client:
        client.flushdb()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 1000}
    assert shop.arrived() == 1000
    assert worker.process.poll() is None


def test_a_redis_that_is_killed_with_a_thousand_waiting_loses_none(shop):
    with OwnRedis() as own:
        shop.use_broker(own.url)
        shop.start_worker()
        shop.start_beat()
        shop.send(1000)
        wait_until(lambda: shop.arrived() >= 200, 120, "the first of them")
        own.kill()
        shop.sell(5)
        own.start()
        shop.sell(5)
        shop.settle()
        assert shop.statuses() == {Status.SENT: 1010}
        assert shop.arrived() == 1010
