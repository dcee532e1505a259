"""The gateway as an interface: eight operations, answers as frozen dataclasses, failures as exceptions.

Every implementation (HTTP, console, memory, sandbox) passes `tests/contract/gateway_case.py`. The operations, their
paths and their shapes are those of the gateway's reference, kept in `django_kpwa/sandbox/openapi.yaml`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..conf import kpwa_settings
from ..encryption import Secret
from ..exceptions import InvalidMessageError
from .qr import LoginQr

if TYPE_CHECKING:
    from typing_extensions import Self

Code = Any
"""The gateway's own result code, kept as it came: an integer, a string, or None. Never branched on alone."""


class SessionStatus(str, Enum):
    """Whether a WhatsApp account is linked to the license."""

    UNKNOWN = "unknown"
    """Never asked, or a word that the reference does not have."""
    QR = "qr"
    """Not linked: waits for its QR code to be scanned."""
    CONNECTED = "connected"


@dataclass(frozen=True)
class ServiceStatus:
    """Answer of status, restart and webhook reset. `word` is the status as the gateway wrote it."""

    session_status: SessionStatus
    word: str = ""
    message: str = ""
    code: Code = None


@dataclass(frozen=True)
class NumberCheck:
    """Answer of check-number."""

    is_registered: bool
    message: str = ""
    code: Code = None


@dataclass(frozen=True)
class SentMessage:
    """Answer of a send that the gateway accepted. `id` is never empty.

    The repr leaves out what may hold a phone number; gateways of this family put one into the id, too.
    `from_number` is the linked phone, `to` the recipient as the gateway read it, `created_at` the gateway's own text
    (`YYYY-MM-DD HH:mm:ss`, its time zone not documented).
    """

    id: str = field(repr=False)
    body: str = field(default="", repr=False)
    from_number: str = field(default="", repr=False)
    to: str = field(default="", repr=False)
    media_url: str | None = None
    created_at: str = ""
    message: str = ""
    code: Code = None


@dataclass(frozen=True)
class WebhookAnswer:
    """Answer of setting the webhook."""

    message: str = ""
    code: Code = None


def session_status_of(word: object) -> SessionStatus:
    """Read a status word of the gateway; one that nobody documented is `UNKNOWN`, not an error.

    `ready`, which only a restart answers, may be the service rather than the link, so it is `UNKNOWN` as well.
    """
    try:
        return SessionStatus(str(word).strip().lower())
    except ValueError:
        return SessionStatus.UNKNOWN


def require_content(text: str, image_url: str) -> None:
    """Refuse a message with neither text nor image: the reference makes both optional, a person would get nothing.

    Raises `InvalidMessageError`. Every implementation calls it before it sends.
    """
    if not text.strip() and not image_url:
        raise InvalidMessageError("A message needs a text or an image URL.")


def load_gateway_class() -> type[Gateway]:
    """Return the class that `KPWA["GATEWAY"]` names. Raises `ImproperlyConfigured` where it is not a `Gateway`."""
    path = kpwa_settings().GATEWAY
    try:
        gateway_class = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"KPWA['GATEWAY'] is {path!r}, which cannot be imported: {error}") from error
    if not (isinstance(gateway_class, type) and issubclass(gateway_class, Gateway)):
        raise ImproperlyConfigured(f"KPWA['GATEWAY'] is {path!r}, not a subclass of django_kpwa.gateway.Gateway.")
    return gateway_class


class Gateway(ABC):
    """One license's view of the gateway.

    Every operation may raise `GatewayError`; which of its subclasses says what is known of the outcome
    (`gateway.outcome` has the table). `deadline_seconds` bounds the whole call; None means
    `KPWA["CALL_DEADLINE_SECONDS"]`. An instance belongs to one thread.
    """

    leaves_the_process: ClassVar[bool] = False
    """Whether it sends for real: a site's tests use the gateway in memory in its place."""

    pretends: ClassVar[str] = ""
    """What becomes of messages where they reach nobody, e.g. "printed"; empty where they reach somebody."""

    ends_at: float | None = None
    """When the last of several calls must have ended, on the clock of `time.monotonic()`; None: each has its own end.

    For who holds something as long as they take, a web request its worker.
    """

    def __init__(self, api_key: Secret, *, base_urls: Sequence[str] = ()) -> None:
        self.api_key = api_key
        self.base_urls = tuple(base_urls)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @abstractmethod
    def restart(self) -> ServiceStatus:
        """Restart the license's WhatsApp service."""

    @abstractmethod
    def get_status(self, *, deadline_seconds: float | None = None) -> ServiceStatus:
        """Whether a WhatsApp account is linked."""

    @abstractmethod
    def get_login_qr(self) -> LoginQr:
        """The QR code that links an account. A linked license may raise instead: ask for the status."""

    @abstractmethod
    def check_number(self, phone_number: str) -> NumberCheck:
        """Whether `phone_number` (in any spelling that the gateway reads) has WhatsApp."""

    @abstractmethod
    def send_message(self, phone_number: str, text: str = "", image_url: str = "") -> SentMessage:
        """Send to a number. Raises `InvalidMessageError` where neither `text` nor `image_url` is given."""

    @abstractmethod
    def send_group_message(self, group_name: str, text: str = "", image_url: str = "") -> SentMessage:
        """Send to the group called `group_name`. Raises `InvalidMessageError` as `send_message()` does."""

    @abstractmethod
    def set_webhook(self, url: str) -> WebhookAnswer:
        """Have the gateway post its events to `url`."""

    @abstractmethod
    def reset_webhook(self) -> ServiceStatus:
        """Remove the webhook."""

    def close(self) -> None:  # noqa: B027 - most implementations hold nothing open
        """Give back connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
