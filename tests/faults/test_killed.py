"""Rows 1 to 4: a worker is killed, at each moment of a send."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from django_kpwa.models import DatabaseNow, Lane, License, OutboundMessage, Recipient, SendAttempt, Status, in_seconds
from django_kpwa.store import store

from .harness import in_doubt_because, unknown


def sell_through_a_kill(shop, failpoint, *, do="kill", at=3):
    """Sell six, kill the worker when its third send reaches `failpoint`, and wait until everything is settled."""
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


def restricted(shop):
    store().ensure_lane(shop.license.pk)
    found = {"restriction_step": 1, "restricted_at": DatabaseNow(), "restriction_words": "463"}
    Lane.objects.update(**found, restricted_until=in_seconds(3600))


def limited(shop):
    License.objects.update(in_use_since=timezone.localdate(), cold_limit=2)


def let_its_time_come():
    Lane.objects.update(cold_day=timezone.localdate() - timedelta(days=1))
    Lane.objects.exclude(restricted_until=None).update(restricted_until=DatabaseNow())
    held().update(due_at=DatabaseNow())


def held():
    return OutboundMessage.objects.put_off()


@pytest.mark.parametrize(("hold", "sent", "at"), [(restricted, 0, 2), (limited, 2, 3)])
def test_killed_between_claim_and_hold_one_is_in_doubt_and_the_hold_of_the_others_ends(shop, hold, sent, at):
    hold(shop)
    shop.send(5)
    shop.start_worker(after_claim={"do": "kill", "at": at})
    shop.start_beat()
    shop.reached("after_claim")
    shop.settle()
    assert held().count() == 4 - sent
    assert shop.statuses() == {Status.QUEUED: 4 - sent, Status.UNKNOWN: 1} | ({Status.SENT: sent} if sent else {})
    assert shop.arrived() == sent
    let_its_time_come()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 4, Status.UNKNOWN: 1}
    assert shop.arrived() == 4


def test_killed_in_the_try_of_a_restricted_number_no_other_is_made(shop):
    restricted(shop)
    Lane.objects.update(restricted_until=DatabaseNow())
    shop.send(3)
    shop.start_worker(mid_post={"do": "kill", "at": 1})
    shop.start_beat()
    shop.reached("mid_post")
    shop.settle()
    assert held().count() == 2
    assert shop.statuses() == {Status.QUEUED: 2, Status.UNKNOWN: 1}
    assert Lane.objects.filter(restricted_until__gt=in_seconds(80_000)).exists()
    let_its_time_come()
    shop.settle()
    assert shop.statuses() == {Status.SENT: 2, Status.UNKNOWN: 1}
    assert shop.arrived() == 2


# Each moment with one of the two answers, because the worker's progress up to then is the same with both.
MOMENTS = [
    ("before_claim", "restricted_400"),
    ("after_claim", "restricted_500"),
    ("mid_post", "restricted_400"),
    ("before_answer", "restricted_500"),
    ("after_post", "restricted_400"),
    ("after_record", "restricted_500"),
]


@pytest.mark.parametrize(
    ("moment", "fault"), [pytest.param(*each, marks=pytest.mark.slow) for each in MOMENTS[:-1]] + MOMENTS[-1:]
)
def test_killed_where_whatsapp_restricts_the_number_few_new_customers_are_written_to(shop, phone, moment, fault):
    phone.set_faults(**{fault: {"amount": 4}})
    for number in [f"62813{n:07}" for n in range(0, 24, 3)]:
        phone.answer("Halo", chat=number)
        Recipient.objects.create(license=shop.license, number=number, last_inbound_at=DatabaseNow())
    messages = shop.send(24)
    known, new = messages[::3], [message for n, message in enumerate(messages) if n % 3]
    # The fourth new customer, in the sixth message, is the first to be rejected.
    shop.start_worker(**{moment: {"do": "kill", "at": 1 if moment == "before_claim" else 6}})
    shop.start_beat()
    shop.reached(moment)
    shop.settle()
    assert set(statuses_of(known)) <= {Status.SENT, Status.UNKNOWN}
    assert statuses_of(messages).count(Status.UNKNOWN) <= 1
    turned_down = [entry for entry in phone.log() if entry["operation"] == "message" and entry["status"] != 200]
    assert len(turned_down) <= 3
    assert Lane.objects.exclude(restricted_until=None).exists()
    assert {*held().values_list("reason", flat=True)} == {"restricted"}
    phone.clear_faults()
    let_its_time_come()
    SendAttempt.objects.update(started_at=in_seconds(-90_000))
    shop.settle()
    assert {*statuses_of(new)} <= {Status.SENT, Status.UNKNOWN}
    assert not held().exists()
    arrived = [entry["recipient"] for entry in phone.ledger()]
    assert len(arrived) == len({*arrived}) >= 23


def statuses_of(messages):
    found = dict(OutboundMessage.objects.values_list("pk", "status"))
    return [found[message.pk] for message in messages]
