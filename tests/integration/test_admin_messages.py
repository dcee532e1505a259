"""Messages in the admin: search in any spelling, display as in WhatsApp, decisions by permission, and safe export."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.paginator import EmptyPage
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import outbox
from django_kpwa.admin.buttons import MAX_AT_ONCE
from django_kpwa.admin.long_list import BoundedPaginator, LicenseFilter
from django_kpwa.admin.message_export import csv_response
from django_kpwa.admin.search import READ
from django_kpwa.gateway.outcome import Cause, OutcomeKind
from django_kpwa.models import (
    EventKind,
    EventStatus,
    Heartbeat,
    Lane,
    License,
    OutboundMessage,
    SendAttempt,
    Status,
    WebhookEvent,
)
from django_kpwa.webhooks.processing import process_event
from django_kpwa.words import STATUSES
from tests.shop.models import Sale
from tests.unit.test_exported_cells import MARKS

LIST = "/admin/django_kpwa/outboundmessage/"
NUMBER = "081234567890"
MARKUP = "<script>alert('here')</script>"


def a_message(status=Status.QUEUED, text="Struk 7\nKopi Rp 18.000", to=NUMBER, **columns):
    message = outbox.send_message(to, text)
    OutboundMessage.objects.filter(pk=message.pk).update(status=status, **columns)
    message.refresh_from_db()
    return message


def aged(message):
    """Make the message so old that the search for parts of a number or text no longer reads it."""
    OutboundMessage.objects.filter(pk=message.pk).update(id=F("id") - READ)
    return OutboundMessage.objects.get(pk=message.pk - READ)


def an_attempt(message, number=1, **fields):
    return SendAttempt.objects.create(message=message, number=number, started_at=timezone.now(), **fields)


def page_of(client, message):
    return client.get(f"{LIST}{message.pk}/change/").content.decode()


def listed(client, query=""):
    answer = client.get(f"{LIST}{query}")
    assert answer.status_code == 200, answer.headers
    return [message.pk for message in answer.context["cl"].result_list]


def an_answer(license_, sender, text):
    body = json.dumps({"from": sender, "message": text, "fromMe": False}).encode()
    event = WebhookEvent.objects.create(
        license=license_,
        body=body,
        content_type="application/json",
        received_at=timezone.now(),
        last_received_at=timezone.now(),
        next_try_at=timezone.now() - timedelta(seconds=1),
    )
    process_event(event.pk)
    event.refresh_from_db()
    assert (event.kind, event.status) == (EventKind.INCOMING, EventStatus.PROCESSED)
    return event


def act(client, action, messages, **fields):
    chosen = [message.pk for message in messages]
    return client.post(LIST, {"action": action, "_selected_action": chosen, **fields}, follow=True)


# The list


def test_messages_are_listed_with_their_first_line_and_a_status_in_words(operator, license_):
    a_message(Status.UNKNOWN)
    page = operator.get(LIST).content.decode()

    assert "Struk 7" in page
    assert "Kopi Rp" not in page
    assert "0812-3456-7890" in page
    assert 'class="kpwa-mark kpwa-attention"' in page
    assert "in doubt" in page


def test_a_row_names_its_license_only_where_there_are_several(operator, license_):
    a_message()
    row = f'<span class="kpwa-under">{license_.name}</span>'
    assert row not in operator.get(LIST).content.decode()
    License(name="Cabang Bogor").save()
    assert row in operator.get(LIST).content.decode()


def test_the_list_takes_as_many_queries_for_twenty_sales_as_for_one(operator, license_):
    outbox.send_message(NUMBER, "Struk 0", source=Sale.objects.create())
    operator.get(LIST)  # content types are cached
    with CaptureQueriesContext(connection) as for_one:
        operator.get(LIST)
    sales = [Sale.objects.create() for _ in range(19)]
    outbox.send_messages(outbox.Message(NUMBER, f"Struk {sale.pk}", source=sale) for sale in sales)
    with CaptureQueriesContext(connection) as for_twenty:
        assert f"Struk {sales[-1].pk}" in operator.get(LIST).content.decode()

    assert len(for_twenty) == len(for_one)


def test_the_list_loads_no_text_beyond_its_start_and_counts_no_whole_table(operator, license_):
    a_message()
    with CaptureQueriesContext(connection) as queries:
        operator.get(LIST)

    about_messages = [query["sql"] for query in queries if "django_kpwa_outboundmessage" in query["sql"]]
    assert not [sql for sql in about_messages if '"text", "' in sql or '"reason_words"' in sql]
    assert not [sql for sql in about_messages if "COUNT(" in sql.upper() and "LIMIT" not in sql.upper()]


def test_a_source_is_linked_where_the_site_shows_it_and_the_person_may_see_it(operator, staff, license_):
    outbox.send_message(NUMBER, "Struk", source=license_)
    outbox.send_message(NUMBER, "Struk", source=Sale.objects.create())
    link = f'href="/admin/django_kpwa/license/{license_.pk}/change/"'
    page = operator.get(LIST).content.decode()

    assert link in page
    assert ">Sale " in page  # the shop's sales are in no admin, so they are named but not linked
    page = staff("view_outboundmessage").get(LIST).content.decode()
    assert link not in page
    assert license_.name in page


def test_an_address_can_not_ask_for_a_lookup_that_reads_the_whole_table(operator, license_):
    assert operator.get(f"{LIST}?text__icontains=kopi").status_code == 400
    assert operator.get(f"{LIST}?license__api_key_ciphertext__startswith=a").status_code == 400


def test_a_row_alone_does_not_begin_with_the_shops_name_either(operator, license_):
    wanted = a_message(Status.UNKNOWN, text="*KOPI SENJA*\nJl. Braga 12\nNo. KS-7\nKopi Rp 18.000")
    a_message(text="*KOPI SENJA*\nJl. Braga 12\nNo. KS-8\nTeh Rp 9.000")

    assert listed(operator, "?needs_decision=yes") == [wanted.pk]
    assert "No. KS-7" in operator.get(f"{LIST}?needs_decision=yes").content.decode()
    dashboard = operator.get("/admin/django_kpwa/dashboard/").content.decode()
    assert "No. KS-7" in dashboard
    assert "KOPI SENJA" not in dashboard


# Search and filters


@pytest.mark.parametrize(
    "spelling",
    ["081234567890", "0812-3456-7890", "+62 812-3456-7890", "6281234567890", "812 3456 7890", " +6281234567890 "],
)
def test_a_number_is_found_in_any_spelling(operator, license_, spelling):
    wanted = a_message()
    a_message(to="081234567891")

    assert listed(operator, "?q=" + spelling.replace("+", "%2B")) == [wanted.pk]


@pytest.mark.parametrize(
    ("digits", "finds"),
    [
        *(("0812345", True), ("628123456", True), ("0812", True), ("890", True), ("456-78", True)),
        *(("0813", False), ("89", False), ("907", False)),
    ],
)
def test_a_number_is_found_by_its_beginning_and_by_any_three_digits(operator, license_, digits, finds):
    a_message()

    assert bool(listed(operator, f"?q={digits}")) is finds


def test_only_the_beginning_of_a_number_is_found_in_old_messages(operator, license_):
    old = aged(a_message())
    a_message(to="085712345678")

    assert listed(operator, "?q=567890") == []
    assert listed(operator, "?q=0812345") == [old.pk]


def test_words_find_the_messages_that_say_them_and_those_that_were_answered_with_them(operator, license_):
    says = a_message(text="Struk 8\nRoti Bakar Rp 504.000")
    answered = a_message(to="085712345678")
    a_message(to="081111111111")
    an_answer(license_, "6285712345678", "Rotinya gosong, mas")

    assert listed(operator, "?q=roti bakar") == [says.pk]
    assert listed(operator, "?q=GOSONG") == [answered.pk]
    assert listed(operator, "?q=roti") == [answered.pk, says.pk]
    assert listed(operator, "?q=504") == []  # digits are searched in numbers, not in amounts
    assert listed(operator, "?q=ro") == []


def test_a_group_is_found_in_any_case_with_all_that_it_was_sent(operator, license_):
    old = aged(outbox.send_group_message("Dapur Bandung", "Pesanan 1"))
    a_message()
    new = outbox.send_group_message("Dapur Bandung", "Pesanan 2")

    assert listed(operator, "?q=dapur") == [new.pk, old.pk]
    assert listed(operator, "?q=DAPUR BANDUNG") == [new.pk, old.pk]


def test_a_key_an_id_and_a_group_are_found_exactly(operator, license_):
    keyed = outbox.send_message(NUMBER, "Struk", idempotency_key="Order-A")
    attempted = a_message()
    an_attempt(attempted, gateway_id="3EB0C767D82B6A1E")
    group = outbox.send_group_message("Dapur 1", "Pesanan baru")
    a_message()

    assert listed(operator, "?q=Order-A") == [keyed.pk]
    assert listed(operator, "?q=order-a") == []
    assert listed(operator, "?q=3EB0C767D82B6A1E") == [attempted.pk]
    assert listed(operator, f"?q={keyed.uuid}") == [keyed.pk]
    assert listed(operator, "?q=Dapur 1") == [group.pk]
    assert listed(operator, "?q=%00") != []
    assert listed(operator, "?q=nothing of ours") == []


def test_what_needs_a_decision_is_listed_and_what_was_left_is_not(operator, license_):
    wanted = a_message(Status.UNKNOWN)
    a_message(Status.UNKNOWN, dismissed_at=timezone.now())
    a_message(Status.FAILED)

    assert listed(operator, "?needs_decision=yes") == [wanted.pk]


def test_messages_are_found_by_their_day_month_and_year(operator, license_):
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    today, yesterday = a_message(created_at=midnight), a_message(created_at=midnight - timedelta(seconds=1))
    old = a_message(created_at=midnight - timedelta(days=800))
    year, month = (midnight - timedelta(days=800)).year, (midnight - timedelta(days=800)).month

    assert listed(operator, "?when=today") == [today.pk]
    assert listed(operator, "?when=yesterday") == [yesterday.pk]
    assert listed(operator, "?when=7") == [today.pk, yesterday.pk]
    assert listed(operator, f"?created_at__year={year}&created_at__month={month}") == [old.pk]
    years = operator.get(LIST).content.decode()
    assert f"?created_at__year={year}" in years
    assert f"?created_at__year={midnight.year}" in years
    days = operator.get(f"{LIST}?created_at__year={year}&created_at__month={month}").content.decode()
    assert f"created_at__month={month}&amp;created_at__year={year}" in days


def test_dates_that_do_not_exist_break_nothing(operator, license_):
    a_message()
    for query in ("?created_at__year=2026&created_at__month=13", "?created_at__year=x", "?created_at__year=0"):
        assert operator.get(f"{LIST}{query}", follow=True).status_code == 200


@pytest.mark.parametrize("list_url", [LIST, "/admin/django_kpwa/webhookevent/"])
def test_of_many_licenses_the_first_are_offered_and_the_chosen_one(operator, license_, monkeypatch, list_url):
    monkeypatch.setattr(LicenseFilter, "MAX_OFFERED", 2)
    for name in ("Cabang A", "Cabang B", "Cabang C"):
        License.objects.create(name=name)

    def offered(query=""):
        filters = operator.get(f"{list_url}{query}").context["cl"].filter_specs
        (by_license,) = (spec for spec in filters if isinstance(spec, LicenseFilter))
        return [name for _, name in by_license.lookup_choices]

    assert offered() == ["Cabang A", "Cabang B"]
    assert offered(f"?license__id__exact={license_.pk}") == ["Cabang A", "Cabang B", "Toko Utama"]
    assert offered("?license__id__exact=99999999") == ["Cabang A", "Cabang B"]
    for nonsense in ("x", "9" * 30, "٣"):
        assert operator.get(f"{list_url}?license__id__exact={nonsense}", follow=True).status_code == 200


# Pages


def test_a_list_is_counted_and_paged_to_its_limit_and_says_that_there_is_more(operator, license_, monkeypatch):
    monkeypatch.setattr(BoundedPaginator, "MAX_LISTED", 100)
    outbox.send_messages(outbox.Message(NUMBER, f"Struk {number}") for number in range(100))
    assert "there are more" not in operator.get(LIST).content.decode()
    a_message()
    page = operator.get(f"{LIST}?p=2")

    assert "there are more" in page.content.decode()
    assert len(page.context["cl"].result_list) == 50
    assert operator.get(f"{LIST}?p=3").status_code == 302


def test_the_paginator_holds_at_its_edges(license_):
    class OfFour(BoundedPaginator):
        MAX_LISTED = 4

    rows = OutboundMessage.objects.order_by("-pk")
    empty = OfFour(rows, 2)
    assert (empty.count, empty.num_pages, empty.is_cut, list(empty.page(1))) == (0, 1, False, [])
    outbox.send_messages(outbox.Message(NUMBER, f"Struk {number}") for number in range(5))
    cut = OfFour(rows, 3)
    assert (cut.count, cut.num_pages, cut.is_cut) == (4, 2, True)
    assert [len(cut.page(1)), len(cut.page(2))] == [3, 1]
    with pytest.raises(EmptyPage):
        cut.page(3)


# The page of a message


@pytest.mark.parametrize("status", Status.values)
def test_the_page_of_every_status_says_what_it_means_and_offers_what_it_allows(operator, license_, status):
    message = a_message(status, settled_at=timezone.now(), sent_at=timezone.now())
    page = page_of(operator, message)
    offered = {name for name in ("send_again", "it_arrived", "leave_it", "cancel") if f"/{message.pk}/{name}/" in page}

    allowed = {
        Status.UNKNOWN: {"send_again", "it_arrived", "leave_it"},
        Status.QUEUED: {"cancel"},
        Status.FAILED: {"send_again"},
        Status.EXPIRED: {"send_again"},
        Status.CANCELLED: {"send_again"},
    }
    assert offered == allowed.get(status, set())
    assert "kpwa-meaning" in page
    assert "Kopi Rp 18.000" in page
    assert 'name="_save"' not in page


@pytest.mark.parametrize("cause", [*Cause.values, "withdrawn", "render_error"])
def test_a_reason_is_told_in_words(operator, license_, cause):
    page = page_of(operator, a_message(Status.UNKNOWN, reason=cause))

    assert "_" not in cause or cause not in page
    assert ("Why: " in page) is bool(cause)


def test_where_nobody_sends_a_waiting_message_does_not_promise_it(operator, license_):
    Lane.objects.create(license=license_, session_status="connected", session_seen_at=timezone.now())
    message = a_message(Status.QUEUED)
    Heartbeat.objects.note("sweep")
    assert str(STATUSES[Status.QUEUED].explained) in page_of(operator, message)
    Heartbeat.objects.update(seen_at=timezone.now() - timedelta(hours=3))
    page = page_of(operator, message)

    assert "the sending service is not running" in page
    assert str(STATUSES[Status.QUEUED].explained) not in page


def test_a_cause_says_what_it_means_and_what_to_do(operator, license_):
    page = page_of(operator, a_message(Status.FAILED, reason=Cause.NOT_CONNECTED))

    assert "Why: no connection to the gateway. Nothing was sent. Check whether this site can reach the gateway" in page


def test_the_page_tells_what_happened_in_order(operator, license_):
    now = timezone.now()
    message = a_message(
        Status.READ,
        sent_at=now + timedelta(seconds=3),
        delivered_at=now + timedelta(seconds=4),
        read_at=now + timedelta(seconds=5),
    )
    an_attempt(message, outcome=OutcomeKind.NOT_SENT, cause=Cause.NOT_CONNECTED, words="the gateway's own sentence")
    an_attempt(message, 2, outcome=OutcomeKind.ACCEPTED, gateway_id="3EB0")
    timeline = page_of(operator, message).partition("What happened")[2]

    told = (
        "Queued",
        "Attempt 1",
        "no connection",
        "the gateway&#x27;s own sentence",
        "Attempt 2",
        "3EB0",
        "Delivered",
        "> Read",
    )
    places = [timeline.index(words) for words in told]
    assert places == sorted(places)


def test_a_customers_answer_stands_on_the_page_of_the_message_that_it_follows(operator, license_):
    message = a_message(Status.SENT, sent_at=timezone.now() - timedelta(minutes=1))
    before = a_message(Status.SENT, sent_at=timezone.now() + timedelta(minutes=1))
    event = an_answer(license_, "6281234567890", "terima kasih")

    assert event.sender_number == message.recipient
    assert "terima kasih" in page_of(operator, message)
    assert "terima kasih" not in page_of(operator, before)


def test_the_page_folds_its_raw_fields_away_without_a_script(operator, license_):
    page = page_of(operator, a_message())
    before, _, folded = page.partition('<details class="kpwa-fields"><summary>')

    assert "Idempotency key" not in before
    assert "Idempotency key" in folded.partition("</details>")[0]
    assert "What happened" in before
    assert "submit-row" not in page


# Text


def test_stored_markup_and_addresses_never_become_live(operator, license_):
    message = a_message(
        Status.FAILED,
        text=MARKUP,
        image_url="javascript:alert(1)",
        reason_words=MARKUP,
        idempotency_key=MARKUP,
        recipient_typed=MARKUP,
    )
    an_attempt(message, words=MARKUP, gateway_id=MARKUP, code=MARKUP)
    pages = [page_of(operator, message), operator.get(LIST).content.decode()]

    assert all("&lt;script&gt;" in page and "<script>alert" not in page for page in pages)
    assert "javascript:alert(1)" in pages[0]
    assert 'href="javascript' not in pages[0].lower()
    assert '<img src="http' not in pages[0]


# Decisions


def test_send_again_asks_first_and_is_kept_in_the_log(operator, license_):
    message = a_message(Status.UNKNOWN, source_reference="KS-000042")
    address = f"{LIST}{message.pk}/send_again/"
    asked = operator.post(address).content.decode()

    assert "second copy" in asked
    assert "<li>0812-3456-7890 · KS-000042 · in doubt</li>" in asked
    message.refresh_from_db()
    assert message.status == Status.UNKNOWN
    operator.post(address, {"confirmed": "yes"})
    message.refresh_from_db()
    assert message.status == Status.QUEUED
    assert "Send again" in LogEntry.objects.get().change_message


@pytest.mark.parametrize("name", ["send_again", "it_arrived", "leave_it", "cancel"])
def test_nothing_is_decided_by_a_get_or_by_who_may_only_look(staff, license_, name):
    message = a_message(Status.UNKNOWN)
    looker = staff("view_outboundmessage")
    address = f"{LIST}{message.pk}/{name}/"

    assert looker.get(address).status_code == 405
    assert looker.post(address, {"confirmed": "yes"}).status_code == 403
    assert f"/{name}/" not in page_of(looker, message)


@pytest.mark.parametrize(
    ("action", "able", "other", "becomes"),
    [
        ("send_again", Status.UNKNOWN, Status.SENT, Status.QUEUED),
        ("it_arrived", Status.UNKNOWN, Status.FAILED, Status.SENT),
        ("cancel", Status.QUEUED, Status.READ, Status.CANCELLED),
    ],
)
def test_many_are_decided_after_asking_and_the_others_are_told(staff, license_, action, able, other, becomes):
    decider = staff("view_outboundmessage", "decide_outboundmessage")
    messages = [a_message(able), a_message(able), a_message(other)]
    asked = act(decider, action, messages).content.decode()
    assert "This applies to 2 messages." in asked
    assert asked.count("<li>0812-3456-7890 · ") == 2
    assert "1 other is left unchanged" in asked
    assert ("second copy" in asked) is (action == "send_again")
    assert set(OutboundMessage.objects.values_list("status", flat=True)) == {able, other}
    told = act(decider, action, messages, confirmed="yes").content.decode()

    assert "Done for 2 messages." in told
    assert "1 message was left unchanged" in told
    assert sorted(OutboundMessage.objects.values_list("status", flat=True)) == sorted([becomes, becomes, other])
    assert LogEntry.objects.count() == 2


def test_who_may_only_look_is_offered_the_export_alone(staff, license_):
    looker = staff("view_outboundmessage")
    message = a_message(Status.UNKNOWN)
    page = looker.get(LIST).content.decode()

    assert 'value="export"' in page
    assert 'value="send_again"' not in page
    act(looker, "send_again", [message], confirmed="yes")
    message.refresh_from_db()
    assert message.status == Status.UNKNOWN


def test_all_that_match_are_not_decided_where_they_are_too_many(operator, license_):
    outbox.send_messages(outbox.Message(NUMBER, f"Struk {number}") for number in range(MAX_AT_ONCE + 1))
    first = OutboundMessage.objects.first()
    told = act(operator, "cancel", [first], select_across="1", confirmed="yes").content.decode()

    assert "Nothing was changed" in told
    assert not OutboundMessage.objects.exclude(status=Status.QUEUED).exists()


# Export


def test_the_export_neutralises_formulas_and_holds_all_that_match(operator, license_):
    text = '=HYPERLINK("http://evil.example")'
    message = a_message(Status.FAILED, text=text, reason=Cause.REFUSED)
    a_message(Status.SENT)
    answer = operator.post(
        f"{LIST}?status__exact=failed", {"action": "export", "_selected_action": [message.pk], "select_across": "1"}
    )
    body = b"".join(answer.streaming_content).decode()
    header, *rows = csv.reader(io.StringIO(body.removeprefix("\ufeff")))

    assert answer.streaming
    assert body.startswith("\ufeff")
    assert f'messages-{timezone.localdate()}.csv"' in answer["Content-Disposition"]
    assert len(rows) == 1
    row = dict(zip(header, rows[0], strict=True))
    assert row["text"] == f"'{text}"
    assert row["status"] == "failed"
    assert row["reason"] == "the gateway refused the message"


def test_the_export_reads_in_pieces_and_gives_each_message_once(license_):
    outbox.send_messages(outbox.Message(NUMBER, f"Struk {number}") for number in range(6))
    answer = csv_response(OutboundMessage.objects.all(), rows_per_query=3)
    lines = b"".join(answer.streaming_content).decode().splitlines()

    assert len(lines) == len(set(lines)) == 7


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_NONE])
def test_whatever_a_spreadsheet_splits_the_export_at_no_cell_is_a_formula(operator, license_, delimiter, quoting):
    for text in ('Budi;=1+1;"@SUM(A1)"', "a\t=1+1", "x|+1", "b, -2+3", 'x"\r\n=1+1', "ok;\n ＝1", "\t\t=2"):
        a_message(Status.SENT, text=text)
    answer = operator.post(
        LIST, {"action": "export", "_selected_action": [OutboundMessage.objects.first().pk], "select_across": "1"}
    )
    body = b"".join(answer.streaming_content).decode().removeprefix("\ufeff")
    lines = io.StringIO(body) if quoting == csv.QUOTE_MINIMAL else body.splitlines()
    for row in csv.reader(lines, delimiter=delimiter, quoting=quoting):
        assert [cell for cell in row if cell.strip(' "').startswith(tuple(MARKS))] == []


# Sending to another number


def test_a_message_goes_to_another_number_as_a_new_one(staff, license_):
    sender = staff("view_outboundmessage", "add_outboundmessage")
    message = a_message(Status.SENT)
    address = f"{LIST}{message.pk}/another_number/"
    assert address in page_of(sender, message)
    assert 'name="to"' in sender.get(address).content.decode()
    assert "not a phone number" in sender.post(address, {"to": "0812 abc"}).content.decode()
    assert OutboundMessage.objects.count() == 1
    answer = sender.post(address, {"to": "0813 1111 2222"})

    copy = OutboundMessage.objects.latest("pk")
    assert answer.headers["Location"] == f"{LIST}{copy.pk}/change/"
    assert (copy.recipient, copy.text, copy.status) == ("6281311112222", message.text, Status.QUEUED)
    assert "6281311112222" not in LogEntry.objects.get().change_message


# Numbers as people paste them from a chat, a contact or a web page: with direction marks, a label or a link.
PASTED = [
    "0813-1111-2222 (WA)",
    "\u2068\u202a+62\u00a0813\u20111111\u20112222\u202c\u2069 (WhatsApp)",
    "\u202a" + "\u200e".join("0813 1111 2222") + "\u202c\u200f (WA)",
    "https://api.whatsapp.com/send?phone=6281311112222&text=Halo%20kak%2C%20saya%20mau%20pesan",
]


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.parametrize("page", ["outboundmessage/{message}/another_number", "license/{license}/send_test"])
def test_a_number_is_taken_in_every_spelling_that_is_read_elsewhere(operator, license_, pasted, page):
    address = f"/admin/django_kpwa/{page.format(message=a_message(Status.SENT).pk, license=license_.pk)}/"
    assert 'maxlength="255"' in operator.get(address).content.decode()
    assert operator.post(address, {"to": pasted}).status_code == 302
    assert OutboundMessage.objects.latest("pk").recipient == "6281311112222"


def test_another_number_is_refused_to_who_may_not_send(staff, license_):
    looker = staff("view_outboundmessage", "decide_outboundmessage")
    message = a_message(Status.SENT)
    address = f"{LIST}{message.pk}/another_number/"

    assert address not in page_of(looker, message)
    assert looker.get(address).status_code == 403
    assert looker.post(address, {"to": "0813 1111 2222"}).status_code == 403
    assert OutboundMessage.objects.count() == 1


def test_the_risky_answer_is_not_the_stronger_one(operator, license_):
    def primary(page):
        return re.findall(r'class="kpwa-button kpwa-primary"[^>]*>([^<]*)<', page)

    message = a_message(status=Status.FAILED)
    assert primary(page_of(operator, message)) == ["Send again"]
    OutboundMessage.objects.update(status=Status.UNKNOWN)
    assert primary(page_of(operator, message)) == []
    asked = operator.post(f"{LIST}{message.pk}/send_again/").content.decode()
    assert primary(asked) == ["No, take me back"]
