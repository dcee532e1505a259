"""A license in the admin: its state in words, buttons that report their result, and the permissions for each button."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.messages import get_messages
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation

from django_kpwa import license_actions, outbox
from django_kpwa.admin.license_admin import LicenseAdmin, LicenseChangeList
from django_kpwa.admin.license_buttons import BUTTONS
from django_kpwa.gateway import locmem
from django_kpwa.license_conditions import license_condition
from django_kpwa.models import (
    EventStatus,
    Heartbeat,
    Lane,
    License,
    OutboundMessage,
    PauseReason,
    WebhookEvent,
    WebhookToken,
)
from django_kpwa.phone import written
from django_kpwa.words import Help

LIST = "/admin/django_kpwa/license/"
NUMBER, MASKED = "081234567890", "62812•••••890"
OLD, NEW = "6281100000001", "6281100000002"


def lane_of(license_):
    return Lane.objects.get(pk=license_.pk)


def a_lane(license_, **columns):
    columns = {"session_status": "connected", "session_seen_at": timezone.now(), **columns}
    Lane.objects.update_or_create(license=license_, defaults=columns)


def page_of(client, license_):
    return client.get(f"{LIST}{license_.pk}/change/").content.decode()


def press(client, license_, name, **fields):
    return client.post(f"{LIST}{license_.pk}/{name}/", fields)


def told(answer):
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def logged():
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))


def offered(client, license_):
    return set(re.findall(rf'action="{LIST}{license_.pk}/(\w+)/"', page_of(client, license_)))


# The page


def test_the_help_of_every_condition_is_a_page_of_the_license(operator, license_):
    for help_ in Help:
        if help_ != Help.NONE:
            assert reverse(f"admin:django_kpwa_license_{help_.value}", args=[license_.pk])


@pytest.mark.parametrize(
    ("columns", "mark", "sentence"),
    [
        ({}, "Connected", "are sent automatically"),
        ({"session_status": "qr"}, "Needs a scan", "scan the code"),
        ({"session_status": "unknown"}, "Status unclear", "tried all the same"),
        ({"session_seen_at": timezone.now() - timedelta(days=1)}, "Not seen lately", "still linked"),
        ({"pause_reason": "logged_out"}, "Needs a scan", "logged out"),
        ({"pause_reason": "unauthorized", "paused_key_version": 1}, "Key refused", "Enter the current key"),
        ({"pause_reason": "unauthorized", "paused_key_version": 0}, "Trying the new key", "tried with the next"),
        ({"pause_reason": "key_unreadable"}, "Key unreadable", "Enter the API key again"),
        ({"pause_reason": "failing"}, "Gateway unreachable", "tried again automatically"),
        ({"pause_reason": "rate_limited"}, "The gateway asked to wait", "continues automatically"),
        ({"pause_reason": "by_person"}, "Paused", "until you press “Resume”"),
        ({"pause_reason": "number_changed"}, "Another phone is linked", "which phone is the right one"),
    ],
)
def test_the_page_says_in_a_sentence_what_the_state_means(operator, license_, columns, mark, sentence):
    Heartbeat.objects.note("sweep")
    a_lane(license_, **columns)
    page = page_of(operator, license_)

    assert f"</span> {mark}</span>" in page
    assert sentence in page


def test_where_nobody_sends_a_license_that_works_does_not_promise_it(operator, license_):
    a_lane(license_)
    page = page_of(operator, license_)

    assert "the sending service is not running" in page
    assert "are sent automatically" not in page
    a_lane(license_, pause_reason="logged_out")
    assert "the sending service is not running" not in page_of(operator, license_)


def test_the_page_says_so_where_there_is_no_key_no_lane_or_it_is_not_active(operator, license_):
    assert "Not linked yet" in page_of(operator, license_)
    License.objects.update(api_key_ciphertext="")
    assert "No API key" in page_of(operator, license_)
    License.objects.update(is_active=False)
    assert "Nothing is sent until the license is active" in page_of(operator, license_)


def test_the_page_shows_number_pause_last_error_and_what_waits(operator, license_):
    now = timezone.now()
    a_lane(license_, linked_number=OLD, pause_reason="failing", paused_at=now, paused_until=now, pause_words="<b>slow")
    Lane.objects.update(last_error="<script>no", last_error_at=now)
    outbox.send_message(NUMBER, "Struk")
    page = page_of(operator, license_)

    assert written(OLD) in page
    assert "<dt>Waiting</dt><dd>1</dd>" in page
    assert "&lt;b&gt;slow" in page
    assert "&lt;script&gt;no" in page
    assert "<script>no" not in page


def test_what_waits_is_counted_up_to_a_limit(operator, license_, monkeypatch):
    monkeypatch.setattr(LicenseAdmin, "MAX_QUEUED", 2)
    monkeypatch.setattr(LicenseChangeList, "MAX_QUEUED", 2)
    outbox.send_messages(outbox.Message(NUMBER, f"Struk {number}") for number in range(3))

    assert "<dd>2+</dd>" in page_of(operator, license_)
    assert "</span>3+<" in operator.get(LIST).content.decode()


def test_the_pace_is_told_in_words(operator, license_, settings):
    settings.KPWA = {**settings.KPWA, "PACE_SECONDS": (4, 8)}
    assert "4 to 8 seconds, at random between two messages; at most about 600 an hour" in page_of(operator, license_)
    assert "Leave both empty for the usual gap: 4 to 8 seconds" in page_of(operator, license_)
    License.objects.update(pace_min_seconds=0.5, pace_max_seconds=0.5)
    assert "0.5 seconds between two messages; at most about 7,200 an hour" in page_of(operator, license_)
    License.objects.update(pace_min_seconds=0, pace_max_seconds=0)
    assert "no gap between two messages" in page_of(operator, license_)


def test_the_key_field_is_one_that_browsers_fill_with_no_other_password(operator, license_):
    field = re.search(r'<input[^>]*name="api_key"[^>]*>', page_of(operator, license_)).group()

    assert 'autocomplete="new-password"' in field
    assert "value=" not in field


def test_the_page_says_what_is_registered_and_when_the_last_event_came(operator, license_, settings):
    page = page_of(operator, license_)
    assert "<dt>Registered</dt><dd>no</dd>" in page
    assert "https://shop.example/kpwa/webhooks/…/" in page
    assert "none yet" in page

    # A registration whose outcome nobody knows.
    WebhookToken.objects.create(license=license_, digest="x", created_at=timezone.now())
    assert "<dt>Registered</dt><dd>no</dd>" in page_of(operator, license_)
    license_actions.set_webhook(license_)
    received_at = timezone.now() - timedelta(days=40)
    WebhookEvent.objects.create(
        license=license_, body=b"{}", digest="x", received_at=received_at, last_received_at=received_at,
        status=EventStatus.UNRECOGNISED,
    )  # fmt: skip
    page = page_of(operator, license_)
    assert "<dt>Registered</dt><dd>since" in page
    assert timezone.localtime(received_at).strftime("%m/%d/%Y") in page

    settings.KPWA = {**settings.KPWA, "PUBLIC_URL": ""}
    assert "a setting is missing" in page_of(operator, license_)


def test_the_page_and_the_list_take_as_many_queries_however_much_there_is(operator, license_):
    a_lane(license_, linked_number=OLD)
    for page in (f"{LIST}{license_.pk}/change/", LIST):
        operator.get(page)
    with CaptureQueriesContext(connection) as page_before:
        page_of(operator, license_)
    with CaptureQueriesContext(connection) as list_before:
        operator.get(LIST)
    license_actions.set_webhook(license_)
    outbox.send_messages(outbox.Message(NUMBER, f"Struk {number}") for number in range(30))
    for number in range(20):
        License.objects.create(name=f"Cabang {number}")
    with CaptureQueriesContext(connection) as page_after:
        page_of(operator, license_)
    with CaptureQueriesContext(connection) as list_after:
        assert "Cabang 19" in operator.get(LIST).content.decode()

    assert len(page_after) <= len(page_before)
    assert len(list_after) == len(list_before)


def test_the_list_shows_the_condition_and_what_waits(operator, license_):
    a_lane(license_, pause_reason="logged_out", linked_number=OLD)
    outbox.send_message(NUMBER, "Struk")
    page = operator.get(LIST).content.decode()

    assert 'class="kpwa-mark kpwa-bad"' in page
    assert "Needs a scan" in page
    assert "</span>1<" in page
    assert f'{license_.name}<span class="kpwa-under">default<' in page
    License.objects.update(is_default=False)
    assert 'class="kpwa-under">default<' not in operator.get(LIST).content.decode()


def test_who_adds_a_license_and_may_link_goes_on_to_the_code(operator, staff):
    form = {"name": "Cabang", "is_active": "on", "api_key": "a-key-of-the-gateway", "base_url": ""}
    answer = operator.post(f"{LIST}add/", form)
    assert answer.headers["Location"] == f"{LIST}{License.objects.get().pk}/link/"

    staff("add_license", "view_license")
    assert operator.post(f"{LIST}add/", {**form, "name": "Dua"}).headers["Location"] == LIST


# Buttons


def test_the_state_decides_which_buttons_are_offered(operator, license_):
    always = {"check_status", "restart"}
    assert offered(operator, license_) == {*always, "pause", "register_webhook"}
    license_actions.set_webhook(license_)
    license_actions.pause(license_)
    assert offered(operator, license_) == {*always, "resume", "renew_webhook", "reset_webhook"}
    a_lane(license_, pause_reason="logged_out")
    assert offered(operator, license_) == {*always, "pause", "renew_webhook", "reset_webhook"}
    a_lane(license_, pause_reason="number_changed")
    assert offered(operator, license_) == {
        *always, "confirm_number", "keep_number", "renew_webhook", "reset_webhook"
    }  # fmt: skip


def test_who_may_only_look_is_offered_no_button_and_refused_in_words(staff, license_):
    client = staff("view_license", "link_license")
    assert offered(client, license_) == set()
    page = page_of(client, license_)
    assert "send_test" not in page
    assert "check_number" not in page
    pages = [button.name for button in BUTTONS] + ["send_test", "check_number"]
    for name in pages:
        answer = press(client, license_, name, confirmed="yes", to=NUMBER)
        assert answer.status_code == 403, name
        assert "Can operate a license" in answer.content.decode(), name
    assert not Lane.objects.exists()
    assert not OutboundMessage.objects.exists()
    assert logged() == []


def test_a_button_does_nothing_by_a_get(operator, license_):
    for button in BUTTONS:
        assert operator.get(f"{LIST}{license_.pk}/{button.name}/").status_code == 405


@pytest.mark.parametrize(
    ("is_linked", "words"), [(True, "WhatsApp is linked."), (False, "WhatsApp is not linked")], ids=["linked", "not"]
)
def test_check_status_tells_and_logs_what_the_gateway_said(operator, license_, is_linked, words):
    (locmem.link if is_linked else locmem.unlink)()
    answer = press(operator, license_, "check_status", next="/admin/")

    assert words in told(answer)
    assert answer.headers["Location"] == "/admin/"
    assert logged() == [f"Check status: {words}"] if is_linked else words in logged()[0]


def test_restart_asks_first_and_tells_the_status_after_it(operator, license_):
    asked = press(operator, license_, "restart", next="/admin/")
    assert "is restarted" in asked.content.decode()
    assert logged() == []
    done = press(operator, license_, "restart", confirmed="yes", next="/admin/")
    assert done.headers["Location"] == "/admin/"
    assert told(done).startswith("Restarted. WhatsApp is linked.")


def test_a_person_pauses_and_resumes(operator, license_):
    press(operator, license_, "pause")
    assert lane_of(license_).pause_reason == PauseReason.BY_PERSON
    assert "somebody else was faster" in told(press(operator, license_, "pause"))
    press(operator, license_, "resume")
    assert lane_of(license_).pause_reason == ""
    assert "somebody else was faster" in told(press(operator, license_, "resume"))
    assert [entry.split(":")[0] for entry in logged()] == ["Pause", "Resume"]


def test_registering_the_webhook_never_shows_its_token(operator, license_):
    answer = press(operator, license_, "register_webhook")
    assert "is registered" in told(answer)
    token = WebhookToken.objects.get()
    assert token.registered_at is not None
    url = locmem.webhook_url()
    secret = url.rstrip("/").rpartition("/")[2]
    shown = page_of(operator, license_) + str(answer.headers) + told(answer) + " ".join(logged())
    assert secret not in shown

    assert "new secret address" in press(operator, license_, "renew_webhook").content.decode()
    press(operator, license_, "renew_webhook", confirmed="yes")
    assert locmem.webhook_url() != url
    assert "no longer report" in press(operator, license_, "reset_webhook").content.decode()
    press(operator, license_, "reset_webhook", confirmed="yes")
    assert locmem.webhook_url() == ""
    assert not WebhookToken.objects.filter(expires_at=None).exists()


def test_without_a_public_url_the_setting_to_set_is_named(operator, license_, settings):
    settings.KPWA = {**settings.KPWA, "PUBLIC_URL": ""}
    answer = press(operator, license_, "register_webhook")

    assert 'Set KPWA["PUBLIC_URL"]' in told(answer)
    assert logged() == ["Register the webhook: A setting is missing"]


def test_a_site_without_our_urls_is_told_what_to_add(operator, license_, settings):
    settings.ROOT_URLCONF = "tests.integration.other_admin_urls"

    assert "a setting is missing" in page_of(operator, license_)
    assert 'include("django_kpwa.urls")' in told(press(operator, license_, "register_webhook"))


def test_on_a_site_of_ones_own_every_address_stays_on_it(operator, license_, settings):
    settings.ROOT_URLCONF = "tests.integration.other_admin_urls"
    locmem.unlink()
    office = f"/shop/office/django_kpwa/license/{license_.pk}"
    pages = [
        operator.get(f"{office}/change/"),
        operator.get(f"{office}/link/"),
        operator.post(f"{office}/link/"),
        operator.post(f"{office}/link/check/"),
        operator.post(f"{office}/restart/"),
        operator.get(f"{office}/send_test/"),
        operator.get("/shop/office/django_kpwa/license/"),
    ]
    for page in pages:
        assert page.status_code == 200
        assert "/shop/office/" in page.content.decode()
        assert '"/admin/' not in page.content.decode()
    assert operator.post(f"{office}/check_status/").headers["Location"] == f"{office}/change/"


# Another phone than before


def test_both_numbers_are_shown_and_the_new_one_is_confirmed(operator, license_):
    a_lane(license_, pause_reason="number_changed", linked_number=NEW, confirmed_number=OLD)
    page = page_of(operator, license_)
    assert written(OLD) in page
    assert written(NEW) in page

    asked = press(operator, license_, "confirm_number").content.decode()
    assert f"From now on {written(NEW)} sends instead of {written(OLD)}." in asked
    assert lane_of(license_).pause_reason == PauseReason.NUMBER_CHANGED
    assert f"{written(NEW)} sends from now on." in told(press(operator, license_, "confirm_number", confirmed="yes"))
    lane = lane_of(license_)
    assert (lane.pause_reason, lane.confirmed_number) == ("", NEW)
    assert logged() == ["Confirm this number: 62811•••••002 sends from now on."]


def test_the_phone_from_before_is_linked_again(operator, license_):
    a_lane(license_, pause_reason="number_changed", linked_number=NEW, confirmed_number=OLD)

    assert f"{written(OLD)} is linked again" in press(operator, license_, "keep_number").content.decode()
    press(operator, license_, "keep_number", confirmed="yes")
    lane = lane_of(license_)
    assert (lane.pause_reason, lane.confirmed_number, lane.linked_number) == ("", OLD, OLD)


def test_a_number_that_was_confirmed_meanwhile_is_not_asked_about(operator, license_):
    a_lane(license_, linked_number=NEW, confirmed_number=NEW)

    assert "somebody else was faster" in told(press(operator, license_, "confirm_number"))
    assert logged() == []


# A test message, and a number to check


def test_a_test_message_is_queued_and_its_number_masked_in_the_log(operator, license_):
    License.objects.create(name="Another one")
    form = operator.get(f"{LIST}{license_.pk}/send_test/").content.decode()
    assert 'name="to"' in form
    answer = press(operator, license_, "send_test", to=NUMBER)

    message = OutboundMessage.objects.get()
    assert (message.license, message.recipient) == (license_, "6281234567890")
    assert "Toko Utama" in message.text
    assert answer.headers["Location"] == f"/admin/django_kpwa/outboundmessage/{message.pk}/change/"
    assert logged() == [f"Send a test message: {MASKED}"]


def test_a_test_message_needs_the_permission_to_send(staff, license_):
    client = staff("view_license", "operate_license")
    assert "send_test" not in page_of(client, license_)
    assert press(client, license_, "send_test", to=NUMBER).status_code == 403
    assert not OutboundMessage.objects.exists()


def test_who_may_not_see_messages_returns_to_the_license(staff, license_):
    client = staff("view_license", "operate_license", "add_outboundmessage")
    assert press(client, license_, "send_test", to=NUMBER).headers["Location"] == f"{LIST}{license_.pk}/change/"


@pytest.mark.parametrize("name", ["send_test", "check_number"])
def test_what_is_no_number_is_said_beside_the_field(operator, license_, name):
    page = press(operator, license_, name, to="0812").content.decode()

    assert "This is not a phone number" in page
    assert not OutboundMessage.objects.exists()
    assert logged() == []


def test_a_number_is_checked_and_the_answer_stands_on_the_page(operator, license_):
    assert "0812-3456-7890 has WhatsApp." in press(operator, license_, "check_number", to=NUMBER).content.decode()
    locmem.set_unregistered(NUMBER)
    assert "0812-3456-7890 has no WhatsApp." in press(operator, license_, "check_number", to=NUMBER).content.decode()
    assert logged() == [f"Check a number: {MASKED} has WhatsApp.", f"Check a number: {MASKED} has no WhatsApp."]


# Failures


def test_a_key_that_cannot_be_read_is_told_in_its_own_words(operator, license_):
    License.objects.update(api_key_ciphertext="not a token of ours")
    answer = press(operator, license_, "check_status")

    assert "secret key was changed" in told(answer)
    assert logged() == ["Check status: Key unreadable"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["check_status", "restart", "check_number", "link", "link/check"])
def test_no_transaction_is_open_while_the_gateway_is_asked(client, license_, hooks, monkeypatch, name):
    client.force_login(get_user_model().objects.create_superuser("boss"))
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    seen = []
    note = lambda *_, **__: seen.append(connection.in_atomic_block)  # noqa: E731
    hooks.on_status = note
    asked = hooks.check_number
    monkeypatch.setattr(hooks, "check_number", lambda self, number: note() or asked(self, number))
    press(client, license_, name, confirmed="yes", to=NUMBER)

    assert seen
    assert not any(seen)


def test_a_lane_paused_for_a_key_that_was_replaced_does_not_ask_for_the_key_again(license_):
    a_lane(license_, pause_reason="unauthorized", paused_key_version=license_.api_key_version)
    refused = License.objects.select_related("lane").get()
    assert license_condition(refused, timezone.now()).help == Help.ENTER_KEY
    refused.set_api_key("another-key-of-the-gateway")
    refused.save()
    assert license_condition(refused, timezone.now()).help == Help.NONE


@pytest.mark.parametrize(
    ("columns", "shown"),
    [({"session_status": "connected"}, "tertaut"), ({"pause_reason": "failing"}, "gateway terus terganggu")],
)
def test_what_goes_with_a_license_is_named_in_the_readers_language(license_, admin_client, columns, shown):
    a_lane(license_, **columns)
    with translation.override("id"):
        page = admin_client.get(f"/admin/django_kpwa/license/{license_.pk}/delete/").content.decode()
    assert f": {license_.pk}: {shown}" in page
    assert not any(word in page for word in columns.values())
