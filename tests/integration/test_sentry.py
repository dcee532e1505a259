"""What Sentry receives about errors in a send, a webhook's view, a task and a QR code."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.pages import blocks_of
from tests.processes import ROOT
from tests.sites.sentry import KEY, NUMBER, TOKEN, TYPED, WORDS

CANARIES = {
    "API key": KEY,
    "token": TOKEN,
    "QR code": "canaryqr",
    "number": NUMBER[2:],
    "as typed": TYPED,
    "text": WORDS,
}
PLAIN = 'import sentry_sdk\nsentry_sdk.init(dsn="http://public@127.0.0.1:9/1", send_default_pii=True)\n'


def events_of(tmp_path, options):
    (tmp_path / "options.py").write_text(options)
    site = {"DATABASE_URL": f"sqlite:///{tmp_path}/site.sqlite3", "CELERY_BROKER_URL": ""}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.sites.sentry", str(tmp_path / "options.py")],
        cwd=ROOT, env={**os.environ, **site}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert [event for event in map(json.loads, ran.stdout.splitlines()) if "exception" in event]
    return ran.stdout


def found_in(text):
    return {name for name, canary in CANARIES.items() if canary in text}


def test_with_the_options_of_the_page_no_event_has_a_secret_or_a_customer(tmp_path):
    (options,) = blocks_of("sentry.md")
    events = events_of(tmp_path, options)
    assert found_in(events) == set()
    # The events still say where the error was: in tasks that sent, in the webhook's view, or in the site's own code.
    assert "django_kpwa.dispatch_license" in events
    assert "/kpwa/webhooks/***/" in events
    assert "(number) is at fault" in events


def test_without_them_the_token_the_number_and_the_text_are_in_the_events_but_neither_the_key_nor_the_qr_code(tmp_path):
    assert found_in(events_of(tmp_path, PLAIN)) == {"token", "number", "as typed", "text"}
