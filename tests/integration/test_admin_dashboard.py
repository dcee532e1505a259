"""The dashboard: it says whether receipts go out, checks permissions, and costs the same for many licenses."""

from __future__ import annotations

import re
import socket
from datetime import datetime, timedelta
from datetime import timezone as datetime_timezone

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_kpwa import outbox, statistics
from django_kpwa.admin.dashboard_charts import Statistics
from django_kpwa.admin.dashboard_decisions import MAX_LISTED
from django_kpwa.admin.dashboard_page import DashboardPage
from django_kpwa.license_conditions import queues_of
from django_kpwa.models import (
    Dashboard,
    EventStatus,
    Heartbeat,
    HourlyStatistic,
    Lane,
    License,
    OutboundMessage,
    PauseReason,
    Status,
    WebhookEvent,
    body_digest,
)
from tests.shop.models import Sale

PAGE = "/admin/django_kpwa/dashboard/"
FRESH, DECIDE = f"{PAGE}fresh/", f"{PAGE}decide/"
NUMBER = "081234567890"
MARKUP = "<script>alert('here')</script>"
HOUR = datetime(2026, 3, 4, 10, tzinfo=datetime_timezone.utc)


@pytest.fixture
def linked(license_):
    """A linked license, and a sweep that ran a moment ago."""
    Heartbeat.objects.note("sweep")
    Lane.objects.create(
        license=license_, session_status="connected", session_seen_at=timezone.now(), linked_number="6281200000001"
    )
    return license_


def lane_of(license_, **columns):
    Lane.objects.filter(pk=license_.pk).update(**columns)


def another_license(name, **fields):
    row = License(name=name, **fields)
    row.set_api_key("test-api-key-0002")
    row.save()
    return row


def a_message(status=Status.UNKNOWN, text="Struk 7\nKopi Rp 18.000", license_=None, **columns):
    message = outbox.send_message(NUMBER, text, license=license_)
    OutboundMessage.objects.filter(pk=message.pk).update(
        **{"status": status, "settled_at": timezone.now() if status != Status.QUEUED else None, **columns}
    )
    message.refresh_from_db()
    return message


def an_event(license_, status, at=None):
    body, at = str(WebhookEvent.objects.count()).encode(), at or timezone.now()
    return WebhookEvent.objects.create(
        license=license_, body=body, digest=body_digest(1, body), received_at=at, last_received_at=at, status=status
    )


def shown(client, address=PAGE):
    answer = client.get(address)
    assert answer.status_code == 200, answer
    return answer.content.decode()


def summary(client):
    """Return the sentences at the top."""
    said = re.search(r'<div data-kpwa-part="summary".*?(?=<section)', shown(client, FRESH), re.DOTALL)[0]
    return " ".join(re.sub(r"<[^>]*>", " ", said).split())


def status_of(*messages):
    return [OutboundMessage.objects.get(pk=message.pk).status for message in messages]


# Permissions


@pytest.mark.parametrize("address", [PAGE, FRESH, DECIDE])
@pytest.mark.parametrize("method", ["get", "post"])
def test_who_is_not_logged_in_is_sent_to_the_login_and_who_may_not_see_it_is_refused(client, staff, address, method):
    answer = getattr(client, method)(address)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/admin/login/?next={address}")
    refused = getattr(staff("view_license", "view_outboundmessage"), method)(address)
    assert refused.status_code == (405 if (address, method) == (DECIDE, "get") else 403)


def test_the_index_leads_there_and_offers_nothing_but_to_look(operator, staff):
    for page in (shown(operator, "/admin/"), shown(operator, "/admin/django_kpwa/")):
        assert f'href="{PAGE}"' in page
        assert f"{PAGE}add/" not in page
    [model] = [
        model
        for app in operator.get("/admin/").context["app_list"]
        for model in app["models"]
        if model["model"] is Dashboard
    ]
    assert model["view_only"]
    assert f'href="{PAGE}"' not in shown(staff("view_license"), "/admin/")


def test_there_are_no_pages_of_one_and_nothing_can_be_added(operator, license_):
    for page in ("add/", f"{license_.pk}/change/", f"{license_.pk}/delete/", f"{license_.pk}/history/"):
        assert operator.get(PAGE + page).status_code == 404


@pytest.mark.parametrize("address", [PAGE, FRESH])
def test_it_is_never_cached(operator, address):
    assert "no-store" in operator.get(address).headers["Cache-Control"]


def test_nothing_is_done_by_a_get(operator, linked):
    message = a_message()
    assert operator.get(DECIDE, {"action": "leave_it", "_selected_action": message.pk}).status_code == 405
    assert OutboundMessage.objects.get().dismissed_at is None


# The sentence at the top


def test_without_a_license_it_says_what_to_do_first(operator, staff):
    assert "WhatsApp is not set up yet. Add a license first" in summary(operator)
    assert 'href="/admin/django_kpwa/license/add/"' in shown(operator)
    assert "/license/add/" not in shown(staff("view_dashboard"))


def test_where_nothing_was_sent_yet_it_is_ready(operator, linked):
    assert "Ready: receipts can go out." in summary(operator)


def test_where_all_is_well_it_says_so_and_nothing_else(operator, linked):
    a_message(Status.SENT)
    assert summary(operator) == "✓ Receipts are going out."
    assert "No message needs a decision." in shown(operator)


def test_messages_in_doubt_are_told_beside_it(operator, linked):
    a_message()
    a_message()
    assert summary(operator) == (
        "✓ Receipts are going out. 2 messages need a decision. Say for each whether it arrived."
    )


def test_where_nobody_sends_it_says_so_before_anything_else(operator, linked):
    a_message(Status.QUEUED)
    Heartbeat.objects.update(seen_at=timezone.now() - timedelta(hours=3))
    assert "Receipts are not going out: the sending service is not running." in summary(operator)
    assert "Messages are waiting, but nothing sends them" in shown(operator)


def test_one_of_several_licenses_that_stopped_is_counted(operator, linked):
    another = another_license("Cabang")
    Lane.objects.create(license=another, pause_reason=PauseReason.LOGGED_OUT, paused_at=timezone.now())
    assert "Receipts of 1 of 2 licenses are not going out." in summary(operator)
    lane_of(linked, pause_reason=PauseReason.UNAUTHORIZED, paused_at=timezone.now(), paused_key_version=1)
    assert "Receipts are not going out." in summary(operator)


def test_a_license_that_was_never_linked_and_one_that_is_not_active_are_told_apart(operator, license_):
    Heartbeat.objects.note("sweep")
    assert "WhatsApp is not linked yet." in summary(operator)
    License.objects.update(is_active=False)
    assert "Nothing is sent: no license is active." in summary(operator)


def test_messages_that_are_late_though_all_runs_are_told(operator, linked):
    a_message(Status.QUEUED, due_at=timezone.now() - timedelta(minutes=25))
    assert "Receipts are going out late. The oldest has been due for 25 min." in summary(operator)


# Cards


@pytest.mark.parametrize(
    ("columns", "words", "sending", "button"),
    [
        ({}, "Connected", "Nothing is waiting.", None),
        ({"pause_reason": PauseReason.LOGGED_OUT}, "Needs a scan", "because WhatsApp is logged out", "link"),
        (
            {"pause_reason": PauseReason.UNAUTHORIZED, "paused_key_version": 1},
            "Key refused",
            "because the API key was refused",
            "change",
        ),
        ({"pause_reason": PauseReason.FAILING}, "Gateway unreachable", "gateway keeps failing", "check_status"),
        (
            {"pause_reason": PauseReason.NUMBER_CHANGED, "confirmed_number": "6281200000009"},
            "Another phone is linked",
            "before: 0812-0000-0009",
            "confirm_number",
        ),
        ({"pause_reason": PauseReason.BY_PERSON}, "Paused", "because a person paused it", "resume"),
        ({"pause_reason": PauseReason.RATE_LIMITED}, "The gateway asked to wait", "the gateway asked to wait", None),
        ({"session_seen_at": timezone.now() - timedelta(hours=3)}, "Not seen lately", "seen 3 h ago", "check_status"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_card_says_how_its_license_is_and_has_the_one_button_that_helps(
    operator, staff, linked, columns, words, sending, button
):
    lane_of(linked, paused_at=timezone.now(), **columns)
    page = shown(operator)
    card = page[page.index("<article") : page.index("</article>")]
    assert words in card
    assert sending in card
    assert "0812-0000-0001" in card
    assert card.count("kpwa-help-") == (1 if button else 0)
    if button:
        assert f'"/admin/django_kpwa/license/{linked.pk}/{button}/"' in card
    looker = shown(staff("view_dashboard"))
    assert "kpwa-help-" not in looker
    assert "/admin/django_kpwa/license/" not in looker


def test_a_card_offers_only_what_the_person_may_do(staff, linked):
    operating = staff("view_dashboard", "view_license", "operate_license")
    lane_of(linked, pause_reason=PauseReason.BY_PERSON, paused_at=timezone.now())
    assert "kpwa-help-" in shown(operating)
    for needs_more in (PauseReason.UNAUTHORIZED, PauseReason.LOGGED_OUT):
        lane_of(linked, pause_reason=needs_more, paused_key_version=1)
        assert "kpwa-help-" not in shown(operating)


@pytest.mark.parametrize("wanted", ["foo", "admin:index", "../", "https://evil.example/", "/" + "a" * 3000, "/a\nb"])
def test_what_is_posted_as_an_address_and_is_none_leads_to_the_page_itself(operator, linked, wanted):
    lane_of(linked, pause_reason=PauseReason.BY_PERSON, paused_at=timezone.now())
    answer = operator.post(f"/admin/django_kpwa/license/{linked.pk}/resume/", {"next": wanted})
    assert answer.status_code == 302
    of_itself = f"/admin/django_kpwa/license/{linked.pk}/change/"
    assert answer.headers["Location"] == ("/a%0Ab" if wanted == "/a\nb" else of_itself)
    assert operator.post("/admin/django_kpwa/dashboard/", {"next": wanted}).status_code < 500


def test_a_button_of_a_card_leads_back_here(operator, linked):
    lane_of(linked, pause_reason=PauseReason.BY_PERSON, paused_at=timezone.now())
    answer = operator.post(f"/admin/django_kpwa/license/{linked.pk}/resume/", {"next": PAGE})
    assert answer.headers["Location"] == PAGE
    page = shown(operator)
    assert 'class="messagelist"' in page
    assert "Connected" in page


def test_a_new_key_is_said_to_be_tried(operator, linked):
    lane_of(linked, pause_reason=PauseReason.UNAUTHORIZED, paused_at=timezone.now(), paused_key_version=0)
    assert "The previous key was refused. The new one is tried with the next message." in shown(operator)


def test_a_pause_that_ends_by_itself_says_when_it_is_tried_again(operator, linked):
    until = timezone.now() + timedelta(minutes=2)
    lane_of(linked, pause_reason=PauseReason.FAILING, paused_at=timezone.now(), paused_until=until)
    assert f"the next try is at {timezone.localtime(until):%H:%M:%S}" in shown(operator)


def test_the_most_urgent_card_comes_first(operator, linked):
    for name, reason in (("A paused", PauseReason.BY_PERSON), ("Z refused", PauseReason.UNAUTHORIZED)):
        paused = {"pause_reason": reason, "paused_at": timezone.now(), "paused_key_version": 1}
        Lane.objects.create(license=another_license(name), **paused)
    page = shown(operator)
    places = [page.index(f">{name}<") for name in ("Z refused", "A paused", "Toko Utama")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("lane", "message", "says"),
    [
        ({"lease_token": "0" * 32, "lease_expires_at": 60}, {}, "Sending now."),
        (
            {"lease_token": "0" * 32, "lease_expires_at": 60, "next_send_at": 9},
            {},
            "Sending at its pace: the next message goes out in",
        ),
        ({"next_send_at": 30}, {}, "Waiting for its pace: the next message goes out in"),
        ({"lease_token": "0" * 32, "lease_expires_at": -60}, {}, "The next message goes out in a moment."),
        ({}, {"due_at": 7200}, "The next message is due at"),
    ],
    ids=["sending", "between two", "at its pace", "a lost worker", "later"],
)
def test_a_card_says_what_the_license_is_doing(operator, linked, lane, message, says):
    now = timezone.now()

    def moved(columns):
        return {
            name: now + timedelta(seconds=value) if isinstance(value, int) else value for name, value in columns.items()
        }

    a_message(Status.QUEUED, **moved(message))
    lane_of(linked, **moved(lane))
    assert says in shown(operator)


def test_what_waits_is_counted_with_the_age_of_the_oldest(operator, linked):
    for minutes in (3, 41):
        a_message(Status.QUEUED, created_at=timezone.now() - timedelta(minutes=minutes))
    page = shown(operator)
    assert "<dd>2</dd>" in page
    assert "oldest: 41 min" in page


def test_a_backlog_is_counted_to_its_limit_and_no_further(operator, linked):
    quiet = another_license("Cabang")
    for _ in range(5):
        a_message(Status.QUEUED, license_=linked, created_at=timezone.now() - timedelta(minutes=41))
    a_message(Status.QUEUED, license_=quiet)
    found = queues_of([linked.pk, quiet.pk], 3)
    assert (str(found[linked.pk].waiting), str(found[quiet.pk].waiting)) == ("3+", "1")
    assert found[linked.pk].oldest_at < found[quiet.pk].oldest_at


def test_many_licenses_show_the_most_urgent_and_say_how_many_more_there_are(operator, linked, monkeypatch):
    monkeypatch.setattr(DashboardPage, "MAX_CARDS", 2)
    for number in range(3):
        another_license(f"Cabang {number}")
    assert "2 more licenses" in shown(operator)
    monkeypatch.setattr(DashboardPage, "MAX_LICENSES", 3)
    assert "1+ more licenses" in shown(operator)


def test_the_last_error_is_told_in_the_gateways_words_while_it_matters(operator, linked):
    lane_of(linked, last_error="the gateway's own sentence", last_error_at=timezone.now())
    assert "the gateway&#x27;s own sentence" in shown(operator)
    lane_of(linked, last_error_at=timezone.now() - timedelta(days=3))
    assert "own sentence" not in shown(operator)
    lane_of(linked, pause_reason=PauseReason.FAILING, paused_at=timezone.now())
    assert "own sentence" in shown(operator)


# Figures


def a_statistic(license_, hour, **columns):
    return HourlyStatistic.objects.create(license=license_, hour=hour, **columns)


def settled(at, status=Status.SENT, after=1.0, license_=None):
    sent_at = at if status == Status.SENT else None
    return a_message(
        status, license_=license_, settled_at=at, sent_at=sent_at, created_at=at - timedelta(seconds=after)
    )


def test_a_day_begins_at_midnight_of_the_sites_zone(license_):
    now = datetime(2026, 3, 4, 3, 30, tzinfo=datetime_timezone.utc)  # 10.30 in Jakarta
    a_statistic(license_, datetime(2026, 3, 3, 16, tzinfo=datetime_timezone.utc), sent=1)  # 23.00 the day before
    a_statistic(license_, datetime(2026, 3, 3, 17, tzinfo=datetime_timezone.utc), sent=20, failed=3)  # 0.00
    a_statistic(license_, datetime(2026, 3, 4, 2, tzinfo=datetime_timezone.utc), sent=400, unknown=5)
    read = Statistics(now)
    today = read.today([license_.pk])[license_.pk]
    assert (today.sent, today.failed, today.unknown) == (420, 3, 5)
    days = read.last_days().by_start
    assert (len(days), min(days), max(days)) == (30, datetime(2026, 2, 3).date(), datetime(2026, 3, 4).date())
    assert [counts.sent for counts in days.values()][-2:] == [1, 420]


def test_the_last_hours_are_twenty_four_with_the_running_one(license_):
    a_statistic(license_, HOUR - timedelta(hours=24), sent=1000)
    a_statistic(license_, HOUR - timedelta(hours=23), sent=1)
    settled(HOUR + timedelta(minutes=20))
    hours = Statistics(HOUR + timedelta(minutes=30)).last_hours()
    counts = [each.sent for each in hours.by_start.values()]
    assert (len(counts), counts[0], counts[-1], hours.total.sent) == (24, 1, 1, 2)


def test_the_running_hour_is_counted_as_of_now_and_once(license_):
    now = HOUR + timedelta(minutes=30)
    settled(now - timedelta(minutes=5))
    statistics.roll_up(now)
    settled(now - timedelta(minutes=1))
    settled(now - timedelta(minutes=1), Status.FAILED)
    total = Statistics(now).last_hours().total
    assert (total.sent, total.failed) == (2, 1)


def test_what_came_after_an_hours_last_roll_up_is_not_missing_for_a_minute(license_):
    settled(HOUR - timedelta(minutes=1))
    statistics.roll_up(HOUR - timedelta(seconds=50))
    settled(HOUR - timedelta(seconds=10))
    assert Statistics(HOUR + timedelta(seconds=20)).last_hours().total.sent == 2


def test_a_running_hour_of_very_many_is_read_from_the_last_roll_up(license_):
    now = HOUR + timedelta(minutes=30)
    for _ in range(3):
        settled(now)
    statistics.roll_up(now)
    settled(now)
    assert [row.sent for row in statistics.running_hours(now, max_counted=3)[1]] == [3]
    assert [row.sent for row in statistics.running_hours(now, max_counted=4)[1]] == [4]


def test_a_decision_moves_the_count_at_once(license_):
    now = HOUR + timedelta(minutes=30)
    message = settled(now, Status.UNKNOWN)
    assert Statistics(now).today([license_.pk])[license_.pk].unknown == 1
    OutboundMessage.objects.filter(pk=message.pk).update(status=Status.SENT, sent_at=now)
    today = Statistics(now).today([license_.pk])[license_.pk]
    assert (today.sent, today.unknown) == (1, 0)


def test_the_time_from_queued_to_sent_is_summed_over_licenses_and_hours(license_):
    other = another_license("Cabang")
    histogram = [0] * 12
    for row, hours in ((license_, 2), (other, 2), (other, 5)):
        a_statistic(row, HOUR - timedelta(hours=hours), sent=10, queued_to_sent=[0, 0, 6, 4, *histogram[4:]])
    settled(HOUR, after=7000, license_=license_)
    found = Statistics(HOUR + timedelta(minutes=30)).last_hours()
    # Of 31 messages, 18 are in the bucket up to 5 s, 12 in the one up to 10 s, and one in the one up to 4 h.
    assert found.median == pytest.approx(2 + 3 * 15.5 / 18)
    assert found.percentile_95 == pytest.approx(5 + 5 * (0.95 * 31 - 18) / 12)


def test_without_any_figure_the_charts_say_so(operator, linked):
    page = shown(operator)
    assert page.count("Nothing was sent in this period.") == 2
    assert "Time to send" not in page


# Needs a decision


def test_a_message_in_doubt_is_told_with_what_happened_and_its_buttons(operator, linked):
    sale = Sale.objects.create()
    message = outbox.send_message(NUMBER, "*Struk 7*\nKopi Rp 18.000", source=sale)
    OutboundMessage.objects.update(status=Status.UNKNOWN, reason="timeout", settled_at=timezone.now())
    page = shown(operator)
    for words in ("0812-3456-7890", "Struk 7", "no answer in time", f"Sale {sale.pk}"):
        assert words in page
    assert "Kopi" not in page
    for name in ("send_again", "it_arrived", "leave_it"):
        assert f'formaction="/admin/django_kpwa/outboundmessage/{message.pk}/{name}/"' in page


def test_one_is_decided_and_leads_back_here(operator, linked):
    message = a_message()
    address = f"/admin/django_kpwa/outboundmessage/{message.pk}/"
    asked = operator.post(f"{address}send_again/", {"next": PAGE}).content.decode()
    assert "second copy" in asked
    assert f'href="{PAGE}"' in asked
    answer = operator.post(f"{address}send_again/", {"next": PAGE, "confirmed": "yes"})
    assert answer.headers["Location"] == PAGE
    assert status_of(message) == [Status.QUEUED]


@pytest.mark.parametrize(
    ("action", "becomes"),
    [("send_again", Status.QUEUED), ("it_arrived", Status.SENT), ("leave_it", Status.UNKNOWN)],
)
def test_many_are_decided_after_asking_and_lead_back_here(staff, linked, action, becomes):
    decider = staff("view_dashboard", "view_outboundmessage", "decide_outboundmessage")
    first, second, third = a_message(), a_message(), a_message()
    chosen = {"action": action, "_selected_action": [first.pk, second.pk], "next": PAGE}
    asked = decider.post(DECIDE, chosen).content.decode()
    assert "This applies to 2 messages." in asked
    assert ("second copy" in asked) is (action == "send_again")
    assert f'href="{PAGE}"' in asked
    assert status_of(first, second) == [Status.UNKNOWN, Status.UNKNOWN]
    fields = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', asked)
    confirmed = {name: [value for key, value in fields if key == name] for name, _ in fields}
    answer = decider.post(DECIDE, confirmed)
    assert answer.headers["Location"] == PAGE
    assert status_of(first, second, third) == [becomes, becomes, Status.UNKNOWN]
    assert LogEntry.objects.count() == 2
    assert list(OutboundMessage.objects.undecided()) == [third]
    assert "Done for 2 messages." in shown(decider)


@pytest.mark.parametrize(
    "posted",
    [{"action": "send_again"}, {"action": "delete"}, {"action": "send_again", "_selected_action": ["x", "9" * 30]}],
)
def test_nothing_chosen_or_something_unknown_changes_nothing(operator, linked, posted):
    message = a_message()
    answer = operator.post(DECIDE, {"confirmed": "yes", **posted})
    assert answer.headers["Location"] == PAGE
    assert status_of(message) == [Status.UNKNOWN]


def test_who_may_only_look_sees_the_list_without_buttons_and_can_not_decide(staff, linked):
    message = a_message()
    looker = staff("view_dashboard", "view_outboundmessage")
    page = shown(looker)
    assert "0812-3456-7890" in page
    assert "formaction" not in page
    assert "_selected_action" not in page
    posted = {"action": "it_arrived", "_selected_action": [message.pk], "confirmed": "yes"}
    assert looker.post(DECIDE, posted).status_code == 403
    assert status_of(message) == [Status.UNKNOWN]


def test_who_may_not_see_messages_sees_how_many_there_are_and_no_more(staff, linked):
    message = a_message()
    decider = staff("view_dashboard", "decide_outboundmessage")
    page = shown(decider)
    assert "1 message needs a decision." in page
    assert "3456" not in page
    assert "Struk 7" not in page
    posted = {"action": "it_arrived", "_selected_action": [message.pk], "confirmed": "yes"}
    assert decider.post(DECIDE, posted).status_code == 403


def test_the_newest_are_listed_and_all_are_linked(operator, linked):
    for number in range(100, 101 + MAX_LISTED):
        a_message(text=f"Struk {number}")
    page = shown(operator)
    assert "Struk 100" not in page
    assert page.index("Struk 102") < page.index("Struk 101")
    assert 'href="/admin/django_kpwa/outboundmessage/?needs_decision=yes"' in page


def test_those_that_were_left_are_not_listed(operator, linked):
    a_message(dismissed_at=timezone.now())
    assert "No message needs a decision." in shown(operator)


# Services that must run


def test_a_site_without_a_broker_is_told_about_its_sender(operator, license_):
    assert "python manage.py kpwa run" in shown(operator)
    Heartbeat.objects.note("sweep")
    page = shown(operator)
    assert "Broker" not in page
    assert "kpwa run" not in page


@pytest.mark.parametrize(
    ("alive", "commands"),
    [
        ([], ["worker", "beat"]),
        (["worker"], []),  # it started a moment ago
        (["beat"], ["worker"]),
        (["other worker", "beat"], ["worker"]),
        (["worker", "sweep"], []),
    ],
)
def test_what_does_not_run_says_the_command_that_starts_it(operator, license_, celery_settings, alive, commands):
    celery_settings(broker_url="memory://")
    for name in alive:
        Heartbeat.objects.note(name)
    page = shown(operator)
    found = re.findall(r'<code class="kpwa-command">celery -A configured-for-a-test (\w+)', page)
    assert list(dict.fromkeys(found)) == commands


def test_the_broker_is_known_by_the_tasks_that_came_through_it_and_is_not_asked(operator, linked, celery_settings):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0.5)
        celery_settings(broker_url=f"amqp://guest:secret-password@127.0.0.1:{silent.getsockname()[1]}//")
        Heartbeat.objects.note("worker")
        page = shown(operator)
        assert "Delivers" in page
        assert "A worker used it" in page
        Heartbeat.objects.update(seen_at=timezone.now() - timedelta(minutes=20))
        page = shown(operator)
        assert "Unknown" in page
        assert "python manage.py kpwa doctor" in page
        assert "secret-password" not in page
        with pytest.raises(TimeoutError):
            silent.accept()


def test_waiting_webhooks_and_those_nobody_understood_are_counted(operator, staff, linked):
    an_event(linked, EventStatus.PENDING)
    an_event(linked, EventStatus.UNRECOGNISED)
    an_event(linked, EventStatus.PROCESSED)
    page = shown(operator)
    assert page.count("</span> 1</span>") == 2
    assert 'href="/admin/django_kpwa/webhookevent/?status__exact=unrecognised"' in page
    assert "kpwa dispatch" not in page
    WebhookEvent.objects.update(received_at=timezone.now() - timedelta(minutes=20))
    page = shown(operator)
    assert "The oldest came 20 min ago." in page
    assert "python manage.py kpwa dispatch" in page
    assert "webhookevent" not in shown(staff("view_dashboard"), FRESH)


# The parts that the script requests


def test_the_parts_come_without_a_page_around_them_and_the_days_when_they_are_asked_for(operator, linked):
    parts, with_days, page = shown(operator, FRESH), shown(operator, f"{FRESH}?days=yes"), shown(operator)
    assert "<html" not in parts

    def names(text):
        return re.findall(r'data-kpwa-part="([\w-]+)"', text)

    assert names(page) == names(with_days)
    assert set(names(page)) - set(names(parts)) == {"days"}
    assert f'data-address="{FRESH}"' in page


def test_asking_for_the_parts_does_not_take_what_the_next_page_should_say(operator, linked):
    operator.post(DECIDE, {"action": "send_again"})
    shown(operator, FRESH)
    assert "Select at least one message first." in shown(operator)


# Cost


def a_busy_site(license_, messages):
    now = timezone.now()
    for status in (Status.QUEUED, Status.UNKNOWN, Status.SENT, Status.FAILED):
        sent = outbox.send_messages(
            outbox.Message(NUMBER, f"Struk {number}", license=license_, source=Sale.objects.first())
            for number in range(messages)
        )
        OutboundMessage.objects.filter(pk__in=[each.pk for each in sent]).update(
            status=status, settled_at=now if status != Status.QUEUED else None
        )


def test_it_takes_as_many_queries_for_three_busy_licenses_as_for_a_quiet_one(operator, linked):
    Sale.objects.create()
    a_busy_site(linked, 1)
    shown(operator)
    with CaptureQueriesContext(connection) as few:
        shown(operator)
    for name in ("A", "B"):
        license_ = another_license(name)
        Lane.objects.create(license=license_, pause_reason=PauseReason.FAILING, paused_at=timezone.now())
        a_busy_site(license_, 40)
        a_statistic(license_, timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=5), sent=1)
    with CaptureQueriesContext(connection) as many:
        assert "80 messages" not in shown(operator)

    # The query for "was any message ever queued?" runs only if there is nothing else to say.
    assert len(many) <= len(few) <= 32


def test_nothing_is_counted_over_the_whole_table_and_no_whole_text_is_read(operator, linked):
    a_busy_site(linked, 3)
    with CaptureQueriesContext(connection) as queries:
        shown(operator)
    about_messages = [query["sql"] for query in queries if "django_kpwa_outboundmessage" in query["sql"]]
    assert len(about_messages) >= 8
    for sql in about_messages:
        # The list needs only the start of a text. In SQL that selects the whole text, the next column would follow it.
        assert not re.search(r"outboundmessage.\..text., .django_kpwa", sql), sql
        is_bounded = "LIMIT" in sql.upper()
        # A grouping query runs over rows that an earlier query has counted up to its limit.
        is_grouped = "GROUP BY" in sql.upper()
        assert is_bounded or is_grouped, sql


# Stored text


def test_stored_markup_stays_text(operator, linked):
    License.objects.update(name=MARKUP)
    lane_of(linked, last_error=MARKUP, last_error_at=timezone.now(), linked_number="1<b>")
    a_message(text=MARKUP, reason="timeout", recipient=f"62{MARKUP}")
    for address in (PAGE, FRESH):
        page = shown(operator, address)
        assert "<script>alert" not in page
        assert "1<b>" not in page
        assert page.count("&lt;script&gt;") >= 3


def test_no_key_stands_on_the_page(operator, linked):
    page = shown(operator)
    assert "test-api-key" not in page
    assert linked.api_key_ciphertext not in page
