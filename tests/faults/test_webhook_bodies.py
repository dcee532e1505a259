"""Hostile bodies, posted to a real server and processed by a real worker: refused, or kept unchanged, nothing else.

tests/contract/parser_case.py checks how parsers read them, and test_webhook_view what the view does with each.
"""

from __future__ import annotations

import json
import zlib
from random import Random

import psutil
import pytest
from django.contrib.auth import get_user_model
from django.urls import reverse

from django_kpwa.models import EventKind, EventStatus, WebhookEvent
from tests import servers
from tests.contract.parser_case import HOSTILE_BODIES
from tests.faults import fuzz_webhook
from tests.faults.webhooks import new_token, webhook_site
from tests.processes import start_celery_worker, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

ROOMY_BYTES = 8_000_000
WORKER_MEGABYTES = 400
BROKER = "redis" if servers.HAS_REDIS else "filesystem"
GOOD = json.dumps({"id": "A1", "from": "6281234567890", "message": "terima kasih"}).encode()

BODIES = {
    **HOSTILE_BODIES,
    "3 MB": b'{"id": "A1", "message": "' + b"x" * 3_000_000 + b'"}',
    "3 MB of nothing": b"\x00" * 3_000_000,
    "a million form fields": b"&".join(b"f%d=%d" % (number, number) for number in range(1_000_000))[:ROOMY_BYTES],
    "a million fields of one name": b"from=1&" * 1_000_000,
    "a million brackets": b"data[x]=1&" * 700_000,
    "100,000 deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects deep": b'{"data":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of 5,000 digits": b'{"from": ' + b"6" * 5_000 + b', "message": "x"}',
    "a million numbers": b'{"message": [' + b"1," * 1_000_000 + b"1]}",
    "one name a million times": b"{" + b'"id":"1",' * 700_000 + b'"id":"2"}',
    "a long text of digits": b'{"from": "6281234567890", "message": "' + b"8 " * 1_000_000 + b'"}',
    "UTF-16": json.dumps({"id": "A1", "from": "6281234567890", "message": "halo"}).encode("utf-16"),
    "overlong UTF-8": b'{"id": "\xc0\x80", "from": "\xf8\x88\x80\x80\x80", "message": "\xed\xa0\x80"}',
    "a gzip": zlib.compress(b"x" * 1_000_000),
}
CONTENT_TYPES = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    'multipart/form-data; boundary="\xff\xfe"',
    "image/png",
    "text/plain; charset=utf-7",
    "application/json; charset=nonsense",
    "application/x-www-form-urlencoded; charset=hex",
    "",
]


@pytest.fixture
def token(license_):
    return new_token(license_)


TOO_MUCH = "It contains more than 100000 values."


@pytest.fixture
def broker(tmp_path):
    return {"broker_url": servers.broker_url(BROKER), "broker_folder": tmp_path}


def test_what_is_too_large_is_refused_and_nothing_of_it_is_stored(token):
    large = {name: body for name, body in BODIES.items() if len(body) > 1_048_576}
    assert len(large) > 5
    with webhook_site() as site:
        for content_type in CONTENT_TYPES:
            # With 0 the server has cut the connection, and its answer was lost with the unread data.
            assert {site.post(token, body, content_type) for body in large.values()} <= {413, 0}
        assert site.post(token, GOOD) == 200
    assert bytes(WebhookEvent.objects.get().body) == GOOD
    assert "Traceback" not in site.process.output


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_whatever_is_posted_is_stored_as_it_came_and_its_worker_lives(token, broker, client, pool):
    roomy = {**broker, "kpwa": {"django_kpwa.webhooks.views.WebhookView.MAX_BYTES": ROOMY_BYTES}}
    posted = {}
    with (
        webhook_site(**roomy) as site,
        start_celery_worker(roomy["broker_url"], pool=pool, **_of_worker(roomy)) as worker,
    ):
        workers = {child.pid for child in psutil.Process(worker.pid).children()}
        for number, (name, body) in enumerate(BODIES.items()):
            # Each body has another content type; in the other run, the next one.
            content_type = CONTENT_TYPES[(number + len(pool)) % len(CONTENT_TYPES)]
            assert site.post(token, body, content_type) == 200, name
            posted[body] = name
        wait_until(lambda: not WebhookEvent.objects.filter(status=EventStatus.PENDING), 240, "the hostile events")
        megabytes = max(_megabytes(pid) for pid in workers or {worker.pid})
        assert site.post(token, GOOD) == 200
        wait_until(lambda: WebhookEvent.objects.filter(kind=EventKind.INCOMING, gateway_id="A1"), 60, "the good event")
        assert {child.pid for child in psutil.Process(worker.pid).children()} == workers
    for event in WebhookEvent.objects.exclude(body=GOOD):
        assert bytes(event.body) in posted
        del posted[bytes(event.body)]
        # If a worker had died of an event, that event would have been tried again.
        assert (event.tries, event.times_received) == (1, 1)
        assert event.error in ("", TOO_MUCH)
    assert posted == {}
    assert megabytes < WORKER_MEGABYTES
    for output in (site.process.output, worker.output):
        assert "Traceback" not in output
        assert "WorkerLost" not in output
    _assert_admin_shows_them(client)


def _of_worker(site):
    return {name: value for name, value in site.items() if name != "broker_url"}


def _megabytes(pid):
    return psutil.Process(pid).memory_info().rss / 1_000_000


def _assert_admin_shows_them(client):
    client.force_login(get_user_model().objects.create_superuser("boss"))
    assert client.get(reverse("admin:django_kpwa_webhookevent_changelist")).status_code == 200
    for event in WebhookEvent.objects.all():
        page = client.get(reverse("admin:django_kpwa_webhookevent_change", args=[event.pk]))
        assert page.status_code == 200
        assert len(page.content) < 1_500_000


def test_what_the_fuzzer_begins_with_and_found_breaks_no_promise(db):
    site = fuzz_webhook.Site()
    try:
        statuses = [site.take(seed) for seed in fuzz_webhook.seeds()]
    finally:
        site.close()
    assert statuses.count(200) > 15
    assert {404, 405, 411} <= set(statuses)


@pytest.mark.timeout(300)
def test_a_short_run_of_what_the_fuzzer_makes_up_breaks_no_promise(db):
    """The promises include three seconds, 150 MB and 30 queries per event."""
    site = fuzz_webhook.Site()
    try:
        statuses = [site.take(made_up) for made_up in fuzz_webhook.made_up(400, Random(20261127))]
    finally:
        site.close()
    assert statuses.count(200) > 200
