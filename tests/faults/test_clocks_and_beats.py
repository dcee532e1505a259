"""Rows 14 and 15: too many schedulers at once, and workers whose clocks are wrong."""

from __future__ import annotations

from collections import Counter

import pytest

from django_kpwa.models import Status

from .harness import unknown, wait_for


def test_two_beats_and_crons_over_an_expiring_lease_settle_it_once(shop):
    shop.hears = True
    for _ in range(2):
        shop.start_worker(concurrency=4, after_claim={"do": "kill", "at": 3})
    shop.start_beat()
    shop.start_beat()
    shop.send(6)
    shop.reached("after_claim")
    while shop.lane().lease_token or Status.SENDING in shop.statuses():
        crons = [shop.start_manage("kpwa", "dispatch") for _ in range(3)]
        assert [cron.process.wait(timeout=120) for cron in crons] == [0, 0, 0]
    shop.settle()
    assert shop.statuses() == {Status.SENT: 5, Status.UNKNOWN: 1}
    wait_for(lambda: "message_unknown" in {line["signal"] for line in shop.heard()}, "the news of it")
    news = Counter((line["signal"], line["about"]) for line in shop.heard())
    assert set(news.values()) == {1}
    assert news["message_unknown", str(unknown()[0].uuid)] == 1


@pytest.mark.parametrize("hours", [1, -1])
def test_a_worker_whose_clock_is_an_hour_wrong_sends_each_message_once_and_heals_what_was_lost(make_shop, hours):
    shop = make_shop(PACE_SECONDS=[0.2, 0.3])
    shop.start_worker(clock_seconds=hours * 3600, after_claim={"do": "kill", "at": 3})
    shop.start_beat()
    shop.send(8)
    shop.settle()
    assert shop.statuses() == {Status.SENT: 7, Status.UNKNOWN: 1}


@pytest.mark.slow
def test_workers_whose_clocks_disagree_by_two_hours_keep_sending(make_shop):
    shop = make_shop(PACE_SECONDS=[0.2, 0.3])
    shop.start_worker(clock_seconds=3600)
    shop.start_worker(clock_seconds=-3600)
    shop.start_beat()
    shop.send(5)
    shop.settle()
    assert shop.statuses() == {Status.SENT: 5}
