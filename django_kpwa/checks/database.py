"""Checks of the outbox's database, and of the licenses stored in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, router
from django.utils import translation

from ..encryption import is_under_newest_key
from ..exceptions import KeyForAnotherUrlError, KeyUnreadableError
from ..health import unassigned
from ..models import ExactCharField, License, exact_collation, write_alias
from ..store import store
from .configuration import is_documented, is_http, make_warning
from .registration import register


@register()
def check_sqlite_transactions(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W004: on SQLite, a transaction that begins with a read fails at its first write if another process writes."""
    connection = store().connection
    mode = connection.settings_dict.get("OPTIONS", {}).get("transaction_mode") or ""
    if connection.vendor != "sqlite" or mode.upper() in ("IMMEDIATE", "EXCLUSIVE"):
        return []
    return [_sqlite_warning("begins its transactions without a lock, so they can fail with 'database is locked'")]


@register(database=True)
def check_sqlite_journal(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W004: on SQLite without WAL, a sale waits while a message's outcome is recorded."""
    connection = store().connection
    if not is_asked(databases) or connection.vendor != "sqlite":
        return []
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        mode = str(cursor.fetchone()[0]).lower()
    if mode in ("wal", "memory"):
        return []
    return [_sqlite_warning("has no write-ahead log, so readers and writers block each other")]


@register(database=True)
def check_unassigned(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W110: messages wait because no license can be chosen for them."""
    if not is_asked(databases):
        return []
    try:
        found = unassigned()
    except (DatabaseError, ImproperlyConfigured):  # not migrated yet, or an invalid setting, which E001 reports
        return []
    if found is None:
        return []
    with translation.override("en"):
        return [make_warning("W110", found.say("meaning"), found.say("advice"))]


@register(database=True)
def check_durability(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W090: if the database loses a commit in a power cut, the message that it recorded as sent is sent again."""
    connection = store().connection
    if not is_asked(databases) or connection.vendor not in _DURABILITY:
        return []
    found: list[CheckMessage] = []
    for question, is_safe, hint in _DURABILITY[connection.vendor]:
        with connection.cursor() as cursor:
            cursor.execute(question)
            told = str(cursor.fetchone()[0]).lower()
        if not is_safe(told):
            problem = (
                f"The database confirms a commit before it is on disk ({question.split()[-1].lstrip('@')} is "
                f"{told}): after a power failure, messages that were sent are sent again."
            )
            found.append(make_warning("W090", problem, hint))
    return found


_DURABILITY: dict[str, list[tuple[str, Callable[[str], bool], str]]] = {
    "sqlite": [
        (
            "PRAGMA synchronous",
            lambda told: told in ("2", "3"),
            "Use PRAGMA synchronous=FULL instead of NORMAL or OFF in the 'init_command' of DATABASES' OPTIONS.",
        )
    ],
    "postgresql": [
        (
            "SHOW synchronous_commit",
            lambda told: told != "off",
            "Remove synchronous_commit = off from the settings of the server, the database and the role, and "
            "from OPTIONS.",
        )
    ],
    "mysql": [
        (
            "SELECT @@innodb_flush_log_at_trx_commit",
            lambda told: told in ("1", "3"),
            "Set innodb_flush_log_at_trx_commit = 1 in the server's configuration.",
        ),
        (
            # With a binary log, crash recovery rolls back transactions that are missing from it.
            "SELECT IF(@@log_bin, @@sync_binlog, 1) AS sync_binlog",
            lambda told: told == "1",
            "Set sync_binlog = 1 in the server's configuration, or disable the binary log.",
        ),
    ],
}


@register()
def check_time_zone(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """E090: with TIME_ZONE set, Django would read and write our times, which are UTC, in another time zone."""
    connection = store().connection
    zone = connection.settings_dict.get("TIME_ZONE")
    if connection.vendor not in ("sqlite", "mysql") or zone in (None, "UTC"):
        return []
    return [
        Error(
            f"DATABASES['{write_alias()}']['TIME_ZONE'] is {zone!r}: messages would be due, and expire, hours early or "
            "late.",
            hint="Remove it, or keep the outbox in a database without it.",
            id="kpwa.E090",
        )
    ]


@register()
def check_content_types(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W092: a message's source is a foreign key to the content types, which must be in the same database."""
    using = write_alias()
    if router.allow_migrate(using, "contenttypes", model_name="contenttype"):
        return []
    return [
        make_warning(
            "W092",
            f"The outbox is in the database {using!r}, and DATABASE_ROUTERS keep contenttypes out of it: a "
            "message's source is a foreign key to their table, so migrate or every receipt fails.",
            f"Have the router's allow_migrate({using!r}, 'contenttypes', …) return True, and migrate that "
            "database; Django creates the rows.",
        )
    ]


@register(database=True)
def check_mysql_emoji(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W003: without utf8mb4, a customer's emoji would make a sale fail."""
    connection = store().connection
    if not is_asked(databases) or connection.vendor != "mysql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = DATABASE() "
            "AND table_name IN %s AND character_set_name IS NOT NULL AND character_set_name <> 'utf8mb4'",
            [_tables()],
        )
        narrow = sorted(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT @@character_set_client")
        client = cursor.fetchone()[0]
    found = []
    if narrow:
        found.append(
            make_warning(
                "W003",
                f"These tables cannot hold emoji: {', '.join(narrow)}.",
                f"Run for each: ALTER TABLE {narrow[0]} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;",
            )
        )
    if client != "utf8mb4":
        found.append(
            make_warning(
                "W003",
                f"The connection to the database uses the character set {client}, which has no emoji.",
                "Set DATABASES['default']['OPTIONS'] = {'charset': 'utf8mb4'}.",
            )
        )
    return found


@register(database=True)
def check_exact_columns(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W065: with a case-insensitive collation, the sales `INV-a1` and `inv-a1` get each other's messages."""
    connection = store().connection
    if not is_asked(databases) or connection.vendor != "mysql":
        return []
    collation = exact_collation(connection)
    columns = {
        (model._meta.db_table, field.column): field
        for model in apps.get_app_config("django_kpwa").get_models()
        for field in model._meta.local_concrete_fields
        if isinstance(field, ExactCharField)
    }
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE() "
            "AND table_name IN %s AND collation_name <> %s",
            [_tables(), collation],
        )
        inexact = sorted(set(cursor.fetchall()) & set(columns))
    if not inexact:
        return []
    table, column = inexact[0]
    default = " DEFAULT ''" if columns[table, column].has_db_default() else ""
    return [
        make_warning(
            "W065",
            "The collation ignores case, accents or trailing spaces in "
            f"{', '.join('.'.join(each) for each in inexact)}: objects whose keys differ only in these get each "
            "other's messages.",
            f"Run for each: ALTER TABLE {table} MODIFY {column} {columns[table, column].db_type(connection)} "
            f"CHARACTER SET utf8mb4 COLLATE {collation}{default} NOT NULL;",
        )
    ]


@register()
def check_autocommit(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W010: with AUTOCOMMIT off, messages are not committed, and no worker sees them."""
    if store().connection.settings_dict.get("AUTOCOMMIT", True):
        return []
    return [
        make_warning(
            "W010",
            "AUTOCOMMIT of the database is off: messages and their outcomes are not committed.",
            f"Remove 'AUTOCOMMIT': False from DATABASES['{write_alias()}'].",
        )
    ]


@register(database=True)
def check_isolation(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W010: above READ COMMITTED, one of two workers that update the same row fails on PostgreSQL."""
    connection = store().connection
    if not is_asked(databases) or connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute("SHOW default_transaction_isolation")
        level = str(cursor.fetchone()[0])
    if wanted := connection.settings_dict.get("OPTIONS", {}).get("isolation_level"):
        level = wanted.name.lower().replace("_", " ")
    if level in ("read committed", "read uncommitted"):
        return []
    return [
        make_warning(
            "W010",
            f"The database's isolation level is {level}: if two workers update the same message, one of them fails.",
            f"Remove 'isolation_level' from the OPTIONS of DATABASES['{write_alias()}']; if it is the server's "
            "default: ALTER ROLE … SET default_transaction_isolation = 'read committed';",
        )
    ]


@register(database=True)
def check_mysql_engines(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W010: a table whose engine has no transactions may keep half of a change."""
    connection = store().connection
    if not is_asked(databases) or connection.vendor != "mysql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, engine FROM information_schema.tables WHERE table_schema = DATABASE() AND "
            "table_name IN %s AND engine IN "
            "(SELECT engine FROM information_schema.engines WHERE transactions IS NULL OR transactions <> 'YES')",
            [_tables()],
        )
        unsafe = sorted(cursor.fetchall())
    if not unsafe:
        return []
    named = ", ".join(f"{table} ({engine})" for table, engine in unsafe)
    return [
        make_warning(
            "W010",
            f"These tables do not support transactions: {named}. A crash can leave a change half written.",
            f"Run for each: ALTER TABLE {unsafe[0][0]} ENGINE = InnoDB;",
        )
    ]


@register(database=True)
def check_real_licenses(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W006: licenses whose own base URL is the real service, while DEBUG is on."""
    if not settings.DEBUG or not is_asked(databases) or not is_http() or not has_licenses():
        return []
    licenses = License.objects.filter(is_active=True).exclude(base_url="")
    real = sorted(license_.name for license_ in licenses if is_documented(license_.base_url))
    if not real:
        return []
    return [
        make_warning(
            "W006",
            f"DEBUG is on and these licenses use the real service: {', '.join(real)}. What you try out is sent to real "
            "people.",
            "While developing, clear their base URL, or deactivate them.",
        )
    ]


@register(database=True)
def check_stored_keys(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W007, I001: API keys that no secret key decrypts, or only an older one."""
    if not is_asked(databases) or not has_licenses():
        return []
    unreadable, moved, old = [], [], []
    for license_ in License.objects.exclude(api_key_ciphertext=""):
        try:
            license_.get_api_key()
        except KeyForAnotherUrlError:
            moved.append(license_.name)
        except KeyUnreadableError:
            unreadable.append(license_.name)
        except ImproperlyConfigured:
            return []
        else:
            if not is_under_newest_key(license_.api_key_ciphertext):
                old.append(license_.name)
    found: list[CheckMessage] = []
    if unreadable:
        found.append(
            make_warning(
                "W007",
                f"The stored API key of these licenses cannot be decrypted: {', '.join(unreadable)}. Their "
                "messages wait.",
                "Put the secret key that it was encrypted with back into KPWA['SECRET_KEYS'] (or "
                "SECRET_KEY_FALLBACKS), or enter the API key again: manage.py kpwa licenses set-key NAME",
            )
        )
    if moved:
        found.append(
            make_warning(
                "W007",
                f"The base URL of these licenses was changed after the API key was stored: {', '.join(moved)}. "
                "The key is not sent there; their messages wait.",
                "Enter the API key again: manage.py kpwa licenses set-key NAME",
            )
        )
    if old:
        found.append(
            Info(
                f"The API key of these licenses is encrypted with an older secret key: {', '.join(old)}.",
                hint="Keep that secret key, or store the API key again: manage.py kpwa licenses set-key NAME",
                id="kpwa.I001",
            )
        )
    return found


@register(database=True)
def check_new_numbers(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """I002: licenses for which it was not entered since when their numbers have been in use with WhatsApp."""
    if not is_asked(databases) or not has_licenses():
        return []
    unsaid = License.objects.active().filter(in_use_since=None, cold_limit=None)
    names = list(unsaid.values_list("name", flat=True)[:10])
    if not names:
        return []
    return [
        Info(
            "It was not entered since when the numbers of these licenses have been in use with WhatsApp: "
            f"{', '.join(names)}. So their messages to new customers are not limited, "
            "and WhatsApp may restrict a new number for that.",
            hint="Enter it on the license's page, or: manage.py kpwa licenses new-customers NAME --in-use-since DATE",
            id="kpwa.I002",
        )
    ]


def is_asked(databases: Sequence[str] | None) -> bool:
    """True if the check may query the outbox's database."""
    return write_alias() in (databases or ())


def _tables() -> list[str]:
    return [model._meta.db_table for model in apps.get_app_config("django_kpwa").get_models()]


def has_licenses() -> bool:
    """True if the licenses' table exists with all its columns. Before `migrate` it may not, and a check that failed
    because of that would stop `migrate`."""
    connection = store().connection
    table = License._meta.db_table
    if table not in connection.introspection.table_names():
        return False
    with connection.cursor() as cursor:
        columns = {column.name for column in connection.introspection.get_table_description(cursor, table)}
    return columns.issuperset(field.column for field in License._meta.concrete_fields)


def _sqlite_warning(problem: str) -> CheckMessage:
    return make_warning(
        "W004",
        f"SQLite {problem}.",
        "Set DATABASES['default']['OPTIONS'] = {'transaction_mode': 'IMMEDIATE', 'timeout': 20, "
        "'init_command': 'PRAGMA journal_mode=WAL;'}.",
    )
