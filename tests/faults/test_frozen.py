"""Row 5: a worker is frozen past its lease and thawed again, at each moment of a send."""

from __future__ import annotations

from django_kpwa.models import Status

from .harness import LEASE_SECONDS, unknown, wait_for


def freeze_past_the_lease(shop, failpoint, *, at=3):
    """Sell six, freeze the driver at `failpoint` until others have settled its lease, and thaw it."""
    shop.start_worker(**{failpoint: {"do": "stop", "at": at}})
    shop.sell(6)
    pid = shop.reached(failpoint)
    token = shop.lane().lease_token
    shop.start_worker()
    shop.start_beat()
    wait_for(lambda: shop.lane().lease_token != token, "the lease to be settled", LEASE_SECONDS + 60)
    shop.thaw(pid)


def test_frozen_before_the_claim_the_lane_is_driven_by_another_and_each_arrives_once(shop):
    freeze_past_the_lease(shop, "before_claim", at=1)
    shop.settle()
    assert shop.statuses() == {Status.SENT: 6}
    assert shop.arrived() == 6


def test_frozen_between_claim_and_post_the_message_is_not_posted_late(shop):
    # Each message is claimed twice: before the first message to a number, the gateway is asked about it in between.
    freeze_past_the_lease(shop, "after_claim", at=4)
    shop.settle()
    wait_for(
        lambda: any("was returned to the queue" in running.output for running in shop.processes), "the thawed worker"
    )
    assert shop.arrived() == 5
    assert [message.reason for message in unknown()] == ["worker_lost"]


def test_frozen_while_the_answer_comes_its_deadline_has_passed_and_the_message_is_in_doubt(shop):
    freeze_past_the_lease(shop, "before_answer")
    shop.settle()
    assert shop.arrived() == 6
    assert shop.statuses() == {Status.SENT: 5, Status.UNKNOWN: 1}


def test_frozen_with_its_answer_the_late_record_turns_doubt_into_sent(shop):
    freeze_past_the_lease(shop, "after_post")
    wait_for(lambda: shop.statuses() == {Status.SENT: 6}, "the late answer to be recorded")
    assert shop.arrived() == 6


def test_frozen_in_the_middle_of_the_post_the_message_arrives_once_or_is_in_doubt(shop):
    freeze_past_the_lease(shop, "mid_post")
    shop.settle()
    # The body leaves too late: the phone has hung up, or accepts it anyway, and nobody waits for its answer.
    assert shop.statuses() == {Status.SENT: 5, Status.UNKNOWN: 1}
    assert shop.arrived() in (5, 6)


def test_frozen_after_the_record_the_next_message_is_not_posted_late(shop):
    freeze_past_the_lease(shop, "after_record")
    shop.settle()
    assert shop.arrived() == shop.statuses()[Status.SENT]
