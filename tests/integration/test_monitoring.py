"""Health and metrics for machines: who may read them, what they contain and never contain, and what they cost."""

from __future__ import annotations

import logging
import re
import sys
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.db.utils import OperationalError
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from django_kpwa import outbox
from django_kpwa.dispatch import sweep
from django_kpwa.models import HourlyStatistic, Lane, License, OutboundMessage, PauseReason, Status

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "Zk3_a-long-and-random-secret-0123456789"
NUMBER = "0812 3456 7890"
ADDRESSES = pytest.mark.parametrize("address", ["health", "metrics"])


@pytest.fixture
def site(license_, kpwa):
    """A linked license, a recent sweep, and the secret set."""
    kpwa(HEALTH_SECRET=SECRET)
    Lane.objects.create(
        license=license_, session_status="connected", session_seen_at=timezone.now(), linked_number="6281299998888"
    )
    sweep()
    return license_


def ask(address, secret=SECRET, method="get"):
    client = Client(enforce_csrf_checks=True, raise_request_exception=True)
    return getattr(client, method)(f"/kpwa/{address}/{secret}/")


def figures(response):
    """The samples in the response, read by Prometheus' own parser."""
    found = {}
    for family in text_string_to_metric_families(response.content.decode()):
        for sample in family.samples:
            found[(sample.name, *sorted(sample.labels.items()))] = sample.value
    return found


def test_a_site_that_sends_is_well(site):
    response = ask("health")
    assert response.status_code == 200
    told = response.json()
    assert (told["status"], told["database"], told["findings"]) == ("ok", True, [])
    [each] = told["licenses"]
    assert (each["name"], each["condition"], each["tone"], each["waiting"]) == ("Toko Utama", "connected", "good", 0)
    assert each["oldest_waiting_seconds"] is None
    assert told["heartbeats"]["sweep"] < 60
    assert ask("metrics").status_code == 200
    assert figures(ask("metrics"))["kpwa_blocked",] == 0


def test_a_license_that_stopped_is_503_and_prometheus_is_told_by_200(site):
    Lane.objects.update(pause_reason=PauseReason.LOGGED_OUT, paused_at=timezone.now())
    message = outbox.send_message(NUMBER, "struk")
    OutboundMessage.objects.filter(pk=message.pk).update(created_at=timezone.now() - timedelta(minutes=7))
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    HourlyStatistic.objects.create(license=site, hour=midnight, sent=214, failed=1, unknown=2)
    HourlyStatistic.objects.create(license=site, hour=midnight - timedelta(hours=1), sent=9000)

    response = ask("health")
    assert response.status_code == 503
    told = response.json()
    assert told["status"] == "blocked"
    stopped = {"code": "license_stopped", "tone": "bad", "blocks": True, "license": "Toko Utama"}
    assert stopped in told["findings"]
    [each] = told["licenses"]
    assert (each["condition"], each["waiting"]) == ("logged_out", 1)
    assert 415 < each["oldest_waiting_seconds"] < 480
    assert each["today"] == {"sent": 214, "failed": 1, "unknown": 2}

    response = ask("metrics")
    assert response.status_code == 200
    found = figures(response)
    name = ("license", "Toko Utama")
    assert found["kpwa_blocked",] == 1
    assert found["kpwa_finding", ("blocks", "true"), ("code", "license_stopped"), name, ("tone", "bad")] == 1
    assert found["kpwa_license_condition", ("condition", "logged_out"), name, ("tone", "bad")] == 1
    assert found["kpwa_waiting_messages", name] == 1
    assert 415 < found["kpwa_oldest_waiting_message_age_seconds", name] < 480
    assert found["kpwa_heartbeat_age_seconds", ("service", "sweep")] < 60
    assert found["kpwa_messages_today_total", name, ("result", "sent")] == 214
    assert found["kpwa_messages_today_total", name, ("result", "unknown")] == 2


@ADDRESSES
@pytest.mark.parametrize("given", ["", "too-short", "0" * 40, "with.a.dot.and-long-enough-0123456789", SECRET])
def test_without_or_with_another_or_a_weak_secret_there_is_nothing(site, kpwa, address, given):
    kpwa(HEALTH_SECRET=given)
    asked = (SECRET[:-1], SECRET + "x", "é" * 40, "0" * 39) if given == SECRET else (SECRET, given or "x" * 40)
    expected = Client().post("/kpwa/webhooks/" + "x" * 43 + "/", "{}", content_type="application/json")
    assert expected.status_code == 404
    for secret in asked:
        for method in ("get", "head", "post"):
            response = ask(address, secret, method)
            assert response.status_code == 404
            if method != "head":
                assert response.content == expected.content
            assert response["Content-Type"] == expected["Content-Type"]
            assert response["Cache-Control"] == "no-store"
            assert set(response.headers) <= {"Content-Type", "Cache-Control", "Content-Length"}


@ADDRESSES
def test_it_takes_get_and_head_alone_and_nothing_of_a_browser(site, address):
    response = ask(address)
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies
    assert "Cookie" not in response.get("Vary", "")
    head = ask(address, method="head")
    assert (head.status_code, head.content) == (200, b"")
    for method in ("post", "put", "delete"):
        response = ask(address, method=method)
        assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")
    assert Client().get(f"/kpwa/{address}/{SECRET}").status_code == 200


@ADDRESSES
def test_a_database_that_is_down_is_503_under_atomic_requests_too(site, address, monkeypatch):
    def refuse(*_):
        raise OperationalError(f"connection refused for {NUMBER}")

    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert ask(address).status_code == 200
    connection.close()
    with monkeypatch.context() as broken:
        # Not `connect`, which Django's SimpleTestCase leaves on the connection itself when it ends.
        broken.setattr(type(connections["default"]), "get_new_connection", refuse)
        response = ask(address)
    assert response.status_code == 503
    assert response.json() == {"status": "blocked", "database": False}
    assert ask(address).status_code == 200


def test_without_the_library_the_address_names_the_extra(site, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    response = ask("metrics")
    assert response.status_code == 501
    assert "django-kpwa[metrics]" in response.content.decode()
    assert ask("metrics", "x" * 40).status_code == 404
    assert ask("health").status_code == 200


@ADDRESSES
@pytest.mark.parametrize("method", ["get", "post"])
def test_no_log_line_has_the_secret(site, caplog, address, method):
    with caplog.at_level(logging.DEBUG):
        for secret in (SECRET, SECRET[:-1] + "x"):
            ask(address, secret, method)
        logging.getLogger("django.server").info('"%s" %s', f"GET /kpwa/{address}/{SECRET}/ HTTP/1.1", "200")
        logging.getLogger("django.request").warning("Not Found: %s", f"/kpwa/{address}/{SECRET}/")
    assert f"/kpwa/{address}/…/" in caplog.text
    assert SECRET[:-1] not in caplog.text


@ADDRESSES
def test_no_number_key_or_text_is_told(site, address):
    other = License(name="Cabang", is_active=False)
    other.set_api_key("canary-api-key-0002")
    other.save()
    for license_ in (site, other):
        for status in (Status.QUEUED, Status.UNKNOWN, Status.FAILED):
            message = outbox.send_message(NUMBER, "canary-struk", license=license_)
            settled_at = None if status == Status.QUEUED else timezone.now()
            OutboundMessage.objects.filter(pk=message.pk).update(status=status, settled_at=settled_at)
    body = ask(address).content.decode()
    assert "held" in body
    assert "Cabang" in body
    for canary in ("canary", "test-api-key", "6281234567890", "81234567890", "81299998888", SECRET):
        assert canary not in body


@ADDRESSES
def test_it_asks_as_much_for_many_messages_as_for_few_and_nothing_without_a_bound(site, address):
    def put(count):
        for status in (Status.QUEUED, Status.UNKNOWN, Status.SENT, Status.FAILED):
            sent = outbox.send_messages(outbox.Message(NUMBER, f"Struk {number}") for number in range(count))
            settled_at = None if status == Status.QUEUED else timezone.now()
            ids = [each.pk for each in sent]
            OutboundMessage.objects.filter(pk__in=ids).update(status=status, settled_at=settled_at)

    put(2)
    with CaptureQueriesContext(connection) as few:
        ask(address)
    put(60)
    with CaptureQueriesContext(connection) as many:
        ask(address)
    assert len(many) <= len(few) <= 20
    about_messages = [query["sql"] for query in many if "django_kpwa_outboundmessage" in query["sql"]]
    assert len(about_messages) >= 4
    for sql in about_messages:
        # A query that groups follows a count with a limit.
        assert re.search(r"LIMIT|GROUP BY", sql.upper()), sql
        assert not re.search(r"outboundmessage.\.(.text|.recipient)", sql), sql
