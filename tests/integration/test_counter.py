"""The template tags for a site's own pages, and what their buttons do, for each kind of user."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Permission
from django.contrib.messages import get_messages
from django.db import connection
from django.template import Context, engines
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation

from django_kpwa import outbox, shop_counter
from django_kpwa.counts import BoundedCount
from django_kpwa.gateway import SessionStatus
from django_kpwa.gateway.outcome import Cause
from django_kpwa.health import receipts_waiting
from django_kpwa.models import Heartbeat, Lane, License, OutboundMessage, PauseReason, Status
from django_kpwa.phone import written
from django_kpwa.shop_counter.chips import Person
from tests.shop.models import Sale

pytestmark = pytest.mark.django_db
NUMBER = "6281234567890"
ALL = ("view_outboundmessage", "decide_outboundmessage", "add_outboundmessage")


@pytest.fixture(autouse=True)
def swept(db):
    """A sweep that ran a moment ago."""
    Heartbeat.objects.note("sweep")


@pytest.fixture
def linked(license_):
    Lane.objects.create(
        license=license_,
        session_status=SessionStatus.CONNECTED.value,
        session_seen_at=timezone.now(),
        linked_number="628",
    )
    return license_


def a_message(license_, sale, status=Status.QUEUED, **columns):
    message = outbox.send_message(NUMBER, "Struk", license=license_, source=sale)
    OutboundMessage.objects.filter(pk=message.pk).update(status=status, **columns)
    message.refresh_from_db()
    return message


def a_person(*codenames, **fields):
    user = get_user_model().objects.create_user(f"kasir-{'-'.join(codenames)}", **fields)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="django_kpwa", codename__in=codenames))
    return get_user_model().objects.get(pk=user.pk)


def rendered(template, user=None, **context):
    request = RequestFactory().get("/")
    request.user = user or AnonymousUser()
    source = "{% load kpwa_counter %}" + template
    page = engines["django"].from_string(source).render(context, request)
    return " ".join(page.split())


def words(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def chip(sale, user=None):
    return rendered("{% kpwa_chip sale %}", user, sale=sale)


def paused(license_, reason, minutes_ago=5):
    at = timezone.now() - timedelta(minutes=minutes_ago)
    refused = license_.api_key_version if reason == PauseReason.UNAUTHORIZED else None
    Lane.objects.filter(license=license_).update(pause_reason=reason, paused_at=at, paused_key_version=refused)
    return at


def test_while_all_is_well_the_banner_says_nothing_and_asks_once(linked):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert words(rendered("{% kpwa_banner %}")) == ""
    assert len(queries) == 1


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (PauseReason.LOGGED_OUT, "WhatsApp logged out since 7:04 p.m."),
        (PauseReason.NUMBER_CHANGED, "WhatsApp stopped because another phone is linked since 7:04 p.m."),
        (PauseReason.UNAUTHORIZED, "WhatsApp stopped because the API key is refused since 7:04 p.m."),
        (PauseReason.KEY_UNREADABLE, "WhatsApp stopped because the API key cannot be read since 7:04 p.m."),
        (PauseReason.FAILING, "WhatsApp cannot be reached since 7:04 p.m."),
        (PauseReason.BY_PERSON, "WhatsApp paused since 7:04 p.m."),
    ],
)
def test_the_banner_says_what_is_wrong_and_since_when_in_the_sites_zone(linked, monkeypatch, reason, said):
    seven = timezone.now().replace(hour=12, minute=4, second=0, microsecond=0)  # 19.04 in Jakarta
    monkeypatch.setattr(timezone, "now", lambda: seven)
    paused(linked, reason, 0)
    assert said in words(rendered("{% kpwa_banner %}"))


def test_a_license_that_was_never_linked_or_has_no_key_needs_somebody(license_):
    assert "WhatsApp is not linked yet" in words(rendered("{% kpwa_banner %}"))
    License.objects.update(api_key_ciphertext="")
    assert "WhatsApp has no API key yet" in words(rendered("{% kpwa_banner %}"))
    License.objects.update(is_active=False)
    assert words(rendered("{% kpwa_banner %}")) == ""


def test_a_short_wait_that_the_gateway_asked_for_needs_nobody(linked):
    paused(linked, PauseReason.RATE_LIMITED)
    assert words(rendered("{% kpwa_banner %}")) == ""


def test_the_banner_counts_what_waits(linked):
    paused(linked, PauseReason.LOGGED_OUT)
    sale = Sale.objects.create()
    a_message(linked, sale)
    assert words(rendered("{% kpwa_banner %}")).endswith(", 1 receipt waiting")
    a_message(linked, sale, Status.SENT)
    a_message(linked, sale)
    a_message(linked, sale)
    assert words(rendered("{% kpwa_banner %}")).endswith(", 3 receipts waiting")


def test_the_banner_speaks_when_nobody_sends(linked):
    Heartbeat.objects.update(seen_at=timezone.now() - timedelta(minutes=13))
    assert words(rendered("{% kpwa_banner %}")) == ("✕ Receipts are not going out: the sending service is not running")
    assert "/dashboard/" in rendered("{% kpwa_banner %}", a_person("view_dashboard", is_staff=True))


def test_the_banner_speaks_when_what_waits_belongs_to_a_license_that_does_not_send(linked):
    a_message(linked, Sale.objects.create())
    License.objects.update(is_active=False)
    assert words(rendered("{% kpwa_banner %}")) == ("! WhatsApp of “Toko Utama” is switched off, 1 receipt waiting")


def test_the_banner_speaks_of_sales_without_a_receipt(linked):
    Sale.objects.create(status=Sale.Status.PAID, customer_phone="0812")
    assert words(rendered("{% kpwa_banner %}")) == "! Sales without a receipt: 1"


def test_a_large_count_is_written_as_the_sites_language_does():
    assert receipts_waiting(BoundedCount(1000, is_more=True)) == "1,000+ receipts waiting"
    with translation.override("id"):
        assert receipts_waiting(BoundedCount(1000, is_more=True)).startswith("1.000+ ")


def test_many_licenses_in_need_are_few_lines_the_most_urgent_first(linked):
    paused(linked, PauseReason.BY_PERSON)
    for number in range(7):
        other = License(name=f"Cabang {number}")
        other.set_api_key("k" * 20)
        other.save()
        Lane.objects.create(license=other, pause_reason=PauseReason.LOGGED_OUT, paused_at=timezone.now())
    page = rendered("{% kpwa_banner %}")
    assert page.count("<li") == 6
    assert "Cabang 0: WhatsApp logged out" in words(page).replace(" :", ":")
    assert "Toko Utama" not in page
    assert "and 3 more" in page


def test_the_banner_leads_only_those_who_may_help_to_where_they_can(linked):
    paused(linked, PauseReason.LOGGED_OUT)
    assert "<a " not in rendered("{% kpwa_banner %}")
    assert "<a " not in rendered("{% kpwa_banner %}", a_person(*ALL, is_staff=True))
    assert "<a " not in rendered("{% kpwa_banner %}", a_person("view_license"))
    viewer = rendered("{% kpwa_banner %}", a_person("view_license", "change_license", is_staff=True))
    assert f'href="/admin/django_kpwa/license/{linked.pk}/change/"' in viewer


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (Status.QUEUED, "◷ waiting"),
        (Status.SENDING, "➤ sending"),
        (Status.SENT, "✓ sent 2:03 p.m."),
        (Status.DELIVERED, "✓✓ delivered 2:03 p.m."),
        (Status.READ, "✓✓ read 2:03 p.m."),
        (Status.FAILED, "✕ failed 2:03 p.m."),
        (Status.UNKNOWN, "? in doubt 2:03 p.m."),
        (Status.CANCELLED, "– cancelled"),
        (Status.EXPIRED, "⊘ expired"),
    ],
)
def test_a_chip_says_its_status_in_a_symbol_words_and_the_sites_time(linked, monkeypatch, status, said):
    two = timezone.now().replace(hour=7, minute=3, second=0, microsecond=0)  # 14.03 in Jakarta
    times = dict.fromkeys(("sent_at", "delivered_at", "read_at", "settled_at"), two)
    sale = Sale.objects.create()
    a_message(linked, sale, status, **times)
    monkeypatch.setattr(timezone, "now", lambda: two)
    assert words(chip(sale)) == said


def test_another_day_is_said_with_its_date(linked):
    sale = Sale.objects.create()
    at = timezone.now().replace(year=2024, month=3, day=9, hour=7, minute=3)
    a_message(linked, sale, Status.SENT, sent_at=at)
    assert words(chip(sale)) == "✓ sent 03/09/2024 2:03 p.m."


def test_a_sale_without_a_message_has_no_receipt(linked):
    assert words(chip(Sale.objects.create())) == "– no receipt"


@pytest.mark.parametrize(
    ("status", "reason", "gateways_words", "said"),
    [
        (
            Status.FAILED,
            Cause.REFUSED,
            "Number is not on WhatsApp",
            "This number has no WhatsApp",
        ),
        (Status.FAILED, Cause.REFUSED, "Image too large", "The gateway said: Image too large"),
        (Status.FAILED, Cause.REFUSED, "", "The gateway refused the message"),
        (Status.FAILED, Cause.NOT_CONNECTED, "", "No connection to the gateway"),
        (Status.FAILED, "render_error", "KeyError: 'x'", "Its text could not be written"),
        (Status.UNKNOWN, Cause.TIMEOUT, "", "No answer in time"),
        (Status.UNKNOWN, Cause.WORKER_LOST, "", "The worker stopped while sending"),
    ],
)
def test_who_may_look_is_told_why(linked, status, reason, gateways_words, said):
    sale = Sale.objects.create()
    a_message(
        linked,
        sale,
        status,
        reason=str(reason.value if isinstance(reason, Cause) else reason),
        reason_words=gateways_words,
    )
    assert said in words(chip(sale, a_person("view_outboundmessage")))
    assert said not in words(chip(sale))


def test_what_the_gateway_said_never_becomes_markup(linked):
    sale = Sale.objects.create()
    a_message(linked, sale, Status.FAILED, reason="refused", reason_words="<script>alert(1)</script>")
    assert "<script" not in chip(sale, a_person("view_outboundmessage"))


@pytest.mark.parametrize("codenames", [(), ("decide_outboundmessage",), ("add_outboundmessage",)])
def test_a_number_is_shown_only_to_those_who_may_look_at_messages(linked, codenames):
    sale = Sale.objects.create()
    a_message(linked, sale, Status.FAILED)
    assert NUMBER[-6:] not in chip(sale, a_person(*codenames))
    assert written(NUMBER) in chip(sale, a_person(*ALL))


@pytest.mark.parametrize(
    ("codenames", "resend", "send_to"),
    [
        ((), False, False),
        (("view_outboundmessage",), False, False),
        (("decide_outboundmessage",), True, False),
        (("add_outboundmessage",), False, False),
        (("add_outboundmessage", "view_outboundmessage"), False, True),
        (ALL, True, True),
    ],
)
def test_buttons_stand_there_and_work_for_those_with_the_permission_alone(client, linked, codenames, resend, send_to):
    sale = Sale.objects.create()
    message = a_message(linked, sale, Status.FAILED)
    user = a_person(*codenames)
    client.force_login(user)
    page = chip(sale, user)
    for button, is_allowed in (("resend", resend), ("send-to", send_to)):
        address = f"/kpwa/messages/{message.uuid}/{button}/"
        assert (f'action="{address}"' in page) == is_allowed
        assert client.get(address).status_code in (403, 405)
        answer = client.post(address, {"to": "0857 1111 2222"})
        assert answer.status_code == (302 if is_allowed else 403)
        if not is_allowed:
            assert "You may not do this" in answer.content.decode()


def test_anonymous_people_get_the_status_alone_and_are_told_to_log_in(client, linked):
    sale = Sale.objects.create()
    message = a_message(linked, sale, Status.FAILED, reason="refused", reason_words="no such number")
    assert words(chip(sale)) == "✕ failed"
    for button in ("resend", "send-to"):
        answer = client.post(f"/kpwa/messages/{message.uuid}/{button}/", {"to": "0857 1111 2222"})
        assert answer.status_code == 403
        assert "You are not logged in" in answer.content.decode()
    assert OutboundMessage.objects.get().status == Status.FAILED


def test_send_again_queues_the_message_is_logged_and_leads_back(client, linked):
    user = a_person(*ALL)
    client.force_login(user)
    message = a_message(linked, Sale.objects.create(), Status.FAILED)
    address = f"/kpwa/messages/{message.uuid}/resend/"
    answer = client.post(address, headers={"referer": "http://testserver/till/?a=1"})
    assert answer["Location"] == "http://testserver/till/?a=1"
    assert [str(said) for said in get_messages(answer.wsgi_request)] == ["It will be sent again."]
    message.refresh_from_db()
    assert message.status == Status.QUEUED
    entry = LogEntry.objects.get()
    assert (entry.user_id, entry.object_id, entry.change_message) == (
        user.pk,
        str(message.pk),
        "Sent again from the counter.",
    )
    # A second press changes nothing and logs nothing.
    assert client.post(address, {"next": "/till/"})["Location"] == "/till/"
    assert LogEntry.objects.count() == 1


def test_a_message_in_doubt_is_sent_again_only_by_somebody_who_was_told_of_the_second_copy(client, linked):
    user = a_person(*ALL)
    client.force_login(user)
    sale = Sale.objects.create()
    message = a_message(linked, sale, Status.UNKNOWN, in_doubt=True, reason="timeout")
    assert "the customer gets it twice" in chip(sale, user)
    address = f"/kpwa/messages/{message.uuid}/resend/"
    asked = client.post(address, {"next": "/till/"})
    assert (asked.status_code, "the customer gets it twice" in asked.content.decode()) == (200, True)
    assert 'name="next" value="/till/"' in asked.content.decode()
    message.refresh_from_db()
    assert message.status == Status.UNKNOWN
    assert client.post(address, {"next": "/till/", "confirmed": "yes"})["Location"] == "/till/"
    message.refresh_from_db()
    assert message.status == Status.QUEUED


def test_a_copy_goes_to_another_number_and_is_about_the_same_sale(client, linked):
    client.force_login(a_person(*ALL))
    sale = Sale.objects.create()
    message = a_message(linked, sale, Status.FAILED)
    answer = client.post(f"/kpwa/messages/{message.uuid}/send-to/", {"to": "0857 1111 2222", "next": "/till/"})
    assert answer["Location"] == "/till/"
    copy = OutboundMessage.objects.exclude(pk=message.pk).get()
    assert (copy.recipient, copy.status, copy.source_id) == ("6285711112222", Status.QUEUED, str(sale.pk))
    said = "".join(str(said) for said in get_messages(answer.wsgi_request))
    assert "It will be sent to" in said
    assert "6285711112222" not in said
    assert "6285711112222" not in LogEntry.objects.get().change_message


def test_a_long_spelling_of_a_number_fits_the_field_and_comes_back_whole(client, linked):
    client.force_login(a_person(*ALL))
    sale = Sale.objects.create()
    message = a_message(linked, sale, Status.FAILED)
    assert 'maxlength="255"' in rendered("{% kpwa_chip sale %}", a_person(*ALL[1:], "view_outboundmessage"), sale=sale)
    typed = "\u2068\u202a0857\u20111111\u20112222\u202c\u2069 (nomor WhatsApp pribadi)"
    page = client.post(f"/kpwa/messages/{message.uuid}/send-to/", {"to": typed}).content.decode()
    assert f'value="{typed}"' in page
    assert 'maxlength="255"' in page
    typed = typed.replace("nomor WhatsApp pribadi", "WhatsApp")
    assert client.post(f"/kpwa/messages/{message.uuid}/send-to/", {"to": typed}).status_code == 302
    assert OutboundMessage.objects.latest("pk").recipient == "6285711112222"


def test_a_number_that_is_none_is_asked_for_again_as_it_was_typed(client, linked):
    client.force_login(a_person(*ALL))
    message = a_message(linked, Sale.objects.create(), Status.FAILED)
    answer = client.post(f"/kpwa/messages/{message.uuid}/send-to/", {"to": "0812", "next": "/till/"})
    page = answer.content.decode()
    assert (answer.status_code, "not a phone number" in page, 'value="0812"' in page) == (422, True, True)
    assert OutboundMessage.objects.count() == 1


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/", "//evil.example", "javascript:alert(1)", "foo", "admin:index", "../", "/" + "a" * 3000],
    ids=lambda elsewhere: elsewhere[:30],
)
def test_nobody_is_led_to_another_site(client, linked, elsewhere):
    client.force_login(a_person(*ALL))
    message = a_message(linked, Sale.objects.create(), Status.FAILED)
    address = f"/kpwa/messages/{message.uuid}/resend/"
    assert client.post(address, {"next": elsewhere}, headers={"referer": elsewhere})["Location"] == "/"


def test_a_post_without_its_token_is_refused_even_on_a_site_without_that_middleware(linked):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(a_person(*ALL))
    message = a_message(linked, Sale.objects.create(), Status.FAILED)
    for button in ("resend", "send-to"):
        assert browser.post(f"/kpwa/messages/{message.uuid}/{button}/", {"to": "085711112222"}).status_code == 403
    assert OutboundMessage.objects.get().status == Status.FAILED


def test_an_unknown_message_is_not_found(client, db):
    client.force_login(a_person(*ALL))
    assert client.post("/kpwa/messages/00000000-0000-4000-8000-000000000000/resend/").status_code == 404


def test_the_chips_of_twelve_sales_cost_three_queries(linked):
    sales = [Sale.objects.create() for _ in range(12)]
    for sale in sales:
        a_message(linked, sale, Status.FAILED)
        a_message(linked, sale)
    user = a_person(*ALL)
    chip(sales[0], user)  # this caches the person's permissions and the content type
    with CaptureQueriesContext(connection) as queries:
        page = rendered(
            "{% kpwa_prefetch sales %}{% for sale in sales %}{% kpwa_chip sale %}{% endfor %}",
            user,
            sales=Sale.objects.order_by("pk"),
        )
    assert page.count("◷") == 12
    assert len(queries) == 4  # the sales, their messages, whether any number is stopped, and missing receipts
    assert '"text"' not in queries[1]["sql"]


def test_a_receipt_that_never_became_a_message_is_told_and_sent_once_it_is_mended(client, linked):
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone="0812")
    assert words(chip(sale)).startswith("✕ no receipt")
    user = a_person(*ALL)
    shown = chip(sale, user)
    assert "The phone number is not one" in shown
    [address] = re.findall(r'action="([^"]*send-now/)"', shown)
    assert "send-now" not in chip(sale, a_person("view_outboundmessage"))
    client.force_login(user)
    assert client.get(address).status_code == 405
    answer = client.post(address, {"next": "/admin/"})
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
    assert [str(message) for message in get_messages(answer.wsgi_request)] == [
        "Nothing was sent: the phone number is not one. Correct the number and save, or send the receipt to another "
        "number."
    ]
    Sale.objects.filter(pk=sale.pk).update(customer_phone=NUMBER)
    client.post(address)
    assert words(chip(sale)) == "◷ waiting"
    assert OutboundMessage.objects.get().recipient == NUMBER
    assert client.post(address).status_code == 404


def test_a_sale_with_many_messages_leaves_the_others_theirs(linked):
    crowded, other = Sale.objects.create(), Sale.objects.create()
    expected = a_message(linked, other)
    newest = [a_message(linked, crowded) for _ in range(9)][-1]
    found = shop_counter.messages_about([crowded, other])
    assert found[other] == [expected]
    assert (found[crowded][0], len(found[crowded])) == (newest, 5)


def test_an_earlier_message_is_shown_while_it_needs_somebody(linked):
    sale = Sale.objects.create()
    a_message(linked, sale, Status.SENT)
    doubtful = a_message(linked, sale, Status.UNKNOWN, in_doubt=True)
    a_message(linked, sale)
    assert words(chip(sale)) == "◷ waiting ? in doubt"
    OutboundMessage.objects.filter(pk=doubtful.pk).update(dismissed_at=timezone.now())
    assert words(chip(sale)) == "◷ waiting"


def test_a_site_without_our_urls_shows_the_status_and_no_buttons(linked, settings):
    sale = Sale.objects.create()
    a_message(linked, sale, Status.FAILED)
    settings.ROOT_URLCONF = "django.conf.urls.i18n"
    page = chip(sale, a_person(*ALL, is_staff=True))
    assert ("failed" in page, "<form" in page) == (True, False)


def test_a_template_without_a_request_shows_what_anybody_may_see(linked):
    sale = Sale.objects.create()
    a_message(linked, sale, Status.FAILED, reason="refused")
    template = engines["django"].from_string("{% load kpwa_counter %}{% kpwa_banner %}{% kpwa_chip sale %}")
    assert words(template.template.render(Context({"sale": sale}))) == "✕ failed"


def test_nothing_stands_inline(linked):
    sale = Sale.objects.create()
    paused(linked, PauseReason.LOGGED_OUT)
    a_message(linked, sale, Status.UNKNOWN, in_doubt=True)
    page = rendered("{% kpwa_banner %}{% kpwa_chip sale %}", a_person(*ALL, "link_license", is_staff=True), sale=sale)
    assert "<form" in page
    for forbidden in ("<script", "<style", "style=", "onclick", "data:image"):
        assert forbidden not in page


@pytest.mark.parametrize("user", [None, object(), type("Own", (), {"is_active": True})()], ids=["none", "bare", "own"])
def test_a_user_of_another_kind_may_do_nothing_and_is_no_error(user):
    assert not Person(user).may("view_outboundmessage")
    assert not Person(user).is_staff


def test_the_banner_says_that_receipts_wait_because_no_license_is_chosen(linked):
    License(name="Cabang").save()
    License.objects.update(is_default=False)
    License.objects.filter(name="Cabang").update(api_key_ciphertext=linked.api_key_ciphertext)
    Lane.objects.create(
        license=License.objects.get(name="Cabang"), session_status="connected", session_seen_at=timezone.now()
    )
    assert words(rendered("{% kpwa_banner %}")) == ""
    for text in "ab":
        outbox.send_message(NUMBER, text)
    said = "2 receipts waiting, because several licenses are active, and none is the default"
    assert words(rendered("{% kpwa_banner %}")) == f"! {said}"
    page = rendered("{% kpwa_banner %}", a_person("view_license", is_staff=True))
    assert reverse("admin:django_kpwa_license_changelist") in page
    License.objects.update(is_active=False)
    assert words(rendered("{% kpwa_banner %}")) == "! 2 receipts waiting, because no license is active"
    License.objects.update(is_active=True)
    License.objects.filter(pk=linked.pk).update(is_default=True)
    assert words(rendered("{% kpwa_banner %}")) == ""
