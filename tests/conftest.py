"""Fixtures that every suite uses."""

from __future__ import annotations

import gc
from pathlib import Path

import hypothesis
import pytest
from celery import Celery, current_app
from django.apps import apps
from django.db import connections
from django.test import TransactionTestCase

from django_kpwa import wake
from django_kpwa.alerts import compare
from django_kpwa.gateway import locmem
from django_kpwa.models import License
from django_kpwa.rehearsal import reach_outside
from django_kpwa.store import heartbeats
from django_kpwa.webhooks.authentication import flood
from tests import servers

HERE = Path(__file__).parent
LEFT_OUT = {"browser": ["browser"], "faults": ["faults", "slow"]}
"""Folders, each with the markers of which all of its tests have one."""

# A busy machine is slow at everything; that is no finding.
hypothesis.settings.register_profile(
    "kpwa", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("kpwa")


def pytest_ignore_collect(collection_path, config):
    """Suites that this run leaves out are not imported, which each of its processes would do for nothing."""
    name = collection_path.name
    if collection_path.parent != HERE or name not in LEFT_OUT or any(name in argument for argument in config.args):
        return None
    return all(f"not {marker}" in config.option.markexpr for marker in LEFT_OUT[name]) or None


def pytest_collection_modifyitems(items):
    """What mostly waits comes first, beside other processes' work: at the end they would wait for it."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


def pytest_collection_finish():
    """What has been imported and collected stays: no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()


KEPT_TABLES = {"django_content_type", "auth_permission"}
"""What `migrate` has put there, and no test changes."""


def _delete_rows(test_case):
    """Empty the database after a test that commits.

    Django's way truncates every table on PostgreSQL, which makes each of its files anew, and then fills the content
    types and permissions again, where a test leaves few rows to delete.
    """
    for alias in test_case._databases_names(include_mirrors=False):
        connection = connections[alias]
        if connection.errors_occurred and connection.connection is not None and not connection.is_usable():
            connection.close()  # a test that lost its connection leaves it to no other test
        models = apps.get_models(include_auto_created=True)
        tables = {model._meta.db_table for model in models if model._meta.managed} - KEPT_TABLES
        statements = [f"DELETE FROM {connection.ops.quote_name(table)}" for table in sorted(tables)]
        if connection.vendor == "postgresql":
            statements = ["; ".join(statements)]  # foreign keys are checked at the end of the transaction
        with connection.constraint_checks_disabled():
            connection.ops.execute_sql_flush(statements)


TransactionTestCase._fixture_teardown = _delete_rows


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request):
    """pytest-django asks for this before it makes the test databases, one for each process."""
    servers.start_database()
    request.getfixturevalue("django_db_modify_db_settings_parallel_suffix")


@pytest.fixture(autouse=True, scope="session")
def _reaches_outside():
    """The brokers and gateways of these tests are their own."""
    with reach_outside():
        yield


@pytest.fixture(autouse=True)
def _a_process_that_has_done_nothing_yet(monkeypatch):
    """Each test begins as a process would. One fixture for it all: each costs its time thousands of times."""
    locmem.clear()
    flood.forget()
    wake.publisher.broker.close()
    wake.publisher.reset()
    heartbeats._noted_at.clear()
    # It has looked for alerts just now; the tests of alerts look themselves.
    monkeypatch.setattr(compare.looking, "passes", lambda *_: False)
    # Several test modules import a Celery app, and the last one imported would be every test's, with its broker.
    _without_a_broker.set_current()
    _without_a_broker.set_default()


_without_a_broker = Celery("tests-without-a-broker", set_as_current=False)


@pytest.fixture
def license_(db):
    """A stored license whose API key is `test-api-key-0001`."""
    row = License(name="Toko Utama")
    row.set_api_key("test-api-key-0001")
    row.save()
    return row


@pytest.fixture
def kpwa(settings):
    """Changes `KPWA`."""

    def change(**changed):
        settings.KPWA = {**settings.KPWA, **changed}

    return change


@pytest.fixture(scope="session")
def redis_url():
    """The address of a Redis database of this process' own; only where `servers.HAS_REDIS`."""
    return servers.redis_url()


@pytest.fixture
def celery_settings():
    """Has Celery configured like this for the test, e.g. `celery_settings(broker_url="amqp://…")`."""
    previous = current_app._get_current_object()
    app = Celery("configured-for-a-test", set_as_current=False)

    def configure(**changed):
        app.conf.update(changed)
        app.set_current()

    yield configure
    previous.set_current()
    app.close()
