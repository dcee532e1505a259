"""The webhook's view: who may post and what is stored, whatever the host's settings and the sender's requests are."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.db import connection, connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_kpwa.license_actions import token_digest
from django_kpwa.models import DatabaseNow, EventStatus, License, WebhookEvent, WebhookToken
from django_kpwa.store import store
from django_kpwa.store.engine import Store
from django_kpwa.webhooks import process_event
from django_kpwa.webhooks.views import WebhookView
from tests.stores import INSERTS, stored_by

BODY = json.dumps({"id": "A1", "from": "6281234567890", "message": "terima kasih"}).encode()


def new_token(license_, **columns):
    token = secrets.token_urlsafe(32)
    columns = {"created_at": DatabaseNow(), "registered_at": DatabaseNow()} | columns
    return token, WebhookToken.objects.create(license=license_, digest=token_digest(token), **columns)


@pytest.fixture
def token(license_):
    return new_token(license_)[0]


def post(token, body=BODY, content_type="application/json", client=None, **headers):
    return (client or Client()).post(
        reverse("django_kpwa:webhook", args=[token]), data=body, content_type=content_type, headers=headers
    )


# --- storing


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (BODY, "application/json"),
        (b"id=A1&from=62812", "application/x-www-form-urlencoded"),
        (b"\x00\xff\xfe\xed\xa0\x80", "application/octet-stream"),
        (b'{"id": "\\ud800\\u0000"}', "text/plain"),
        (b"<xml/>", "text/xml"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"", ""),
        (BODY, "not a content type at all"),
    ],
)
def test_a_webhook_is_stored_byte_for_byte_under_any_content_type(token, license_, body, content_type):
    response = post(token, body, content_type)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    event = WebhookEvent.objects.get()
    assert bytes(event.body) == body
    assert (event.license, event.content_type, event.status) == (license_, content_type, EventStatus.PENDING)
    assert abs(event.received_at - timezone.now()) < timedelta(minutes=1)
    assert process_event(event.pk)


def test_the_address_works_without_its_slash(token):
    address = reverse("django_kpwa:webhook", args=[token])
    assert Client().post(address.rstrip("/"), BODY, content_type="application/json").status_code == 200
    assert WebhookEvent.objects.count() == 1


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_any_other_method_is_405_as_json(token, method):
    response = getattr(Client(), method)(reverse("django_kpwa:webhook", args=[token]))
    assert (response.status_code, response["Allow"]) == (405, "POST, GET, HEAD")
    assert response.json()["status"] == "error"


@pytest.mark.parametrize("method", ["get", "head"])
@pytest.mark.parametrize("slash", ["/", ""])
def test_a_gateway_may_verify_the_address_and_learns_nothing_of_the_token(
    token, method, slash, settings, django_assert_num_queries
):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PASSWORD": "rahasia"}
    for some in (token, "wrong", "x" * 500):
        address = reverse("django_kpwa:webhook", args=[some]).rstrip("/") + slash
        with django_assert_num_queries(0):
            response = getattr(Client(), method)(address + "?hub.challenge=1")
        assert (response.status_code, response["Cache-Control"]) == (200, "no-store")
        assert method == "head" or response.json() == {"status": "ok"}
    assert not WebhookEvent.objects.exists()
    assert not WebhookToken.objects.exclude(first_used_at=None).exists()


def test_the_header_of_a_packed_body_is_kept(token):
    packed = gzip.compress(BODY)
    for _ in range(2):  # the second one uses another statement, because the token is known
        assert post(token, packed, **{"Content-Encoding": "gzip"}).status_code == 200
        event = WebhookEvent.objects.get()
        assert (bytes(event.body), event.content_encoding) == (packed, "gzip")
        assert process_event(event.pk)
        event.refresh_from_db()
        assert (event.kind, event.understood["text"]) == ("incoming", "terima kasih")
        event.delete()


def test_a_repeat_is_counted_and_told_the_same(token):
    for _ in range(3):
        assert post(token).json() == {"status": "ok"}
    event = WebhookEvent.objects.get()
    assert event.times_received == 3
    assert event.last_received_at >= event.received_at


def test_the_same_body_for_another_license_is_another_event(token):
    other = License(name="Toko Kedua")
    other.set_api_key("test-api-key-0002")
    other.save()
    post(token)
    post(new_token(other)[0])
    assert WebhookEvent.objects.count() == 2


def age(event, minutes):
    long_ago = timezone.now() - timedelta(minutes=minutes)
    WebhookEvent.objects.filter(pk=event.pk).update(last_received_at=long_ago, received_at=long_ago)


def test_a_customer_who_says_the_same_on_two_days_is_heard_twice(token):
    nameless = json.dumps({"from": "6281234567890", "message": "ok"}).encode()
    post(token, nameless)
    first = WebhookEvent.objects.get()
    process_event(first.pk)
    age(first, minutes=11)
    post(token, nameless)
    post(token, nameless)
    assert [event.times_received for event in WebhookEvent.objects.order_by("pk")] == [1, 2]


@pytest.mark.parametrize("named", [{"id": "A1"}, {"timestamp": 1700000000}])
def test_a_body_that_names_an_id_or_a_time_is_a_repeat_for_ever(token, named):
    body = json.dumps({"from": "6281234567890", "message": "ok", **named}).encode()
    post(token, body)
    event = WebhookEvent.objects.get()
    process_event(event.pk)
    age(event, minutes=60 * 24)
    post(token, body)
    assert WebhookEvent.objects.get().times_received == 2


def test_a_nameless_body_soon_after_or_not_processed_yet_is_a_repeat(token):
    body = json.dumps({"from": "6281234567890", "message": "ok"}).encode()
    post(token, body)
    event = WebhookEvent.objects.get()
    age(event, minutes=11)
    post(token, body)  # a repeat: the first event is not processed yet
    process_event(event.pk)
    post(token, body)  # a repeat: the event before came a moment ago
    assert WebhookEvent.objects.get().times_received == 3


@pytest.mark.django_db(transaction=True)
def test_the_same_webhook_twenty_times_at_once_is_stored_once(token):
    def once(_):
        try:
            return post(token).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(once, range(20))) == [200] * 20
    assert WebhookEvent.objects.get().times_received == 20


@pytest.mark.parametrize("body", [BODY, b"\x00\xff%s", b""])
def test_the_written_out_insert_of_an_event_stores_what_the_orms_form_stores(license_, body):
    stored = []
    for form in INSERTS:
        with stored_by(form):
            event_id = store().insert_event(license_.pk, body, "text/plain", "a" * 64)
            assert store().insert_event(license_.pk, body, "text/plain", "a" * 64) is None
        row = WebhookEvent.objects.get(pk=event_id)
        assert row.received_at == row.last_received_at == row.next_try_at
        assert abs(row.received_at - timezone.now()) < timedelta(minutes=1)
        names = {field.attname for field in WebhookEvent._meta.concrete_fields} - {"id", "uuid"}
        stored.append(
            {name: bytes(row.body) if name == "body" else getattr(row, name) for name in names if name[-3:] != "_at"}
        )
        row.delete()
    assert all(each == stored[0] for each in stored)


# --- who may post


def test_under_a_token_that_is_in_use_a_webhook_is_one_statement(token, django_assert_num_queries):
    if not connection.features.can_return_rows_from_bulk_insert:
        pytest.skip("MySQL has no RETURNING")
    post(token)
    with django_assert_num_queries(1):
        assert post(token, b"another").status_code == 200
    assert WebhookEvent.objects.count() == 2


@pytest.mark.parametrize("end", ["expires", "is removed", "was never used"])
def test_a_token_in_use_that_comes_to_its_end_is_refused_at_once(token, end):
    assert post(token).status_code == post(token, b"another").status_code == 200
    row = WebhookToken.objects.filter(digest=token_digest(token))
    if end == "expires":
        row.update(expires_at=DatabaseNow())
    elif end == "is removed":
        row.delete()
    else:
        row.update(first_used_at=None)
    assert post(token, b"a third").status_code == (200 if end == "was never used" else 404)
    assert WebhookEvent.objects.count() == (3 if end == "was never used" else 2)
    assert WebhookToken.objects.exclude(first_used_at=None).exists() == (end != "is removed")


def test_an_unknown_token_is_404_and_stores_nothing(token):
    response = post("x" * 43)
    assert (response.status_code, response.json()) == (404, {"status": "error", "message": "Not found."})
    assert not WebhookEvent.objects.exists()


def test_an_expired_token_is_told_the_same_as_an_unknown_one(license_):
    expired, _ = new_token(license_, expires_at=timezone.now() - timedelta(seconds=1))
    assert post(expired).content == post("x" * 43).content
    assert post(expired).status_code == 404


def basic(username, password):
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": basic("kasir", "rahasia")}, 200),
        ({"Authorization": basic("kasir", "salah")}, 401),
        ({"Authorization": basic("siapa", "rahasia")}, 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": "Basic /w=="}, 401),
        ({"Authorization": "Bearer rahasia"}, 401),
        ({"X-Webhook-Password": "rahasia"}, 200),
        ({"X-Webhook-Password": "salah", "Authorization": basic("kasir", "rahasia")}, 401),
    ],
)
def test_a_password_where_set_must_come_with_the_token(token, settings, headers, status):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_USERNAME": "kasir", "WEBHOOK_PASSWORD": "rahasia"}
    response = post(token, **headers)
    assert response.status_code == status
    assert WebhookEvent.objects.exists() == (status == 200)
    assert ("WWW-Authenticate" in response) == (status == 401)


def test_without_the_password_a_right_token_is_told_apart_by_nothing(token, settings):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PASSWORD": "rahasia"}
    assert post(token).content == post("x" * 43).content


def test_a_new_token_takes_over_with_its_first_event_and_the_old_one_lives_a_day_more(license_):
    old, old_row = new_token(license_)
    post(old, b"1")
    new, new_row = new_token(license_)
    assert post(old, b"2").status_code == 200
    old_row.refresh_from_db()
    assert old_row.expires_at is None, "the gateway still uses the old token"
    post(new, b"3")
    old_row.refresh_from_db()
    new_row.refresh_from_db()
    assert abs(old_row.expires_at - timezone.now() - timedelta(days=1)) < timedelta(minutes=1)
    assert new_row.expires_at is None
    assert post(old, b"4").status_code == 200


def test_a_late_first_event_under_an_old_token_does_not_retire_the_new_one(license_):
    old, _ = new_token(license_)
    _, new_row = new_token(license_)
    post(old)
    new_row.refresh_from_db()
    assert new_row.expires_at is None


def test_another_licenses_tokens_are_left_alone(license_, token):
    other = License(name="Toko Kedua")
    other.set_api_key("test-api-key-0002")
    other.save()
    post(new_token(other)[0])
    assert WebhookToken.objects.get(license=license_).expires_at is None


def test_a_token_whose_registration_seemed_to_fail_stays_once_the_gateway_uses_it(license_):
    token, row = new_token(license_, registered_at=None, expires_at=timezone.now() + timedelta(days=1))
    post(token)
    row.refresh_from_db()
    assert row.expires_at is None
    assert row.registered_at is not None


# --- the host's settings


HOSTILE_SITE = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x", USE_TZ=True, ROOT_URLCONF="django_kpwa.urls", ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "ATOMIC_REQUESTS": True}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", "django_kpwa"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FileUploadParser"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.StaticHTMLRenderer"],
        "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
        "DEFAULT_THROTTLE_RATES": {"anon": "0/day"},
        "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
        "ALLOWED_VERSIONS": ["9"],
        "EXCEPTION_HANDLER": "nothing.there",
        "FORMAT_SUFFIX_KWARG": "token",
    },
)
django.setup()
from django.core.management import call_command
from django.test import Client
from django_kpwa.license_actions import token_digest
from django_kpwa.models import DatabaseNow, License, WebhookEvent, WebhookToken

call_command("migrate", verbosity=0)
license = License.objects.create(name="x")
WebhookToken.objects.create(license=license, digest=token_digest("secret"), created_at=DatabaseNow())

def post(token):
    answer = Client().post(f"/webhooks/{token}/", b"x", content_type="text/x", headers={"Accept": "a/b; version=1"})
    return answer.status_code, answer["Content-Type"]

print([post("secret"), post("wrong"), Client().get("/webhooks/secret/").status_code, WebhookEvent.objects.count()])
"""


def test_hostile_rest_framework_settings_change_nothing():
    environ = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    site = subprocess.run([sys.executable, "-c", HOSTILE_SITE], capture_output=True, text=True, env=environ, timeout=60)
    assert site.stdout.strip() == "[(200, 'application/json'), (404, 'application/json'), 200, 1]", site.stderr


def test_csrf_checks_do_not_apply(token, settings):
    settings.MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware", *settings.MIDDLEWARE]
    assert post(token, client=Client(enforce_csrf_checks=True)).status_code == 200


def test_sites_that_demand_a_login_everywhere_do_not_demand_it_here(token, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert post(token).status_code == 200


def test_a_body_above_djangos_own_limit_is_taken(token, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 1
    assert post(token, b"a=1&b=2&" * 1000, "application/x-www-form-urlencoded").status_code == 200


def test_a_body_that_a_middleware_has_read_is_taken(token, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.integration.test_webhook_view.reading_body"]
    assert post(token).status_code == 200
    assert bytes(WebhookEvent.objects.get().body) == BODY


def reading_body(get_response):
    def middleware(request):
        assert request.body
        return get_response(request)

    return middleware


def test_a_multipart_form_that_a_middleware_has_parsed_keeps_its_fields(token, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.integration.test_webhook_view.parsing_form"]
    response = Client().post(
        reverse("django_kpwa:webhook", args=[token]), {"id": "A1", "from": "6281234567890", "message": "halo & siang"}
    )
    assert response.status_code == 200
    event = WebhookEvent.objects.get()
    process_event(event.pk)
    event.refresh_from_db()
    assert (event.understood["text"], event.gateway_id) == ("halo & siang", "A1")


@pytest.mark.parametrize(
    ("charset", "sent", "text"),
    [("latin-1", b"caf\xe9 & teh", "café & teh"), ("raw_unicode_escape", rb"a\ud800b", "a?b")],
    ids=["of western Europe", "with half of a surrogate pair"],
)
def test_a_form_that_was_parsed_by_its_own_charset_keeps_its_text(token, settings, charset, sent, text):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.integration.test_webhook_view.parsing_form"]
    fields = (("from", "6281234567890".encode(charset)), ("message", sent))
    parts = (b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), v) for n, v in fields)
    content_type = f"multipart/form-data; boundary=x; charset={charset}"
    path = reverse("django_kpwa:webhook", args=[token])
    body = b"".join(parts) + b"--x--\r\n"
    assert Client().generic("POST", path, body, content_type=content_type).status_code == 200
    event = WebhookEvent.objects.get()
    process_event(event.pk)
    event.refresh_from_db()
    assert event.understood["text"] == text


def parsing_form(get_response):
    def middleware(request):
        assert request.POST
        return get_response(request)

    return middleware


@pytest.mark.django_db(transaction=True)
def test_under_atomic_requests_an_event_survives_what_fails_after_it(token, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    in_transaction = []
    monkeypatch.setattr(Store, "note_token_used", lambda *_: in_transaction.append(connection.in_atomic_block) or 1 / 0)
    assert post(token).status_code == 500
    assert in_transaction == [False]
    assert WebhookEvent.objects.count() == 1


# --- bounds and failures


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
def test_a_body_is_bounded(token, monkeypatch, size, status):
    monkeypatch.setattr(WebhookView, "MAX_BYTES", 1000)
    assert post(token, b"x" * size).status_code == status
    assert WebhookEvent.objects.exists() == (status == 200)


@pytest.mark.django_db(transaction=True)
def test_a_database_that_fails_is_503_so_that_the_sender_tries_again(token):
    with connection.schema_editor() as editor:
        editor.alter_db_table(WebhookEvent, WebhookEvent._meta.db_table, "kpwa_elsewhere")
    try:
        response = post(token)
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(WebhookEvent, "kpwa_elsewhere", WebhookEvent._meta.db_table)
    assert (response.status_code, response.json()["message"]) == (503, "Try again later.")
    assert post(token).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_the_token_is_in_no_log_whatever_happens(token, settings, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    settings.DEBUG = True
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware", *settings.MIDDLEWARE]
    address = reverse("django_kpwa:webhook", args=[token])
    wrong = "wrong-" + "x" * 37
    monkeypatch.setattr(WebhookView, "MAX_BYTES", 1000)
    answers = [
        post(token),
        post(token, b"x" * 1001),
        post(wrong),
        Client().put(address),
        Client().post(address.rstrip("/"), b"", content_type="text/plain"),
        Client().put(address.rstrip("/")),
    ]
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PASSWORD": "rahasia"}
    answers.append(post(token))
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PASSWORD": ""}
    monkeypatch.setattr("django_kpwa.webhooks.views.take", lambda *arguments: 1 / 0)
    answers.append(Client(raise_request_exception=True).post(address, b"y", content_type="text/plain"))
    assert [answer.status_code for answer in answers] == [200, 413, 404, 405, 200, 405, 401, 500]
    assert any("ZeroDivisionError" in record.getMessage() for record in caplog.records)
    formatter = logging.Formatter()
    for record in caplog.records:
        shown = formatter.format(record) + repr(vars(record).get("request", ""))
        assert token not in shown
        assert wrong not in shown
    assert all(token.encode() not in answer.content for answer in answers)


# --- a real socket


@pytest.fixture
def raw(live_server, token, monkeypatch):
    monkeypatch.setattr(WebhookView, "MAX_BYTES", 1000)
    address = urlsplit(live_server.url)

    def send(*lines, body=b"", half_close=False):
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection_:
            path = reverse("django_kpwa:webhook", args=[token])
            head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", *lines])
            connection_.sendall(head.encode() + b"\r\n\r\n" + body)
            if half_close:
                connection_.shutdown(socket.SHUT_WR)
            # The head is enough: a development server waits for the rest of the body before it closes.
            with connection_.makefile("rb") as answer:
                return int(answer.readline().split(b" ", 2)[1])

    return send


@pytest.mark.django_db(transaction=True)
def test_a_length_that_lies_stores_nothing(raw):
    assert raw("Content-Length: 1000000000", body=b"x") == 413
    assert raw("Content-Length: 100", body=b"too short", half_close=True) == 400
    assert raw("Content-Length: 1e2", body=b"x") == 400
    assert raw("Content-Length: -5", body=b"x") == 400
    assert not WebhookEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_body_without_a_length_is_asked_for_one(raw):
    assert raw("Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n") == 411
    assert not WebhookEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_more_than_the_announced_length_is_not_read(raw):
    assert raw("Content-Length: 3", body=b"abcdef") == 200
    assert bytes(WebhookEvent.objects.get().body) == b"abc"


def test_a_server_that_ends_the_input_itself_may_send_without_a_length(token, rf):
    from io import BytesIO

    from django_kpwa.webhooks.views import _UnreadableBodyError, read_body

    request = rf.generic("POST", "/", b"", content_type="application/json")
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    request.META |= {**chunked, "wsgi.input": BytesIO(b"x" * 1000)}
    assert read_body(request, 1000)[0] == b"x" * 1000
    request.META |= {**chunked, "wsgi.input": BytesIO(b"x" * 1001)}
    with pytest.raises(_UnreadableBodyError):
        read_body(request, 1000)


@pytest.mark.django_db(transaction=True)
def test_a_stored_event_is_published_once_and_a_repeat_not_at_all(token, monkeypatch):
    published = []
    monkeypatch.setattr("django_kpwa.wake.publish_webhook", published.append)
    post(token)
    post(token)
    assert published == [WebhookEvent.objects.get().pk]
