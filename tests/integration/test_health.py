"""One place finds all problems. Doctor, dashboard and banner show its findings in broken situations."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.core import mail
from django.db import connection
from django.template import engines
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone, translation

from django_kpwa import alerts, health, license_actions, receipts
from django_kpwa.dispatch import sweep
from django_kpwa.exceptions import GatewayTimeoutError, UnauthorizedError
from django_kpwa.gateway import locmem
from django_kpwa.health import is_quiet, look
from django_kpwa.models import (
    Alert,
    Heartbeat,
    HourlyStatistic,
    Lane,
    License,
    OutboundMessage,
    PauseReason,
    ReceiptLook,
    Recipient,
    WebhookEvent,
    WebhookToken,
)
from django_kpwa.outbox import send_group_message, send_message
from django_kpwa.receipts import looks
from django_kpwa.testing import deliver, fail_next
from django_kpwa.words import Problem
from tests.cli import kpwa_json
from tests.integration.times import pass_time
from tests.processes import (
    site_environment,
    start_celery_beat,
    start_celery_worker,
    start_manage,
    wait_until,
)
from tests.servers import HAS_REDIS
from tests.shop.models import Sale

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "0812 3456 7890"
SECRET = "Zk3_a-long-and-random-secret-0123456789"


@pytest.fixture
def well(license_):
    """A linked default license, and a sweep that ran a moment ago."""
    Lane.objects.create(license=license_, session_status="connected", session_seen_at=timezone.now())
    sweep()
    return license_


def minutes_ago(minutes):
    return timezone.now() - timedelta(minutes=minutes)


def another(name, **fields):
    license_ = License(name=name, **fields)
    license_.set_api_key("another-api-key-0001")
    license_.save()
    Lane.objects.create(license=license_, session_status="connected", session_seen_at=timezone.now())
    return license_


def pause(reason, **columns):
    Lane.objects.update(pause_reason=reason, paused_at=minutes_ago(5), **columns)


def say(word):
    Lane.objects.update(session_status="unknown", session_word=word)


def restrict(license_, minutes):
    until = timezone.now() + timedelta(minutes=minutes)
    Lane.objects.update(restriction_step=1, restricted_until=until, restricted_at=timezone.now())
    message = send_message(NUMBER, "struk")
    OutboundMessage.objects.filter(pk=message.pk).update(due_at=until, reason="restricted")


def make_late(**columns):
    message = send_message(NUMBER, "struk")
    OutboundMessage.objects.filter(pk=message.pk).update(due_at=minutes_ago(25), **columns)


def put_in_doubt(count):
    for _ in range(count):
        fail_next(GatewayTimeoutError("no answer in time"))
        send_message(NUMBER, "struk")
        deliver()
        Lane.objects.update(pause_reason="", session_status="connected", failures=0)


def sell_untold():
    Sale.objects.bulk_create([Sale(status=Sale.Status.PAID, customer_phone=NUMBER, sold_at=minutes_ago(5))])


def break_the_receipt_class(monkeypatch):
    def fail(self, sale):
        raise RuntimeError("a fault of the site")

    monkeypatch.setattr(receipts.registry.registrations(Sale)[0].receipt.__class__, "get_phone_number", fail)
    for _ in range(3):
        Sale.objects.create(status=Sale.Status.PAID, customer_phone=NUMBER)


def silence_the_webhook(license_):
    now = timezone.now()
    WebhookToken.objects.create(license=license_, digest="d", created_at=now, registered_at=now)
    at = minutes_ago(200)
    WebhookEvent.objects.create(license=license_, body=b"{}", received_at=at, last_received_at=at, status="processed")
    hour = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    HourlyStatistic.objects.create(license=license_, hour=hour, sent=25)


def late_webhook(license_):
    at = minutes_ago(20)
    WebhookEvent.objects.create(
        license=license_, body=b"{}", received_at=at, last_received_at=at, next_try_at=at, status="pending"
    )


def delete_the_license_of_a_message(license_):
    message = send_message(NUMBER, "struk", license=license_)
    OutboundMessage.objects.filter(pk=message.pk).update(license_id=license_.pk + 1000)


def refuse_the_key_before_the_first_send(license_):
    Lane.objects.all().delete()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locmem.LocmemGateway, "get_status", _refuse)
        with pytest.raises(UnauthorizedError):
            license_actions.check_status(license_)


def _refuse(gateway, **_):
    raise UnauthorizedError("the key is not accepted", status_code=401, words="Unauthorized")


# For each situation: what breaks it, the finding, whether receipts go out, words of the dashboard's headline and of the
# banner, the alert that opens, and the answer of the health endpoint. An empty text means that the screen says nothing,
# or that no alert opens, because receipts go out or because nobody there needs to know.
SITUATIONS = {
    "all is well": (lambda site: None, None, True, "receipts can go out", "", "", "ok"),
    "no license": (
        lambda site: License.objects.all().delete(), Problem.NOT_SET_UP, False, "not set up yet", "",
        "", "blocked",
    ),
    "the only license inactive": (
        lambda site: License.objects.update(is_active=False), Problem.NONE_ACTIVE, False, "no license is active", "",
        "", "blocked",
    ),
    "inactive, and messages wait": (
        lambda site: (send_message(NUMBER, "x"), License.objects.update(is_active=False)),
        Problem.HELD, False, "no license is active", "is switched off, 1 receipt waiting",
        "", "blocked",
    ),
    "one of two inactive, and messages wait for it": (
        lambda site: (another("Cabang"), send_message(NUMBER, "x", license="Cabang"),
                      License.objects.filter(name="Cabang").update(is_active=False)),
        Problem.HELD, True, "their license is not active", "“Cabang” is switched off",
        "", "attention",
    ),
    "two licenses and no default": (
        lambda site: (another("Cabang"), License.objects.update(is_default=False)),
        Problem.WILL_BE_UNCHOSEN, False, "New receipts will wait", "",
        "", "blocked",
    ),
    "two licenses, no default, and messages wait": (
        lambda site: (another("Cabang"), License.objects.update(is_default=False), send_message(NUMBER, "x")),
        Problem.UNCHOSEN, False, "it is not clear which license", "1 receipt waiting, because several",
        "unchosen", "blocked",
    ),
    "nobody sends": (
        lambda site: Heartbeat.objects.update(seen_at=minutes_ago(13)),
        Problem.NO_SENDER, False, "sending service is not running", "sending service is not running",
        "nobody_sends", "blocked",
    ),
    "logged out": (
        lambda site: pause(PauseReason.LOGGED_OUT), health.STOPPED, False, "are not going out.", "logged out",
        "license_stopped", "blocked",
    ),
    "key refused": (
        lambda site: pause(PauseReason.UNAUTHORIZED, paused_key_version=site.api_key_version),
        health.STOPPED, False, "Receipts are not going out.", "the API key is refused",
        "license_stopped", "blocked",
    ),
    "key refused before the first send": (
        refuse_the_key_before_the_first_send, health.STOPPED, False, "Receipts are not going out.",
        "the API key is refused",
        "license_stopped", "blocked",
    ),
    "another phone": (
        lambda site: pause(PauseReason.NUMBER_CHANGED, linked_number="6281", confirmed_number="6282"),
        health.STOPPED, False, "Receipts are not going out.", "another phone is linked",
        "license_stopped", "blocked",
    ),
    "gateway failing": (
        lambda site: pause(PauseReason.FAILING, paused_until=timezone.now() + timedelta(hours=1)),
        health.STOPPED, False, "Receipts are not going out.", "cannot be reached",
        "license_stopped", "blocked",
    ),
    "paused by a person": (
        lambda site: pause(PauseReason.BY_PERSON), health.STOPPED, False, "a person paused them", "WhatsApp paused",
        "", "blocked",
    ),
    "asked to wait": (
        lambda site: pause(PauseReason.RATE_LIMITED, paused_until=timezone.now() + timedelta(minutes=1)),
        None, True, "receipts can go out", "",
        "", "ok",
    ),
    "no key": (
        lambda site: License.objects.update(api_key_ciphertext=""), health.STOPPED, False,
        "Receipts are not going out.", "no API key yet",
        "", "blocked",
    ),
    "never linked": (
        lambda site: Lane.objects.all().delete(), health.STOPPED, False, "WhatsApp is not linked yet", "not linked yet",
        "", "blocked",
    ),
    "number restricted": (
        lambda site: say("yellowCard"), health.STOPPED, False, "WhatsApp restricts the shop's number",
        "restricts the shop's number",
        "license_stopped", "blocked",
    ),
    "number banned": (
        lambda site: say("banned"), health.STOPPED, False, "is banned or blocked", "is banned or blocked",
        "license_stopped", "blocked",
    ),
    "passkey asked for, after a log-out": (
        lambda site: (pause(PauseReason.LOGGED_OUT), say("PassKeyRequire")), health.STOPPED, False,
        "asks for a passkey", "asks for a passkey",
        "license_stopped", "blocked",
    ),
    "late": (lambda site: make_late(), Problem.LATE, True, "going out late", "going out late", "late", "attention"),
    "a number that is none": (
        lambda site: Sale.objects.create(status=Sale.Status.PAID, customer_phone="0812"),
        Problem.RECEIPTS_MISSING, True, "some sales have none: 1", "Sales without a receipt: 1",
        "", "attention",
    ),
    "a sale that nothing was told of": (
        lambda site: (sell_untold(), looks.look_regularly()),
        Problem.NEVER_QUEUED, True, "for some sales none was ever made: 1", "for which no receipt was made: 1",
        "never_queued", "attention",
    ),
    "a receipt class whose candidates cannot be asked": (
        lambda site: (looks.look_regularly(), ReceiptLook.objects.update(error="TypeError: …")),
        Problem.MISSING_UNKNOWN, True, "not known whether some are missing", "",
        "never_queued", "attention",
    ),
    "every receipt class raises": (
        None, Problem.RECEIPTS_FAIL, False, "No receipts are made: 3 failed", "Receipts cannot be made: 3 failed",
        "receipts_fail", "blocked",
    ),
    "a message in doubt": (
        lambda site: put_in_doubt(1), Problem.DOUBT, True, "Receipts are going out.", "", "", "attention",
    ),
    "many in doubt": (
        lambda site: put_in_doubt(5), Problem.MUCH_DOUBT, True, "nobody knows whether they arrived", "",
        "much_doubt", "attention",
    ),
    "new customers wait": (
        lambda site: restrict(site, 60), Problem.RESTRICTED, True, "but those to new customers wait",
        "; 1 receipt waiting", "restricted", "attention",
    ),
    "a try is next": (
        lambda site: restrict(site, -1), Problem.RESTRICTED, True, "until one of them gets through",
        "until one of them gets through; 1 receipt waiting", "restricted", "attention",
    ),
    "webhooks silent": (
        silence_the_webhook, Problem.WEBHOOKS_SILENT, True, "no longer says whether they arrive", "",
        "webhooks_silent", "attention",
    ),
    "webhooks late": (late_webhook, Problem.WEBHOOKS_LATE, True, "receipts can go out", "", "", "attention"),
    "a deleted license's message": (
        delete_the_license_of_a_message, Problem.DELETED_LICENSE, True, "their license was deleted", "",
        "", "attention",
    ),
}  # fmt: skip


def dashboard(client):
    page = client.get("/admin/django_kpwa/dashboard/fresh/").content.decode()
    said = re.search(r'<div data-kpwa-part="summary".*?(?=<section)', page, re.DOTALL)[0]
    return _text_of(said)


def banner():
    template = engines["django"].from_string("{% load kpwa_counter %}{% kpwa_banner %}")
    return _text_of(template.render({}, RequestFactory().get("/")))


def _text_of(page):
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_screen_says_what_is_found(well, admin_client, monkeypatch, name):
    break_it, code, can_send, headline, counter, _, _ = SITUATIONS[name]
    break_the_receipt_class(monkeypatch) if break_it is None else break_it(well)
    found = look()
    assert code is None or code in [finding.code for finding in found.findings], found.findings
    assert found.is_blocked is not can_send
    assert headline.lower() in dashboard(admin_client).lower()
    assert counter in banner() if counter else banner() == ""
    assert is_quiet() or counter or code, "is_quiet() is False although there is no problem"
    if name not in ASKED_AGAIN:
        exit_code, told = kpwa_json("doctor")
        assert told["receipts_can_go_out"] is can_send
        assert exit_code == (0 if can_send and not any(f.tone == "bad" for f in found.findings) else 1)


CANARIES = ("81234567890", r"628\d{7,}", "test-api-key-0001", "struk", "a fault of the site", SECRET)
"""Patterns of what must not be shown: numbers, a key, texts, and the message of an exception in the site's code."""


@pytest.mark.parametrize("name", SITUATIONS)
def test_people_and_machines_are_told_what_is_found_and_nothing_secret(well, client, kpwa, monkeypatch, caplog, name):
    break_it, _, can_send, _, _, alert, status = SITUATIONS[name]
    kpwa(ALERT_EMAILS=["owner@shop.example"], HEALTH_SECRET=SECRET)
    posted = []
    monkeypatch.setattr("django_kpwa.alerts.ways.outside.ask", lambda *arguments: posted.append(arguments[2]))
    kpwa(ALERT_URLS={"https://monitor.example/": ""})
    break_the_receipt_class(monkeypatch) if break_it is None else break_it(well)
    caplog.clear()
    asked = client.get(f"/kpwa/health/{SECRET}/")
    assert (asked.status_code, asked.json()["status"]) == (200 if can_send else 503, status)
    assert alerts.check() == []
    pass_time(minutes=2)
    assert [told.code for told in alerts.check()] == ([alert] if alert else [])
    assert [row.code for row in Alert.objects.exclude(opened_at=None)] == ([alert] if alert else [])
    told = [f"{message.subject} {message.body}" for message in mail.outbox]
    assert len(told) == len(posted) == bool(alert)
    said = " ".join([*told, *(body.decode() for body in posted), caplog.text, asked.content.decode()])
    said += client.get(f"/kpwa/metrics/{SECRET}/").content.decode()
    assert [canary for canary in CANARIES if re.search(canary, said)] == []


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "; 1 receipt waiting, 2 to known customers went out"),
        ("id", "; 1 struk menunggu, 2 ke pelanggan lama terkirim"),
    ],
)
def test_how_many_known_customers_got_theirs_while_new_ones_wait_is_said(well, language, words):
    send_message(NUMBER, "before")
    deliver()
    Recipient.objects.update(last_inbound_at=timezone.now())
    restrict(well, 60)
    for _ in range(2):
        send_message(NUMBER, "struk")
        send_group_message("Dapur", "dapur")
    deliver()
    with translation.override(language):
        said = look().find(Problem.RESTRICTED)
        assert [words in said.say(text) for text in ("meaning", "headline", "counter")] == [True, False, True]


ASKED_AGAIN = (
    "logged out", "gateway failing", "key refused before the first send", "never linked", "number restricted",
    "number banned", "passkey asked for, after a log-out",
)  # fmt: skip
"""The doctor asks the gateway in memory, which is linked and accepts the key. Its answer ends these situations."""


def test_a_look_costs_as_much_for_many_messages_as_for_few(well):
    with CaptureQueriesContext(connection) as few:
        look()
    for number in range(30):
        send_message(NUMBER, f"struk {number}")
    with CaptureQueriesContext(connection) as many:
        look()
    assert len(many) == len(few) <= 16


def test_a_failure_of_long_ago_and_one_that_was_made_good_are_not_told(well):
    sale = Sale.objects.create(status=Sale.Status.PAID, customer_phone="0812")
    assert look().find(Problem.RECEIPTS_MISSING)
    sale.customer_phone = NUMBER
    sale.save()
    assert not look().find(Problem.RECEIPTS_MISSING)


def test_cron_rolls_statistics_up(well):
    from django.core.management import call_command

    send_message(NUMBER, "struk")
    call_command("kpwa", "dispatch", "--seconds", "5", verbosity=0)
    assert HourlyStatistic.objects.get().sent == 1
    assert Heartbeat.objects.filter(name="dispatch").exists()


@pytest.mark.skipif(not HAS_REDIS, reason="workers need a Redis broker")
class TestRealProcesses:
    @pytest.fixture(autouse=True)
    def site(self, license_, celery_settings, redis_url):
        Lane.objects.create(license=license_, session_status="connected", session_seen_at=timezone.now())
        celery_settings(broker_url=redis_url)

    def is_alive(self, name):
        return look().senders.is_alive(name)

    def the_problem(self):
        # Pretend that they have been up for some minutes.
        Heartbeat.objects.update(since=minutes_ago(5))
        return look().senders.problem

    def test_a_worker_that_idles_is_known_and_beat_is_missed(self, redis_url):
        with start_celery_worker(redis_url):
            wait_until(lambda: self.is_alive("worker"), what="a sign of life of the worker")
            assert look().senders.problem == Problem.STARTING
            assert self.the_problem() == Problem.NO_BEAT

    def test_a_worker_of_another_queue_is_told_apart(self, redis_url):
        with start_celery_worker(redis_url, queues="something-else"):
            wait_until(lambda: self.is_alive("other worker"), what="a sign of life of the worker")
            assert self.the_problem() == Problem.OTHER_QUEUE

    def test_beat_alone_is_known(self, redis_url, tmp_path):
        with start_celery_beat(redis_url, schedule_file=tmp_path / "beat"):
            wait_until(lambda: self.is_alive("beat") or self.is_alive("other beat"), what="a sign of life of beat")
            assert self.the_problem() == Problem.NO_WORKER

    def test_a_broker_that_is_down_is_known_by_what_it_did_not_take(self, celery_settings):
        celery_settings(broker_url="redis://127.0.0.1:9/0")
        Heartbeat.objects.note("beat")
        Sale.objects.create(status=Sale.Status.PAID, customer_phone=NUMBER)
        assert self.is_alive("publish failed")
        assert self.the_problem() == Problem.BROKER_DOWN

    def test_kpwa_run_is_enough_on_a_site_with_a_broker(self, redis_url):
        environment = {**site_environment(broker_url=redis_url)}
        with start_manage("kpwa", "run", environment=environment):
            wait_until(lambda: self.is_alive("run") and self.is_alive("sweep"), what="a sign of life of kpwa run")
            found = look().senders
            assert (found.problem, found.is_without_broker) == (None, True)


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="only PostgreSQL can make a role's transactions read-only"
)
def test_a_database_that_takes_no_changes_is_told(well):
    Heartbeat.objects.update(seen_at=minutes_ago(10))
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        assert look().find(Problem.READ_ONLY)
        assert "takes no changes" in banner()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
    assert not look().find(Problem.READ_ONLY)
