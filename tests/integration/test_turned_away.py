"""Answers that mean that nothing was sent, over a real socket: the message waits, within limits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from django_kpwa.dispatch import drive
from django_kpwa.gateway.answers import TURNED_AWAY
from django_kpwa.gateway.outcome import OutcomeKind
from django_kpwa.models import Lane, OutboundMessage, PauseReason, Status
from django_kpwa.outbox import send_message

from .misbehaving import answer

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "081234567890"
SENT = {"message": "Sent", "result": {"id": "3EB0A1", "from": "6280000000000"}, "code": 20001}
CHALLENGE = {"body": b"<html>Just a moment...</html>", "content_type": "text/html; charset=UTF-8"}


@pytest.fixture
def lane(license_, server, settings):
    """A lane that is known to be connected, with `server` as its gateway."""
    settings.KPWA = {
        **settings.KPWA, "GATEWAY": "django_kpwa.gateway.http.HttpGateway", "BASE_URLS": [server.url, server.url]
    }  # fmt: skip
    return Lane.objects.create(license=license_, session_status="connected")


def sends(server):
    return sum(b"/openapi/wa/message" in request.split(b"\r\n")[0] for request in server.requests)


def serve(server, sending):
    """Answer every send with `sending`, and every request for the status successfully."""

    def behave(peer):
        return (sending if b"/openapi/wa/message" in server.requests[-1].split(b"\r\n")[0] else answer())(peer)

    server.behave(behave)


def try_again(message, lane):
    """End the message's wait and the lane's pause, and drive the lane."""
    past = timezone.now() - timedelta(minutes=1)
    OutboundMessage.objects.filter(pk=message.pk, status=Status.QUEUED).update(due_at=past)
    Lane.objects.filter(pk=lane.pk).exclude(paused_until=None).update(paused_until=past)
    drive(lane.pk)
    message.refresh_from_db()


CERTAIN = {
    **{str(status): answer(status=status, **CHALLENGE) for status in TURNED_AWAY},
    "403 in JSON": answer({"message": "Forbidden"}, 403),
    "422 in JSON": answer({"message": "Session status is not as expected"}, 422),
    "503 with seconds": answer({"message": "Maintenance"}, 503, headers={"Retry-After": "30"}),
    "503 with a date": answer(status=503, **CHALLENGE, headers={"Retry-After": "Sat, 05 Nov 2016 10:00:00 GMT"}),
    "a challenge by 503": answer(status=503, **CHALLENGE, headers={"CF-Mitigated": "challenge"}),
}
DOUBTFUL = {
    **{str(status): answer(status=status, **CHALLENGE) for status in (302, 408, 409, 428, 440, 500, 502, 503, 504)},
    **{f"{status} of Cloudflare": answer(status=status, **CHALLENGE) for status in (520, 524)},
    "503 with nonsense": answer(status=503, **CHALLENGE, headers={"Retry-After": "soon"}),
    "a challenge by 200": answer(status=200, **CHALLENGE, headers={"CF-Mitigated": "challenge"}),
}


@pytest.mark.parametrize("sending", CERTAIN.values(), ids=CERTAIN)
def test_what_was_certainly_not_sent_waits_and_is_sent_once_the_gateway_takes_it(lane, server, sending):
    serve(server, sending)
    message = send_message(NUMBER, "struk")
    drive(lane.pk)
    message.refresh_from_db()
    assert (message.status, message.in_doubt, message.reason) == (Status.QUEUED, False, "turned_away")
    assert message.attempts.get().outcome == OutcomeKind.NOT_SENT
    # Nothing was sent at the other base URL either: one attempt reaches one gateway.
    assert sends(server) == 1
    serve(server, answer(SENT))
    try_again(message, lane)
    assert (message.status, sends(server)) == (Status.SENT, 2)


@pytest.mark.parametrize("sending", DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_may_have_been_sent_is_in_doubt(lane, server, sending):
    serve(server, sending)
    message = send_message(NUMBER, "struk")
    drive(lane.pk)
    message.refresh_from_db()
    assert (message.status, sends(server)) == (Status.UNKNOWN, 1)


def test_a_message_that_is_turned_away_each_time_fails_after_its_attempts_and_the_lane_was_paused(lane, server):
    serve(server, answer({"message": "Payload Too Large"}, 413))
    message = send_message(NUMBER, "x" * 5000)
    paused_at = []
    for _ in range(20):
        try_again(message, lane)
        if Lane.objects.get().pause_reason == PauseReason.FAILING:
            paused_at.append(sends(server))
    assert (message.status, message.reason, sends(server)) == (Status.FAILED, "turned_away", 6)
    assert paused_at[0] == 3


def test_a_gateway_behind_a_challenge_pauses_and_burns_no_queue(lane, server):
    server.behave(answer(status=403, **CHALLENGE))
    messages = [send_message(f"08123456789{n}", "struk") for n in range(10)]
    for _ in messages:
        drive(lane.pk)
    assert (sends(server), Lane.objects.get().pause_reason) == (3, PauseReason.FAILING)
    assert set(OutboundMessage.objects.values_list("status", "in_doubt")) == {(Status.QUEUED, False)}
    server.behave(answer())
    serve(server, answer(SENT))
    for message in messages:
        try_again(message, lane)
    assert set(OutboundMessage.objects.values_list("status", flat=True)) == {Status.SENT}
