"""If another phone is linked, its license stops after one message, until a person confirms the number."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_kpwa import license_actions
from django_kpwa.dispatch import drive, sweep
from django_kpwa.gateway import locmem
from django_kpwa.models import PauseReason, Status
from django_kpwa.outbox import send_message

from .lanes import (
    NUMBER,
    drive_once_connected,
    fresh,
    lane_of,
    set_lane,
    texts,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def a_phone(monkeypatch):
    """Link a phone. The gateway in memory has none by default."""
    link_another_phone(monkeypatch, "6280000000000")


def link_another_phone(monkeypatch, number):
    monkeypatch.setattr(locmem, "LINKED_NUMBER", number)


def send_the_first(license_):
    """Send the license's first message, which decides which phone belongs to it."""
    send_message(NUMBER, "first")
    drive(license_.pk)


def alerts_in(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "django_kpwa.alerts"]


def test_another_phone_stops_the_lane_after_one_message_until_its_number_is_confirmed(
    license_, monkeypatch, caplog, a_phone
):
    send_the_first(license_)
    first = lane_of(license_).confirmed_number
    assert first == lane_of(license_).linked_number == locmem.LINKED_NUMBER
    link_another_phone(monkeypatch, "6281222222222@c.us")
    one, two = send_message(NUMBER, "one"), send_message(NUMBER, "two")
    drive(license_.pk)
    lane = lane_of(license_)
    assert (fresh(one).status, fresh(two).status) == (Status.SENT, Status.QUEUED)
    assert (lane.pause_reason, lane.paused_until) == (PauseReason.NUMBER_CHANGED, None)
    assert (lane.confirmed_number, lane.linked_number, lane.session_status) == (first, "6281222222222", "connected")
    [alert] = alerts_in(caplog)
    assert "62812•••••222 instead of" in alert
    assert "6281222222222" not in caplog.text
    assert first not in caplog.text
    # Only a person ends the pause.
    license_actions.check_status(license_)
    locmem.unlink()
    license_actions.check_status(license_)
    locmem.link()
    license_actions.check_status(license_)
    assert not license_actions.resume(license_)
    assert sweep().license_ids == ()
    assert drive(license_.pk).attempts == 0
    assert license_actions.confirm_number(license_)
    drive(license_.pk)
    lane = lane_of(license_)
    assert (fresh(two).status, lane.pause_reason, lane.confirmed_number) == (Status.SENT, "", "6281222222222")
    assert len(alerts_in(caplog)) == 1


def test_after_the_phone_from_before_is_linked_again_the_lane_goes_on_with_it(license_, monkeypatch, a_phone):
    send_the_first(license_)
    first = locmem.LINKED_NUMBER
    link_another_phone(monkeypatch, "6281222222222")
    send_message(NUMBER, "one")
    drive(license_.pk)
    link_another_phone(monkeypatch, first)
    assert license_actions.confirm_number(license_, keep=True)
    for text in ("two", "three"):
        send_message(NUMBER, text)
    drive(license_.pk)
    lane = lane_of(license_)
    assert (texts()[1:], lane.pause_reason) == (["one", "two", "three"], "")
    assert lane.confirmed_number == lane.linked_number == first


def test_a_phone_that_nobody_confirmed_stops_the_lane_again(license_, monkeypatch, caplog, a_phone):
    send_the_first(license_)
    first = locmem.LINKED_NUMBER
    link_another_phone(monkeypatch, "6281222222222")
    for text in ("one", "two", "three"):
        send_message(NUMBER, text)
    drive(license_.pk)
    # A person says that the phone from before is linked, but it is not.
    # Then they confirm the number, and a third phone is linked.
    assert license_actions.confirm_number(license_, keep=True)
    drive(license_.pk)
    assert (lane_of(license_).pause_reason, lane_of(license_).confirmed_number) == ("number_changed", first)
    assert license_actions.confirm_number(license_)
    link_another_phone(monkeypatch, "6281333333333")
    drive(license_.pk)
    lane = lane_of(license_)
    assert (lane.pause_reason, lane.confirmed_number) == ("number_changed", "6281222222222")
    assert len(alerts_in(caplog)) == 3


def test_a_phone_exchanged_while_a_person_pauses_stops_the_lane_when_it_is_resumed(
    license_, hooks, monkeypatch, caplog, a_phone
):
    send_the_first(license_)

    def pause_and_exchange(_):
        license_actions.pause(license_)
        link_another_phone(monkeypatch, "6281222222222")

    hooks.before_send = pause_and_exchange
    send_message(NUMBER, "one")
    waiting = send_message(NUMBER, "two")
    drive(license_.pk)
    assert (lane_of(license_).pause_reason, alerts_in(caplog)) == (PauseReason.BY_PERSON, [])
    hooks.before_send = None
    assert license_actions.resume(license_)
    assert drive(license_.pk).attempts == 0
    assert lane_of(license_).pause_reason == PauseReason.NUMBER_CHANGED
    assert (fresh(waiting).status, len(alerts_in(caplog))) == (Status.QUEUED, 1)


def test_a_lane_that_another_phone_is_linked_to_claims_nothing_before_it_is_paused(license_):
    drive(license_.pk)
    set_lane(license_, session_status="connected", confirmed_number="6281111111111", linked_number="6282222222222")
    message = send_message("081234567890", "a")
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).attempts_made) == (Status.QUEUED, 0)
    assert lane_of(license_).pause_reason == PauseReason.NUMBER_CHANGED


def test_the_number_costs_no_statement_of_its_own(license_):
    drive_once_connected(license_)

    def statements_of(count):
        for number in range(count):
            send_message(NUMBER, f"m{number}")
        with CaptureQueriesContext(connection) as captured:
            drive(license_.pk)
        return len(captured)

    two, four = statements_of(2), statements_of(4)
    # Lane, message, attempt; reading the lane, the next message, its claim, its attempt; and the transaction itself.
    assert (four - two) / 2 <= 9
