"""The channels of alerts, on real sockets. A channel that hangs or drips delays nothing."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager

import pytest
from django.core import checks, mail

from django_kpwa import alerts, outside
from django_kpwa.alerts import compare, ways
from django_kpwa.alerts.texts import trial
from django_kpwa.dispatch import sweep
from django_kpwa.gateway.addresses import is_page
from django_kpwa.models import Alert, Heartbeat, License, OutboundMessage, Status
from django_kpwa.outbox import send_message
from django_kpwa.store.alerts import LOOK_EVERY_SECONDS, LOOKS
from django_kpwa.testing import deliver
from tests.cli import kpwa as command
from tests.cli import kpwa_json
from tests.integration.test_alerts import look, pause, well  # noqa: F401 - a fixture
from tests.integration.test_heartbeat_url import OK, listening, wait_for_threads
from tests.integration.times import pass_time

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nothing_unanswered():
    outside._unanswered.clear()
    yield
    wait_for_threads()


@contextmanager
def silent_mail_server(settings):
    """A mail server that accepts a connection and sends nothing. The site sets no time limit for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.getsockname()
        settings.EMAIL_TIMEOUT = None
        yield
        server.settimeout(0.2)
        while True:
            try:
                server.accept()[0].close()
            except TimeoutError:
                break


def body_of(request):
    return json.loads(request.partition(b"\r\n\r\n")[2])


def test_an_alert_is_posted_as_json_or_by_the_sites_template(well, kpwa):  # noqa: F811
    with listening(OK) as (plain, requests), listening(OK) as (slack, templated):
        kpwa(ALERT_URLS={plain: "", f"{slack}?a=b": '{"chat": 5, "text": $message, "of": $license}'})
        pause()
        look()
        pass_time(minutes=2)
        assert look() == ["opened"]
    told = body_of(requests[0])
    assert requests[0].startswith(b"POST /ping/a-secret-path-0123456789 HTTP/1.1\r\n")
    assert b"Content-Type: application/json\r\n" in requests[0]
    assert {name: told[name] for name in ("event", "code", "license", "title")} == {
        "event": "opened",
        "code": "license_stopped",
        "license": "Toko Utama",
        "title": "WhatsApp of Toko Utama: Needs a scan",
    }
    assert told["url"] == f"https://shop.example/admin/django_kpwa/license/{License.objects.get().pk}/change/"
    assert body_of(templated[0]) == {
        "chat": 5,
        "text": f"{told['title']}\n{told['text']}\n{told['url']}",
        "of": "Toko Utama",
    }


def test_a_redirect_is_not_followed_and_an_answer_of_failure_is_one(kpwa, caplog):
    moved = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere-secret\r\nContent-Length: 0\r\n\r\n"
    with listening(moved) as (url, requests):
        kpwa(ALERT_URLS={url: ""})
        [[way]] = ways.tell([(trial(), None)])
    assert len(requests) == 1
    assert way.failure.in_english == "it answered 302"
    assert "could not be delivered by 127.0.0.1: it answered 302" in caplog.text
    assert "secret" not in caplog.text


def test_a_mail_server_that_hangs_and_an_address_that_drips_are_left(kpwa, settings):
    dripping = [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 200]
    with silent_mail_server(settings), listening(*dripping, pause=0.1) as (url, _), listening(OK) as (good, _):
        kpwa(ALERT_EMAILS=["owner@shop.example"], ALERT_URLS={url: "", good: ""})
        told = {way.name: str(way.failure or "") for way in next(ways.tell([(trial(), None)], seconds=2.0))}
        assert told["e-mail"] == "it took longer than 2 seconds"
        assert "longer" in told["127.0.0.1"]
        assert told["127.0.0.1 (2)"] == ""
        again = {way.name: str(way.failure or "") for way in next(ways.tell([(trial(), None)], seconds=2.0))}
        assert again["e-mail"] == "an earlier one still waits for an answer", "a second thread was started"


def test_neither_a_send_nor_a_page_waits_for_ways_that_hang(well, operator, kpwa, settings, monkeypatch):  # noqa: F811
    """An alert is being sent while a message is sent and the dashboard is requested."""
    pause()
    look()
    pass_time(minutes=2)
    Heartbeat.objects.filter(name="alerts").delete()
    other = License(name="Cabang")
    other.set_api_key("another-api-key-0001")
    other.save()
    gate = outside.Gate()
    with silent_mail_server(settings), listening(*[b"X"] * 200, pause=0.1) as (url, _):
        kpwa(ALERT_URLS={url: ""})
        monkeypatch.setattr(compare, "looking", gate)
        send_message("0812 3456 7890", "struk", license=other)
        sweep()
        threads = [thread for thread in threading.enumerate() if thread.name == outside.THREAD]
        assert threads, "no alert is being sent"
        deliver()
        assert operator.get("/admin/django_kpwa/dashboard/").status_code == 200
        assert OutboundMessage.objects.get().status == Status.SENT
        assert any(thread.is_alive() for thread in threads), "the alert is no longer being sent"
    for thread in threads:
        thread.join(10)
    alert = Alert.objects.get()
    assert (alert.untold, alert.failures) == ("opened", 1)


def test_a_process_looks_once_and_no_more_in_its_time(well, monkeypatch):  # noqa: F811
    monkeypatch.setattr(compare, "looking", outside.Gate())
    looks = []
    monkeypatch.setattr(outside, "in_a_thread", looks.append)
    for _ in range(3):
        alerts.check_soon()
        sweep()
    assert len(looks) == 1


def test_who_asks_first_starts_no_thread_where_the_site_has_just_looked(well, monkeypatch):  # noqa: F811
    """A thread opens a database connection of its own, which would be most of the cost for beat."""
    threads = []
    monkeypatch.setattr(outside, "in_a_thread", threads.append)

    def asked():
        monkeypatch.setattr(compare, "looking", outside.Gate())
        alerts.check_soon(asks_first=True)
        return len(threads)

    Heartbeat.objects.note(LOOKS)
    assert asked() == 0
    pass_time(seconds=LOOK_EVERY_SECONDS)
    assert asked() == 1
    assert asked() == 1


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("https://api.telegram.org/bot123:AAE-x_y/sendMessage", True),
        ("https://ntfy.sh", True),
        ("https://hooks.slack.com/services/T0/B0/abc", True),
        ("https://up.example/api/push/x?status=up&msg=", True),
        ("http://127.0.0.1:8080/x", True),
        ("http://192.168.1.5/x", True),
        ("http://[fd00::1]/x", True),
        ("http://ntfy.sh", False),
        ("http://8.8.8.8/", False),
        ("https://user@ntfy.sh/", False),
        ("https://ntfy.sh\\@evil.example/", False),
        ("https://ntfy.sh/#x", False),
        ("ftp://ntfy.sh/", False),
        ("ntfy.sh", False),
        ("https://ntfy.sh/a b", False),
        ("https://ntfy.sh/\n", False),
    ],
)
def test_which_addresses_are_posted_to(url, is_good):
    assert is_page(url) is is_good


def test_plain_http_is_a_decision_of_the_site():
    assert is_page("http://ntfy.sh", may_be_in_the_clear=True)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ALERT_EMAILS": ["owner"]}, "contains an invalid e-mail address"),
        ({"ALERT_URLS": {"http://ntfy.sh": ""}}, "not https"),
        ({"ALERT_URLS": {"https://ntfy.sh": "$text"}}, None),
        ({"ALERT_URLS": {"https://ntfy.sh": '{"message": "$text"}'}}, "does not produce JSON"),
        ({"ALERT_URLS": {"https://ntfy.sh": '{"message": $words}'}}, "does not produce JSON"),
        ({"ALERT_URLS": {"https://ntfy.sh": '{"message": $text}'}}, None),
        ({"ALERT_URLS": ["https://ntfy.sh"]}, "must be a dict"),
    ],
)
def test_a_way_that_cannot_work_is_an_error(kpwa, changed, words):
    kpwa(**changed)
    found = {message.id: message for message in checks.run_checks(tags=["kpwa"], databases=())}
    assert words in found["kpwa.E001"].msg if words else "kpwa.E001" not in found


def test_a_deployment_that_tells_nobody_is_warned(kpwa, settings):
    def found():
        messages = checks.run_checks(tags=["kpwa"], databases=(), include_deployment_checks=True)
        return {message.id for message in messages} & {"kpwa.W084", "kpwa.W085"}

    assert found() == {"kpwa.W084"}
    kpwa(ALERT_EMAILS=["owner@shop.example"])
    assert found() == {"kpwa.W085"}
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    assert found() == set()
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.console.EmailBackend"}}
    assert found() == {"kpwa.W085"}


def test_the_command_tests_each_way_and_says_what_became_of_it(license_, kpwa):
    assert command("alerts", "test") == (
        1,
        "Nobody is notified: set KPWA['ALERT_EMAILS'] or KPWA['ALERT_URLS']; see docs/monitoring.md.\n",
    )
    License.objects.update(alert_email="toko@shop.example")
    with listening(OK) as (url, requests):
        kpwa(ALERT_EMAILS=["owner@shop.example"], ALERT_URLS={url: ""})
        code, written = command("alerts", "test")
    assert code == 0
    assert written.splitlines() == [
        "[  ok   ] e-mail: told",
        "[  ok   ] e-mail (Toko Utama): told",
        "[  ok   ] 127.0.0.1: told",
    ]
    assert sorted(message.recipients() for message in mail.outbox) == [["owner@shop.example"], ["toko@shop.example"]]
    assert body_of(requests[0])["event"] == "test"
    code, told = kpwa_json("alerts", "test")
    assert (code, told[2]) == (1, {"way": "127.0.0.1", "problem": "ConnectionRefusedError"})


def test_the_command_lists_what_is_open(well):  # noqa: F811
    assert command("alerts") == (0, "Nothing is open.\n")
    pause()
    look()
    pass_time(minutes=2)
    look()
    code, [row] = kpwa_json("alerts")
    assert (code, row["code"], row["license"]) == (0, "license_stopped", "Toko Utama")


def test_the_dashboards_button_says_what_became_of_each_way_in_the_readers_language(operator, license_, kpwa, settings):
    settings.LANGUAGE_CODE = "id"
    page = operator.get("/admin/django_kpwa/dashboard/").content.decode()
    assert "Tidak ada yang diberi tahu" in page
    kpwa(ALERT_EMAILS=["owner@shop.example"], ALERT_URLS={"https://127.0.0.1:9/x": ""})
    assert "Kirim percobaan" in operator.get("/admin/django_kpwa/dashboard/").content.decode()
    page = operator.post("/admin/django_kpwa/dashboard/alerts/", follow=True).content.decode()
    assert "E-mail: percobaan terkirim." in page
    assert "127.0.0.1: percobaan tidak terkirim (" in page
    [message] = mail.outbox
    assert message.subject == "Struk WhatsApp: percobaan"


def test_closed_alerts_are_purged(well):  # noqa: F811
    from django_kpwa.retention import purge

    pause()
    look()
    pass_time(days=91)
    look()
    purge()
    assert Alert.objects.count() == 1, "purge deleted an open alert"
    Alert.objects.update(closed_at=Alert.objects.get().since, key=None)
    purge()
    assert not Alert.objects.exists()
