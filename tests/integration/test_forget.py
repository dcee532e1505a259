"""`kpwa forget` and `kpwa export`: all data about a number is exported or emptied, and a stop stays in effect."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import timedelta
from urllib.parse import quote, quote_plus

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.management import CommandError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import outbox, personal_data, shop_counter
from django_kpwa.conf import kpwa_settings
from django_kpwa.dispatch import drive, sweep
from django_kpwa.dispatch.verdict import Circumstances, judge
from django_kpwa.exceptions import BadRequestError, GatewayTimeoutError, RecipientForgottenError, RecipientStoppedError
from django_kpwa.gateway import SentMessage, locmem
from django_kpwa.gateway.outcome import outcome_of_answer
from django_kpwa.models import (
    FORGOTTEN,
    EventStatus,
    KeptKey,
    Lane,
    OutboundMessage,
    ReceiptFailure,
    Recipient,
    SendAttempt,
    Status,
    WebhookEvent,
)
from django_kpwa.outbox import send_message
from django_kpwa.receipts import registry
from django_kpwa.store import store
from django_kpwa.store.results import Claim
from django_kpwa.webhooks import process_event, reprocess
from django_kpwa.webhooks.arrivals import store_event
from tests.cli import kpwa, kpwa_json
from tests.integration.test_stops import hear, page_of
from tests.shop.models import Sale
from tests.stores import take_lane

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER, OTHER = "6281234567890", "6281298765432"
TYPED = "0812-3456-7890"
TRACE = re.compile(r"8\D{0,5}1\D{0,5}2\D{0,5}3\D{0,5}4\D{0,5}5\D{0,5}6\D{0,5}7\D{0,5}8\D{0,5}9\D{0,5}0")


def arrive(license_, body, content_type="application/json"):
    """Store a webhook event, and process it."""
    event_id = store_event(license_.pk, body if isinstance(body, bytes) else json.dumps(body).encode(), content_type)
    process_event(event_id)
    return WebhookEvent.objects.get(pk=event_id)


def every_value():
    """Yield every column of every table of the app, as its place and its text."""
    for model in apps.get_app_config("django_kpwa").get_models():
        if model._meta.proxy or not model._meta.managed:
            continue
        for row in model._default_manager.values():
            for name, value in row.items():
                text = bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | memoryview) else str(value)
                yield f"{model.__name__}.{name}", text


def traces():
    return sorted({place for place, text in every_value() if TRACE.search(text)})


@pytest.fixture
def known(license_):
    """A shop and a customer who have written to each other in every possible way."""
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone=TYPED)
    OutboundMessage.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    drive(license_.pk)
    sent = send_message(TYPED, "Halo Budi", idempotency_key=f"once:{NUMBER}", image_url="https://toko.example/a.png")
    drive(license_.pk)
    SendAttempt.objects.update(gateway_id=f"true_{NUMBER}@c.us_3EB0", read_as=NUMBER)
    refused = send_message(TYPED, "", image_url="https://toko.example/b.png", reference=f"Budi {TYPED}")
    locmem.fail_next(BadRequestError(f"number {NUMBER} is not registered"))
    drive(license_.pk)
    doubtful = send_message(TYPED, "Ragu")
    locmem.fail_next(GatewayTimeoutError("no answer"))
    drive(license_.pk)
    other = send_message(OTHER, "Halo Ani")
    drive(license_.pk)
    copy = outbox.send_to_another_number(other, TYPED)
    drive(license_.pk)
    hear(license_, "halo", senderPn=f"{NUMBER}@s.whatsapp.net", sender="123456789012345@lid", pushName="Budi")
    hear(license_, "dari yang tersembunyi", sender="123456789012345@lid")
    hear(license_, f"tolong hubungi {TYPED}", sender=OTHER)
    arrive(license_, {"event": "ack", "id": f"true_{NUMBER}@c.us_3EB0", "ack": 3, "to": f"{NUMBER}@c.us"})
    arrive(license_, b"nonsense +62 812 3456 7890 nonsense", "text/plain")
    ReceiptFailure.objects.create(
        receipt=registry.registrations(Sale)[0].label,
        source_content_type=OutboundMessage.objects.for_source(sale).get().source_content_type,
        source_id=str(sale.pk),
        error=f"ValueError: {TYPED} is odd",
        occurred_at=timezone.now(),
    )
    hear(license_, "Stop")
    return {"sale": sale, "sent": sent, "refused": refused, "doubtful": doubtful, "copy": copy, "other": other}


def test_nothing_of_the_number_is_left_and_the_stop_still_holds(known, license_, settings):
    assert len(traces()) > 8
    waiting = OutboundMessage.objects.filter(status=Status.QUEUED).get()  # the answer to the stop
    code, told = kpwa("forget", "+62 812 3456 7890", "--yes")
    assert (code, traces()) == (0, [])
    assert "Messages cancelled, which were waiting: 1." in told
    assert re.search(r"Emptied: 6 messages, \d+ attempts, \d+ webhook events, 1 receipt failures\.", told)
    assert "Its stop still holds" in told
    waiting.refresh_from_db()
    assert (waiting.status, waiting.reason, waiting.recipient) == (Status.CANCELLED, "forgotten", "")
    drive(license_.pk)
    assert not [sent for sent in locmem.outbox if sent.text == waiting.text]
    for secret, fallbacks in (("a" * 50, [settings.SECRET_KEY]), ("b" * 50, ["a" * 50, settings.SECRET_KEY])):
        with pytest.raises(RecipientStoppedError):
            send_message(TYPED, "promo")
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = secret, fallbacks
    with pytest.raises(RecipientStoppedError):
        send_message(TYPED, "promo")
    assert known["other"].pk in OutboundMessage.objects.filter(recipient=OTHER).values_list("pk", flat=True)
    assert "Halo Ani" in [text for _, text in every_value()]


def test_a_dump_of_the_database_does_not_have_it(known):
    binary = shutil.which("pg_dump")
    if connection.vendor != "postgresql" or binary is None:
        pytest.skip("needs PostgreSQL and pg_dump; other tests read every column")
    kpwa("forget", TYPED, "--yes")
    place = connection.get_connection_params()
    command = [binary, "--data-only", "--inserts", "-t", "django_kpwa_*"]
    for option, name in (("-h", "host"), ("-p", "port"), ("-U", "user")):
        command += [option, str(place[name])] if place.get(name) else []
    done = subprocess.run([*command, place["dbname"]], capture_output=True, text=True, check=False)
    if done.returncode and "version" in done.stderr:
        pytest.skip("this pg_dump does not support the server's version")
    assert done.returncode == 0, done.stderr
    assert "django_kpwa_outboundmessage" in done.stdout
    # pg_dump writes bytes as hexadecimal digits.
    bodies = [bytes.fromhex(found).decode("utf-8", "replace") for found in re.findall(r"\\x([0-9a-f]+)", done.stdout)]
    digits = re.sub(r"'\\x[0-9a-f]*'", "", done.stdout)
    assert not [text for text in [digits, *bodies] if TRACE.search(text)]


@pytest.mark.parametrize("escape", [json.dumps, lambda text: json.dumps(text, ensure_ascii=False), quote, quote_plus])
@pytest.mark.parametrize(
    "written",
    ["+62 812\u20113456\u20117890", "0812\u00a03456\u00a07890", "0812 \u2013 3456 \u2013 7890", "(0812) 3456-7890"],
)
def test_a_body_that_names_it_in_escaped_signs_is_emptied(license_, written, escape):
    body = b"unreadable: " + escape(written).encode()
    event = arrive(license_, body, "text/plain")
    kept = arrive(license_, body.replace(b"7890", b"7891"), "text/plain")
    known = arrive(license_, json.dumps({"id": "A9", "from": OTHER, "message": f"hubungi {written}"}).encode())
    assert personal_data.forget(NUMBER).events == 2
    for one in (event, kept, known):
        one.refresh_from_db()
    assert (bytes(event.body), bytes(known.body), known.understood) == (b"", b"", {})
    assert bytes(kept.body)


def test_a_second_time_does_no_harm_and_empties_nothing_more(known):
    kpwa("forget", TYPED, "--yes")
    before = sorted(every_value())
    code, told = kpwa_json("forget", TYPED, "--yes")
    assert (code, told) == (
        0,
        {
            **{"number": "62812•••••890", "done": True, "is_stopped": True, "is_complete": True},
            **dict.fromkeys(("cancelled", "messages", "attempts", "events", "failures"), 0),
            **dict.fromkeys(("left_messages", "left_events"), 0),
        },
    )
    assert sorted(every_value()) == before


def test_it_asks_first_and_does_nothing_without_the_word(known):
    before = sorted(every_value())
    with pytest.raises(CommandError, match=r"Nothing was emptied\."):
        kpwa("forget", TYPED, stdin="no\n")
    with pytest.raises(CommandError, match="add --yes"):
        kpwa_json("forget", TYPED)
    assert sorted(every_value()) == before
    assert kpwa("forget", TYPED, stdin="forget\n")[0] == 0
    assert traces() == []


def test_what_was_sent_is_not_sent_again_to_a_key_that_is_known(known, license_):
    kpwa("forget", TYPED, "--yes")
    store().lift_stop(NUMBER)
    sale = known["sale"]
    sale.save()
    assert OutboundMessage.objects.for_source(sale).get().is_forgotten
    assert send_message(TYPED, "Halo Budi", idempotency_key=f"once:{NUMBER}") == known["sent"]
    # The digest of a copy's key is made from the number and an id that stays. With both, one could try all numbers.
    known["copy"].refresh_from_db()
    assert known["copy"].idempotency_digest is None
    drive(license_.pk)
    assert [sent.text for sent in locmem.outbox].count("Halo Budi") == 1


def test_nothing_is_kept_of_a_number_that_is_not_stopped(license_):
    hear(license_, "halo", senderPn=f"{NUMBER}@s.whatsapp.net", sender="123456789012345@lid")
    assert Recipient.objects.count() == 1
    kpwa("forget", TYPED, "--yes")
    assert not Recipient.objects.exists()
    assert send_message(TYPED, "a").status == Status.QUEUED


def test_stops_of_several_licenses_and_of_older_keys_become_one_each(license_, settings):
    hear(license_, "stop")
    kpwa("forget", TYPED, "--yes")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a" * 50, [settings.SECRET_KEY]
    hear(license_, "stop")
    assert Recipient.objects.count() == 2
    kpwa("forget", TYPED, "--yes")
    [kept] = Recipient.objects.all()
    assert kept.number.startswith(FORGOTTEN)
    settings.SECRET_KEY_FALLBACKS = []
    assert store().why_stopped(NUMBER)
    hear(license_, "mulai")
    assert not store().why_stopped(NUMBER)


def test_what_is_on_its_way_is_left_and_said(license_):
    message = send_message(TYPED, "a")
    OutboundMessage.objects.update(status=Status.SENDING)
    event_id = store_event(license_.pk, json.dumps({"from": NUMBER, "text": "stop"}).encode(), "application/json")
    code, told = kpwa("forget", TYPED, "--yes")
    assert code == 1
    assert "on their way, which keep the number: 1. Try again in a minute" in told
    assert "wait to be processed: 1. Try again in a minute" in told
    message.refresh_from_db()
    assert (message.recipient, message.text) == (NUMBER, "a")
    assert process_event(event_id)
    assert store().why_stopped(NUMBER)
    OutboundMessage.objects.update(status=Status.SENT)
    assert kpwa("forget", TYPED, "--yes")[0] == 0
    assert traces() == []
    assert store().why_stopped(NUMBER)


def test_without_the_time_for_all_events_it_is_not_done(known):
    told = personal_data.forget(NUMBER, within_seconds=-1)
    assert (told.is_complete, told.is_done, told.is_stopped) == (False, False, True)
    assert personal_data.forget(NUMBER).is_done
    assert traces() == []


@pytest.mark.parametrize("name", ["sent", "refused", "doubtful", "copy"])
def test_what_was_forgotten_is_shown_and_refused_in_words(known, admin_client, name):
    kpwa("forget", TYPED, "--yes")
    message = OutboundMessage.objects.get(pk=known[name].pk)
    assert str(message) == f"{message.get_status_display()} · a forgotten number"
    page = page_of(admin_client, message)
    assert "a forgotten number" in page
    assert "(forgotten)" in page
    for button in ("send_again", "asks_again", "another_number"):
        assert f"/{button}/" not in page
    with pytest.raises(RecipientForgottenError):
        outbox.resend(message)
    with pytest.raises(RecipientForgottenError):
        outbox.send_to_another_number(message, OTHER)
    assert store().resend(message.pk) is False
    address = f"/admin/django_kpwa/outboundmessage/{message.pk}/"
    told = admin_client.post(f"{address}send_again/", {"confirmed": "yes"}, follow=True).content.decode()
    assert "were forgotten" in told
    assert "were forgotten" in admin_client.post(f"{address}another_number/", {"to": OTHER}).content.decode()
    admin_client.post(f"/kpwa/messages/{message.uuid}/resend/", {"confirmed": "yes"})
    assert admin_client.post(f"/kpwa/messages/{message.uuid}/send-to/", {"to": OTHER}).status_code == 422
    code, told = kpwa("messages", "resend", str(message.pk))
    assert (code, told) == (1, f"{message.pk}: left unchanged, because its number and its text were forgotten.\n")
    message.refresh_from_db()
    assert message.status not in (Status.QUEUED, Status.SENDING)


def test_lists_chips_dashboard_and_exports_show_it(known, admin_client, admin_user):
    kpwa("forget", TYPED, "--yes")
    listed = admin_client.get("/admin/django_kpwa/outboundmessage/").content.decode()
    assert "a forgotten number" in listed
    for page in ("dashboard/", "webhookevent/", "receiptfailure/", "outboundmessage/?needs_decision=yes"):
        assert admin_client.get(f"/admin/django_kpwa/{page}").status_code == 200
    for event in WebhookEvent.objects.all():
        assert admin_client.get(f"/admin/django_kpwa/webhookevent/{event.pk}/change/").status_code == 200
    [_, shown] = shop_counter.chips.chip(known["sale"], shop_counter.chips.Person(admin_user))
    assert (shown.why, shown.resend_url, shown.send_to_url, shown.recipient) == ("a forgotten number", "", "", "")
    assert "a forgotten number" in kpwa("messages")[1]
    chosen = {"action": "export", "_selected_action": list(OutboundMessage.objects.values_list("pk", flat=True))}
    answer = admin_client.post("/admin/django_kpwa/outboundmessage/", chosen)
    assert not TRACE.search(b"".join(answer.streaming_content).decode())


def test_an_event_without_its_body_is_not_processed_again(known, admin_client):
    kpwa("forget", TYPED, "--yes")
    event = WebhookEvent.objects.filter(body=b"", status=EventStatus.PROCESSED).first()
    before = WebhookEvent.objects.filter(pk=event.pk).values().get()
    assert not reprocess(event)
    address = f"/admin/django_kpwa/webhookevent/{event.pk}/reprocess/"
    assert "its body was not kept" in admin_client.post(address, follow=True).content.decode()
    assert WebhookEvent.objects.filter(pk=event.pk).values().get() == before


def test_a_worker_that_holds_an_event_does_not_fill_it_again(license_):
    event = hear(license_, "halo")
    assert store().free_event(event.pk)
    held, _ = store().claim_event(event.pk, 60.0)
    kpwa("forget", TYPED, "--yes")
    assert not store().record_event(held, {"sender_number": NUMBER}, next_try_in=None)
    assert traces() == []


def test_keys_of_purged_messages_stay(license_):
    message = send_message(TYPED, "a", idempotency_key="once")
    OutboundMessage.objects.update(status=Status.SENT, settled_at=timezone.now())
    kpwa("forget", TYPED, "--yes")
    assert store().purge(OutboundMessage.objects.all(), [message.pk]) == 1
    assert KeptKey.objects.filter(digest=message.idempotency_digest).exists()


def test_the_export_has_all_that_is_held_and_nothing_of_others(known):
    code, written = kpwa("export", "0812 3456 7890")
    held = json.loads(written)
    assert code == 0
    assert held["number"] == NUMBER
    assert [message["text"] for message in held["messages"]][1:4] == ["Halo Budi", "", "Ragu"]
    assert held["messages"][1]["attempts"][0]["read_as"] == NUMBER
    assert len(held["events"]) == WebhookEvent.objects.count()
    assert len({event["id"] for event in held["events"]}) == len(held["events"])
    assert any('"pushName": "Budi"' in event["body"] for event in held["events"])
    assert [failure["error"] for failure in held["failures"]] == [f"ValueError: {TYPED} is odd"]
    assert [stop["stop_reason"] for stop in held["stops"]] == ["stopped"]
    assert "Halo Ani" not in [message["text"] for message in held["messages"] if message["recipient"] == OTHER]
    kpwa("forget", TYPED, "--yes")
    held = json.loads(kpwa("export", TYPED)[1])
    assert [held[kind] for kind in ("messages", "events", "failures")] == [[], [], []]
    assert [stop["number"][: len(FORGOTTEN)] for stop in held["stops"]] == [FORGOTTEN]


def test_the_export_takes_no_query_for_each_message(license_):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            personal_data.held_about(NUMBER)
        return len(captured)

    send_message(NUMBER, "a")
    drive(license_.pk)
    hear(license_, "halo")
    few = queries()
    for _ in range(20):
        send_message(NUMBER, "a")
    drive(license_.pk)
    for attempt in SendAttempt.objects.all():
        arrive(license_, {"id": attempt.gateway_id, "ack": 2})
    held = personal_data.held_about(NUMBER)
    assert (len(held["messages"]), len(held["events"])) == (21, 22)
    assert queries() <= few + 1


def test_many_messages_and_events_are_emptied_in_parts(license_):
    outbox.send_messages([outbox.Message(TYPED, f"{number}") for number in range(450)])
    now = timezone.now()
    common = {"received_at": now, "last_received_at": now, "status": EventStatus.PROCESSED, "license": license_}
    WebhookEvent.objects.bulk_create(
        WebhookEvent(body=f"{place} {TYPED if place % 3 else OTHER}".encode(), **common) for place in range(2100)
    )
    code, told = kpwa_json("forget", TYPED, "--yes")
    assert (code, told["cancelled"], told["messages"], told["events"]) == (0, 450, 450, 1400)
    assert traces() == []


def test_a_person_forgets_a_number_on_a_messages_page_and_the_log_has_who(known, admin_client, admin_user):
    message = known["sent"]
    assert "Forget this number…" in page_of(admin_client, message)
    address = f"/admin/django_kpwa/outboundmessage/{message.pk}/forget/"
    before = sorted(every_value())
    assert "Nobody can bring it back" in admin_client.post(address).content.decode()
    assert sorted(every_value()) == before
    answer = admin_client.post(address, {"confirmed": "yes"}, follow=True)
    assert "Emptied: 6 messages and " in answer.content.decode()
    assert traces() == []
    [entry] = LogEntry.objects.filter(object_id=message.pk)
    assert entry.user == admin_user
    assert entry.change_message.startswith("Forget this number…: Emptied: 6 messages and ")
    assert entry.object_repr.endswith("a forgotten number")
    assert "Forget this number…" not in page_of(admin_client, message)
    again = admin_client.post(address, {"confirmed": "yes"}, follow=True).content.decode()
    assert "Nothing was changed: it has no number." in again
    group = outbox.send_group_message("Dapur", "a")
    assert "Forget this number…" not in page_of(admin_client, group)


def test_the_page_says_what_is_left(known, admin_client, monkeypatch):
    address = f"/admin/django_kpwa/outboundmessage/{known['sent'].pk}/forget/"
    monkeypatch.setattr("django_kpwa.admin.message_admin.FORGET_SECONDS", -1)
    told = admin_client.post(address, {"confirmed": "yes"}, follow=True).content.decode()
    assert "There was no time to look through all events" in told
    monkeypatch.undo()
    left = send_message(OTHER, "a")
    OutboundMessage.objects.filter(pk=left.pk).update(status=Status.SENDING)
    address = f"/admin/django_kpwa/outboundmessage/{left.pk}/forget/"
    told = admin_client.post(address, {"confirmed": "yes"}, follow=True).content.decode()
    assert "Something is still on its way" in told


def test_who_may_decide_about_messages_may_not_forget_numbers(known, client, django_user_model):
    clerk = django_user_model.objects.create_user("clerk", is_staff=True)
    codenames = ("view_outboundmessage", "decide_outboundmessage", "add_outboundmessage", "lift_recipient")
    clerk.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(clerk)
    assert "Forget this number…" not in page_of(client, known["sent"])
    address = f"/admin/django_kpwa/outboundmessage/{known['sent'].pk}/forget/"
    refused = client.post(address, {"confirmed": "yes"})
    assert (refused.status_code, "Can empty all that is held about a number" in refused.content.decode()) == (403, True)
    assert traces() != []


def test_a_worker_that_was_lost_and_reports_late_brings_nothing_back(license_):
    message = send_message(TYPED, "a")
    Lane.objects.create(license=license_)
    lease, step = take_lane(license_.pk, 600, 3)
    claim = step.next if isinstance(step.next, Claim) else store().claim_next(lease, 600).next
    Lane.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    sweep()
    message.refresh_from_db()
    assert message.status == Status.UNKNOWN
    assert kpwa("forget", TYPED, "--yes")[0] == 0
    answer = SentMessage(id=f"true_{NUMBER}@c.us_3EB0", to=NUMBER, body="a")
    known = Circumstances(claim.attempts_spent, 0, license_.api_key_version, (0.0, 0.0), None)
    outcome, message_verdict, lane_verdict = judge(outcome_of_answer(answer), known, kpwa_settings())
    arguments = (lease, claim, outcome, message_verdict, lane_verdict)
    recorded = store().record(*arguments, lease_seconds=600, claims_next=False)
    assert recorded.status == Status.SENT
    attempt = SendAttempt.objects.get()
    assert (attempt.outcome, attempt.read_as, attempt.gateway_id) == ("accepted", "", "")
    assert traces() == []
