"""What a site costs that is idle or uses no Celery, in rules that do not depend on milliseconds."""

from __future__ import annotations

import functools
import json
import struct
import subprocess
import sys
import time

import pytest
from celery import Celery
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_kpwa import statistics, tasks
from django_kpwa.cli import run
from django_kpwa.cli.lane_pool import LanePool
from django_kpwa.dispatch import Swept, sweep
from django_kpwa.models import DatabaseNow, Heartbeat, Lane, Status, WebhookEvent, in_seconds
from django_kpwa.outbox import send_message
from django_kpwa.store import heartbeats, store
from django_kpwa.webhooks.arrivals import store_event
from tests.processes import ROOT, site_environment, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

_PRINT = """
import json, sys
print(json.dumps([name for name in sys.modules if "." not in name or name.startswith("django_kpwa.")]))
"""
_SETUP = "import django; django.setup()\n"
_SALE = """
from django.db import transaction
from django.test import Client
from django_kpwa.outbox import send_message
with transaction.atomic():
    send_message("081234567890", "struk")
Client().post("/kpwa/webhooks/not-a-token/", "{}", content_type="application/json")
"""
_RUN = """
import os, signal, threading
from django.core.management import call_command
threading.Timer(4.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
call_command("kpwa", "run")
"""


@functools.cache
def modules_after(code, **environment):
    """The top-level modules, and all of ours, in a process of the site that has run `code`. The result is cached."""
    done = subprocess.run(
        [sys.executable, "-c", f"{_SETUP}{code}\n{_PRINT}"],
        cwd=ROOT,
        env={**site_environment(), "CELERY_BROKER_URL": "", **environment},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(("code", "sent"), [("", 0), (_SALE, 1), (_RUN, 0)], ids=["set up", "a sale", "kpwa run"])
def test_a_site_without_celery_never_imports_it(license_, code, sent):
    assert not modules_after(code) & {"celery", "kombu"}
    assert license_.messages.filter(status=Status.QUEUED).count() == sent


def test_setting_up_imports_nothing_that_only_sending_needs(license_):
    heavy = {"celery", "kombu", "requests", "urllib3", "rest_framework", "phonenumbers", "cryptography", "segno", "PIL"}
    ours = {"health", "store.engine", "receipts.queueing", "webhooks", "checks.database", "admin.dashboard_page"}
    assert not modules_after("") & (heavy | {f"django_kpwa.{name}" for name in ours})


def test_the_first_template_imports_no_tag_of_the_counter_with_all_that_it_shows(license_):
    """With the first template, Django imports the tags of all apps, even on a site that uses none of ours."""
    imported = modules_after("from django.template import engines; engines['django'].from_string('')")
    assert "django_kpwa.templatetags.kpwa_counter" in imported
    assert not imported & {f"django_kpwa.{name}" for name in ("shop_counter", "alerts", "health", "store.engine")}


def test_the_sites_urls_import_nothing_that_only_a_request_needs(license_):
    """Each web process reads them, and so do commands such as `check` and `migrate`."""
    imported = modules_after("from django.urls import get_resolver; get_resolver().url_patterns")
    assert {f"django_kpwa.{name}" for name in ("monitoring", "webhooks.views", "shop_counter.views")} <= imported
    ours = {"health", "alerts", "store.engine", "webhooks.parsers", "webhooks.processing", "shop_counter.banner"}
    assert not imported & {f"django_kpwa.{name}" for name in ours}


def test_a_worker_imports_what_its_tasks_need_before_it_forks(license_):
    ours = {"webhooks.processing", "dispatch.driver", "alerts.compare"}
    assert {f"django_kpwa.{name}" for name in ours} <= modules_after("import django_kpwa.tasks")


def test_a_look_for_alerts_imports_none_of_the_sites_urls(license_):
    imported = modules_after("from django_kpwa.alerts import check; check()")
    assert "django_kpwa.health" in imported
    assert not imported & {"rest_framework", "django_kpwa.urls"}


def test_a_broker_that_only_the_environment_names_is_used(license_):
    asked = "from django_kpwa import broker; assert broker.is_configured()"
    assert "celery" in modules_after(asked, CELERY_BROKER_URL="memory://")


def test_an_idle_sweep_is_one_statement(license_):
    sweep()
    with CaptureQueriesContext(connection) as captured:
        assert sweep() == Swept()
    assert len(captured) == 1


def test_an_idle_look_of_kpwa_run_is_one_statement(license_):
    pool = LanePool(1)
    try:
        loop = run._Loop(pool)
        loop._look()
        with CaptureQueriesContext(connection) as captured:
            loop._look()
    finally:
        pool.close()
    assert len(captured) == 1


def test_a_look_of_kpwa_run_asks_nothing_of_lanes_that_it_drives_itself(license_):
    """It looks every second while its lanes wait for their pace. It settles only as often as beat does."""
    pool = LanePool(1)
    try:
        loop = run._Loop(pool)
        loop._look()
        send_message("0812 3456 7890", "struk", license=license_)
        pool._underway[license_.pk] = None
        with CaptureQueriesContext(connection) as captured:
            loop._look()
        assert len(captured) == 2
        del pool._underway[license_.pk]
        loop._look()
        wait_until(lambda: license_.messages.filter(status=Status.SENT).exists())
    finally:
        pool.close()


def test_idle_tasks_ask_little(license_):
    """Statements of each periodic task. In an hour, beat starts 240 sweeps, 240 webhook checks and 60 roll-ups."""
    every = [(tasks.dispatch_due, 1), (tasks.process_due_webhooks, 1), (tasks.roll_up_statistics, 5)]
    for task, _ in every:
        task()
    for task, most in every:
        with CaptureQueriesContext(connection) as captured:
            task()
        assert len(captured) <= most, task.name


def test_a_worker_that_sweeps_leaves_its_sign_of_life_to_the_sweeps(license_):
    """Its first process would need a connection for each sign. If sweeps stop, the worker gives the sign itself."""
    with Celery("idle-tests", broker="memory://", set_as_current=True):
        sign = tasks._WorkerIsAlive(None)
        tasks.dispatch_due()
        with CaptureQueriesContext(connection) as captured:
            sign._note()
        assert not captured.captured_queries

        Heartbeat.objects.all().delete()
        heartbeats._noted_at.clear()
        tasks._swept_at[:] = struct.pack("d", time.monotonic() - heartbeats.NOTE_EVERY_SECONDS)
        sign._note()
    assert Heartbeat.objects.filter(name="worker").exists()


def test_a_look_tells_what_waits(license_):
    assert store().look() == (False, False, False)
    send_message("081234567890", "struk", send_after=None)
    assert store().look() == (False, True, False)
    Lane.objects.create(license=license_, lease_token="0" * 32, lease_expires_at=in_seconds(60))
    assert store().look().lanes is False
    Lane.objects.update(lease_expires_at=DatabaseNow())
    assert store().look().lanes is True
    store_event(license_.pk, b"{}", "application/json")
    assert store().look() == (True, True, True)
    WebhookEvent.objects.update(next_try_at=in_seconds(60))
    assert store().look().events is False


def test_nothing_settled_rolls_up_without_a_transaction(license_):
    with CaptureQueriesContext(connection) as captured:
        assert statistics.roll_up() == 0
    assert not [query for query in captured if query["sql"].startswith(("BEGIN", "SET", "INSERT"))]


def test_threads_of_the_pool_keep_their_connection_until_it_breaks():
    """Connecting costs more than sending a message, and a paced lane is driven once for each message."""
    used = []
    pool = LanePool(2)

    def use():
        connection.ensure_connection()
        used.append(connection.connection)

    def lose():
        use()
        if connection.vendor != "sqlite":
            connection.connection.close()

    try:
        for count, job in enumerate((use, use, lose, use), start=1):
            pool.start_job(f"job {count}", job)
            wait_until(lambda count=count: len(used) == count and not pool._jobs, what="a job")
    finally:
        pool.close()
    first, second, lost, fresh = used
    assert first is second is lost
    # SQLite has no server that could end a connection, so Django considers every connection usable.
    assert fresh is not lost or connection.vendor == "sqlite"
