"""Rows 1 to 4: a worker is killed, at each moment of a send."""

from __future__ import annotations

import pytest

from django_kpwa.models import Status

from .harness import in_doubt_because, unknown


def sell_through_a_kill(shop, failpoint, *, do="kill", at=3):
    """Sell six, kill the worker as its third send reaches `failpoint`, and wait until everything is settled."""
    shop.start_worker(**{failpoint: {"do": do, "at": at}})
    shop.start_beat()
    shop.sell(6)
    shop.reached(failpoint)
    if do == "kill_all":
        shop.start_worker()
    shop.settle()


def test_killed_before_the_claim_the_message_waits_and_is_sent_once(shop):
    sell_through_a_kill(shop, "before_claim", at=1)
    assert shop.statuses() == {Status.SENT: 6}
    assert shop.arrived() == 6


@pytest.mark.parametrize("do", ["kill", pytest.param("kill_all", marks=pytest.mark.slow)])
def test_killed_between_claim_and_post_the_message_is_in_doubt_and_never_sent_by_itself(shop, do):
    sell_through_a_kill(shop, "after_claim", do=do)
    assert shop.statuses() == {Status.SENT: 5, Status.UNKNOWN: 1}
    assert unknown()[0].reason == "worker_lost"
    assert shop.arrived() == 5


def test_killed_in_the_middle_of_the_post_the_message_is_in_doubt(shop):
    sell_through_a_kill(shop, "mid_post")
    assert shop.statuses() == {Status.SENT: 5, Status.UNKNOWN: 1}
    assert in_doubt_because("worker_lost") == 1
    assert shop.arrived() == 5


def test_killed_while_the_answer_comes_the_message_is_in_doubt_though_it_arrived(shop):
    sell_through_a_kill(shop, "before_answer")
    assert shop.statuses() == {Status.SENT: 5, Status.UNKNOWN: 1}
    assert shop.arrived() == 6


def test_killed_after_the_record_the_next_message_alone_may_be_in_doubt(shop):
    sell_through_a_kill(shop, "after_record")
    assert shop.statuses() in ({Status.SENT: 6}, {Status.SENT: 5, Status.UNKNOWN: 1})
    assert shop.arrived() >= 5
