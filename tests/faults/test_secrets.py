"""Row 33: failures in every layer, which must leave no secret behind.

G is checked after every test of the campaign; the tests here cause failures for that check. test_celery_secrets.py
checks what Celery receives, test_errors_everywhere.py the reports of every error, and tests/integration/test_secrets.py
admin pages and each `repr`.
"""

from __future__ import annotations

import pytest

from django_kpwa.models import Status

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


def test_debug_pages_of_a_site_that_fails_show_no_token(shop):
    shop.debug = True
    shop.start_web()
    assert shop.post_webhook({"id": "A1", "message": "halo"}) == 200
    assert shop.post_webhook(b"x" * 2_000_000) == 413
    wrong = shop.last_path[:-3] + "xx/"
    assert shop.post_webhook(b"{}", path=wrong) == 404
