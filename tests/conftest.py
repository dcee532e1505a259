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
"""Folders that a run may leave out. All tests of a folder have at least one of its markers."""

# On a busy machine everything is slow. That is not a failure.
hypothesis.settings.register_profile(
    "kpwa", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("kpwa")


def pytest_ignore_collect(collection_path, config):
    """Skip the import of suites that this run leaves out, which every process would otherwise import."""
    name = collection_path.name
    if collection_path.parent != HERE or name not in LEFT_OUT or any(name in argument for argument in config.args):
        return None
    return all(f"not {marker}" in config.option.markexpr for marker in LEFT_OUT[name]) or None


def pytest_collection_modifyitems(items):
    """Start with the tests that mostly wait. At the end, the other processes would be idle meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


def pytest_collection_finish():
    """Exclude all imported and collected objects from garbage collection, because they stay anyway."""
    gc.collect()
    gc.freeze()


KEPT_TABLES = {"django_content_type", "auth_permission"}
"""Tables that `migrate` fills and no test changes."""


def _delete_rows(test_case):
    """Empty the database after a test that commits.

    On PostgreSQL, Django truncates every table, which recreates its files, and then fills the content types and
    permissions again. A test leaves only a few rows, so deleting them is faster.
    """
    for alias in test_case._databases_names(include_mirrors=False):
        connection = connections[alias]
        if connection.errors_occurred and connection.connection is not None and not connection.is_usable():
            connection.close()  # a broken connection must not reach the next test
        models = apps.get_models(include_auto_created=True)
        tables = {model._meta.db_table for model in models if model._meta.managed} - KEPT_TABLES
        statements = [f"DELETE FROM {connection.ops.quote_name(table)}" for table in sorted(tables)]
        if connection.vendor == "postgresql":
            statements = ["; ".join(statements)]  # PostgreSQL checks foreign keys at the end of the transaction
        with connection.constraint_checks_disabled():
            connection.ops.execute_sql_flush(statements)


TransactionTestCase._fixture_teardown = _delete_rows


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request):
    """pytest-django requests this fixture before it creates the test databases, one per process."""
    servers.start_database()
    request.getfixturevalue("django_db_modify_db_settings_parallel_suffix")


@pytest.fixture(autouse=True, scope="session")
def _reaches_outside():
    """Allow outside connections, because these tests use only their own brokers and gateways."""
    with reach_outside():
        yield


@pytest.fixture(autouse=True)
def _a_process_that_has_done_nothing_yet(monkeypatch):
    """Start each test with the state of a new process. A single fixture saves time, because every test runs it."""
    locmem.clear()
    flood.forget()
    wake.publisher.broker.close()
    wake.publisher.reset()
    heartbeats._noted_at.clear()
    # Pretend that this process has just checked for alerts. The tests of alerts run the check themselves.
    monkeypatch.setattr(compare.looking, "passes", lambda *_: False)
    # Several test modules import a Celery app. Otherwise every test would use the last imported app and its broker.
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
    """A function that changes settings in `KPWA`."""

    def change(**changed):
        settings.KPWA = {**settings.KPWA, **changed}

    return change


@pytest.fixture(scope="session")
def redis_url():
    """The URL of this process's own Redis database. Use it only if `servers.HAS_REDIS`."""
    return servers.redis_url()


@pytest.fixture
def celery_settings():
    """A function that configures Celery for the test, e.g. `celery_settings(broker_url="amqp://…")`."""
    previous = current_app._get_current_object()
    app = Celery("configured-for-a-test", set_as_current=False)

    def configure(**changed):
        app.conf.update(changed)
        app.set_current()

    yield configure
    previous.set_current()
    app.close()
