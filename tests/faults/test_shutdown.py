"""Row 6: a worker is told to stop in the middle of a POST."""

from __future__ import annotations

import signal

import pytest

from django_kpwa.models import Status


@pytest.fixture
def slow_phone(phone):
    """Answers are slow, so that a worker is told to stop in the middle of one."""
    phone.set_faults(latency={"probability": 1, "amount": 600, "operation": "sends"})
    return phone


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_on_sigterm_the_call_is_finished_and_the_next_worker_goes_on(shop, slow_phone, pool):
    worker = shop.start_worker(pool)
    shop.sell(6)
    slow_phone.wait_for_deliveries(2, 60)
    assert worker.stop(signal.SIGTERM) == 0
    assert Status.SENDING not in shop.statuses()
    assert shop.lane().lease_token is None
    assert shop.arrived() == shop.statuses()[Status.SENT] < 6
    shop.start_worker(pool)
    shop.start_beat()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 6}


def test_in_celerys_soft_shutdown_the_call_is_finished(shop, slow_phone, monkeypatch):
    monkeypatch.setenv("KPWA_TEST_SOFT_SHUTDOWN_SECONDS", "8")
    worker = shop.start_worker()
    shop.sell(6)
    slow_phone.wait_for_deliveries(2, 60)
    # SIGQUIT begins Celery's soft shutdown if a timeout for it is set: it waits, then ends cold.
    worker.stop(signal.SIGQUIT)
    assert Status.SENDING not in shop.statuses()
    assert shop.arrived() == shop.statuses()[Status.SENT]
    shop.start_worker()
    shop.start_beat()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 6}


@pytest.mark.slow
def test_in_a_cold_shutdown_at_most_the_message_in_flight_is_in_doubt(shop, slow_phone):
    worker = shop.start_worker()
    shop.sell(6)
    slow_phone.wait_for_deliveries(2, 60)
    worker.stop(signal.SIGQUIT)
    shop.start_worker()
    shop.start_beat()
    shop.settle()
    assert shop.statuses().get(Status.UNKNOWN, 0) <= 1


def test_a_time_limit_in_the_middle_of_a_call_leaves_that_message_in_doubt_and_the_rest_goes_out(shop):
    shop.start_worker(before_answer={"do": "run_out_of_time", "at": 3})
    shop.start_beat()
    shop.sell(6)
    shop.settle()
    assert shop.statuses() == {Status.SENT: 5, Status.UNKNOWN: 1}
    assert shop.arrived() == 6
