"""Row 33: failures in every layer, with nothing secret in what they leave behind.

G is checked after every test of the campaign; here the failures are made for it. Reports, admin pages and the `repr` of
each object are in tests/integration/test_secrets.py.
"""

from __future__ import annotations

import threading

import pytest

from django_kpwa.models import Status
from tests.celery_app import app

from . import invariants

FAILPOINTS = ("before_claim", "after_claim", "mid_post", "before_answer", "after_post", "after_record")


@pytest.mark.parametrize("debug", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_failure_at_any_moment_of_a_send_is_logged_without_secrets_and_the_rest_goes_out(shop, debug):
    shop.debug = debug
    worker = shop.start_worker(**{name: {"do": "fail", "at": 2 * n + 1} for n, name in enumerate(FAILPOINTS)})
    shop.start_beat()
    shop.sell(20)
    shop.settle()
    for name in FAILPOINTS:
        shop.reached(name)
    assert set(shop.statuses()) <= {Status.SENT, Status.UNKNOWN}
    assert "Something of the site's failed" in worker.output
    assert "Task django_kpwa.dispatch_license failed." in worker.output


def test_what_waits_in_the_broker_names_ids_alone(make_shop):
    shop = make_shop(broker="redis")
    shop.sell(3)
    shop.post_webhook({"id": "A1", "from": f"{min(shop.numbers)}", "message": "halo"})
    texts = list(shop.broker_texts())
    assert any("django_kpwa.dispatch_license" in text for text in texts)
    assert any("django_kpwa.process_webhook" in text for text in texts)
    assert not invariants.check_secrets(shop.secrets, shop.numbers, {"the broker": "".join(texts)}, tables=False)
    shop.start_worker()
    shop.start_beat()
    shop.settle()


def test_celerys_events_name_ids_alone(shop, monkeypatch):
    monkeypatch.setenv("KPWA_TEST_SENDS_EVENTS", "1")
    heard: list[str] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": lambda event: heard.append(repr(event))})
        listener = threading.Thread(
            target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False), daemon=True
        )
        listener.start()
        shop.start_worker(after_claim={"do": "fail", "at": 2})
        shop.start_beat()
        shop.sell(4)
        shop.post_webhook({"id": "A1", "from": f"{min(shop.numbers)}", "message": "halo"})
        shop.settle()
        receiver.should_stop = True
        listener.join(timeout=10)
    assert any("task-failed" in event for event in heard)
    assert any("task-received" in event for event in heard)
    found = invariants.check_secrets(shop.secrets, shop.numbers, {"the events": "\n".join(heard)}, tables=False)
    assert not found, found


def test_debug_pages_of_a_site_that_fails_show_no_token(shop):
    shop.debug = True
    shop.start_web()
    assert shop.post_webhook({"id": "A1", "message": "halo"}) == 200
    assert shop.post_webhook(b"x" * 2_000_000) == 413
    wrong = shop.last_path[:-3] + "xx/"
    assert shop.post_webhook(b"{}", path=wrong) == 404
