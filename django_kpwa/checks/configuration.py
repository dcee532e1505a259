"""Checks of the settings, which open no connections and run with every command; and helpers for all checks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import validate_email

from .. import broker
from ..alerts import Told, body_of
from ..conf import (
    DOCUMENTED_BASE_URLS,
    MIN_SECRET_LENGTH,
    SLICE_SECONDS,
    Settings,
    is_path_secret,
    kpwa_settings,
    lease_seconds,
)
from ..gateway import load_gateway_class
from ..gateway.addresses import is_loopback, is_page
from ..gateway.outcome import Cause
from ..heartbeat_url import is_askable
from ..rehearsal import is_rehearsal
from ..schedule import TASK_LIMIT_SECONDS
from ..store import store
from ..webhooks.processing import load_parser
from .registration import Check, register

_HOST = re.compile(r"([a-z0-9][a-z0-9.-]*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.IGNORECASE | re.ASCII)

_MARK = re.compile(r"[^\W_](.*[^\W_])?")

_Judged = tuple[bool, str, str]
"""True if a value is wrong, the problem, and the hint."""


def make_error(number: str, problem: str, hint: str) -> CheckMessage:
    return Error(problem, hint=hint, id=f"kpwa.{number}")


def make_warning(number: str, problem: str, hint: str) -> CheckMessage:
    return Warning(problem, hint=hint, id=f"kpwa.{number}")


def with_settings(check: Callable[[Settings], list[CheckMessage]]) -> Check:
    """Register a check that takes the settings. It is skipped if they are invalid, which E001 reports."""

    def checked(app_configs: Any, **_: Any) -> list[CheckMessage]:
        try:
            conf = kpwa_settings()
        except ImproperlyConfigured:
            return []
        return check(conf)

    return register()(checked)


@register()
def check_settings(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """E001: names, types and values of `KPWA`."""
    from ..gateway.http import read_base_urls  # see `is_http()`

    try:
        conf = kpwa_settings()
        load_gateway_class()
        load_parser()
        if is_http():
            read_base_urls(conf.BASE_URLS)
    except ImproperlyConfigured as error:
        return [make_error("E001", str(error), "Correct the KPWA dict in the settings; see docs/settings.md.")]
    wrong = (*_values_of_sending(conf), *_values_of_monitoring(conf))
    return [make_error("E001", problem, hint) for is_wrong, problem, hint in wrong if is_wrong]


def _values_of_sending(conf: Settings) -> tuple[_Judged, ...]:
    import phonenumbers  # see `phone`

    return (
        (
            not _is_range(conf.PACE_SECONDS),
            "KPWA['PACE_SECONDS'] must be the shortest and the longest wait in seconds.",
            "For example: 'PACE_SECONDS': (4, 8).",
        ),
        (
            not set(conf.RESEND_UNKNOWN) <= {cause.value for cause in Cause if cause.value},
            "KPWA['RESEND_UNKNOWN'] names a cause that does not exist.",
            f"Known causes: {', '.join(cause.value for cause in Cause if cause.value)}.",
        ),
        (
            not all(_MARK.fullmatch(mark) for mark in conf.RESTRICTION_MARKS),
            "KPWA['RESTRICTION_MARKS'] must contain only words that begin and end with a letter or a digit.",
            "For example: 'RESTRICTION_MARKS': ['463', 'reach-out', 'dibatasi'].",
        ),
        (
            not all(_HOST.fullmatch(host) for host in conf.ALLOWED_GATEWAY_HOSTS),
            "KPWA['ALLOWED_GATEWAY_HOSTS'] must contain host names only.",
            "Write each without scheme and path, for example 'wa.example' or 'wa.example:8443'.",
        ),
        (
            bool(conf.WEBHOOK_USERNAME) and not conf.WEBHOOK_PASSWORD,
            "KPWA['WEBHOOK_USERNAME'] is set without WEBHOOK_PASSWORD, so webhooks need neither.",
            "Set 'WEBHOOK_PASSWORD' as well, or remove 'WEBHOOK_USERNAME'.",
        ),
        (
            conf.DEFAULT_REGION not in phonenumbers.SUPPORTED_REGIONS,
            f"KPWA['DEFAULT_REGION'] is {conf.DEFAULT_REGION!r}, which is not a region code.",
            "Use two capital letters, for example 'ID'.",
        ),
    )


def _values_of_monitoring(conf: Settings) -> tuple[_Judged, ...]:
    return (
        (
            bool(conf.HEARTBEAT_URL) and not is_askable(conf.HEARTBEAT_URL),
            "KPWA['HEARTBEAT_URL'] is not an https URL, or has a user name, a query or special characters. It is "
            "not requested.",
            "For example: 'HEARTBEAT_URL': 'https://hc-ping.com/…'. On this machine, http:// is allowed.",
        ),
        (
            not all(_is_email(email) for email in conf.ALERT_EMAILS),
            "KPWA['ALERT_EMAILS'] contains an invalid e-mail address, which receives no alerts.",
            "For example: 'ALERT_EMAILS': ['owner@shop.example'].",
        ),
        (
            not all(_is_page(url, conf) for url in conf.ALERT_URLS),
            "KPWA['ALERT_URLS'] contains a URL that is not https, or has a user name or special characters. "
            "Nothing is posted to it.",
            "For example: 'ALERT_URLS': {'https://ntfy.sh': '{\"topic\": \"…\", \"message\": $text}'}. Use http "
            "only to a private IP address, or with 'ALERT_OVER_HTTP': True.",
        ),
        (
            not all(_makes_json(template) for template in conf.ALERT_URLS.values()),
            "KPWA['ALERT_URLS'] has a template that does not produce JSON, or names a value that does not exist.",
            f"Write the values without quotes, for example '{{\"text\": $text}}'. Known: {_VALUES}.",
        ),
        (
            bool(conf.HEALTH_SECRET) and not is_path_secret(conf.HEALTH_SECRET),
            f"KPWA['HEALTH_SECRET'] could be guessed, or does not fit into a path: it must have at least "
            f"{MIN_SECRET_LENGTH} letters, digits, '-' and '_'. Until then its addresses answer 404.",
            'Generate a random one: python -c "import secrets; print(secrets.token_urlsafe(32))"',
        ),
    )


# A dummy, to test whether a template produces JSON.
_TOLD = Told(event="", code="", title="", text="")
_VALUES = ", ".join(f"${name}" for name in _TOLD.values)


def _is_email(email: str) -> bool:
    try:
        validate_email(email)
    except ValidationError:
        return False
    return True


def _is_page(url: str, conf: Settings) -> bool:
    return is_page(url, may_be_in_the_clear=conf.ALERT_OVER_HTTP)


def _makes_json(template: str) -> bool:
    try:
        body_of(_TOLD, template)
    except (KeyError, ValueError, TypeError):
        return False
    return True


@register()
def check_time_zones(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """E002: without USE_TZ, a message would be due hours early or late."""
    if settings.USE_TZ:
        return []
    return [make_error("E002", "django-kpwa requires USE_TZ.", "Set USE_TZ = True in the settings.")]


@register()
def check_broker(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W001, W002, W009, W012, W100: whether Celery is configured to wake the senders."""
    if broker.runs_tasks_at_once():
        # Eager tasks are usual in a site's own tests.
        return [] if is_rehearsal() else [_EAGER]
    if broker.is_set_but_unread():
        return [
            make_warning(
                "W001",
                "CELERY_BROKER_URL is set, but no Celery app of this process reads it, so nothing wakes the senders.",
                "Import your Celery app in the project's __init__.py, and have it read the settings: "
                "app.config_from_object('django.conf:settings', namespace='CELERY').",
            )
        ]
    if not broker.is_configured():
        return [
            make_warning(
                "W001",
                "Celery has no broker, so nothing wakes the senders.",
                "Set CELERY_BROKER_URL and import your Celery app in the project's __init__.py. Or use "
                "`manage.py kpwa run` (or `kpwa dispatch` from cron) instead of Celery, and add 'kpwa.W001' to "
                "SILENCED_SYSTEM_CHECKS.",
            )
        ]
    found = []
    if why := broker.why_unusable():
        words = f"Celery's broker cannot be used, so nothing wakes the senders: {why}."
        instead = "Or use `manage.py kpwa run` or `kpwa dispatch` instead of Celery, without CELERY_BROKER_URL."
        found.append(make_warning("W012", words, instead))
    if broker.lacks_timeouts():
        found.append(
            make_warning(
                "W002",
                "The broker has no timeouts: if Redis stops answering, publishing the site's own tasks blocks forever.",
                "Set CELERY_BROKER_TRANSPORT_OPTIONS = {'socket_timeout': 5, 'socket_connect_timeout': 5}. "
                "Receipts are published with timeouts of their own.",
            )
        )
    if missing := broker.missing_from_beat():
        found.append(
            make_warning(
                "W009",
                f"Celery beat does not run: {', '.join(missing)}. {_MISSED[missing[0]]}",
                "Set CELERY_BEAT_SCHEDULE = {**django_kpwa.schedule.beat_schedule(), …}.",
            )
        )
    return found


_EAGER = make_warning(
    "W100",
    "Celery's task_always_eager is on: no task is handed to a worker. Messages are never sent in the middle of "
    "a sale, so nothing wakes the senders: receipts wait until something sweeps the outbox.",
    "Remove CELERY_TASK_ALWAYS_EAGER from the settings, except in tests. Or run beat, which then sends itself, "
    "or `manage.py kpwa run` (or `kpwa dispatch` from cron), and add 'kpwa.W100' to SILENCED_SYSTEM_CHECKS.",
)
_MISSED = {
    "django_kpwa.dispatch_due": "Messages whose wake-up is lost are never sent, nor webhooks processed.",
    "django_kpwa.roll_up_statistics": "The figures on the dashboard are not updated.",
    "django_kpwa.look_for_missing": "Sales whose receipt was never queued are not found.",
    "django_kpwa.purge": "Old messages and webhooks are never deleted.",
}


@register()
def check_connections(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W011: a new connection for every task costs the database as much as a short task itself."""
    connection = store().connection
    database = connection.settings_dict
    has_pool = bool(database.get("OPTIONS", {}).get("pool"))
    if not broker.is_configured() or connection.vendor == "sqlite" or has_pool:
        return []
    if broker.keeps_database_connections() and database.get("CONN_MAX_AGE") != 0:
        return []
    return [
        make_warning(
            "W011",
            "Workers open a new database connection for every task: Celery closes it before and after each "
            "one, whatever CONN_MAX_AGE is, which about doubles what a short task costs the database.",
            f"Set CELERY_DB_REUSE_MAX = 100, and DATABASES['{connection.alias}']['CONN_MAX_AGE'] = 60. The tasks of "
            "django-kpwa then close connections that are old or broken.",
        )
    ]


@with_settings
def check_public_url(conf: Settings) -> list[CheckMessage]:
    """W005: without https, a webhook's path, which contains its secret, is sent in the clear."""
    parts = urlsplit(conf.PUBLIC_URL)
    if not conf.PUBLIC_URL or parts.scheme == "https" or _is_loopback(parts.hostname):
        return []
    return [
        make_warning(
            "W005",
            "KPWA['PUBLIC_URL'] is not https: the webhook's secret and what customers write travel in the clear.",
            "For example: 'PUBLIC_URL': 'https://shop.example'.",
        )
    ]


@with_settings
def check_real_gateway(conf: Settings) -> list[CheckMessage]:
    """W006: with DEBUG and the real gateway, a developer's test sale would reach a customer."""
    if not (settings.DEBUG and any(is_documented(url) for url in conf.BASE_URLS) and is_http()):
        return []
    return [
        make_warning(
            "W006",
            "DEBUG is on and KPWA['GATEWAY'] is the real service: what you try out is sent to real people.",
            "While developing, set 'GATEWAY': 'django_kpwa.gateway.console.ConsoleGateway', or start "
            "`manage.py kpwa sandbox` and set 'BASE_URLS': ['http://127.0.0.1:8900/backend'].",
        )
    ]


@with_settings
def check_durations(conf: Settings) -> list[CheckMessage]:
    """W008: a call's deadline is so long that it may exceed its task's time limit."""
    if SLICE_SECONDS + lease_seconds(conf) <= TASK_LIMIT_SECONDS:
        return []
    return [
        make_warning(
            "W008",
            f"A slice and its last call may take longer than the {TASK_LIMIT_SECONDS} s after which Celery kills a "
            "task: a message would be in doubt each time.",
            "Lower KPWA['CALL_DEADLINE_SECONDS'].",
        )
    ]


def is_http() -> bool:
    """True if the gateway class connects to `BASE_URLS`: `HttpGateway`, or another `ApiGateway`."""
    from ..gateway.http import ApiGateway  # imports urllib3, which processes that run no checks do not need

    try:
        return issubclass(load_gateway_class(), ApiGateway)
    except (ImproperlyConfigured, ImportError):
        return False


def is_documented(base_url: str) -> bool:
    """True if `base_url` has a host of the real service."""
    return urlsplit(base_url).hostname in {urlsplit(url).hostname for url in DOCUMENTED_BASE_URLS}


def _is_range(pair: tuple[Any, ...]) -> bool:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in pair)
    return len(pair) == 2 and numbers and 0 <= pair[0] <= pair[1] < float("inf")


def _is_loopback(host: str | None) -> bool:
    return bool(host) and is_loopback(f"http://[{host}]" if ":" in str(host) else f"http://{host}")
