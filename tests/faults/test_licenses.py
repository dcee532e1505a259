"""Rows 23 to 26: a revoked key, refused numbers, doubt and its resends, and a phone that is logged out."""

from __future__ import annotations

import pytest

from django_kpwa import license_actions, outbox
from django_kpwa.gateway.outcome import OutcomeKind
from django_kpwa.models import DatabaseNow, Lane, OutboundMessage, PauseReason, Recipient, SendAttempt, Status

from .harness import KEY, is_paused, wait_for


def alerts(shop):
    return sum(running.output.count("stopped sending") for running in shop.processes)


def wait_for_beats(beat, count):
    before = beat.output.count("kpwa-dispatch-due")
    wait_for(lambda: beat.output.count("kpwa-dispatch-due") >= before + count, f"{count} beats")


def attempts(outcome):
    return SendAttempt.objects.filter(outcome=outcome).count()


def status_of(message):
    return OutboundMessage.objects.get(pk=message.pk).status


def test_a_key_revoked_in_the_middle_of_five_hundred_alerts_once_and_all_go_out_once_it_is_replaced(shop, phone):
    shop.send(500)
    shop.start_worker()
    beat = shop.start_beat()
    phone.wait_for_deliveries(100, 120)
    phone.set_faults(revoked_key={"probability": 1})
    wait_for(lambda: is_paused(PauseReason.UNAUTHORIZED), "the pause")
    wait_for_beats(beat, 4)
    arrived = shop.arrived()
    assert attempts(OutcomeKind.LICENSE_REFUSED) == 1
    assert alerts(shop) == 1
    assert shop.statuses() == {Status.SENT: arrived, Status.QUEUED: 500 - arrived}
    phone.clear_faults()
    wait_for_beats(beat, 2)
    assert shop.arrived() == arrived
    shop.license.set_api_key(KEY)
    shop.license.save()
    wait_for(lambda: not is_paused(PauseReason.UNAUTHORIZED), "the new key to be tried")
    shop.settle()
    assert shop.statuses() == {Status.SENT: 500}
    assert shop.arrived() == 500


def test_a_refused_number_fails_at_once_after_the_status_was_asked_and_holds_up_nobody(shop, phone):
    phone.set_registered("628130000001", False)
    # A number that once had WhatsApp: the gateway is not asked about it again.
    Recipient.objects.create(license=shop.license, number="628130000001", first_sent_at=DatabaseNow())
    shop.start_worker()
    shop.start_beat()
    messages = shop.send(3)
    shop.settle()
    assert [status_of(message) for message in messages] == [Status.SENT, Status.FAILED, Status.SENT]
    requests = [(entry["operation"], entry["status"]) for entry in phone.log()]
    at = requests.index(("message", 400))
    assert requests[at + 1] == ("status", 200)
    assert requests.count(("message", 400)) == 1


def test_numbers_without_whatsapp_fail_after_the_second_look_and_hold_up_nobody(shop, phone):
    without = [f"628130000{n:03}" for n in (1, 4)]
    for number in without:
        phone.set_registered(number, False)
    phone.set_faults(check_no_once=0.3)
    shop.start_worker()
    shop.start_beat()
    messages = shop.send(8)
    wait_for(lambda: shop.statuses() == {Status.SENT: 6, Status.FAILED: 2}, "all to be settled")
    failed = [message.recipient for message in messages if status_of(message) == Status.FAILED]
    assert failed == without
    assert not SendAttempt.objects.filter(message__recipient__in=without).exists(), "no send was attempted"
    asked = [entry["operation"] for entry in phone.log()].count("check-number")
    assert 8 + 2 <= asked <= 8 * 2
    assert Lane.objects.get(pk=shop.license.pk).checked_today == asked


@pytest.mark.parametrize(("fault", "status"), [("restricted_400", 400), ("restricted_500", 500)])
def test_a_restriction_leaves_no_doubt_and_what_is_warm_goes_out(shop, phone, fault, status):
    phone.set_faults(**{fault: {"amount": 3}})
    for n in (4, 5):
        phone.answer("Terima kasih", chat=f"62813{n:07}")
        Recipient.objects.create(license=shop.license, number=f"62813{n:07}", last_inbound_at=DatabaseNow())
    shop.start_worker()
    beat = shop.start_beat()
    messages = shop.send(6)
    wait_for(lambda: status_of(messages[-1]) == Status.SENT, "the warm messages")
    wait_for_beats(beat, 3)
    assert [status_of(message) for message in messages] == [Status.SENT] * 2 + [Status.QUEUED] * 2 + [Status.SENT] * 2
    assert set(OutboundMessage.objects.filter(status=Status.QUEUED).values_list("reason", "attempts_spent")) == {
        ("restricted", 0)
    }
    assert not attempts(OutcomeKind.IN_DOUBT)
    assert [entry["status"] for entry in phone.log() if entry["operation"] == "message"].count(status) == 1
    phone.clear_faults()
    assert license_actions.end_restriction(shop.license)
    shop.settle()
    assert shop.statuses() == {Status.SENT: 6}


@pytest.fixture
def in_doubt(shop, phone):
    """A message that arrived but whose answer did not. Its worker and beat are running."""
    phone.set_faults(stall_after={"count": 1, "operation": "sends", "amount": 30})
    shop.start_worker()
    shop.start_beat()
    [message] = shop.send(1)
    shop.settle()
    assert status_of(message) == Status.UNKNOWN
    assert shop.arrived() == 1
    return message


def test_doubt_whose_resend_is_refused_stays_doubt(shop, phone, in_doubt):
    phone.set_registered(in_doubt.recipient, False)
    shop.resend(in_doubt)
    wait_for(lambda: attempts(OutcomeKind.REFUSED), "the refusal")
    shop.settle()
    assert status_of(in_doubt) == Status.UNKNOWN


def test_doubt_whose_resend_expires_stays_doubt(shop, in_doubt):
    license_actions.pause(shop.license)
    shop.resend(in_doubt)
    OutboundMessage.objects.update(expires_at=DatabaseNow())
    wait_for(lambda: status_of(in_doubt) == Status.UNKNOWN, "the expiry")
    license_actions.resume(shop.license)
    shop.settle()
    assert status_of(in_doubt) == Status.UNKNOWN
    assert shop.arrived() == 1


def test_doubt_whose_resend_is_cancelled_stays_doubt(shop, in_doubt):
    license_actions.pause(shop.license)
    shop.resend(in_doubt)
    assert outbox.cancel(in_doubt)
    license_actions.resume(shop.license)
    shop.settle()
    assert status_of(in_doubt) == Status.UNKNOWN
    assert shop.arrived() == 1


def echo(message, delivery):
    """The echo of the message, as the gateway may post it when the phone has sent it."""
    return {"id": delivery["id"], "phone": message.recipient, "message": message.text, "isFromMe": True}


def test_proof_of_the_first_attempt_while_the_second_waits_makes_it_sent_and_withdraws_the_resend(shop, in_doubt):
    license_actions.pause(shop.license)
    shop.resend(in_doubt)
    assert shop.post_webhook(echo(in_doubt, shop.phone.ledger()[0])) == 200
    wait_for(lambda: status_of(in_doubt) == Status.SENT, "the proof to be read")
    license_actions.resume(shop.license)
    shop.settle()
    assert shop.arrived() == 1


def test_proof_of_the_first_attempt_while_the_second_is_in_flight_makes_it_sent_whatever_the_second_says(
    shop, phone, in_doubt
):
    phone.set_faults(latency={"amount": 1200, "operation": "sends"}, error_500={"count": 1, "operation": "sends"})
    shop.resend(in_doubt)
    wait_for(lambda: status_of(in_doubt) == Status.SENDING, "the resend to be in flight")
    assert shop.post_webhook(echo(in_doubt, phone.ledger()[0])) == 200
    wait_for(lambda: status_of(in_doubt) == Status.SENT, "the proof to be recorded")
    shop.settle()
    assert shop.arrived() == 1


@pytest.mark.parametrize("unlinked_status", [400, pytest.param(500, marks=pytest.mark.slow)])
def test_a_phone_logged_out_at_message_40_of_300_burns_a_handful_and_sends_the_rest_once_it_is_linked(
    make_shop, phone, unlinked_status
):
    shop = make_shop(PACE_SECONDS=[0.01, 0.02])
    phone.set_unlinked_status(unlinked_status)
    shop.send(300)
    shop.start_worker()
    beat = shop.start_beat()
    phone.wait_for_deliveries(40, 120)
    phone.logout()
    wait_for(lambda: is_paused(PauseReason.LOGGED_OUT), "the pause")
    wait_for_beats(beat, 4)
    arrived = shop.arrived()
    assert SendAttempt.objects.exclude(outcome=OutcomeKind.ACCEPTED).count() <= 3
    assert alerts(shop) == 1
    phone.scan()
    wait_for(lambda: not is_paused(PauseReason.LOGGED_OUT), "the link to be seen")
    shop.settle()
    # A 500 from before anybody saw that the phone was logged out leaves doubt; a 400 does not.
    doubts = shop.statuses().pop(Status.UNKNOWN, 0)
    assert doubts <= (3 if unlinked_status == 500 else 0)
    assert shop.statuses()[Status.SENT] == 300 - doubts == shop.arrived() > arrived
