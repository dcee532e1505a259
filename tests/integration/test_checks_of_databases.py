"""System checks that query the database: each finds its problem, says what to write, and is silent otherwise."""

from __future__ import annotations

import psycopg
import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections

from django_kpwa.models import Heartbeat, License, OutboundMessage
from tests.unit.test_checks import HTTP, found, found_when_live


def found_in_database() -> dict[str, checks.CheckMessage]:
    return found(("default",))


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


def test_a_live_license_with_a_local_base_url_is_a_warning_under_deploy(license_, settings, kpwa):
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
    assert "was changed after the API key was stored" in found_in_database()["kpwa.W007"].msg
    kpwa(ALLOWED_GATEWAY_HOSTS=["elsewhere.example"])
    assert "kpwa.W080" not in found_in_database()


class _LiteRouter:
    def db_for_write(self, model, **hints):
        return "lite" if model._meta.app_label == "django_kpwa" else None


@pytest.fixture
def lite(settings, tmp_path, django_db_blocker):
    """Return a function that moves the outbox into a SQLite file with the given options and without tables."""

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
        options = eval(hint.removeprefix("Set DATABASES['default']['OPTIONS'] = ").rstrip("."))
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
    """Return a function that connects to the database with more options. It does so only on PostgreSQL."""

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

    def test_unreadable_key_is_a_warning_that_names_the_license(self, license_, kpwa):
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
def test_mysql_case_insensitive_columns_warn_and_the_hint_fixes_them():
    assert "kpwa.W065" not in found_in_database()
    with connection.cursor() as cursor:
        # As the hint about emoji advises.
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


def test_manage_py_check_runs_them(db, settings):
    settings.USE_TZ = False
    with pytest.raises(SystemCheckError, match=r"kpwa\.E002"):
        call_command("check")
