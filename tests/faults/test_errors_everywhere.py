"""An error in every function of the package, one after the other: no report of them contains a secret.

tests/integration/test_secrets.py breaks what is likely to break. Here every function breaks, at its worst moment. The
test then reads the log, the exception's own words, and Django's reports of it: for a developer (DEBUG) and by mail.
"""

from __future__ import annotations

import logging
import re
import traceback
from contextlib import suppress

import pytest
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.management import CommandError
from django.db import DatabaseError, connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils.log import AdminEmailHandler

from django_kpwa import license_actions, outbox, retention, tasks
from django_kpwa.dispatch import drive
from django_kpwa.gateway.qr import LoginQr
from django_kpwa.models import Lane, License, OutboundMessage, ReceiptFailure, Status, WebhookEvent, WebhookToken
from django_kpwa.webhooks import process_due_events
from tests.cli import kpwa
from tests.faults.sabotage import PACKAGE, ForcedError, places_of, raise_at
from tests.faults.webhooks import new_token
from tests.integration.misbehaving import MisbehavingServer, response
from tests.integration.test_secrets import EVENT, KEY, NUMBER, QR_TEXT, TOKEN, TYPED, _report, leaks
from tests.shop.models import Sale

pytestmark = pytest.mark.django_db(transaction=True)

ANSWERS = {
    "/message": {"message": "OK", "status": "connected", "code": 20001, "result": {"id": "A1", "from": "62811000001"}},
    "/message-group": {"message": "OK", "status": "connected", "code": 20001, "result": {"id": "A2"}},
    "/login-qr": {"message": "OK", "qr_string": QR_TEXT, "code": 20001},
    "/check-number": {"message": "OK", "is_registered": True, "code": 20001},
    "/webhook": {"message": "OK", "code": 20001, "result": {"webhook": f"https://shop.example/kpwa/webhooks/{TOKEN}/"}},
}


class World:
    """A shop with one license, one settled message, one that waits, and a user with all permissions."""

    def __init__(self, server):
        self.server = server
        for model in (WebhookEvent, OutboundMessage, ReceiptFailure, Lane, WebhookToken, License, Sale):
            model.objects.all().delete()
        get_user_model().objects.all().delete()
        self.boss = get_user_model().objects.create_superuser("boss")
        self.license = License(name="Toko Utama", base_url=server.url)
        self.license.set_api_key(KEY)
        self.license.save()
        new_token(self.license, TOKEN)
        self.settled = outbox.send_message(TYPED, f"Struk {NUMBER}", license=self.license, idempotency_key="settled")
        OutboundMessage.objects.filter(pk=self.settled.pk).update(status=Status.UNKNOWN)
        self.client = Client(raise_request_exception=False)
        self.client.force_login(self.boss)

    def get(self, name, *arguments, **query):
        return self.client.get(reverse(name, args=arguments), query)

    def post(self, page, *arguments, **form):
        return self.client.post(reverse(page, args=arguments), form)


def answer_well(server):
    def behave(peer):
        path = server.requests[-1].split(b" ")[1].decode().partition("?")[0]
        known = next((content for end, content in ANSWERS.items() if end in path and "reset" not in path), None)
        peer.send(response(known))

    server.behave(behave)


@pytest.fixture
def server():
    behaving = MisbehavingServer()
    yield behaving
    behaving.close()


def send(world):
    outbox.send_message(TYPED, f"Struk {NUMBER}", license=world.license)
    outbox.send_group_message("Dapur", f"Telepon {TYPED}", license=world.license)
    drive(world.license.pk)


def send_in_vain(world):
    outbox.send_message(TYPED, f"Struk {NUMBER}", license=world.license)
    said = f"{KEY} may not write to {TYPED}"
    world.server.behave(lambda peer: peer.send(response({"message": said, "errors": [said]}, 400)))
    drive(world.license.pk)
    outbox.send_messages([outbox.Message(to=TYPED, text=NUMBER, idempotency_key="many")])
    world.server.behave(lambda peer: peer.send(response({"message": said}, 504)))
    drive(world.license.pk)


def link(world):
    WebhookToken.objects.all().delete()  # every token that is made here is the same
    assert isinstance(license_actions.get_login_qr(world.license), LoginQr)
    license_actions.check_status(world.license)
    license_actions.check_number(world.license, NUMBER)
    license_actions.set_webhook(world.license)
    license_actions.reset_webhook(world.license)
    license_actions.restart(world.license)


def show_a_login_qr(world):
    code = LoginQr.from_text(QR_TEXT)
    for shape in (code.png, code.svg, code.data_uri, code.terminal):
        shape()
    LoginQr.from_image(code.png()).terminal()


def sell(world):
    Sale.objects.create(status=Sale.Status.PAID, customer_phone=TYPED)
    OutboundMessage.objects.filter(status=Status.QUEUED).update(due_at=world.settled.created_at)
    drive(world.license.pk)


def take_a_webhook(world):
    world.client.post(reverse("django_kpwa:webhook", args=[TOKEN]), EVENT, content_type="application/json")
    echo = EVENT.replace(b'"id": "A1"', b'"id": "A9", "isFromMe": true, "to": "%s"' % NUMBER.encode())
    world.client.post(reverse("django_kpwa:webhook", args=[TOKEN]), echo, content_type="application/json")
    world.client.post(reverse("django_kpwa:webhook", args=[f"{TOKEN}x"]), EVENT, content_type="application/json")
    process_due_events()


def add_a_license(world):
    world.post("admin:django_kpwa_license_add", name="Toko Kedua", is_active="on", api_key=KEY, base_url="")
    world.post("admin:django_kpwa_license_add", name="Toko Ketiga", is_active="on", api_key=f"{KEY} {KEY}", base_url="")


def look_at_the_admin(world):
    WebhookEvent.objects.create(
        license=world.license, body=EVENT, received_at=world.settled.created_at,
        last_received_at=world.settled.created_at, understood={"sender": NUMBER, "text": NUMBER},
    )  # fmt: skip
    for model in (License, OutboundMessage, WebhookEvent, ReceiptFailure):
        name = f"admin:django_kpwa_{model._meta.model_name}"
        world.get(f"{name}_changelist", q="Budi")
        for row in model.objects.all():
            world.get(f"{name}_change", row.pk)
    chosen = {"action": "export", "_selected_action": world.settled.pk}
    response_ = world.post("admin:django_kpwa_outboundmessage_changelist", **chosen)
    with suppress(ForcedError):
        response_.getvalue()


def decide(world):
    world.post("admin:django_kpwa_outboundmessage_another_number", world.settled.pk, to=TYPED)
    world.post("django_kpwa:message_send_to", world.settled.uuid, to=TYPED)
    world.post("django_kpwa:message_send_to", world.settled.uuid, to=f"{TYPED}9999")
    world.post("django_kpwa:message_resend", world.settled.uuid, confirmed="yes")
    world.post("django_kpwa:message_asks_again", world.settled.uuid)
    world.post("admin:django_kpwa_outboundmessage_asks_again", world.settled.pk, confirmed="yes")
    world.post("admin:django_kpwa_outboundmessage_forget", world.settled.pk, confirmed="yes")


def type_commands(world):
    for arguments, typed in (
        (("licenses", "add", "Toko Kedua"), f"{KEY}\n"),
        (("licenses", "set-key", "Toko Kedua"), f"{KEY}\n"),
        (("send", TYPED, "Struk", "--license", "Toko Utama"), ""),
        (("check-number", TYPED, "--license", "Toko Utama"), ""),
        (("webhook", "set", "--license", "Toko Utama"), ""),
        (("messages", "--to", TYPED), ""),
        (("lift-stop", TYPED), ""),
        (("export", TYPED), ""),
        (("forget", TYPED), "forget\n"),
        (("status",), ""),
    ):
        with suppress(SystemExit, CommandError):
            kpwa(*arguments, stdin=typed)


def keep_house(world):
    outbox.send_message(TYPED, f"Struk {NUMBER}", license=world.license)
    world.client.post(reverse("django_kpwa:webhook", args=[TOKEN]), EVENT, content_type="application/json")
    OutboundMessage.objects.filter(pk=world.settled.pk).update(created_at="2020-01-01T00:00Z", status=Status.SENT)
    tasks.dispatch_due()
    tasks.dispatch_license(world.license.pk)
    tasks.process_webhook(WebhookEvent.objects.get().pk)
    retention.purge()


REQUESTS = [take_a_webhook, add_a_license, look_at_the_admin, decide]
STEPS = [
    send, send_in_vain, link, show_a_login_qr, sell, take_a_webhook, add_a_license, look_at_the_admin, decide,
    type_commands, keep_house,
]  # fmt: skip

LONG = [look_at_the_admin, show_a_login_qr, keep_house, type_commands, sell]
"""The steps that run through most of the package."""

BEYOND = {
    # The last function of the webhook's view. After it no code of ours is left to hide the path from Django.
    "webhooks/views.py:finalize_response",
    # The first functions of an admin page. Before them no code of ours can hide posted data from Django (DEBUG).
    "admin/reports.py:reported",
    "admin/license/__init__.py:_hiding_filter",
    "admin/license/__init__.py:HidingFilter",
}


@pytest.fixture
def mails():
    """Django's mails to a site's admins about logged errors."""
    logger, handler = logging.getLogger(), AdminEmailHandler(include_html=True)
    handler.setLevel(logging.ERROR)
    logger.addHandler(handler)
    with override_settings(ADMINS=[("Boss", "boss@shop.example")]):
        yield mail.outbox
    logger.removeHandler(handler)


@pytest.fixture
def everything_logged(caplog):
    caplog.set_level(logging.DEBUG)
    # Loggers that exist to print every value, and the sockets of this test's own server.
    for name in ("django.db.backends", "django.template", "asyncio"):
        caplog.set_level(logging.INFO, logger=name)
    return caplog


@pytest.mark.parametrize(
    ("step", "is_debug"),
    [pytest.param(step, False, id=step.__name__, marks=[pytest.mark.slow] * (step in LONG)) for step in STEPS]
    + [
        pytest.param(step, True, id=f"{step.__name__} under DEBUG", marks=[pytest.mark.slow] * (step in LONG))
        for step in REQUESTS
    ],
)
# Closing a connection is interrupted as well.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_an_error_anywhere_reports_nothing_secret(
    step, is_debug, server, settings, everything_logged, mails, monkeypatch, capfd
):
    monkeypatch.setattr("secrets.token_urlsafe", lambda size: TOKEN)
    settings.KPWA = {
        **settings.KPWA,
        "GATEWAY": "django_kpwa.gateway.http.HttpGateway",
        "CALL_DEADLINE_SECONDS": 2,
        "RENDER_DELAY_SECONDS": 0,
    }
    settings.DEBUG = is_debug
    leaking, reached = {}, 0
    for _ in "12":  # code that runs once per process has then run
        answer_well(server)
        world = World(server)
        places = places_of(lambda world=world: step(world))
    assert len(places) > 10
    for place in places:
        answer_well(server)
        world = World(server)
        mails.clear()
        everything_logged.clear()
        capfd.readouterr()
        pages = []
        world.client.request = _kept(world.client.request, pages)
        was_run, raised = raise_at(place, lambda world=world: step(world))
        reached += was_run
        told = (
            []
            if raised is None or isinstance(raised, EnoughError)
            else _told(raised, of_a_command=step is type_commands)
        )
        found = leaks(*told, *_logged(everything_logged), *capfd.readouterr())
        found += leaks(*(_without_numbers(page) for page in pages))
        mailed = [text for sent in mails for text in (sent.body, *map(str, sent.alternatives))]
        found += leaks(*(_without_numbers(text) if is_debug else text for text in mailed))
        if found and str(place) not in BEYOND:
            leaking[str(place)] = sorted(set(found))
    assert leaking == {}
    assert reached > 0.9 * len(places)


@pytest.mark.parametrize("is_many", [False, True], ids=["one", "many"])
def test_a_database_that_refuses_a_message_reports_no_number(server, settings, is_many):
    world = World(server)
    message = outbox.Message(to=TYPED, text=f"Struk {NUMBER}", license=world.license, idempotency_key=f"sale-{NUMBER}")
    # By the time that the statement fails, only its parameters could still show the number.
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_kpwa_outboundmessage RENAME TO kpwa_elsewhere")
    try:
        with pytest.raises(DatabaseError) as refused:
            outbox.send_messages([message]) if is_many else outbox.send_message(TYPED, NUMBER, license=world.license)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE kpwa_elsewhere RENAME TO django_kpwa_outboundmessage")
    assert leaks(_report(refused.value, is_debug=False)) == []


class EnoughError(Exception):
    """The site answered with its error. Other cases check what the step does afterwards."""


def _kept(request, pages):
    """Keeps the answers with which the site reported an error."""

    def asked(**environ):
        answered = request(**environ)
        if answered.status_code == 500:
            pages.append(answered.content.decode())
            raise EnoughError
        return answered

    return asked


def _told(error, *, of_a_command):
    """Reports to a site about an error that its own code or Celery caught."""
    if error is None or isinstance(error, EnoughError):
        return []
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(str(PACKAGE)):
        trace = trace.tb_next
    error = error.with_traceback(trace)
    if of_a_command:
        # A terminal shows no variables. Variables that a reporter might send contain the numbers that a person typed.
        return [*traceback.format_exception(error), _without_numbers(_report(error, is_debug=False))]
    return [
        str(error), repr(error), _report(error, is_debug=False), _without_numbers(_report(error, is_debug=True)),
    ]  # fmt: skip


def _without_numbers(page):
    """On a developer's own page, numbers come only from the developer's own code or from the database."""
    return re.sub(r"(62|0)?[-\s]*812-?9876-?5432", "…", page)


def _logged(caplog):
    return [caplog.text, *(repr(record.args) for record in caplog.records)]
