"""Wrong, old and new tokens: a flood of wrong ones costs little, and does not affect the right one."""

from __future__ import annotations

import json
import secrets
import statistics
import threading
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_kpwa.license_actions import token_digest
from django_kpwa.models import WebhookEvent, WebhookToken
from django_kpwa.webhooks import authentication
from tests.faults.webhooks import new_token, webhook_site
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

FLOODING_THREADS = 6


@pytest.fixture(autouse=True)
def _no_flood():
    authentication.flood.forget()
    yield
    authentication.flood.forget()


@pytest.fixture
def token(license_):
    return new_token(license_)


def body(number):
    return json.dumps({"id": f"A{number}", "from": "6281234567890", "message": "halo"}).encode()


def wrong_token():
    return secrets.token_urlsafe(32)


def post(token):
    return Client().post(reverse("django_kpwa:webhook", args=[token]), b"{}", content_type="application/json")


# --- which tokens are valid


def test_an_old_token_is_good_until_its_overlap_ends_and_a_wrong_one_never(license_):
    old = new_token(license_)
    with webhook_site() as site:
        assert site.post(old, body(1)) == 200
        new = new_token(license_)
        assert site.post(old, body(2)) == 200, "the gateway still uses the old token"
        assert site.post(new, body(3)) == 200
        assert site.post(old, body(4)) == 200, "webhooks already in transit are still accepted"
        WebhookToken.objects.filter(digest=token_digest(old)).update(expires_at=timezone.now() + timedelta(seconds=0.5))
        time.sleep(0.6)
        assert site.post(old, body(5)) == 404
        assert site.post(wrong_token(), body(6)) == 404
        assert site.post(new, body(7)) == 200
    stored = sorted(json.loads(bytes(event.body))["id"] for event in WebhookEvent.objects.all())
    assert stored == ["A1", "A2", "A3", "A4", "A7"]


@pytest.mark.parametrize(
    "path", ["%00", "%ff%fe", "..%2f..%2fadmin", "a" * 20_000, "%ed%a0%80", "'%20OR%201=1--", "%0d%0aX: y", "…"]
)
def test_what_is_no_token_at_all_is_not_found(db, live_server, path):
    answered = Client().generic("POST", f"/kpwa/webhooks/{path}/", b"{}", content_type="application/json")
    assert answered.status_code == 404
    assert not WebhookEvent.objects.exists()


# --- what the response time reveals


def test_the_time_of_a_refusal_says_nothing_of_how_near_a_token_came(license_, token, monkeypatch):
    monkeypatch.setattr(authentication.flood, "lookups_per_second", 1_000_000)
    expired = new_token(license_, expires_at=timezone.now() - timedelta(days=1))
    wrong_by_one = token[:-1] + ("A" if token[-1] != "A" else "B")
    tries = {"wrong": wrong_token(), "wrong by its last character": wrong_by_one, "expired": expired}
    seconds = {name: [] for name in tries}
    for round_ in range(420):
        for name, tried in tries.items():
            began = time.perf_counter()
            assert post(tried).status_code == 404
            if round_ >= 20:
                seconds[name].append(time.perf_counter() - began)
    # Lower quartiles: everything above is other load of the machine.
    fast = {name: statistics.quantiles(times, n=4)[0] for name, times in seconds.items()}
    assert max(fast.values()) < min(fast.values()) * 1.25, fast


def test_every_refusal_costs_the_same_single_query(license_, token, django_assert_num_queries):
    expired = new_token(license_, expires_at=timezone.now() - timedelta(days=1))
    for tried in (wrong_token(), token[:-1], token.swapcase(), expired):
        with django_assert_num_queries(1):
            assert post(tried).status_code == 404


# --- a flood


class Queries:
    """Counts the queries on the tokens' table."""

    def __init__(self):
        self.count = 0

    def __call__(self, execute, sql, params, many, context):
        self.count += WebhookToken._meta.db_table in sql
        return execute(sql, params, many, context)


def test_a_flood_of_wrong_tokens_hardly_reaches_the_database(token, caplog):
    queries, began, answers = Queries(), time.monotonic(), Counter()
    with connection.execute_wrapper(queries):
        while sum(answers.values()) < 2000:
            answers[post(wrong_token()).status_code] += 1
    seconds = time.monotonic() - began
    assert set(answers) == {404, 429}
    per_second = authentication.flood.lookups_per_second + 1 / authentication.COPY_SECONDS
    assert queries.count <= (seconds + 2) * per_second
    assert queries.count < 1500, "otherwise this machine is too slow to make a flood"
    assert caplog.text.count("wrong tokens") == 1


def test_a_refusal_in_a_flood_reads_no_body_and_asks_to_come_again_later(token):
    for _ in range(authentication.flood.lookups_per_second * 2):
        answered = post(wrong_token())
        if answered.status_code == 429:
            break
    assert (answered.status_code, answered["Retry-After"]) == (429, "1")
    assert answered.json() == {"status": "error", "message": "Too many wrong tokens."}
    assert not WebhookEvent.objects.exists()


def test_an_expired_token_in_a_flood_is_told_apart_from_a_wrong_one_by_nothing(license_, monkeypatch):
    monkeypatch.setattr(authentication.flood, "lookups_per_second", 0)
    expired = new_token(license_, expires_at=timezone.now() - timedelta(seconds=1))
    post(wrong_token())
    assert post(wrong_token()).status_code == post(expired).status_code == 429


def test_a_copy_that_cannot_be_read_is_503_and_read_again(token, monkeypatch):
    from django.db import OperationalError

    monkeypatch.setattr(authentication.flood, "lookups_per_second", 0)
    post(wrong_token())

    def fail(execute, sql, params, many, context):
        raise OperationalError("the server closed the connection")

    with connection.execute_wrapper(fail):
        assert post(token).status_code == 503
    assert post(token).status_code == 200


def flood(site, should_stop, answers, headers=()):
    while not should_stop.is_set():
        answers[site.post(wrong_token(), b"x" * 1000, headers=headers)] += 1


@pytest.mark.parametrize("source", ["", "127.0.0.2"], ids=["from the same address", "from another address"])
def test_a_flood_of_wrong_tokens_touches_no_right_one(license_, token, source):
    should_stop, answers = threading.Event(), Counter()
    # As an attacker would: a new address each time, or the gateway's own.
    headers = [f"X-Forwarded-For: 10.0.0.{secrets.randbelow(250)}", "Forwarded: for=192.0.2.60"]
    with webhook_site() as site:
        threads = [
            threading.Thread(target=flood, args=(site, should_stop, answers, headers)) for _ in range(FLOODING_THREADS)
        ]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: answers[429], what="the flood to be throttled")
            right = Counter(site.post(token, body(number), source=source, headers=headers) for number in range(100))
            just_made = new_token(license_)
            time.sleep(authentication.COPY_SECONDS)
            right[site.post(just_made, body(100), source=source)] += 1
        finally:
            should_stop.set()
            for thread in threads:
                thread.join()
        assert site.post(wrong_token()) in (404, 429)
    assert right == {200: 101}
    assert WebhookEvent.objects.count() == 101
    assert set(answers) == {404, 429}
    assert site.process.output.count("have wrong tokens") == 1
