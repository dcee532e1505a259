"""System checks: what is likely to hold receipts back or to lose them, each with an id and what to write instead.

Checks that ask the database have Django's `database` tag: they run with `migrate` and `check --database default`. None
of those is an error, because an error would keep `migrate` from mending what it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import phonenumbers
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from . import wake
from .conf import DOCUMENTED_BASE_URLS, Settings, kpwa_settings, lease_seconds
from .encryption import is_under_newest_key
from .exceptions import KeyUnreadableError
from .gateway import load_gateway_class
from .gateway.outcome import Cause
from .models import License, write_alias

TAG = "kpwa"
TASK_LIMIT_SECONDS = 600
"""`time_limit` of the tasks: a slice and the longest call in it must fit."""

_Check = Callable[..., list[CheckMessage]]


def _with_settings(check: Callable[[Settings], list[CheckMessage]]) -> _Check:
    """Register a check that reads `KPWA`; settings that cannot be read are E001's to report."""

    def checked(app_configs: Any, **_: Any) -> list[CheckMessage]:
        try:
            read = kpwa_settings()
        except ImproperlyConfigured:
            return []
        return check(read)

    register(checked, TAG)
    return checked


@register(TAG)
def check_settings(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """E001: names, types and values of `KPWA`."""
    try:
        read = kpwa_settings()
        load_gateway_class()
        import_string(read.WEBHOOK_PARSER)
    except (ImproperlyConfigured, ImportError) as error:
        return [_error("E001", str(error), "Correct the KPWA dict in the settings; see docs/settings.md.")]
    return [
        _error("E001", problem, hint)
        for is_wrong, problem, hint in (
            (
                not _is_range(read.PACE_SECONDS),
                "KPWA['PACE_SECONDS'] is not a shortest and a longest wait in seconds.",
                "Write for example 'PACE_SECONDS': (4, 8).",
            ),
            (
                not set(read.RESEND_UNKNOWN) <= {cause.value for cause in Cause if cause.value},
                "KPWA['RESEND_UNKNOWN'] names a cause that does not exist.",
                f"Known causes: {', '.join(cause.value for cause in Cause if cause.value)}.",
            ),
            (
                read.DEFAULT_REGION not in phonenumbers.SUPPORTED_REGIONS,
                f"KPWA['DEFAULT_REGION'] is {read.DEFAULT_REGION!r}, which is no region.",
                "Write two capital letters, for example 'ID'.",
            ),
        )
        if is_wrong
    ]


@register(TAG)
def check_time_zones(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """E002: without time zones, a message would be due hours early or late."""
    if settings.USE_TZ:
        return []
    return [_error("E002", "django-kpwa needs USE_TZ.", "Write USE_TZ = True in the settings.")]


@register(TAG)
def check_broker(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W001, W002, W009: who wakes the senders."""
    if not wake.has_broker():
        return [
            _warning(
                "W001",
                "Celery has no broker, so nothing wakes the senders.",
                "Write CELERY_BROKER_URL and import your Celery app in the project's __init__.py. Or use "
                "`manage.py kpwa run` (or `kpwa dispatch` from cron) in place of Celery, and write 'kpwa.W001' into "
                "SILENCED_SYSTEM_CHECKS.",
            )
        ]
    found = []
    if wake.broker_lacks_timeouts():
        found.append(
            _warning(
                "W002",
                "The broker has no timeouts: where Redis falls silent, the site's own tasks wait for it for ever.",
                "Write CELERY_BROKER_TRANSPORT_OPTIONS = {'socket_timeout': 5, 'socket_connect_timeout': 5}. Receipts "
                "do not wait in any case.",
            )
        )
    if not wake.is_sweep_scheduled():
        found.append(
            _warning(
                "W009",
                "Celery beat does not run django_kpwa.dispatch_due: messages whose wake-up is lost are never sent.",
                "Write CELERY_BEAT_SCHEDULE = {**django_kpwa.schedule.beat_schedule(), …}.",
            )
        )
    return found


@_with_settings
def check_public_url(read: Settings) -> list[CheckMessage]:
    """W005: the secret of a webhook is in its path."""
    parts = urlsplit(read.PUBLIC_URL)
    if not read.PUBLIC_URL or parts.scheme == "https" or _is_loopback(parts.hostname):
        return []
    return [
        _warning(
            "W005",
            "KPWA['PUBLIC_URL'] is not https: the webhook's secret and what customers write travel in the clear.",
            "Write for example 'PUBLIC_URL': 'https://shop.example'.",
        )
    ]


@_with_settings
def check_real_gateway(read: Settings) -> list[CheckMessage]:
    """W006: a developer's test sale must not reach a customer."""
    documented = {urlsplit(url).hostname for url in DOCUMENTED_BASE_URLS}
    is_real = read.GATEWAY == Settings.GATEWAY and any(urlsplit(url).hostname in documented for url in read.BASE_URLS)
    if not (settings.DEBUG and is_real):
        return []
    return [
        _warning(
            "W006",
            "DEBUG is on and KPWA['GATEWAY'] is the real service: what you try out is sent to real people.",
            "While developing, write 'GATEWAY': 'django_kpwa.gateway.console.ConsoleGateway', or start `manage.py kpwa "
            "sandbox` and write 'BASE_URLS': ['http://127.0.0.1:8900/backend'].",
        )
    ]


@_with_settings
def check_durations(read: Settings) -> list[CheckMessage]:
    """W008: durations that contradict each other."""
    found = []
    if read.CALL_DEADLINE_SECONDS < read.CONNECT_TIMEOUT_SECONDS + read.READ_TIMEOUT_SECONDS:
        found.append(
            _warning(
                "W008",
                "KPWA['CALL_DEADLINE_SECONDS'] is shorter than the connect and read timeouts together: slow answers "
                "that would still come are given up, and their messages are in doubt.",
                f"Write at least {read.CONNECT_TIMEOUT_SECONDS + read.READ_TIMEOUT_SECONDS:.0f}.",
            )
        )
    if read.SLICE_SECONDS + lease_seconds() > TASK_LIMIT_SECONDS:
        found.append(
            _warning(
                "W008",
                f"A slice and its last call may take longer than the {TASK_LIMIT_SECONDS} s after which Celery kills a "
                "task: a message would be in doubt each time.",
                "Write smaller KPWA['SLICE_SECONDS'], 'CALL_DEADLINE_SECONDS' or 'RECORD_SECONDS'.",
            )
        )
    return found


@register(TAG)
def check_sqlite_transactions(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W004: transactions that begin with a read fail under SQLite when another process writes."""
    connection = connections[write_alias()]
    mode = connection.settings_dict.get("OPTIONS", {}).get("transaction_mode") or ""
    if connection.vendor != "sqlite" or mode.upper() in ("IMMEDIATE", "EXCLUSIVE"):
        return []
    return [_sqlite_warning("begins its transactions without a lock, so that they fail with 'database is locked'")]


@register(TAG, Tags.database)
def check_sqlite_journal(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W004: without WAL, a sale waits while a message is recorded."""
    connection = connections[write_alias()]
    if not _is_asked(databases) or connection.vendor != "sqlite":
        return []
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        mode = str(cursor.fetchone()[0]).lower()
    if mode in ("wal", "memory"):
        return []
    return [_sqlite_warning("has no write-ahead log, so that readers and writers block each other")]


@register(TAG, Tags.database)
def check_mysql_emoji(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W003: a customer's emoji must not fail a sale."""
    connection = connections[write_alias()]
    if not _is_asked(databases) or connection.vendor != "mysql":
        return []
    tables = [model._meta.db_table for model in apps.get_app_config("django_kpwa").get_models()]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = DATABASE() "
            "AND table_name IN %s AND character_set_name IS NOT NULL AND character_set_name <> 'utf8mb4'",
            [tables],
        )
        narrow = sorted(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT @@character_set_client")
        client = cursor.fetchone()[0]
    found = []
    if narrow:
        found.append(
            _warning(
                "W003",
                f"These tables cannot hold emoji: {', '.join(narrow)}.",
                f"Run for each: ALTER TABLE {narrow[0]} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;",
            )
        )
    if client != "utf8mb4":
        found.append(
            _warning(
                "W003",
                f"The connection to the database speaks {client}, which has no emoji.",
                "Write DATABASES['default']['OPTIONS'] = {'charset': 'utf8mb4'}.",
            )
        )
    return found


@register(TAG, Tags.database)
def check_stored_keys(app_configs: Any, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W007, I001: API keys that no secret key opens any more, or only an old one."""
    connection = connections[write_alias()]
    if not _is_asked(databases) or License._meta.db_table not in connection.introspection.table_names():
        return []
    unreadable, old = [], []
    for license_ in License.objects.using(write_alias()).exclude(api_key_ciphertext=""):
        try:
            license_.get_api_key()
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
            _warning(
                "W007",
                f"The stored API key cannot be read of: {', '.join(unreadable)}. Their messages wait.",
                "Put the secret key that they were stored under back into KPWA['SECRET_KEYS'] (or "
                "SECRET_KEY_FALLBACKS), or enter them again: manage.py kpwa licenses set-key NAME",
            )
        )
    if old:
        found.append(
            Info(
                f"The API key is stored under an older secret key of: {', '.join(old)}.",
                hint="Keep that secret key, or store the API key again: manage.py kpwa licenses set-key NAME",
                id="kpwa.I001",
            )
        )
    return found


def _is_asked(databases: Sequence[str] | None) -> bool:
    return write_alias() in (databases or ())


def _is_range(pair: tuple[Any, ...]) -> bool:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in pair)
    return len(pair) == 2 and numbers and 0 <= pair[0] <= pair[1]


def _is_loopback(host: str | None) -> bool:
    return host in ("localhost", "::1") or bool(host and host.startswith("127."))


def _error(number: str, problem: str, hint: str) -> CheckMessage:
    return Error(problem, hint=hint, id=f"kpwa.{number}")


def _warning(number: str, problem: str, hint: str) -> CheckMessage:
    return Warning(problem, hint=hint, id=f"kpwa.{number}")


def _sqlite_warning(problem: str) -> CheckMessage:
    return _warning(
        "W004",
        f"SQLite {problem}.",
        "Write DATABASES['default']['OPTIONS'] = {'transaction_mode': 'IMMEDIATE', 'timeout': 20, "
        "'init_command': 'PRAGMA journal_mode=WAL;'}.",
    )
