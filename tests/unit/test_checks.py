"""System checks: each finds what it names, says what to write, and is quiet otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import psycopg
import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections
from django.middleware.security import SecurityMiddleware

from django_kpwa.gateway.http import HttpGateway
from django_kpwa.models import Heartbeat, License, OutboundMessage
from django_kpwa.schedule import BEAT_SCHEDULE, beat_schedule

HTTP = "django_kpwa.gateway.http.HttpGateway"


def found(databases: tuple[str, ...] = ()) -> dict[str, checks.CheckMessage]:
    """What the checks say, by id. Django 6.1 takes None for all databases, so none of them is an empty list."""
    messages = checks.run_checks(tags=["kpwa"], databases=databases)
    assert all(message.hint for message in messages)
    return {message.id: message for message in messages}


def found_in_database() -> dict[str, checks.CheckMessage]:
    return found(("default",))


@pytest.fixture
def kpwa(settings):
    """Changes `KPWA`."""

    def change(**changed):
        settings.KPWA = {**settings.KPWA, **changed}

    return change


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"PACE": 1}, "KPWA['PACE'] is not a setting"),
        ({"PACE_SECONDS": 4}, "must be a list or tuple"),
        ({"PACE_SECONDS": (8, 4)}, "not a shortest and a longest wait"),
        ({"PACE_SECONDS": (1, 2, 3)}, "not a shortest and a longest wait"),
        ({"PACE_SECONDS": ("4", "8")}, "not a shortest and a longest wait"),
        ({"GATEWAY": "shop.Nowhere"}, "cannot be imported"),
        ({"GATEWAY": "django_kpwa.models.License"}, "not a subclass"),
        ({"WEBHOOK_PARSER": "shop.nowhere.Parser"}, "No module named 'shop"),
        ({"RESEND_UNKNOWN": ("time_out",)}, "names a cause that does not exist"),
        ({"ALLOWED_GATEWAY_HOSTS": ["https://wa.example"]}, "something else than hosts"),
        ({"ALLOWED_GATEWAY_HOSTS": ["wa.example", 5]}, "something else than hosts"),
        ({"DEFAULT_REGION": "Indonesia"}, "is no region"),
    ],
    ids=str,
)
def test_wrong_settings_are_an_error(kpwa, changed, words):
    kpwa(**changed)
    error = found()["kpwa.E001"]
    assert error.level == checks.ERROR
    assert words in error.msg


def test_the_settings_of_the_documentation_are_no_error(kpwa):
    kpwa(PACE_SECONDS=(4, 8), RESEND_UNKNOWN=["logged_out", "timeout"], DEFAULT_REGION="SG", GATEWAY=HTTP)
    assert "kpwa.E001" not in found()


def test_settings_that_cannot_be_read_silence_the_checks_that_need_them(settings):
    settings.KPWA = "nonsense"
    assert set(found()) <= {"kpwa.E001", "kpwa.W001"}


def test_time_zones_are_required(settings):
    assert "kpwa.E002" not in found()
    settings.USE_TZ = False
    assert found()["kpwa.E002"].hint == "Write USE_TZ = True in the settings."


class TestBroker:
    def test_none_is_a_warning_that_names_the_ways_without(self, celery_settings):
        celery_settings(broker_url="")
        assert "kpwa run" in found()["kpwa.W001"].hint

    def test_tasks_that_go_to_no_worker_are_a_warning_whatever_the_broker_is(self, celery_settings):
        for url in ("", "amqp://127.0.0.1:5672//"):
            celery_settings(broker_url=url, task_always_eager=True)
            messages = found()
            assert "kpwa run" in messages["kpwa.W100"].hint
            assert "kpwa.W001" not in messages
        celery_settings(task_always_eager=False)
        assert "kpwa.W100" not in found()

    def test_a_sites_own_tests_may_run_tasks_so(self, celery_settings, monkeypatch):
        celery_settings(broker_url="amqp://127.0.0.1:5672//", task_always_eager=True)
        monkeypatch.setattr("django_kpwa.rehearsal._reaching_outside", 0)
        assert "kpwa.W100" not in found()

    def test_redis_without_timeouts_is_a_warning(self, celery_settings):
        celery_settings(broker_url="redis://127.0.0.1:6379/0", broker_transport_options={})
        assert "socket_timeout" in found()["kpwa.W002"].hint

    def test_redis_with_timeouts_and_rabbitmq_are_none(self, celery_settings):
        celery_settings(broker_url="redis://127.0.0.1:6379/0", broker_transport_options={"socket_timeout": 5})
        assert not {"kpwa.W001", "kpwa.W002"} & set(found())
        celery_settings(broker_url="amqp://127.0.0.1:5672//", broker_transport_options={})
        assert not {"kpwa.W001", "kpwa.W002"} & set(found())

    def test_a_beat_that_does_not_sweep_is_a_warning(self, celery_settings):
        others = {"report": {"task": "shop.report", "schedule": 60}}
        celery_settings(broker_url="amqp://127.0.0.1:5672//", beat_schedule=others)
        warning = found()["kpwa.W009"]
        assert "never sent" in warning.msg
        assert "beat_schedule()" in warning.hint

    @pytest.mark.parametrize("name", BEAT_SCHEDULE)
    def test_whatever_beat_does_not_run_is_named(self, celery_settings, name):
        scheduled = {f"mine-{key}": entry for key, entry in BEAT_SCHEDULE.items() if key != name}
        celery_settings(broker_url="amqp://127.0.0.1:5672//", beat_schedule=scheduled)
        assert f"does not run: {BEAT_SCHEDULE[name]['task']}. " in found()["kpwa.W009"].msg

    def test_a_whole_schedule_is_none_and_one_in_a_database_is_trusted(self, celery_settings):
        celery_settings(broker_url="amqp://127.0.0.1:5672//", beat_schedule=beat_schedule(60))
        assert "kpwa.W009" not in found()
        celery_settings(beat_schedule={}, beat_scheduler="django_celery_beat.schedulers:DatabaseScheduler")
        assert "kpwa.W009" not in found()


@pytest.mark.django_db
class TestConnectionsOfWorkers:
    @pytest.fixture(autouse=True)
    def _server(self, celery_settings, monkeypatch):
        self.celery = celery_settings
        self.celery(broker_url="amqp://127.0.0.1:5672//", CELERY_DB_REUSE_MAX=None)
        self.database = lambda name, value: monkeypatch.setitem(connection.settings_dict, name, value)
        if connection.vendor == "sqlite":
            assert "kpwa.W011" not in found()
            pytest.skip("a file needs no connection")

    def test_a_connection_for_every_task_is_a_warning_whatever_its_age(self):
        for age in (0, 60, None):
            self.database("CONN_MAX_AGE", age)
            assert "CELERY_DB_REUSE_MAX = 100" in found()["kpwa.W011"].hint

    def test_connections_that_are_kept_are_none_where_they_may_grow_old(self):
        self.celery(CELERY_DB_REUSE_MAX=100)
        self.database("CONN_MAX_AGE", 60)
        assert "kpwa.W011" not in found()
        self.database("CONN_MAX_AGE", None)
        assert "kpwa.W011" not in found()
        self.database("CONN_MAX_AGE", 0)
        assert "kpwa.W011" in found()

    def test_a_pool_or_no_broker_is_none(self):
        self.database("OPTIONS", {**connection.settings_dict["OPTIONS"], "pool": True})
        assert "kpwa.W011" not in found()
        self.database("OPTIONS", {})
        self.celery(broker_url=None)
        assert "kpwa.W011" not in found()


@pytest.mark.parametrize(
    ("url", "is_warned"),
    [
        ("http://shop.example", True),
        ("shop.example", True),
        ("https://shop.example", False),
        ("", False),
        ("http://127.0.0.1:8000", False),
        ("http://localhost:8000", False),
    ],
)
def test_a_public_url_that_is_not_https_is_a_warning(kpwa, url, is_warned):
    kpwa(PUBLIC_URL=url)
    assert ("kpwa.W005" in found()) == is_warned


COMMON = "django.middleware.common.CommonMiddleware"
SECURITY = "django.middleware.security.SecurityMiddleware"
BEHIND_PROXY = {"SECURE_SSL_REDIRECT": True, "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}


class OwnSecurity(SecurityMiddleware):
    """A site's own, with Django's redirect in it."""


@pytest.mark.parametrize(
    ("url", "middleware", "changed", "warned"),
    [
        ("https://shop.example", [COMMON], {"PREPEND_WWW": True}, {"kpwa.W075"}),
        ("https://www.shop.example", [COMMON], {"PREPEND_WWW": True}, set()),
        ("https://shop.example", [], {"PREPEND_WWW": True}, set()),
        ("https://shop.example", [SECURITY], {"SECURE_SSL_REDIRECT": True}, {"kpwa.W075"}),
        ("https://shop.example", [f"{__name__}.OwnSecurity"], {"SECURE_SSL_REDIRECT": True}, {"kpwa.W075"}),
        ("https://shop.example", [SECURITY], BEHIND_PROXY, set()),
        ("http://shop.example", [SECURITY], BEHIND_PROXY, {"kpwa.W005", "kpwa.W075"}),
        ("https://shop.example", [SECURITY], {**BEHIND_PROXY, "SECURE_REDIRECT_EXEMPT": ["webhooks/"]}, set()),
        ("https://shop.example", [], {"SECURE_SSL_REDIRECT": True}, set()),
        ("https://shop.example", [COMMON, SECURITY], {"APPEND_SLASH": True}, set()),
        ("https://shop.example", [COMMON], {"ALLOWED_HOSTS": ["toko.example"]}, {"kpwa.W076"}),
        ("https://shop.example:8443", [COMMON], {"ALLOWED_HOSTS": [".shop.example"]}, set()),
        ("", [COMMON, SECURITY], {"PREPEND_WWW": True, "SECURE_SSL_REDIRECT": True}, set()),
    ],
)
def test_what_would_redirect_or_refuse_a_webhook_is_a_warning(kpwa, settings, url, middleware, changed, warned):
    kpwa(PUBLIC_URL=url)
    settings.MIDDLEWARE = middleware
    for name, value in changed.items():
        setattr(settings, name, value)
    webhooks = {id_ for id_ in found() if id_ in ("kpwa.W005", "kpwa.W075", "kpwa.W076")}
    assert webhooks == warned


@pytest.mark.parametrize(
    ("changed", "urls", "warned"),
    [
        ({"PUBLIC_URL": "https://toko-senja.id"}, "tests.urls", set()),
        ({"PUBLIC_URL": "https://toko-senja.id"}, "tests.integration.other_admin_urls", {"kpwa.W077"}),
        ({"PUBLIC_URL": ""}, "tests.integration.other_admin_urls", set()),
        ({"PUBLIC_URL": "https://shop.example", "GATEWAY": HTTP}, "tests.urls", {"kpwa.W078"}),
        ({"PUBLIC_URL": "https://shop.example", "BASE_URLS": ["http://127.0.0.1/"]}, "tests.urls", set()),
        (
            {"PUBLIC_URL": "https://example.com", "GATEWAY": HTTP, "BASE_URLS": ["http://127.0.0.1/"]},
            "tests.urls",
            {"kpwa.W078"},
        ),
        ({"PUBLIC_URL": "http://127.0.0.1:8000", "GATEWAY": HTTP}, "tests.urls", {"kpwa.W078"}),
        (
            {"PUBLIC_URL": "http://127.0.0.1:8000", "GATEWAY": HTTP, "BASE_URLS": ["http://127.0.0.1/"]},
            "tests.urls",
            set(),
        ),
    ],
)
def test_a_webhook_without_an_address_or_with_a_useless_one_is_a_warning(kpwa, settings, changed, urls, warned):
    kpwa(**changed)
    settings.ROOT_URLCONF = urls
    assert {id_ for id_ in found() if id_ in ("kpwa.W077", "kpwa.W078")} == warned


class OwnHttpGateway(HttpGateway):
    """A site's own kind of the real one."""


@pytest.mark.parametrize(
    ("debug", "changed", "is_warned"),
    [
        (True, {"GATEWAY": HTTP}, True),
        (False, {"GATEWAY": HTTP}, False),
        (True, {"GATEWAY": HTTP, "BASE_URLS": ["http://127.0.0.1:8900/backend"]}, False),
        (True, {"GATEWAY": f"{__name__}.OwnHttpGateway"}, True),
        (True, {}, False),
    ],
)
def test_the_real_gateway_under_debug_is_a_warning(settings, kpwa, debug, changed, is_warned):
    settings.DEBUG = debug
    kpwa(**changed)
    assert ("kpwa.W006" in found()) == is_warned


def test_a_license_that_names_the_real_service_under_debug_is_a_warning(license_, settings, kpwa):
    settings.DEBUG = True
    kpwa(GATEWAY=HTTP, BASE_URLS=["http://127.0.0.1:8900/backend"])
    assert "kpwa.W006" not in found_in_database()
    License.objects.update(base_url="https://wa.kpntr.com/backend")
    assert "Toko Utama" in found_in_database()["kpwa.W006"].msg
    assert "kpwa.W006" not in found()
    kpwa(GATEWAY="django_kpwa.gateway.console.ConsoleGateway")
    assert "kpwa.W006" not in found_in_database()
    settings.DEBUG = False
    kpwa(GATEWAY=HTTP)
    assert "kpwa.W006" not in found_in_database()


def found_when_live(databases=()) -> dict[str, checks.CheckMessage]:
    messages = checks.run_checks(tags=["kpwa"], databases=databases, include_deployment_checks=True)
    assert all(message.hint for message in messages)
    return {message.id: message for message in messages if message.id in ("kpwa.W081", "kpwa.W082", "kpwa.W083")}


@pytest.mark.parametrize(
    ("changed", "warned"),
    [
        ({"GATEWAY": "django_kpwa.gateway.console.ConsoleGateway"}, {"kpwa.W081"}),
        ({"GATEWAY": "django_kpwa.gateway.locmem.LocmemGateway"}, {"kpwa.W081"}),
        ({"GATEWAY": "django_kpwa.sandbox.phone.SandboxGateway"}, {"kpwa.W081"}),
        ({"GATEWAY": HTTP}, set()),
        ({"GATEWAY": f"{__name__}.OwnHttpGateway"}, set()),
        ({"GATEWAY": HTTP, "BASE_URLS": ["http://127.0.0.1:8900/backend"]}, {"kpwa.W082"}),
        ({"GATEWAY": HTTP, "BASE_URLS": ["https://wa.kpntr.com/backend", "https://[::1]/b"]}, {"kpwa.W082"}),
        ({"GATEWAY": f"{__name__}.OwnHttpGateway", "BASE_URLS": ["http://localhost/b"]}, {"kpwa.W082"}),
        ({"GATEWAY": HTTP, "BASE_URLS": ["http://wa.kpntr.com/backend"]}, {"kpwa.W083"}),
        ({"GATEWAY": HTTP, "BASE_URLS": ["HTTP://127.evil.example/backend"]}, {"kpwa.W083"}),
    ],
)
def test_a_live_site_that_reaches_nobody_or_speaks_in_the_clear_is_a_warning_under_deploy(
    settings, kpwa, changed, warned
):
    kpwa(**changed)
    assert set(found_when_live()) == warned
    assert not set(found()) & {"kpwa.W081", "kpwa.W082", "kpwa.W083"}
    settings.DEBUG = True
    assert set(found_when_live()) == set()


def test_a_live_license_whose_base_url_is_this_machine_is_a_warning_under_deploy(license_, settings, kpwa):
    kpwa(GATEWAY=HTTP)
    assert found_when_live(("default",)) == {}
    License.objects.update(base_url="http://127.0.0.1:8900/backend")
    assert "Toko Utama" in found_when_live(("default",))["kpwa.W082"].msg
    assert "kpwa.W082" not in found_in_database()
    settings.DEBUG = True
    assert found_when_live(("default",)) == {}


def test_a_license_whose_base_url_the_site_does_not_allow_is_a_warning(license_, kpwa):
    kpwa(GATEWAY=HTTP)
    assert "kpwa.W080" not in found_in_database()
    License.objects.update(base_url="https://elsewhere.example/backend")
    assert "Toko Utama" in found_in_database()["kpwa.W080"].msg
    assert "base URL was changed" in found_in_database()["kpwa.W007"].msg
    kpwa(ALLOWED_GATEWAY_HOSTS=["elsewhere.example"])
    assert "kpwa.W080" not in found_in_database()


@pytest.mark.parametrize(
    "changed",
    [{"CALL_DEADLINE_SECONDS": 20}, {"SLICE_SECONDS": 580}, {"READ_TIMEOUT_SECONDS": 60}],
    ids=str,
)
def test_durations_that_contradict_each_other_are_a_warning(kpwa, changed):
    assert "kpwa.W008" not in found()
    kpwa(**changed)
    assert "kpwa.W008" in found()


class _LiteRouter:
    def db_for_write(self, model, **hints):
        return "lite" if model._meta.app_label == "django_kpwa" else None


@pytest.fixture
def lite(settings, tmp_path, django_db_blocker):
    """Has the outbox live in a SQLite file with these options, and without tables."""

    def configure(**options):
        forget()
        connections.settings["lite"] = {
            **connections.settings["default"],
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / "site.sqlite3"),
            "OPTIONS": options,
        }
        settings.DATABASE_ROUTERS = [_LiteRouter()]

    def forget():
        if "lite" in connections.settings:
            connections["lite"].close()
            del connections["lite"], connections.settings["lite"]

    with django_db_blocker.unblock():
        yield configure
        forget()


class TestSqlite:
    def test_stock_options_lack_both_the_lock_and_the_log(self, lite):
        lite()
        messages = [message.msg for message in checks.run_checks(tags=["kpwa"], databases=["lite"])]
        assert any("begins its transactions without a lock" in words for words in messages)
        assert any("has no write-ahead log" in words for words in messages)

    def test_what_the_hint_says_is_enough(self, lite):
        lite()
        hint = found(("lite",))["kpwa.W004"].hint
        options = eval(hint.removeprefix("Write DATABASES['default']['OPTIONS'] = ").rstrip("."))
        lite(**options)
        assert "kpwa.W004" not in found(("lite",))

    def test_the_database_is_asked_only_where_that_was_wanted(self, lite):
        lite(transaction_mode="IMMEDIATE")
        assert "kpwa.W004" not in found()
        assert "kpwa.W004" not in found(("default",))
        assert "kpwa.W004" in found(("lite",))


class TestTransactions:
    def test_a_database_that_does_not_commit_by_itself_is_a_warning(self, lite):
        lite()
        assert "kpwa.W010" not in found()
        connections.settings["lite"]["AUTOCOMMIT"] = False
        assert "AUTOCOMMIT" in found()["kpwa.W010"].hint

    @pytest.mark.parametrize(
        ("level", "is_warned"), [("read committed", False), ("repeatable read", True), ("serializable", True)]
    )
    def test_transactions_that_see_an_old_state_are_a_warning_on_postgresql(self, other_options, level, is_warned):
        on_postgresql = connection.vendor == "postgresql"
        other_options({"isolation_level": psycopg.IsolationLevel[level.upper().replace(" ", "_")]})
        message = found_in_database().get("kpwa.W010")
        assert (message is not None) == (is_warned and on_postgresql)
        assert message is None or level in message.msg

    def test_so_are_those_of_a_server_that_is_set_so(self, other_options):
        other_options({"options": "-c default_transaction_isolation=serializable"})
        assert ("kpwa.W010" in found_in_database()) == (connection.vendor == "postgresql")


@pytest.fixture
def other_options(transactional_db, monkeypatch):
    """Has the database connected to with more options, where it is PostgreSQL."""

    def connect(options):
        if connection.vendor == "postgresql":
            known = connection.settings_dict["OPTIONS"]
            monkeypatch.setitem(connection.settings_dict, "OPTIONS", {**known, **options})
            connection.close()

    yield connect
    monkeypatch.undo()
    connection.close()


class TestStoredKeys:
    def test_a_key_that_opens_is_fine(self, license_):
        assert not {"kpwa.W007", "kpwa.I001"} & set(found_in_database())

    def test_one_that_does_not_is_a_warning_that_names_the_license_and_no_error(self, license_, kpwa):
        kpwa(SECRET_KEYS=["another-secret-key-0123456789abcdefghijklmn"])
        message = found_in_database()["kpwa.W007"]
        # An error would keep `migrate` from running.
        assert message.level == checks.WARNING
        assert "Toko Utama" in message.msg
        assert "licenses set-key" in message.hint

    def test_one_under_an_older_secret_key_is_said(self, license_, kpwa, settings):
        older = settings.SECRET_KEY * 4
        settings.SECRET_KEY = older
        license_.set_api_key("test-api-key-0001")
        license_.save()
        kpwa(SECRET_KEYS=["another-secret-key-0123456789abcdefghijklmn", older])
        assert "Toko Utama" in found_in_database()["kpwa.I001"].msg

    def test_unreadable_settings_and_missing_tables_are_others_to_report(self, license_, settings):
        settings.KPWA = {"NONSENSE": 1}
        assert "kpwa.E001" in (ids := found_in_database())
        assert not {"kpwa.W007", "kpwa.I001"} & set(ids)

    def test_without_tables_it_is_quiet(self, lite):
        lite()
        assert "kpwa.W007" not in found(("lite",))


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
def test_mysql_tables_that_cannot_hold_emoji_are_a_warning():
    table = License._meta.db_table
    assert "kpwa.W003" not in found_in_database()
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET latin1")
    try:
        message = found_in_database()["kpwa.W003"]
        assert table in message.msg
        with connection.cursor() as cursor:
            cursor.execute(message.hint.removeprefix("Run for each: ").rstrip(";"))
        assert "kpwa.W003" not in found_in_database()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4")


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
def test_mysql_columns_that_mind_no_case_are_a_warning_whose_hint_mends_them():
    assert "kpwa.W065" not in found_in_database()
    with connection.cursor() as cursor:
        # As the hint about emoji has it.
        cursor.execute(
            f"ALTER TABLE {OutboundMessage._meta.db_table} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
        )
    for column in ("source_database", "source_id"):
        message = found_in_database()["kpwa.W065"]
        assert f"django_kpwa_outboundmessage.{column}" in message.msg
        with connection.cursor() as cursor:
            cursor.execute(message.hint.removeprefix("Run for each: ").rstrip(";"))
    assert "kpwa.W065" not in found_in_database()


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
def test_mysql_tables_without_transactions_are_a_warning():
    table = Heartbeat._meta.db_table
    assert "kpwa.W010" not in found_in_database()
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} ENGINE = MyISAM")
        message = found_in_database()["kpwa.W010"]
        assert f"{table} (MyISAM)" in message.msg
        cursor.execute(message.hint.removeprefix("Run for each: ").rstrip(";"))
    assert "kpwa.W010" not in found_in_database()


@pytest.mark.mariadb
@pytest.mark.django_db(transaction=True)
def test_a_mysql_connection_without_emoji_is_a_warning():
    with connection.cursor() as cursor:
        cursor.execute("SET NAMES latin1")
    try:
        assert "charset" in found_in_database()["kpwa.W003"].hint
    finally:
        connection.close()


def test_tables_of_the_release_before_are_migrated_whatever_the_checks_ask(tmp_path):
    environment = os.environ | {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'shop.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    for target in ("0001", "0002"):
        command = [sys.executable, "-m", "django", "migrate", "django_kpwa", target]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert told.returncode == 0, told.stderr


def test_manage_py_check_runs_them(db, settings):
    settings.USE_TZ = False
    with pytest.raises(SystemCheckError, match=r"kpwa\.E002"):
        call_command("check")


class TestContentTypes:
    def test_an_outbox_without_them_is_a_warning(self, settings):
        class OutboxAlone:
            def allow_migrate(self, db, app_label, **hints):
                return app_label == "django_kpwa"

        assert "kpwa.W092" not in found()
        settings.DATABASE_ROUTERS = [OutboxAlone()]
        assert "contenttypes" in found()["kpwa.W092"].hint
