"""The settings dict `KPWA`, read when it is asked for, with a type and a default for every name.

Nothing here is read at import and nothing is written back, so `override_settings(KPWA={...})` works in a site's tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

DOCUMENTED_BASE_URLS = ("https://wa.kpntr.com/backend", "https://kpwa.kpntr.com/backend")

MIN_SECRET_LENGTH = 32
MIN_SECRET_CHARACTERS = 5

SLICE_SECONDS = 20.0
"""How long one task drives a lane, or processes webhooks, before it lets another go on: a shop's burst of receipts is
through by then, and nobody else waits for minutes."""


@dataclass(frozen=True)
class Settings:
    """One reading of `KPWA`. Durations are seconds unless the name says otherwise."""

    GATEWAY: str = "django_kpwa.gateway.http.HttpGateway"
    """Dotted path of the `Gateway` class, as `EMAIL_BACKEND` is."""
    BASE_URLS: tuple[str, ...] = DOCUMENTED_BASE_URLS
    """Tried in order; a later one only where no connection to the one before could be made."""
    ALLOWED_GATEWAY_HOSTS: tuple[str, ...] = ()
    """Hosts (`wa.example`, `wa.example:8443`) beyond those of `BASE_URLS` that a license's own base URL may name."""
    PUBLIC_URL: str = ""
    """Where the gateway reaches this site, e.g. `https://shop.example`; needed to register a webhook."""
    DEFAULT_LICENSE: str = ""
    """Name of the license for `license=None`. Empty: the only one there is."""
    DEFAULT_REGION: str = "ID"
    """Region whose national numbers need no country code (ISO 3166-1 alpha-2)."""
    SECRET_KEYS: tuple[str, ...] = field(default=(), repr=False)
    """Secrets that the stored API keys are encrypted with, newest first. Empty: derived from `SECRET_KEY`."""
    CALL_DEADLINE_SECONDS: float = 45.0
    """Everything one call may take, connections and a dripping answer included. A lost worker's lane waits longer."""
    PACE_SECONDS: tuple[float, float] = (4.0, 8.0)
    """Between two messages of a license: a random time in this range, where the license names none of its own."""
    MAX_ATTEMPTS: int = 6
    """Attempts that sent nothing before a message is `failed`. Waits that the gateway asks for do not count."""
    RETRY_SECONDS: float = 15.0
    """The first wait after a failure that sent nothing; doubled each time up to 15 minutes, with jitter."""
    FAILURES_BEFORE_PAUSE: int = 3
    """So many sends in a row that were not accepted, whatever each answer said, pause the lane."""
    PROBE_SECONDS: float = 30.0
    """How long a paused lane waits before its status is asked; doubled up to ten times that while it fails."""
    RENDER_DELAY_SECONDS: float = 3.0
    """A receipt of a sale saved outside a transaction is not rendered before this: its lines may still be coming."""
    RESEND_UNKNOWN: tuple[str, ...] = ()
    """Causes of doubt after which a second copy is risked rather than a missing message."""
    WEBHOOK_PARSER: str = "django_kpwa.webhooks.parsers.DefaultParser"
    """Dotted path of the class that reads what the gateway posts."""
    WEBHOOK_USERNAME: str = field(default="", repr=False)
    """The user name of the HTTP basic authentication below; empty: any."""
    WEBHOOK_PASSWORD: str = field(default="", repr=False)
    """Where set, a webhook must carry them as HTTP basic authentication, beside its token in the path."""
    RETENTION_DAYS: dict[str, int] = field(default_factory=lambda: {"messages": 365, "events": 90, "statistics": 730})
    """What `kpwa purge` keeps, by kind. Messages that are not settled are kept for ever."""

    @property
    def status_deadline_seconds(self) -> float:
        """For the status check that follows a refused or failed send: a word, while a send may wait for WhatsApp."""
        return min(10.0, self.CALL_DEADLINE_SECONDS / 2)

    @property
    def record_seconds(self) -> float:
        """How long recording a call's outcome is tried again while the database fails; then it is in doubt.

        A restart of PostgreSQL takes less. The lane is held meanwhile, so it is no longer than a call is.
        """
        return min(10.0, self.CALL_DEADLINE_SECONDS / 2)

    @property
    def max_probe_seconds(self) -> float:
        """The longest wait of a paused lane before its status is asked again."""
        return 10 * self.PROBE_SECONDS


def kpwa_settings() -> Settings:
    """Read `settings.KPWA`.

    Raises `ImproperlyConfigured` for a name that is not known or a value of another type.
    """
    given = getattr(settings, "KPWA", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"KPWA must be a dict, not {type(given).__name__}.")
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _KNOWN:
            raise ImproperlyConfigured(f"KPWA[{name!r}] is not a setting of django-kpwa. Known: {', '.join(_KNOWN)}.")
        values[name] = _coerced(name, value, getattr(_DEFAULTS, name))
    for secret in values.get("SECRET_KEYS", ()):
        _check_secret(secret)
    return Settings(**values)


def lease_seconds(conf: Settings) -> float:
    """How long a lane's lease lasts: longer than a send, the status check after it, and a slow recording."""
    return conf.CALL_DEADLINE_SECONDS + conf.status_deadline_seconds + conf.record_seconds + 5


def _check_secret(secret: Any) -> None:
    """Raise where `secret` could be guessed: whoever reads the table tries short ones at leisure."""
    __traceback_hide__ = True
    if not isinstance(secret, (str, bytes)):
        raise ImproperlyConfigured(f"KPWA['SECRET_KEYS'] holds a {type(secret).__name__}; each is a text.")
    if len(secret) < MIN_SECRET_LENGTH or len(set(secret)) < MIN_SECRET_CHARACTERS:
        raise ImproperlyConfigured(
            f"KPWA['SECRET_KEYS'] holds one that is shorter than {MIN_SECRET_LENGTH} characters, or made of fewer than "
            f"{MIN_SECRET_CHARACTERS} different ones. Write a random one: "
            'python -c "import secrets; print(secrets.token_urlsafe(48))"'
        )


def _coerced(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ImproperlyConfigured(f"KPWA[{name!r}] must be a list or tuple, not {type(value).__name__}.")
        return tuple(value)
    if isinstance(default, dict):
        if not isinstance(value, dict):
            raise ImproperlyConfigured(f"KPWA[{name!r}] must be a dict, not {type(value).__name__}.")
        return {**default, **value}
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, type(default)) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise ImproperlyConfigured(f"KPWA[{name!r}] must be a {type(default).__name__}, not {type(value).__name__}.")
    return value


_DEFAULTS = Settings()
_KNOWN = [setting.name for setting in fields(Settings)]
