"""Newer gateways' words for an account that is not usable as it should be, recognized wherever a status arrives."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from django_kpwa import license_actions, signals
from django_kpwa.dispatch import drive
from django_kpwa.exceptions import BadRequestError
from django_kpwa.gateway import ServiceStatus, SessionStatus, SessionTrouble, locmem
from django_kpwa.gateway.base import session_status_of
from django_kpwa.license_conditions import license_condition
from django_kpwa.models import Lane, License, PauseReason, Status, WebhookEvent
from django_kpwa.outbox import send_message
from django_kpwa.webhooks import process_event, reprocess
from django_kpwa.webhooks.arrivals import store_event
from django_kpwa.words import TROUBLES, UNCLEAR
from tests.cli import kpwa, kpwa_json

from .lanes import NUMBER, drive_once_connected, fresh, lane_of, set_lane, texts

pytestmark = pytest.mark.django_db(transaction=True)

TROUBLE_OF = {
    "passkey_required": SessionTrouble.PASSKEY,
    "passkey_confirmation_required": SessionTrouble.PASSKEY,
    "PassKeyRequire": SessionTrouble.PASSKEY,
    "suspended": SessionTrouble.RESTRICTED,
    "yellowCard": SessionTrouble.RESTRICTED,
    "restricted": SessionTrouble.RESTRICTED,
    "banned": SessionTrouble.BANNED,
    "blocked": SessionTrouble.BANNED,
}
SPELLINGS = sorted({spell(word) for word in TROUBLE_OF for spell in (str, str.lower, str.upper, str.title)})
LICENSES = "/admin/django_kpwa/license/"
# The forms in which gateways of this family post a status.
PAYLOADS = {
    "session event": lambda word: {"event": "session.status", "payload": {"name": "default", "status": word}},
    "state of the instance": lambda word: {"typeWebhook": "stateInstanceChanged", "stateInstance": word},
    "connection": lambda word: {"event": "connection.update", "data": {"connection": word}},
    "a session and its status": lambda word: {"session": "default", "status": word},
    "a status alone": lambda word: {"status": word},
    "a status named after the session": lambda word: {"event": "update", "data": {"session_status": word}},
    "a status of the account": lambda word: {"accountStatus": word, "license": "toko"},
    "a session that has it": lambda word: {"session": {"name": "default", "status": word}},
    "a status that is an object": lambda word: {"event": "session.status", "data": {"status": {"name": word}}},
    "a status in a list": lambda word: {"event": "session.status", "data": {"status": [word]}},
    "the event's name": lambda word: {"event": word, "session": "default"},
    "the end of the event's name": lambda word: {"event": f"session.{word}"},
}


def row_of(word):
    trouble = next(trouble for known, trouble in TROUBLE_OF.items() if known.lower() == word.lower())
    return TROUBLES[trouble]


def condition(license_):
    return license_condition(License.objects.select_related("lane").get(pk=license_.pk), timezone.now())


def note(license_, word):
    license_actions.note_status(license_, ServiceStatus(session_status_of(word), word))


def post(license_, payload):
    event_id = store_event(license_.pk, json.dumps(payload).encode(), "application/json")
    assert process_event(event_id)
    return WebhookEvent.objects.get(pk=event_id)


def be_connected(license_):
    drive_once_connected(license_)
    set_lane(license_, session_seen_at=timezone.now() - timedelta(minutes=1))


@pytest.mark.parametrize("word", SPELLINGS)
def test_an_answer_in_any_case_is_kept_and_told_and_never_connected(license_, word):
    be_connected(license_)
    note(license_, word)
    lane = lane_of(license_)
    assert (lane.session_status, lane.session_word) == (SessionStatus.UNKNOWN, word)
    assert condition(license_) is row_of(word)


@pytest.mark.parametrize("shape", PAYLOADS)
@pytest.mark.parametrize("word", SPELLINGS)
def test_an_event_in_any_case_is_kept_and_told_and_never_connected(license_, word, shape):
    be_connected(license_)
    event = post(license_, PAYLOADS[shape](word))
    assert (event.kind, event.understood["session_status"]) == ("session", word)
    lane = lane_of(license_)
    assert (lane.session_status, lane.session_word) == (SessionStatus.UNKNOWN, word)
    assert condition(license_) is row_of(word)


@pytest.mark.parametrize(("word", "before"), [*itertools.product(TROUBLE_OF, SessionStatus)])
def test_no_such_word_connects_whatever_was_known_before(license_, word, before):
    Lane.objects.create(license=license_, session_status=before.value)
    note(license_, word)
    assert lane_of(license_).session_status == SessionStatus.UNKNOWN
    post(license_, PAYLOADS["session event"](word))
    assert lane_of(license_).session_status == SessionStatus.UNKNOWN


def test_a_word_that_nobody_knows_is_kept_and_unclear_as_before(license_, admin_client):
    be_connected(license_)
    note(license_, "half_asleep")
    assert (lane_of(license_).session_word, condition(license_)) == ("half_asleep", UNCLEAR)
    assert "unknown (“half_asleep”)" in admin_client.get(f"{LICENSES}{license_.pk}/change/").content.decode()


def test_no_word_is_kept_with_numbers_or_controls_or_beyond_its_length(license_):
    be_connected(license_)
    note(license_, f"+6281234567890 \u202e\ud800 {'x' * 100}")
    word = lane_of(license_).session_word
    assert len(word) == 64
    assert not {"\u202e", "\ud800"} & set(word)
    assert "81234567890" not in word


def test_a_status_that_is_documented_empties_the_word(license_):
    for word in ("connected", "qr"):
        note(license_, "restricted")
        note(license_, word)
        assert (lane_of(license_).session_status, lane_of(license_).session_word) == (word, "")


def test_an_accepted_send_empties_the_word(license_, hooks):
    note(license_, "restricted")
    hooks.on_status = lambda: ServiceStatus(SessionStatus.UNKNOWN, "restricted")
    message = send_message(NUMBER, "a", license=license_)
    drive(license_.pk)
    assert fresh(message).status == Status.SENT
    assert (lane_of(license_).session_status, lane_of(license_).session_word) == ("connected", "")


def test_a_refusal_asks_for_the_word_and_the_message_is_kept(license_, hooks):
    drive_once_connected(license_)
    hooks.on_status = lambda: ServiceStatus(SessionStatus.UNKNOWN, "yellowCard")
    locmem.fail_next(BadRequestError("no", status_code=400, words="Forbidden"))
    message = send_message(NUMBER, "a", license=license_)
    drive(license_.pk)
    assert (fresh(message).status, lane_of(license_).session_word) == (Status.QUEUED, "yellowCard")
    assert condition(license_) is TROUBLES[SessionTrouble.RESTRICTED]


def test_a_passkey_that_is_asked_for_goes_before_the_scan_that_is_missing(license_):
    be_connected(license_)
    note(license_, "qr")
    assert lane_of(license_).pause_reason == PauseReason.LOGGED_OUT
    note(license_, "passkey_required")
    assert lane_of(license_).pause_reason == PauseReason.LOGGED_OUT
    assert condition(license_) is TROUBLES[SessionTrouble.PASSKEY]
    license_actions.pause(license_)
    assert condition(license_).code == PauseReason.BY_PERSON


def test_an_event_that_is_older_than_the_last_answer_says_nothing(license_):
    drive_once_connected(license_)
    set_lane(license_, session_seen_at=timezone.now() + timedelta(minutes=1))
    post(license_, {"event": "session.status", "payload": {"status": "banned"}})
    assert (lane_of(license_).session_status, lane_of(license_).session_word) == ("connected", "")


def test_an_event_that_is_processed_again_says_nothing_new(license_):
    be_connected(license_)
    event = post(license_, {"event": "session.status", "payload": {"status": "banned"}})
    note(license_, "connected")
    assert reprocess(event)
    assert lane_of(license_).session_status == SessionStatus.CONNECTED


def test_an_event_is_told_as_a_change_of_the_status_once(license_):
    be_connected(license_)
    told = []
    signals.license_status_changed.connect(receiver := lambda **named: told.append(named), weak=False)
    try:
        reprocess(post(license_, {"event": "session.status", "payload": {"status": "suspended"}}))
    finally:
        signals.license_status_changed.disconnect(receiver)
    assert [(each["session_status"], each["previous_session_status"]) for each in told] == [
        (SessionStatus.UNKNOWN, SessionStatus.CONNECTED)
    ]


def test_an_event_has_the_status_asked_before_the_next_message(license_, hooks):
    be_connected(license_)
    post(license_, {"event": "session.status", "payload": {"status": "suspended"}})
    message = send_message(NUMBER, "a", license=license_)
    asked = []
    hooks.on_status = lambda: asked.append(texts()) or ServiceStatus(SessionStatus.CONNECTED, "connected")
    drive(license_.pk)
    assert (asked, fresh(message).status) == ([[]], Status.SENT)


@pytest.mark.parametrize(
    "payload",
    [
        {"status": "blocked", "phone": NUMBER},
        {"event": "blocked", "data": {"id": f"62{NUMBER[1:]}@s.whatsapp.net"}},
        {"event": "contact.blocked"},
        {"id": "A1", "ack": 2, "account_status": "banned"},
        {"event": "contacts.update", "data": {"id": f"62{NUMBER[1:]}@s.whatsapp.net", "status": "blocked"}},
        {"event": "session.status", "payload": {"status": "connected"}},
        {"event": "message", "from": f"62{NUMBER[1:]}@c.us", "id": "A1", "body": "restricted", "fromMe": False},
    ],
)
def test_what_is_said_of_somebody_else_is_no_word_about_the_session(license_, payload):
    be_connected(license_)
    post(license_, payload)
    assert (lane_of(license_).session_status, lane_of(license_).session_word) == ("connected", "")


@pytest.mark.parametrize("word", TROUBLE_OF)
def test_pages_say_what_it_means_and_what_to_do(license_, admin_client, word):
    be_connected(license_)
    event = post(license_, {"event": "session.status", "payload": {"status": word}})
    row = row_of(word)
    page = admin_client.get(f"{LICENSES}{license_.pk}/change/").content.decode()
    assert str(row.label) in page
    assert f"(“{word}”)" in page
    passkey = f'href="{LICENSES}{license_.pk}/link/passkey/"'
    is_passkey = row is TROUBLES[SessionTrouble.PASSKEY]
    assert (passkey in page) is is_passkey
    dashboard = admin_client.get("/admin/django_kpwa/dashboard/").content.decode()
    assert str(row.label) in dashboard
    assert (passkey in dashboard) is is_passkey
    shown = admin_client.get(f"/admin/django_kpwa/webhookevent/{event.pk}/change/").content.decode()
    assert f"{row.label} ({word})" in shown


@pytest.mark.parametrize("word", TROUBLE_OF)
def test_the_command_line_says_what_it_means_and_what_to_do(license_, hooks, word):
    hooks.on_status = lambda: ServiceStatus(SessionStatus.UNKNOWN, word)
    code, told = kpwa("status")
    assert code == 1
    assert word in told
    assert str(row_of(word).meaning) in told
    assert kpwa_json("licenses")[1][0]["session_word"] == word
    code, told = kpwa("doctor")
    assert code == 1
    assert word in told
    assert "undocumented" not in told
