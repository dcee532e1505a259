"""The settings dict `KPWA`, with a type and a default for every name.

It is read at each call, never at import, and never written to, so that `override_settings(KPWA={...})` works in a
site's tests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import time
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

DOCUMENTED_BASE_URLS = ("https://wa.kpntr.com/backend", "https://kpwa.kpntr.com/backend")

MIN_SECRET_LENGTH = 32
MIN_SECRET_CHARACTERS = 5
_PATH_SECRET = re.compile(rf"[\w-]{{{MIN_SECRET_LENGTH},}}", re.ASCII)

_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")

LATE_AFTER_SECONDS = 1800.0
"""Seconds after its first due time from which a message is late: nobody waits for it any more."""

SLICE_SECONDS = 20.0
"""Seconds for which one task drives a lane, or processes webhooks, before another task continues: long enough for a
shop's burst of receipts, and short enough that other licenses do not wait for minutes."""


@dataclass(frozen=True)
class Settings:
    """One reading of `KPWA`. Durations are seconds unless the name says otherwise."""

    GATEWAY: str = "django_kpwa.gateway.http.HttpGateway"
    """Dotted path of the `Gateway` class, like `EMAIL_BACKEND`."""
    BASE_URLS: tuple[str, ...] = DOCUMENTED_BASE_URLS
    """Base URLs of the gateway, tried in order: the next one only if no connection to the previous could be made."""
    ALLOWED_GATEWAY_HOSTS: tuple[str, ...] = ()
    """Hosts (`wa.example`, `wa.example:8443`) besides those of `BASE_URLS` that a license's own base URL may have."""
    PUBLIC_URL: str = ""
    """The URL at which the gateway reaches this site, e.g. `https://shop.example`; needed to register a webhook."""
    DEFAULT_LICENSE: str = ""
    """Name of the license that sends messages without one. Empty: the license marked as default, or the only one."""
    DEFAULT_REGION: str = "ID"
    """Region whose national numbers need no country code (ISO 3166-1 alpha-2)."""
    SECRET_KEYS: tuple[str, ...] = field(default=(), repr=False)
    """Secrets that the stored API keys are encrypted with, newest first. Empty: derived from `SECRET_KEY`."""
    CALL_DEADLINE_SECONDS: float = 45.0
    """Maximum duration of one call to the gateway, including connecting and a slow answer. Leases are longer."""
    PACE_SECONDS: tuple[float, float] = (4.0, 8.0)
    """Range of the random wait between two messages of a license that has no range of its own."""
    MAX_ATTEMPTS: int = 6
    """Attempts that sent nothing after which a message is `failed`. Attempts that a pause or a rate limit stopped do
    not count."""
    RETRY_SECONDS: float = 15.0
    """Seconds before the first retry after a failure that sent nothing; doubled up to 15 minutes, with jitter."""
    FAILURES_BEFORE_PAUSE: int = 3
    """Number of sends in a row that were not accepted, for whatever reasons, after which the lane is paused."""
    PROBE_SECONDS: float = 30.0
    """Seconds before the first status check of a paused lane; doubled up to ten times that while checks fail."""
    QUIET_HOURS: tuple[str, ...] | None = ("21:00", "07:00")
    """Begin and end of the hours, in `TIME_ZONE`, in which bulk and late messages are not sent. None: no such hours."""
    WARM_DAYS: int = 28
    """Days after a person's last message to the license within which they are not a new customer. WhatsApp does not
    restrict a number because of messages to them."""
    COLD_RAMP: tuple[tuple[int, int], ...] = ((4, 20), (8, 50), (15, 100), (31, 200))
    """Daily limits of messages to new customers, as pairs `(days, messages)`: a limit applies while the license's
    number has been in use for fewer than `days` days. After the last pair there is no limit. A license may have a
    limit of its own."""
    UNANSWERED_A_MONTH: int = 300
    """Messages per calendar month to people who have not written since, above which a warning is shown. 0: never."""
    CHECK_NUMBERS: bool = True
    """Ask the gateway before the first message to a number whether the number has WhatsApp."""
    RENDER_DELAY_SECONDS: float = 3.0
    """Delay before the receipt of a sale saved outside a transaction is rendered: its lines may be saved later."""
    RESEND_UNKNOWN: tuple[str, ...] = ()
    """Causes of doubt after which a message is sent again, at the risk of a second copy."""
    RESTRICTION_MARKS: tuple[str, ...] = (
        "463", "reachout", "reach-out", "timelock", "time-lock", "restricted", "RESTRICT_ALL_COMPANIONS", "dibatasi",
    )  # fmt: skip
    """Whole words, in any case, by which a 400 or 500 says that WhatsApp restricts the number: nothing was sent."""
    WEBHOOK_PARSER: str = "django_kpwa.webhooks.parsers.DefaultParser"
    """Dotted path of the class that parses what the gateway posts."""
    WEBHOOK_USERNAME: str = field(default="", repr=False)
    """User name for `WEBHOOK_PASSWORD`; empty: any."""
    WEBHOOK_PASSWORD: str = field(default="", repr=False)
    """If set, webhooks need HTTP basic authentication with this password, besides the token in their path."""
    STOP_WORDS: tuple[str, ...] = ("stop", "berhenti", "unsub", "unsubscribe", "unreg", "jangan kirim lagi")
    """A customer whose whole message is one of these gets no more messages, from any license of the site."""
    WRONG_NUMBER_WORDS: tuple[str, ...] = ("salah nomor", "salah sambung", "wrong number")
    """Like `STOP_WORDS`; recent messages to that number are also marked as not having reached the customer."""
    START_WORDS: tuple[str, ...] = ("mulai", "start")
    """A customer whose whole message is one of these gets messages again."""
    ANSWERS_STOPS: bool = True
    """Confirm a stop by one message, at most once a day."""
    HEALTH_SECRET: str = field(default="", repr=False)
    """The secret in the addresses of `health/` and `metrics/`. Empty: neither of them exists."""
    HEARTBEAT_URL: str = field(default="", repr=False)
    """A secret URL that is requested after sweeps, at most once a minute by each process: a dead man's switch."""
    ALERT_EMAILS: tuple[str, ...] = ()
    """E-mail addresses that receive alerts, in addition to the license's own."""
    ALERT_URLS: dict[str, str] = field(default_factory=dict, repr=False)
    """Secret URLs that alerts are posted to as JSON, each with the template of its body. Empty: the default body."""
    ALERT_OVER_HTTP: bool = False
    """Allow alerts to be posted to public addresses over unencrypted http."""
    RETENTION_DAYS: dict[str, int] = field(
        default_factory=lambda: {"messages": 365, "events": 90, "statistics": 730, "strangers": 7}
    )
    """Days after which `kpwa purge` deletes rows, by kind. Messages that are not settled are kept for ever. After those
    of `strangers`, it drops the bodies of webhook events from people who were never written to."""

    @property
    def quiet_hours(self) -> tuple[time, time] | None:
        """`QUIET_HOURS` as times of day, or None."""
        return None if self.QUIET_HOURS is None else _quiet_hours(self.QUIET_HOURS)

    @property
    def status_deadline_seconds(self) -> float:
        """Maximum duration of the status check after a refused or failed send. Shorter than a send's, because the
        lane is held during both."""
        return min(10.0, self.CALL_DEADLINE_SECONDS / 2)

    @property
    def record_seconds(self) -> float:
        """Seconds for which recording an outcome is retried while the database fails; then the message is in doubt.

        Longer than a restart of PostgreSQL takes. Bounded by the call's deadline, because the lane is held meanwhile.
        """
        return min(10.0, self.CALL_DEADLINE_SECONDS / 2)

    @property
    def max_probe_seconds(self) -> float:
        """Maximum wait of a paused lane between two status checks, without jitter."""
        return 10 * self.PROBE_SECONDS


_last_read: tuple[dict[str, Any], Settings] | None = None


def kpwa_settings() -> Settings:
    """Read and validate `settings.KPWA`, or return what was last read while it holds the same objects.

    It is called several times per message. A list that is changed in place is not noticed.

    Raises `ImproperlyConfigured` for an unknown name, a value of the wrong type, an impossible number or a weak secret.
    """
    global _last_read
    given = getattr(settings, "KPWA", {})
    if _last_read is not None and isinstance(given, dict) and _are_same(given, _last_read[0]):
        return _last_read[1]
    read = _read(given)
    _last_read = dict(given), read
    return read


def _are_same(given: dict[str, Any], known: dict[str, Any]) -> bool:
    """Compare values by identity, because `1 == True`, and True is not a number of seconds."""
    return len(given) == len(known) and all(name in known and known[name] is value for name, value in given.items())


def _read(given: object) -> Settings:
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"KPWA must be a dict, not {type(given).__name__}.")
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _KNOWN:
            raise ImproperlyConfigured(f"KPWA[{name!r}] is not a setting of django-kpwa. Known: {', '.join(_KNOWN)}.")
        values[name] = (
            None if value is None and name in _MAY_BE_NONE else _coerced(name, value, getattr(_DEFAULTS, name))
        )
    for name, value in values.items():
        _check_amount(name, value)
    for secret in values.get("SECRET_KEYS", ()):
        _check_secret(secret)
    if "COLD_RAMP" in values:
        values["COLD_RAMP"] = _ramp(values["COLD_RAMP"])
    if values.get("QUIET_HOURS") is not None:
        _quiet_hours(values["QUIET_HOURS"])
    return Settings(**values)


def is_path_secret(secret: str) -> bool:
    """True if `secret` is too long to be guessed, and consists of characters that a URL's path writes as they are."""
    return _PATH_SECRET.fullmatch(secret) is not None and len(set(secret)) >= MIN_SECRET_CHARACTERS


def lease_seconds(conf: Settings) -> float:
    """Return the duration of a lane's lease: longer than a send, the status check after it and a slow recording.

    If it expired during any of these, another worker would declare the message in doubt.
    """
    return conf.CALL_DEADLINE_SECONDS + conf.status_deadline_seconds + conf.record_seconds + 5


def _quiet_hours(given: tuple[Any, ...]) -> tuple[time, time]:
    """Return the two times of day. Raises `ImproperlyConfigured` if they are invalid or equal."""
    if len(given) == 2 and all(isinstance(each, str) and _TIME_OF_DAY.fullmatch(each) for each in given):
        begins, ends = (time(int(each[:2]), int(each[3:])) for each in given)
        if begins != ends:
            return begins, ends
    raise ImproperlyConfigured(
        f"KPWA['QUIET_HOURS'] is {given!r}; it must be two different times of day, for example ('21:00', '07:00'), or "
        "None for no quiet hours."
    )


def _ramp(given: tuple[Any, ...]) -> tuple[tuple[int, int], ...]:
    """Return the pairs of days and messages per day. Raises `ImproperlyConfigured` if they are invalid."""
    pairs = [tuple(pair) if isinstance(pair, (list, tuple)) else () for pair in given]
    are_counts = all(
        len(pair) == 2 and all(isinstance(each, int) and not isinstance(each, bool) and each > 0 for each in pair)
        for pair in pairs
    )
    days = [pair[0] for pair in pairs if pair]
    if are_counts and days == sorted(set(days)):
        return tuple(pairs)
    raise ImproperlyConfigured(
        f"KPWA['COLD_RAMP'] is {given!r}; it must be pairs of days and messages a day, in the order of the days, for "
        "example ((4, 20), (8, 50)), or () for no limit."
    )


def _check_secret(secret: Any) -> None:
    """Raise `ImproperlyConfigured` if `secret` is weak: a short one can be found by brute force in a stolen table."""
    __traceback_hide__ = True
    if not isinstance(secret, (str, bytes)):
        raise ImproperlyConfigured(f"KPWA['SECRET_KEYS'] must contain strings only, not {type(secret).__name__}.")
    if len(secret) < MIN_SECRET_LENGTH or len(set(secret)) < MIN_SECRET_CHARACTERS:
        raise ImproperlyConfigured(
            f"KPWA['SECRET_KEYS'] contains a key that has fewer than {MIN_SECRET_LENGTH} characters, or fewer "
            f'than {MIN_SECRET_CHARACTERS} different ones. Generate a random one: python -c "import secrets; '
            'print(secrets.token_urlsafe(48))"'
        )


def _check_amount(name: str, value: Any) -> None:
    """Raise `ImproperlyConfigured` if a number is not finite or too small, or `RETENTION_DAYS` is invalid."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and not (math.isfinite(value) and (value > 0 or (value == 0 and name not in _ABOVE_ZERO))):
        least = "more than 0" if name in _ABOVE_ZERO else "0 or more"
        raise ImproperlyConfigured(f"KPWA[{name!r}] is {value!r}; it must be {least}.")
    if name == "RETENTION_DAYS":
        kinds = _DEFAULTS.RETENTION_DAYS
        if unknown := set(value) - set(kinds):
            raise ImproperlyConfigured(
                f"KPWA['RETENTION_DAYS'] names {', '.join(sorted(map(repr, unknown)))}. Known: {', '.join(kinds)}."
            )
        if min(value.values()) < 1:
            raise ImproperlyConfigured(
                "KPWA['RETENTION_DAYS'] must have whole numbers of days, each 1 or more. To keep rows for ever, use a "
                "large number."
            )


def _coerced(name: str, value: Any, default: Any) -> Any:
    """Return `value` as the type of `default`; a dict is completed with the default's items.

    Raises `ImproperlyConfigured` for a value of another type.
    """
    if isinstance(default, tuple):
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ImproperlyConfigured(f"KPWA[{name!r}] must be a list or tuple, not {type(value).__name__}.")
        _check_types(name, value, str if _TYPES[name] == "tuple[str, ...]" and name != "SECRET_KEYS" else object)
        return tuple(value)
    if isinstance(default, dict):
        if not isinstance(value, dict):
            raise ImproperlyConfigured(f"KPWA[{name!r}] must be a dict, not {type(value).__name__}.")
        _check_types(name, value, str)
        _check_types(name, value.values(), int if _TYPES[name] == "dict[str, int]" else str)
        return {**default, **value}
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, type(default)) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise ImproperlyConfigured(f"KPWA[{name!r}] must be a {type(default).__name__}, not {type(value).__name__}.")
    return value


def _check_types(name: str, values: Iterable[object], wanted: type) -> None:
    for value in values:
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise ImproperlyConfigured(
                f"KPWA[{name!r}] must contain values of the type {wanted.__name__} only, not {type(value).__name__}."
            )


_DEFAULTS = Settings()
_MAY_BE_NONE = ("QUIET_HOURS",)
_ABOVE_ZERO = ("CALL_DEADLINE_SECONDS", "MAX_ATTEMPTS", "FAILURES_BEFORE_PAUSE", "PROBE_SECONDS")
_TYPES = {setting.name: setting.type for setting in fields(Settings)}
_KNOWN = [setting.name for setting in fields(Settings)]
