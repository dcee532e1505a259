"""A customer who asks the shop to stop gets no more messages until they ask for them, or a person allows it."""

from __future__ import annotations

import itertools
import json
import threading

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_kpwa import outbox, shop_counter, signals
from django_kpwa.dispatch import drive
from django_kpwa.exceptions import GatewayTimeoutError, RecipientStoppedError
from django_kpwa.gateway import locmem
from django_kpwa.models import License, OutboundMessage, Recipient, Status, StopReason, WebhookEvent
from django_kpwa.outbox import Message, send_group_message, send_message, send_messages
from django_kpwa.store import store
from django_kpwa.webhooks import process_event, reprocess
from django_kpwa.webhooks.arrivals import store_event
from django_kpwa.words import reason_row, status_row
from tests.cli import kpwa, kpwa_json
from tests.integration.times import pass_time
from tests.shop.models import Sale

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER, OTHER = "6281234567890", "6281298765432"
ANSWER = "You will get no more messages from us. To get them again, write: MULAI"
PAID = {"status": Sale.Status.PAID, "customer_phone": NUMBER}
_ids = itertools.count(1)


def hear(license_, text, sender=NUMBER, **more):
    """Make the gateway post what somebody wrote to the shop, and return the event."""
    payload = {"event": "message", "id": f"in-{next(_ids)}", "from": sender, "text": text, "fromMe": False, **more}
    event_id = store_event(license_.pk, json.dumps(payload).encode(), "application/json")
    assert process_event(event_id)
    return WebhookEvent.objects.get(pk=event_id)


def to(number=NUMBER):
    return OutboundMessage.objects.filter(recipient=number).order_by("pk")


def arrived():
    return [(message.to, message.text) for message in locmem.outbox]


@pytest.fixture
def another(license_):
    License.objects.update(is_default=True)
    second = License(name="Cabang", pace_min_seconds=0, pace_max_seconds=0)
    second.set_api_key("another-api-key-0002")
    second.save()
    return second


def test_what_waits_is_cancelled_for_every_license_and_one_answer_goes_out(license_, another):
    waiting = [send_message(NUMBER, text, license=which) for which in (license_, another) for text in ("a", "b")]
    spared = send_message(OTHER, "c", license=license_)
    told = []
    signals.message_cancelled.connect(receiver := lambda message, **_: told.append(message.pk), weak=False)
    hear(license_, "STOP!! 🙏")
    signals.message_cancelled.disconnect(receiver)
    assert {(row.status, row.reason) for row in to().filter(pk__in=[m.pk for m in waiting])} == {
        (Status.CANCELLED, StopReason.STOPPED)
    }
    assert sorted(told) == [message.pk for message in waiting]
    drive(license_.pk)
    drive(another.pk)
    assert sorted(arrived()) == [(NUMBER, ANSWER), (OTHER, spared.text)]
    assert str(reason_row(to().first()).label) == "the customer wants no messages"


def test_what_would_come_is_refused_and_nothing_is_stored(license_):
    hear(license_, "berhenti")
    before = to().count()
    with pytest.raises(RecipientStoppedError, match=r"62812•••••890 has asked for no more messages"):
        send_message(NUMBER, "promo")
    with pytest.raises(RecipientStoppedError) as raised:
        send_messages([Message(OTHER, "a"), Message("0812 3456 7890", "b")])
    assert raised.value.index == 1
    with transaction.atomic():
        with pytest.raises(RecipientStoppedError):
            send_message(NUMBER, "promo", idempotency_key="once")
        Sale.objects.create(status=Sale.Status.OPEN)
    assert (to().count(), to(OTHER).count(), Sale.objects.count()) == (before, 0, 1)


def test_a_stop_is_found_among_more_numbers_than_one_statement_takes(license_):
    hear(license_, "stop")
    messages = [Message(f"0813 {number:08d}", "a") for number in range(501)]
    with pytest.raises(RecipientStoppedError) as refused:
        send_messages([*messages, Message(NUMBER, "b")])
    assert refused.value.index == 501
    assert not OutboundMessage.objects.filter(text="a").exists()


def test_a_known_key_still_returns_its_message(license_):
    message = send_message(NUMBER, "a", idempotency_key="once")
    hear(license_, "stop")
    assert send_message(NUMBER, "a", idempotency_key="once") == message


def test_a_receipt_is_cancelled_at_once_and_the_sale_goes_on(license_):
    hear(license_, "stop")
    told = []
    signals.message_cancelled.connect(receiver := lambda message, **_: told.append(message.pk), weak=False)
    sale = Sale.objects.create(**PAID)
    signals.message_cancelled.disconnect(receiver)
    message = OutboundMessage.objects.for_source(sale).get()
    assert (message.status, message.reason, told) == (Status.CANCELLED, StopReason.STOPPED, [message.pk])
    assert message.settled_at is not None
    sale.save()
    assert OutboundMessage.objects.for_source(sale).get() == message
    hear(license_, "mulai")
    assert outbox.resend(message)
    drive(license_.pk)
    assert f"Struk {sale.pk}" in [text for _, text in arrived()]


@pytest.mark.parametrize("word", ["mulai", "START."])
def test_the_customer_ends_it_by_a_word(license_, another, word):
    hear(license_, "stop")
    hear(another, word)
    assert send_message(NUMBER, "a").status == Status.QUEUED
    assert not Recipient.objects.filter(stopped_at__isnull=False).exists()


def test_what_was_decided_later_stays_when_an_old_event_is_processed_again(license_):
    first = hear(license_, "stop")
    hear(license_, "mulai")
    assert reprocess(first)
    assert store().why_stopped(NUMBER) is None
    again = hear(license_, "stop")
    assert store().lift_stop(NUMBER)
    assert reprocess(again)
    assert store().why_stopped(NUMBER) is None


def test_it_is_answered_once_a_day_in_spite_of_the_stop(license_):
    for text in ("stop", "Stop!", "unreg"):
        hear(license_, text)
    drive(license_.pk)
    assert arrived() == [(NUMBER, ANSWER)]
    pass_time(days=1)
    hear(license_, "stop")
    drive(license_.pk)
    assert arrived() == [(NUMBER, ANSWER)] * 2


def test_the_answer_can_be_switched_off(license_, kpwa):
    kpwa(ANSWERS_STOPS=False)
    hear(license_, "stop")
    assert not to().exists()
    assert store().why_stopped(NUMBER) == StopReason.STOPPED


def test_where_no_word_ends_a_stop_the_answer_names_none(license_, kpwa):
    kpwa(START_WORDS=())
    event = hear(license_, "stop")
    drive(license_.pk)
    assert (event.status, arrived()) == ("processed", [(NUMBER, "You will get no more messages from us.")])
    hear(license_, "mulai")
    assert store().why_stopped(NUMBER) == StopReason.STOPPED


def test_a_wrong_number_marks_what_was_sent_there_lately(license_):
    sale = Sale.objects.create(**PAID)
    OutboundMessage.objects.update(due_at=sale.sold_at)
    drive(license_.pk)
    message = OutboundMessage.objects.for_source(sale).get()
    assert message.status == Status.SENT
    hear(license_, "Salah nomor!!")
    message.refresh_from_db()
    row = status_row(message)
    assert (str(row.label), row.tone.value) == ("the customer says that the number is wrong", "attention")
    assert store().why_stopped(NUMBER) == StopReason.WRONG_NUMBER
    drive(license_.pk)
    assert arrived()[-1] == (NUMBER, "We are sorry. We will send nothing more to this number.")
    hear(license_, "mulai")
    message.refresh_from_db()
    assert (message.reason, str(status_row(message).label)) == ("", "sent")


@pytest.mark.parametrize(
    "more",
    [
        {"text": "stop dulu ya"},
        {"fromMe": True},
        {"from": "120363040000000000@g.us", "participant": f"{NUMBER}@s.whatsapp.net"},
        {"isGroup": True, "participant": NUMBER},
        {"from": "123456789012345@lid"},
    ],
    ids=["a sentence", "its own", "a group", "a group by a flag", "a hidden number"],
)
def test_what_is_no_stop(license_, more):
    hear(license_, **{"text": "stop", **more})
    assert not Recipient.objects.filter(stopped_at__isnull=False).exists()
    assert not to().exists()


def test_a_gateways_error_stops_nobody(license_):
    send_message(NUMBER, "a")
    locmem.fail_next(GatewayTimeoutError("stop"))
    drive(license_.pk)
    assert not Recipient.objects.filter(stopped_at__isnull=False).exists()


def test_a_hidden_number_is_known_once_a_payload_named_both(license_):
    hidden = "123456789012345@lid"
    hear(license_, "halo", sender=hidden, senderPn=f"{NUMBER}@s.whatsapp.net")
    hear(license_, "stop", sender=hidden)
    assert store().why_stopped(NUMBER) == StopReason.STOPPED


@pytest.mark.parametrize("name", ["remoteJidAlt", "senderLid", "sender_alt", "chat_lid", "lid"])
def test_a_hidden_number_is_learnt_from_beside_the_number_too(license_, name):
    hidden = "123456789012345@lid"
    hear(license_, "halo", **{name: hidden})
    hear(license_, "stop", sender=hidden)
    assert store().why_stopped(NUMBER) == StopReason.STOPPED


def test_a_hidden_id_of_the_shop_itself_is_nobodys(license_):
    own = "998877665544332@lid"
    hear(license_, "halo", to=own, own=own)
    hear(license_, "Struk", sender=OTHER, fromMe=True, senderLid=own, to=f"{OTHER}@s.whatsapp.net")
    assert store().number_behind(own) == ""


def test_a_message_that_the_look_did_not_see_is_not_sent(license_):
    """The sale's transaction checked before the stop, and was committed after it."""
    with transaction.atomic():
        message = send_message(NUMBER, "a")
        stopping = threading.Thread(target=lambda: (hear(license_, "stop"), connection.close()))
        if connection.vendor != "sqlite":  # SQLite has one writer at a time
            stopping.start()
            stopping.join()
    if connection.vendor == "sqlite":
        Recipient.objects.create(number=NUMBER, stopped_at=message.created_at, stop_reason=StopReason.STOPPED)
    drive(license_.pk)
    message.refresh_from_db()
    assert (message.status, message.reason) == (Status.CANCELLED, StopReason.STOPPED)
    assert "a" not in [text for _, text in arrived()]


def test_what_is_in_doubt_stays_in_doubt(license_):
    send_message(NUMBER, "a")
    locmem.fail_next(GatewayTimeoutError("no answer"))
    drive(license_.pk)
    message = to().get()
    assert message.status == Status.UNKNOWN
    outbox.resend(message)
    hear(license_, "stop")
    message.refresh_from_db()
    assert message.status == Status.UNKNOWN
    with pytest.raises(RecipientStoppedError):
        outbox.resend(message)


def test_groups_are_never_stopped(license_):
    hear(license_, "stop")
    assert send_group_message(NUMBER, "laporan").status == Status.QUEUED
    drive(license_.pk)
    assert ("", "laporan") in arrived()


def test_a_stop_outlives_its_license(license_, another):
    hear(another, "stop")
    OutboundMessage.objects.filter(license=another).delete()
    WebhookEvent.objects.all().delete()
    another.delete()
    assert store().why_stopped(NUMBER) == StopReason.STOPPED


def test_many_wait_and_none_of_them_goes_out(license_):
    send_messages([Message(NUMBER, f"{number}") for number in range(1200)])
    hear(license_, "stop")
    assert to().filter(status=Status.CANCELLED).count() == 1200


def log_of(message):
    return [entry.change_message for entry in LogEntry.objects.filter(object_id=message.pk).order_by("pk")]


def page_of(client, message):
    return client.get(f"/admin/django_kpwa/outboundmessage/{message.pk}/change/").content.decode()


@pytest.fixture
def stopped(license_):
    """A message that a stop has cancelled."""
    message = send_message(NUMBER, "a")
    hear(license_, "stop")
    message.refresh_from_db()
    return message


def test_a_person_ends_it_on_the_messages_page_and_the_log_has_who(stopped, admin_client):
    page = page_of(admin_client, stopped)
    assert "The customer asks again" in page
    assert 'send_again/"' not in page
    assert "sends it anyway" not in page
    address = f"/admin/django_kpwa/outboundmessage/{stopped.pk}/asks_again/"
    assert "It holds for every license" in admin_client.post(address).content.decode()
    assert store().why_stopped(NUMBER) == StopReason.STOPPED
    admin_client.post(address, {"confirmed": "yes"})
    assert store().why_stopped(NUMBER) is None
    [entry] = log_of(stopped)
    assert entry.startswith("The customer asks again: This number gets messages again.")
    page = page_of(admin_client, stopped)
    assert 'asks_again/"' not in page
    assert 'send_again/"' in page
    told = admin_client.post(address, {"confirmed": "yes"}, follow=True).content.decode()
    assert "messages to this number are not stopped" in told
    assert len(log_of(stopped)) == 1


def test_what_is_pressed_on_an_old_page_is_refused_in_words(stopped, admin_client):
    address = f"/admin/django_kpwa/outboundmessage/{stopped.pk}/"
    told = admin_client.post(f"{address}send_again/", {"confirmed": "yes"}, follow=True).content.decode()
    assert "the owner of this number wants no messages" in told
    told = admin_client.post(f"{address}another_number/", {"to": NUMBER}).content.decode()
    assert "the owner of this number wants no messages" in told
    test = admin_client.post(f"/admin/django_kpwa/license/{stopped.license_id}/send_test/", {"to": NUMBER})
    assert "the owner of this number wants no messages" in test.content.decode()
    chosen = {"action": "send_again", "_selected_action": [stopped.pk], "confirmed": "yes"}
    told = admin_client.post("/admin/django_kpwa/outboundmessage/", chosen, follow=True).content.decode()
    assert "was left unchanged" in told
    stopped.refresh_from_db()
    assert stopped.status == Status.CANCELLED
    assert log_of(stopped) == []


def test_the_chip_offers_it_to_who_may_and_says_why_nothing_goes_out(license_, admin_client, admin_user):
    hear(license_, "stop")
    sale = Sale.objects.create(**PAID)
    message = OutboundMessage.objects.for_source(sale).get()
    [shown] = shop_counter.chips.chip(sale, shop_counter.chips.Person(admin_user))
    assert (shown.resend_url, str(shown.mark.label), shown.why) == ("", "the customer wants no messages", "")
    told = admin_client.post(f"/kpwa/messages/{message.uuid}/resend/")
    assert "the owner of this number wants no messages" in str(*get_messages(told.wsgi_request))
    again = admin_client.post(f"/kpwa/messages/{message.uuid}/send-to/", {"to": NUMBER})
    assert (again.status_code, "wants no messages" in again.content.decode()) == (422, True)
    admin_client.post(shown.asks_again_url)
    assert store().why_stopped(NUMBER) is None
    assert log_of(message) == ["The customer asks again: pressed at the counter."]
    [shown] = shop_counter.chips.chip(Sale.objects.get(), shop_counter.chips.Person(admin_user))
    assert (bool(shown.resend_url), shown.asks_again_url) == (True, "")


def test_chips_of_what_arrived_ask_nothing_about_stops(license_, admin_user):
    sale = Sale.objects.create(**PAID)
    OutboundMessage.objects.update(status=Status.DELIVERED)
    with CaptureQueriesContext(connection) as queries:
        shop_counter.chips.chip(sale, shop_counter.chips.Person(admin_user))
    assert not [query for query in queries if "recipient_" in query["sql"] and "stopped_at" in query["sql"]]


def test_the_command_line_ends_it_and_says_why_nothing_is_sent(stopped):
    code, told = kpwa("messages", "resend", str(stopped.pk))
    assert code == 1
    assert "the owner of 62812•••••890 wants no messages" in told
    assert kpwa_json("messages", "resend", str(stopped.pk)) == (
        1,
        [{"id": str(stopped.pk), "done": False, "status": "cancelled"}],
    )
    assert kpwa_json("lift-stop", "0812 3456 7890") == (0, {"number": "62812•••••890", "lifted": True})
    assert kpwa("lift-stop", "0812 3456 7890") == (1, "62812•••••890 is not stopped; nothing was changed.\n")
    assert kpwa("messages", "resend", str(stopped.pk))[0] == 0
