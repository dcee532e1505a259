"""No failure reveals an API key, webhook token, QR code or whole phone number: the canaries below stay inside.

The error reports are Django's own, with the variables of every frame: the DEBUG page, and the e-mail to
the site's admins.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import traceback

import pytest
import requests
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.management import CommandError
from django.db import DataError, connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils.log import AdminEmailHandler
from django.views.debug import ExceptionReporter

from django_kpwa import license_actions, outbox, receipts, wake
from django_kpwa.conf import Settings
from django_kpwa.dispatch import drive
from django_kpwa.encryption import Secret
from django_kpwa.exceptions import GatewayError, InvalidPhoneNumberError
from django_kpwa.gateway import LoginQr, locmem
from django_kpwa.gateway.http import HttpGateway
from django_kpwa.license_actions import token_digest
from django_kpwa.models import (
    DatabaseNow,
    EventKind,
    License,
    OutboundMessage,
    ReceiptFailure,
    SendAttempt,
    WebhookEvent,
    WebhookToken,
)
from django_kpwa.sandbox.webhooks import Webhook
from django_kpwa.webhooks import ParsedEvent, process_due_events
from example_project.demo.home import Home
from example_project.demo.log import Log
from tests.celery_app import app, configure_broker
from tests.cli import kpwa
from tests.integration.misbehaving import MisbehavingServer, answer, free_port
from tests.processes import ROOT, start_celery_worker, start_manage
from tests.sandbox import SandboxProcess
from tests.shop.models import Sale

KEY = "canary-key-5f2b9c71aa03e8d4"
TOKEN = "canary-token-" + "Qz7_" * 8
QR_TEXT = "2@canaryqr" + "x7Kq" * 12 + ",aaaa,bbbb,cccc"
QR_IMAGE = b"\x89PNG\r\n\x1a\ncanaryqr-cut-short"
NUMBER = "6281298765432"
TYPED = "0812-9876-5432"
EVENT = json.dumps({"id": "A1", "from": NUMBER, "message": "terima kasih"}).encode()

_CANARIES = {
    "API key": KEY,
    "webhook token": TOKEN,
    "QR code": "canaryqr",
    "QR image": base64.b64encode(QR_IMAGE).decode()[:24],
    "phone number": "81298765432",
}


def leaks(*texts: object) -> list[str]:
    """The names of the canaries that the texts contain. Numbers are found in any spelling."""
    text = "\n".join(map(str, texts))
    joined = re.sub(r"(?<=\d)[\s.\-()/]+(?=\d)", "", text)
    return [name for name, canary in _CANARIES.items() if canary in text or canary in joined]


def reports(error: BaseException) -> list[str]:
    """The error on Django's debug page, in its e-mail to the admins, and in plain tracebacks."""
    shown = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    for is_debug in (False, True):
        page = _report(error, is_debug=is_debug)
        # The debug page shows a number only where the developer's own code passed it in.
        shown.append(re.sub(r"812-?9876-?5432", "…", page) if is_debug else page)
    return shown


def _report(error: BaseException, *, is_debug: bool) -> str:
    # Skip the test's own frames, which hold the canaries.
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    with override_settings(DEBUG=is_debug):
        reporter = ExceptionReporter(None, type(error), error, trace)
        return reporter.get_traceback_html() + reporter.get_traceback_text()


@pytest.fixture
def everything_logged(caplog):
    """All loggers at DEBUG, except the database's, whose purpose is to print every value."""
    caplog.set_level(logging.DEBUG)
    for name in ("django_kpwa", "urllib3", "requests", "celery", "django.request", "django.server"):
        caplog.set_level(logging.DEBUG, logger=name)
    caplog.set_level(logging.INFO, logger="django.db.backends")
    return caplog


def logged(caplog) -> list[str]:
    """The log as handlers write it and as they report it, with the variables of each record's frames."""
    shown = [caplog.text]
    for record in caplog.records:
        shown.append(repr(record.args))
        if record.exc_info and record.exc_info[1] is not None:
            shown += reports(record.exc_info[1])
    return shown


@pytest.fixture
def canary_license(db):
    row = License(name="Toko Utama")
    row.set_api_key(KEY)
    row.save()
    return row


@pytest.fixture
def at_server(canary_license, server, settings):
    settings.KPWA = {**settings.KPWA, "GATEWAY": "django_kpwa.gateway.http.HttpGateway", "CALL_DEADLINE_SECONDS": 0.2}
    canary_license.base_url = server.url
    canary_license.set_api_key(KEY)
    canary_license.save()
    return canary_license


@pytest.fixture
def webhook_path(canary_license):
    WebhookToken.objects.create(
        license=canary_license, digest=token_digest(TOKEN), created_at=DatabaseNow(), registered_at=DatabaseNow()
    )
    return reverse("django_kpwa:webhook", args=[TOKEN])


@contextlib.contextmanager
def failing_statements(error, *signs):
    """Make the database raise `error` for statements that contain all of `signs`."""

    def fail(execute, sql, params, many, context):
        if all(sign in sql for sign in signs):
            raise error
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail):
        yield


# The gateway


def _repeating(status, **headers):
    said = f"{KEY} {TYPED} +62 812 9876 5432 https://shop.example/kpwa/webhooks/{TOKEN}/"
    content = {"message": said, "errors": [said, {"number": NUMBER}], "error": said, "code": [said], "status": said}
    return answer(content, status, headers=headers)


FAILURES = {
    "400": _repeating(400),
    "401": _repeating(401),
    "429": _repeating(429),
    "500": _repeating(500),
    "502": _repeating(502),
    "504": _repeating(504),
    "redirect": _repeating(302, Location=f"https://elsewhere.example/{KEY}/{NUMBER}"),
    "200 that fits nothing": _repeating(200),
    "html": answer(body=f"<h1>{NUMBER} {KEY}</h1>".encode(), content_type="text/html"),
    "an image cut short": answer(body=QR_IMAGE, content_type="image/png"),
    "a text that is no QR code": answer({"message": "OK", "qr_string": f"!{QR_TEXT}", "code": None}),
    "reset": lambda peer: peer.reset(),
    "stall": lambda peer: peer.stall(),
    "no HTTP": lambda peer: peer.send(f"{KEY} {NUMBER}\r\n\r\n".encode()),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failed_call_reports_nothing_secret(failure, at_server, server, everything_logged, monkeypatch):
    monkeypatch.setattr("secrets.token_urlsafe", lambda size: TOKEN)
    server.behave(failure)
    raised = []
    for call in (
        lambda: license_actions.get_login_qr(at_server),
        lambda: license_actions.set_webhook(at_server),
        lambda: license_actions.check_number(at_server, TYPED),
        lambda: license_actions.restart(at_server),
        lambda: _send_past_the_outbox(at_server),
    ):
        try:
            call()
        except GatewayError as error:
            raised.append(error)
    assert len(raised) >= 3
    assert leaks(*(text for error in raised for text in reports(error))) == []
    assert leaks(*logged(everything_logged)) == []


def _send_past_the_outbox(license_):
    with license_.get_gateway() as gateway:
        gateway.send_message(TYPED, "Struk")


def test_no_connection_reports_nothing_secret(at_server, everything_logged):
    at_server.base_url = f"http://127.0.0.1:{free_port()}/backend"
    at_server.set_api_key(KEY)
    with pytest.raises(GatewayError) as raised:
        license_actions.check_number(at_server, TYPED)
    assert leaks(*reports(raised.value), *logged(everything_logged)) == []


def test_a_time_limit_in_the_middle_of_a_call_reports_no_key(at_server, server, settings):
    class TimeLimitExceededError(Exception):
        pass

    def interrupt(number, frame):
        raise TimeLimitExceededError

    settings.KPWA = {**settings.KPWA, "CALL_DEADLINE_SECONDS": 10}
    server.behave(lambda peer: peer.stall())
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(TimeLimitExceededError) as raised:
            _send_past_the_outbox(at_server)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert leaks(*reports(raised.value)) == []


def test_a_redirect_takes_the_key_nowhere(at_server, server):
    elsewhere = MisbehavingServer()
    try:
        server.behave(answer({}, 307, headers={"Location": f"{elsewhere.url}/openapi/wa/message"}))
        with pytest.raises(GatewayError):
            _send_past_the_outbox(at_server)
        assert elsewhere.requests == []
    finally:
        elsewhere.close()


# Sending


@pytest.mark.django_db(transaction=True)
def test_a_gateway_class_that_raises_puts_nothing_secret_into_the_log(canary_license, settings, everything_logged):
    settings.KPWA = {**settings.KPWA, "GATEWAY": "tests.integration.careless.RaisingGateway"}
    message = outbox.send_message(TYPED, "Struk", license=canary_license)
    drive(canary_license.pk)
    assert "RuntimeError" in everything_logged.text
    message.refresh_from_db()
    attempt = SendAttempt.objects.get()
    assert leaks(*logged(everything_logged), attempt.words, attempt.code, message.reason_words, repr(message)) == []


@pytest.mark.django_db(transaction=True)
def test_an_outcome_that_cannot_be_recorded_puts_nothing_secret_into_the_log(
    canary_license, settings, everything_logged
):
    settings.KPWA = {**settings.KPWA, "CALL_DEADLINE_SECONDS": 0.001}
    outbox.send_message(TYPED, "Struk", license=canary_license)
    row = DataError(f"DETAIL: Failing row contains (1, {NUMBER}, Struk)")
    with failing_statements(row, "UPDATE", "finished_at"), pytest.raises(DataError):
        drive(canary_license.pk)
    assert "could not be recorded" in everything_logged.text
    assert leaks(*logged(everything_logged)) == []


@pytest.mark.parametrize("typed", [f"{TYPED} ext. 5", f"{TYPED}{TYPED}", "+999" + NUMBER])
def test_a_number_that_is_refused_is_in_no_report(canary_license, typed):
    for call in (
        lambda: outbox.send_message(typed, "Struk"),
        lambda: outbox.send_messages([outbox.Message(to=typed, text="Struk")]),
    ):
        with pytest.raises(InvalidPhoneNumberError) as raised:
            call()
        assert leaks(*reports(raised.value)) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["should_send", "get_phone_number", "get_occurred_at", "render"])
def test_a_receipt_that_raises_with_a_number_puts_none_into_the_log(canary_license, everything_logged, method):
    def fail(self, sale, **context):
        raise ValueError(f"the customer {TYPED} has no name")

    working = {
        "should_send": lambda self, sale: True,
        "get_phone_number": lambda self, sale: sale.customer_phone,
        "get_occurred_at": lambda self, sale: sale.sold_at,
        "render": lambda self, sale, **context: "Struk",
    }
    careless = receipts.register(Sale)(type("CarelessReceipt", (receipts.Receipt,), {**working, method: fail}))
    try:
        Sale.objects.create(status=Sale.Status.OPEN, customer_phone=TYPED)
        drive(canary_license.pk)
        OutboundMessage.objects.update(due_at=DatabaseNow())
        drive(canary_license.pk)
    finally:
        receipts.unregister(careless)
    words = [*ReceiptFailure.objects.values_list("error", flat=True)]
    words += OutboundMessage.objects.exclude(reason_words="").values_list("reason_words", flat=True)
    assert len(words) == 1
    assert "has no name" in words[0]
    assert leaks(*words, *logged(everything_logged)) == []


# Webhooks


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataError(f"DETAIL: Failing row contains ({NUMBER}, {TOKEN})"), 503),
        (RuntimeError(f"{TOKEN} {TYPED}"), 500),
    ],
)
@pytest.mark.parametrize("is_debug", [False, True])
def test_a_webhook_that_fails_tells_nobody(webhook_path, everything_logged, settings, error, status, is_debug):
    settings.DEBUG = is_debug
    with failing_statements(error, "INSERT", "webhookevent"):
        answered = Client().post(webhook_path, EVENT, content_type="application/json")
    assert answered.status_code == status
    assert type(error).__name__ in everything_logged.text
    assert leaks(answered.content.decode(), *logged(everything_logged)) == []


@pytest.mark.django_db(transaction=True)
def test_events_that_cannot_be_processed_put_nothing_secret_into_the_log(
    webhook_path, settings, everything_logged, client
):
    settings.KPWA = {**settings.KPWA, "WEBHOOK_PARSER": "tests.integration.careless.RaisingParser"}
    client.post(webhook_path, EVENT, content_type="application/json")
    with failing_statements(RuntimeError(f"no such customer: {TYPED}"), "UPDATE", "webhookevent"):
        process_due_events()
    assert "no such customer" in everything_logged.text
    process_due_events()
    event = WebhookEvent.objects.get()
    assert "not understood" in event.error
    assert leaks(event.error, repr(event), *logged(everything_logged)) == []


def test_a_token_is_stored_as_its_digest_alone(canary_license):
    license_actions.set_webhook(canary_license)
    token = locmem.webhook_url().rstrip("/").rpartition("/")[2]
    row = WebhookToken.objects.values().get()
    assert row["digest"] == token_digest(token)
    assert token not in str(row)


# Pages


@pytest.fixture
def mailing():
    """Mail the errors of requests to the admins, with everything that Django knows about them."""
    logger, handler = logging.getLogger("django.request"), AdminEmailHandler(include_html=True)
    logger.addHandler(handler)
    with override_settings(ADMINS=[("Boss", "boss@shop.example")]):
        yield mail
    logger.removeHandler(handler)


@pytest.mark.parametrize("is_debug", [False, True])
@pytest.mark.parametrize("failing", [("INSERT", "django_kpwa_license"), ("INSERT", "django_admin_log")])
def test_a_license_that_cannot_be_saved_reports_no_key(db, settings, mailing, is_debug, failing):
    settings.DEBUG = is_debug
    client = Client(raise_request_exception=False)
    client.force_login(get_user_model().objects.create_superuser("boss"))
    form = {"name": "Toko", "is_active": "on", "api_key": KEY, "base_url": ""}
    with failing_statements(RuntimeError("the disk is full"), *failing):
        answered = client.post(reverse("admin:django_kpwa_license_add"), form)
    assert answered.status_code == 500
    mails = [text for report in mailing.outbox for text in (report.body, *map(str, report.alternatives))]
    assert any("the disk is full" in text and "<html" in text for text in mails)
    assert leaks(answered.content.decode(), *mails) == []


def test_no_admin_page_or_log_entry_shows_a_stored_key(db, client, everything_logged):
    client.force_login(get_user_model().objects.create_superuser("boss"))
    form = {"name": "Toko", "is_active": "on", "api_key": KEY, "base_url": ""}
    client.post(reverse("admin:django_kpwa_license_add"), form)
    license_ = License.objects.get()
    assert license_.get_api_key().reveal() == KEY
    again = client.post(reverse("admin:django_kpwa_license_change", args=[license_.pk]), {**form, "name": "Toko 2"})
    refused = client.post(reverse("admin:django_kpwa_license_add"), {**form, "api_key": f"{KEY} {KEY}"})
    assert (again.status_code, refused.status_code) == (302, 200)
    pages = [
        client.get(reverse(f"admin:django_kpwa_license_{page}", args=arguments))
        for page, arguments in (("changelist", []), ("change", [license_.pk]), ("history", [license_.pk]))
    ]
    assert [page.status_code for page in pages] == [200, 200, 200]
    entries = LogEntry.objects.values_list("change_message", "object_repr")
    assert len(entries) == 2
    shown = [page.content.decode() for page in (refused, *pages)]
    assert leaks(*shown, *entries, License.objects.values().get(), *logged(everything_logged)) == []


# The command line


def test_the_command_line_takes_no_key_as_an_argument_and_shows_neither_key_nor_token(canary_license, capfd):
    with pytest.raises((CommandError, SystemExit)):
        kpwa("licenses", "add", "Toko", KEY)
    with pytest.raises((CommandError, SystemExit)):
        kpwa("licenses", "add", "Toko", "--key", KEY)
    assert not License.objects.filter(name="Toko").exists()
    written = [kpwa("licenses", "add", "Toko", stdin=KEY + "\n"), kpwa("licenses"), kpwa("licenses", "--json")]
    written += [kpwa("webhook", *arguments, "--license", "Toko") for arguments in (("set",), ("show",))]
    token = locmem.webhook_url().rstrip("/").rpartition("/")[2]
    assert len(token) == 43
    assert leaks(*written, capfd.readouterr().out) == []
    assert token not in str(written)


@pytest.mark.django_db(transaction=True)
def test_the_command_lines_errors_hold_no_number(canary_license):
    with pytest.raises(CommandError) as refused:
        kpwa("send", f"{TYPED}9999", "Struk")
    duplicate = DataError(f"Duplicate entry '{NUMBER}' for key 'recipient'")
    with failing_statements(duplicate, "INSERT", "outboundmessage"), pytest.raises(CommandError) as failed:
        kpwa("send", TYPED, "Struk")
    assert "Duplicate entry" in str(failed.value)
    assert leaks(refused.value, failed.value) == []


def test_a_qr_code_is_saved_for_its_owner_alone_and_not_left_aside(canary_license, tmp_path):
    locmem.unlink()
    kpwa("qr", "--once", "--output", str(tmp_path / "qr.png"))
    assert stat.S_IMODE((tmp_path / "qr.png").stat().st_mode) == 0o600
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(CommandError):
        kpwa("qr", "--once", "--output", str(tmp_path / "folder.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "qr.png"]


# What printing an object shows


def test_no_repr_shows_a_secret(canary_license, rf):
    message = outbox.send_message(TYPED, f"Struk {NUMBER}", license=canary_license)
    objects = [
        Secret(KEY),
        HttpGateway(Secret(KEY)),
        Settings(SECRET_KEYS=(KEY,), WEBHOOK_PASSWORD=KEY),
        LoginQr.from_text(QR_TEXT),
        ParsedEvent(EventKind.INCOMING, sender=NUMBER, text=NUMBER),
        outbox.Message(to=TYPED, text=NUMBER),
        Webhook("sandbox", f"https://shop.example/kpwa/webhooks/{TOKEN}/", "incoming", {"from": NUMBER}),
        canary_license,
        message,
    ]
    assert leaks(*map(repr, objects), *map(str, objects)) == []


# Processes


def broker_messages(folder) -> str:
    """The content of all the broker's files, unpacked."""
    texts = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_text(errors="replace")
            texts.append(content)
            with contextlib.suppress(ValueError, TypeError):
                texts.append(base64.b64decode(json.loads(content)["body"]).decode())
    return "\n".join(texts)


@pytest.fixture
def broker_folder(tmp_path):
    configure_broker(app, "filesystem-atomic://localhost", str(tmp_path))
    app.set_current()
    wake.publisher.reset()
    yield tmp_path
    wake.publisher.broker.close()
    wake.publisher.reset()
    configure_broker(app, os.environ.get("CELERY_BROKER_URL", ""))


@pytest.mark.django_db(transaction=True)
def test_a_site_and_a_worker_that_fail_write_nothing_secret(webhook_path, canary_license, broker_folder):
    port, broker_url = free_port(), "filesystem-atomic://localhost"
    careless = {
        "GATEWAY": "tests.integration.careless.UnopenableGateway",
        "WEBHOOK_PARSER": "tests.integration.careless.RaisingParser",
    }
    site = {"broker_url": broker_url, "broker_folder": broker_folder, "kpwa": careless}
    outbox.send_message(TYPED, f"Struk {NUMBER}", license=canary_license)
    Client().post(webhook_path, EVENT, content_type="application/json")
    with start_manage("runserver", "--noreload", f"127.0.0.1:{port}", **site) as runserver:
        runserver.wait_for_output("Quit the server")
        address = f"http://127.0.0.1:{port}{webhook_path}"
        with requests.Session() as session:
            session.trust_env = False
            for path in (address, address.rstrip("/"), f"{address}elsewhere/", address.replace("Qz7_", "Qz8_")):
                session.post(path, EVENT, timeout=10)
            session.get(address, timeout=10)
        runserver.wait_for_output('"GET /kpwa/webhooks/…/ HTTP/1.1" 200')
    queued = broker_messages(broker_folder)
    assert "django_kpwa.dispatch_license" in queued
    assert "django_kpwa.process_webhook" in queued
    with start_celery_worker(pool="threads", **site) as worker:
        worker.wait_for_output("TaskFailedError")
        worker.wait_for_output("could not be parsed")
    assert "forgot to configure" in worker.output
    assert leaks(runserver.output, worker.output, queued, broker_messages(broker_folder)) == []


def test_the_sandbox_shows_its_key_to_whoever_started_it_and_nobody_else(settings, everything_logged):
    with SandboxProcess("--license", f"kasir:{KEY}") as sandbox:
        gateway = HttpGateway(Secret(KEY), base_urls=[sandbox.base_url])
        gateway.set_webhook(f"http://127.0.0.1:{free_port()}/kpwa/webhooks/{TOKEN}/")
        sandbox.scan()
        with gateway:
            gateway.check_number(NUMBER)
            gateway.send_message(NUMBER, "Struk")
            with pytest.raises(GatewayError):
                gateway.send_message(NUMBER, "Struk", "javascript:alert(1)")
        seen = [sandbox.state(), sandbox.log(), sandbox.faults(), requests.get(sandbox.url, timeout=10).text]
    shown = leaks(*seen)
    assert shown in ([], ["phone number"]), shown  # the phone shows whom a message is for
    assert leaks(sandbox_log := json.dumps(seen[1])) == [], sandbox_log
    assert leaks(*logged(everything_logged)) == []


# The example


def test_the_demos_state_is_for_its_owner_alone_and_its_log_masks_tokens(tmp_path):
    home = Home.claim(tmp_path / "demo", or_next=False)
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    environment = {**os.environ, "SHOP_HOME": str(home.folder), "DJANGO_SETTINGS_MODULE": "example_project.settings"}
    environment = {name: value for name, value in environment.items() if name not in ("SECRET_KEY", "DATABASE_URL")}
    subprocess.run([sys.executable, "-c", "import example_project.settings"], cwd=ROOT, env=environment, check=True)
    assert stat.S_IMODE((home.folder / "secret_key").stat().st_mode) == 0o600
    log = Log(home.log, is_shown=False)
    log.write("site", f'"POST /kpwa/webhooks/{TOKEN}/ HTTP/1.1" 200 16\n')
    log.close()
    assert "/kpwa/webhooks/…/" in home.log.read_text()
    assert leaks(home.log.read_text(), *log.last_lines("site", 9)) == []
    home._lock.close()
