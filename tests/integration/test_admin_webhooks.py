"""Webhook events in the admin: shown in words, found by an index, processed again with permission, and never live."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import outbox
from django_kpwa.admin.event_admin import MAX_REPROCESSED_AT_ONCE as MAX_AT_ONCE
from django_kpwa.admin.event_admin import WebhookEventAdmin
from django_kpwa.admin.long_list import BoundedPaginator
from django_kpwa.gateway.outcome import OutcomeKind
from django_kpwa.models import EventKind, EventStatus, OutboundMessage, SendAttempt, Status, WebhookEvent, body_digest
from django_kpwa.phone import written
from django_kpwa.webhooks import DefaultParser, ParsedEvent, process_event

LIST = "/admin/django_kpwa/webhookevent/"
CUSTOMER = "6281234567890"
MARKUP = "<script>alert('here')</script>"


class LearntParser(DefaultParser):
    """Understands events that the default parser does not."""

    def parse(self, body, content_type, *, linked_number):
        return [ParsedEvent(EventKind.INCOMING, sender=CUSTOMER, text="learnt by now")]


class BrokenParser(DefaultParser):
    def parse(self, body, content_type, *, linked_number):
        raise KeyError(CUSTOMER)


@pytest.fixture
def arrived(license_):
    """Return a function that stores a webhook as it arrives, and processes it."""

    def arrive(content, content_type="application/json", **columns):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        event = WebhookEvent.objects.create(
            license=license_,
            body=body,
            content_type=content_type,
            digest=body_digest(license_.pk, body),
            received_at=timezone.now(),
            last_received_at=timezone.now(),
            next_try_at=timezone.now() - timedelta(seconds=1),
        )
        process_event(event.pk)
        if columns:
            WebhookEvent.objects.filter(pk=event.pk).update(**columns)
        event.refresh_from_db()
        return event

    return arrive


def wrote(text="terima kasih", sender=CUSTOMER, **fields):
    return {"from": sender, "message": text, "isFromMe": False, **fields}


def page_of(client, event):
    answer = client.get(f"{LIST}{event.pk}/change/")
    assert answer.status_code == 200
    return answer.content.decode()


def listed(client, query=""):
    answer = client.get(f"{LIST}{query}")
    assert answer.status_code == 200, answer.headers
    return [event.pk for event in answer.context["cl"].result_list]


def act(client, events, **fields):
    chosen = [event.pk for event in events]
    return client.post(LIST, {"action": "reprocess", "_selected_action": chosen, **fields}, follow=True)


# The list


def test_a_customers_message_is_listed_with_who_wrote_what_how_often_and_a_status_in_words(operator, arrived):
    arrived(wrote("terima kasih\nsampai besok"), times_received=3)
    page = operator.get(LIST).content.decode()

    for part in ("terima kasih", written(CUSTOMER), "a message from a customer", "(3\N{NO-BREAK SPACE}×)", "processed"):
        assert part in page
    assert "sampai besok" not in page
    assert 'class="kpwa-mark kpwa-good"' in page


def test_the_message_that_an_event_moved_is_linked_with_its_status_for_who_may_view_messages(staff, arrived):
    message = outbox.send_message("081234567890", "Struk 1")
    event = arrived({"id": "3EB0", "status": "read"}, message=message)
    link = f'href="/admin/django_kpwa/outboundmessage/{message.pk}/change/"'
    client = staff("view_webhookevent", "view_outboundmessage")
    assert link in client.get(LIST).content.decode()
    assert link in page_of(client, event)
    get_user_model().objects.all().delete()
    client = staff("view_webhookevent")

    for page in (client.get(LIST).content.decode(), page_of(client, event)):
        assert link not in page
        assert "waiting" in page


def test_the_state_of_a_message_is_listed_in_words(operator, arrived):
    arrived({"id": "3EB0", "status": "DELIVERY_ACK"})
    arrived({"status": "disconnected"})
    rows = operator.get(LIST).content.decode()

    assert ">delivered<" in rows
    assert "disconnected" in rows


def test_a_message_without_words_is_listed_by_what_it_is(operator, arrived):
    event = arrived({"id": "A1", "from": CUSTOMER, "message": {"audioMessage": {"ptt": True}}})
    assert "a voice message" in operator.get(LIST).content.decode()
    assert "a voice message" in page_of(operator, event)


def test_the_list_loads_no_body_and_counts_no_whole_table(operator, arrived):
    arrived(wrote())
    with CaptureQueriesContext(connection) as queries:
        operator.get(LIST)

    about_events = [query["sql"] for query in queries if "django_kpwa_webhookevent" in query["sql"]]
    quote = connection.ops.quote_name
    # Not as a column of its own; a function may take the beginning of a text from it.
    columns = [f".{quote(name)}, {quote('x')[0]}" for name in ("body", "error", "understood")]
    assert not [sql for sql in about_events if any(column in sql for column in columns)]
    assert not [sql for sql in about_events if "COUNT(" in sql.upper() and "LIMIT" not in sql.upper()]


def test_the_list_takes_as_many_queries_for_twenty_events_as_for_one(operator, arrived):
    message = outbox.send_message("081234567890", "Struk 1")
    arrived(wrote(id="A0"), message=message)
    operator.get(LIST)
    with CaptureQueriesContext(connection) as for_one:
        operator.get(LIST)
    for number in range(19):
        arrived(wrote(f"pesan {number}", id=f"A{number + 1}"), message=message)
    with CaptureQueriesContext(connection) as for_twenty:
        assert "pesan 18" in operator.get(LIST).content.decode()

    assert len(for_twenty) == len(for_one)


def test_what_nobody_understood_stands_above_the_list_counted_to_a_limit(operator, arrived, monkeypatch):
    arrived(wrote())
    assert "kpwa-troubles" not in operator.get(LIST).content.decode()
    unrecognised = arrived({"hello": 1})
    page = operator.get(LIST).content.decode()
    assert f'href="{LIST}?status__exact=unrecognised"' in page
    assert "<strong>1</strong>" in page
    assert listed(operator, "?status__exact=unrecognised") == [unrecognised.pk]

    monkeypatch.setattr(WebhookEventAdmin, "MAX_COUNTED", 1)
    arrived({"hello": 2})
    assert "<strong>1+</strong>" in operator.get(LIST).content.decode()


def test_pages_end_at_their_limit_and_say_so(operator, arrived, monkeypatch):
    monkeypatch.setattr(BoundedPaginator, "MAX_LISTED", 2)
    for number in range(2):
        arrived(wrote(id=f"A{number}"))
    assert "there are more" not in operator.get(LIST).content.decode()
    arrived(wrote(id="A2"))

    assert "there are more" in operator.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("query", "is_allowed"),
    [
        ("?status__exact=failed", True),
        ("?kind__exact=incoming", True),
        ("?license__id__exact=1", True),
        ("?when=7", True),
        ("?received_at__year=2026&received_at__month=7", True),
        ("?understood__icontains=rahasia", False),
        ("?error__icontains=rahasia", False),
        ("?license__api_key_ciphertext__startswith=a", False),
        ("?message__text__contains=a", False),
    ],
)
def test_a_list_is_narrowed_by_an_index_alone(operator, license_, query, is_allowed):
    assert operator.get(f"{LIST}{query}").status_code == (200 if is_allowed else 400)


@pytest.mark.parametrize("spelling", ["081234567890", "+62 812-3456-7890", "62812 3456 7890", "0812345"])
def test_a_customers_messages_are_found_by_the_number_in_any_spelling(operator, arrived, spelling):
    wanted = arrived(wrote())
    arrived(wrote(sender="6281999999999"))

    assert listed(operator, "?q=" + spelling.replace("+", "%2B")) == [wanted.pk]


def test_an_event_is_found_by_the_gateways_and_by_its_own_id(operator, arrived):
    wanted = arrived(wrote(id="3EB0C767D82B6A1E"))
    arrived(wrote(id="another"))

    assert listed(operator, "?q=3EB0C767D82B6A1E") == [wanted.pk]
    assert listed(operator, f"?q={wanted.uuid}") == [wanted.pk]
    assert listed(operator, "?q=terima kasih") == []
    assert len(listed(operator, "?q=%00")) == 2


def test_events_are_found_by_their_day(operator, arrived):
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    today = arrived(wrote(id="A"), received_at=midnight)
    yesterday = arrived(wrote(id="B"), received_at=midnight - timedelta(seconds=1))
    old = arrived(wrote(id="C"), received_at=midnight - timedelta(days=800))
    day = midnight - timedelta(days=800)

    assert listed(operator, "?when=today") == [today.pk]
    assert listed(operator, "?when=yesterday") == [yesterday.pk]
    assert listed(operator, f"?received_at__year={day.year}&received_at__month={day.month}") == [old.pk]
    assert f"?received_at__year={day.year}" in operator.get(LIST).content.decode()


# The page of one event


def test_the_page_says_in_words_what_was_understood(operator, arrived):
    event = arrived(
        {"isGroup": True, "from": "120363@g.us", "group": "Dapur", "member": CUSTOMER, "message": "*Stok* habis",
         "isFromMe": False, "id": "G1", "timestamp": 1767225600}
    )  # fmt: skip
    page = page_of(operator, event)

    for part in ("a message from a customer", written(CUSTOMER), "Dapur", "120363@g.us", "<strong>Stok</strong> habis"):
        assert part in page
    assert "kpwa-incoming" in page
    # 1767225600 is New Year 2026 in UTC, seven in the morning at the shop.
    assert "01/01/2026 7 a.m. (1767225600)" in page


def test_a_number_that_may_be_the_linked_phones_is_told_as_uncertain(operator, arrived):
    event = arrived({"sender": CUSTOMER, "message": "halo"})

    assert event.understood["sender_is_certain"] is False
    assert "number is not certain" in page_of(operator, event)


def test_json_is_laid_out_for_reading_and_given_byte_for_byte(operator, arrived):
    event = arrived(b'{"from":"6281234567890","message":"caf\\u00e9 <b>","isFromMe":false}')
    page = page_of(operator, event)

    assert "  &quot;message&quot;: &quot;café &lt;b&gt;&quot;" in page
    assert "{&quot;from&quot;:&quot;6281234567890&quot;,&quot;message&quot;:&quot;caf\\u00e9 &lt;b&gt;&quot;" in page


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"\xff\x00\xfe {broken", r"\xff\x00\xfe {broken"),
        (b"", "The body is empty, or was not kept."),
        (b"[" * 5000, "[[[["),
        (b'{"a":' * 400 + b"1" + b"}" * 400, "{&quot;a&quot;:{&quot;a&quot;:"),
        (b'{"n": ' + b"9" * 5000 + b"}", "99999"),
        (b'{"text": "\\ud800 \\u0000"}', r"\ud800"),
        (b'{"long": "' + b"x" * 70_000 + b'"}', "bytes more"),
    ],
    ids=["no text", "empty", "not closed", "deep", "a long number", "no character", "long"],
)
def test_a_body_of_any_kind_is_shown(operator, arrived, body, shown):
    assert shown in page_of(operator, arrived(body, "application/octet-stream"))


def test_json_that_is_nested_too_deep_is_not_laid_out(operator, arrived):
    flat, deep = arrived(b'{"a":' * 50 + b"1" + b"}" * 50), arrived(b'{"a":' * 400 + b"1" + b"}" * 400)

    assert "Raw body" in page_of(operator, flat)
    assert "Raw body" not in page_of(operator, deep)


def test_repeats_are_told_with_the_first_and_the_last_time(operator, arrived):
    day = timezone.make_aware(timezone.datetime(2026, 7, 1, 9, 30))
    event = arrived(wrote(), times_received=3, received_at=day, last_received_at=day + timedelta(minutes=5))
    page = page_of(operator, event)

    assert "3 times" in page
    assert page.index("09:30:00") < page.index("09:35:00")


def test_a_payload_that_says_many_things_is_shown_to_a_limit(operator, arrived):
    event = arrived({"data": [{"id": f"B{number}", "status": "read"} for number in range(25)]})
    page = page_of(operator, event)

    assert "B19" in page.partition("As received")[0]
    assert "B20" not in page.partition("As received")[0]
    assert "… and 5 more" in page


@pytest.mark.parametrize("status", EventStatus.values)
def test_every_status_says_what_it_means(operator, arrived, status):
    event = arrived({"hello": 1}, status=status)
    page = page_of(operator, event)

    assert "kpwa-meaning" in page
    assert f"/{event.pk}/reprocess/" in page
    assert 'name="_save"' not in page


def test_stored_markup_and_addresses_never_become_live(operator, arrived, license_):
    event = arrived(
        wrote(MARKUP, id=MARKUP, mediaUrl="https://evil.example/x.png", group=MARKUP, isGroup=True, timestamp=MARKUP),
        content_type=MARKUP,
        error=MARKUP,
    )
    hidden = arrived(wrote("javascript:alert(1)", id="B"))
    event.understood |= {"sender": MARKUP, "media_url": "javascript:alert(1)", "chat": MARKUP, "notes": MARKUP}
    event.understood["more"] = [MARKUP, {"kind": MARKUP, "state": MARKUP, "text": MARKUP}, None]
    event.save()
    pages = [page_of(operator, event), operator.get(LIST).content.decode(), page_of(operator, hidden)]

    assert all("&lt;script&gt;" in page for page in pages[:2])
    assert all("<script>alert" not in page and 'href="javascript' not in page.lower() for page in pages)
    assert "javascript:alert(1)" in pages[2]
    assert "<img src=" not in pages[0]


@pytest.mark.parametrize("understood", [[], "text", None, {"more": "x"}, {"kind": 7, "text": ["a"], "sender": {}}])
def test_whatever_stands_for_what_was_understood_is_shown(operator, arrived, understood):
    event = arrived(wrote())
    event.understood = understood if understood is not None else {}
    event.save()

    assert page_of(operator, event)
    assert listed(operator) == [event.pk]


# Processing again


def test_one_is_processed_again_and_the_outcome_is_told_and_logged(staff, arrived, settings):
    event = arrived({"hello": 1})
    client = staff("view_webhookevent", "reprocess_webhookevent")
    address = f"{LIST}{event.pk}/reprocess/"
    assert "Still not understood." in client.post(address, follow=True).content.decode()

    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": f"{__name__}.LearntParser"}
    page = client.post(address, follow=True).content.decode()
    event.refresh_from_db()
    assert "Processed." in page
    assert "learnt by now" in page
    assert (event.status, event.sender_number) == (EventStatus.PROCESSED, CUSTOMER)
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        "Process again: Still not understood.",
        "Process again: Processed.",
    ]


def test_an_event_whose_message_is_there_by_now_moves_it(operator, arrived):
    event = arrived({"id": "3EB0", "status": "delivered"})
    assert event.status == EventStatus.UNMATCHED
    message = outbox.send_message("081234567890", "Struk 1")
    OutboundMessage.objects.filter(pk=message.pk).update(status=Status.SENT, sent_at=timezone.now())
    SendAttempt.objects.create(
        message=message, number=1, started_at=timezone.now(), outcome=OutcomeKind.ACCEPTED, gateway_id="3EB0"
    )
    page = operator.post(f"{LIST}{event.pk}/reprocess/", follow=True).content.decode()

    message.refresh_from_db()
    assert message.status == Status.DELIVERED
    assert f"/outboundmessage/{message.pk}/change/" in page


def test_a_parser_that_raises_is_told_with_its_numbers_masked(operator, arrived, settings):
    event = arrived({"hello": 1})
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": f"{__name__}.BrokenParser"}
    page = operator.post(f"{LIST}{event.pk}/reprocess/", follow=True).content.decode()

    assert "could not be processed" in page
    assert "KeyError" in page
    assert CUSTOMER not in page


def test_an_event_that_somebody_is_processing_is_left_to_them(operator, arrived):
    event = arrived({"hello": 1}, status=EventStatus.PENDING, processed_at=None, tries=1)
    WebhookEvent.objects.filter(pk=event.pk).update(next_try_at=timezone.now() + timedelta(minutes=5))
    page = operator.post(f"{LIST}{event.pk}/reprocess/", follow=True).content.decode()

    assert "it is being processed right now" in page
    assert not LogEntry.objects.exists()


def test_many_are_processed_after_asking_and_told_by_their_outcome(staff, arrived, settings):
    events = [arrived({"hello": 1}), arrived({"hello": 2}), arrived({"id": "3EB0", "status": "read"})]
    client = staff("view_webhookevent", "reprocess_webhookevent")
    asked = act(client, events).content.decode()
    assert "This applies to 3 webhook events." in asked
    assert not LogEntry.objects.exists()
    told = act(client, events, confirmed="yes").content.decode()

    assert "2 webhook events: Still not understood." in told
    assert "1 webhook event: Understood, but it matches no message." in told
    assert LogEntry.objects.count() == 3


def test_too_many_at_once_are_not_begun(operator, license_):
    now = timezone.now()
    WebhookEvent.objects.bulk_create(
        WebhookEvent(license=license_, body=b"{}", received_at=now, last_received_at=now, status="unrecognised")
        for _ in range(MAX_AT_ONCE + 1)
    )
    told = act(operator, [WebhookEvent.objects.first()], select_across="1", confirmed="yes").content.decode()

    assert "Nothing was changed" in told
    assert not WebhookEvent.objects.filter(tries__gt=0).exists()


def test_nothing_is_processed_by_a_get_or_by_who_may_only_look(staff, arrived):
    event = arrived({"hello": 1})
    looker = staff("view_webhookevent")
    address = f"{LIST}{event.pk}/reprocess/"

    assert looker.get(address).status_code == 405
    assert looker.post(address).status_code == 403
    assert address not in page_of(looker, event)
    assert 'value="reprocess"' not in looker.get(LIST).content.decode()
    act(looker, [event], confirmed="yes")
    event.refresh_from_db()
    assert event.tries == 1


def test_events_are_hidden_from_who_may_not_view_them(staff, arrived):
    event = arrived(wrote())
    other = staff("view_outboundmessage", "reprocess_webhookevent")

    assert other.get(LIST).status_code == 403
    assert other.get(f"{LIST}{event.pk}/change/").status_code == 403
    assert other.post(f"{LIST}{event.pk}/reprocess/").status_code == 403
