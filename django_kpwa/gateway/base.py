"""The interface to the gateway: eight operations, with frozen dataclasses as answers and exceptions for failures.

Every implementation (HTTP, console, memory, sandbox) must pass `tests/contract/gateway_case.py`, and a site's own
`testing.GatewayContract`. The operations, their paths and their shapes follow the gateway's reference, kept in
`django_kpwa/sandbox/openapi.yaml`.
"""

from __future__ import annotations

import re
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
"""The gateway's own result code as it came: an integer, a string, or None. Never decide by it alone: the reference
leaves its values open."""


class SessionStatus(str, Enum):
    """Whether a WhatsApp account is linked to the license."""

    UNKNOWN = "unknown"
    """Not queried yet, or a status word that is not in the reference."""
    QR = "qr"
    """Not linked: the QR code has to be scanned."""
    CONNECTED = "connected"
    """Linked: messages can be sent."""


class SessionTrouble(str, Enum):
    """A problem with the account that a status word reports. The `SessionStatus` of such a word is `UNKNOWN`."""

    PASSKEY = "passkey_asked"
    """The phone asks for a passkey before it can be linked."""
    RESTRICTED = "restricted"
    """WhatsApp restricts the number, mostly for some days."""
    BANNED = "banned"
    """The number is banned by WhatsApp, or blocked."""


@dataclass(frozen=True)
class ServiceStatus:
    """Answer to status, restart and webhook reset. `word` is the status as the gateway wrote it."""

    session_status: SessionStatus
    word: str = ""
    message: str = ""
    code: Code = None


@dataclass(frozen=True)
class NumberCheck:
    """Answer to check-number."""

    is_registered: bool
    message: str = ""
    code: Code = None


@dataclass(frozen=True)
class SentMessage:
    """Answer to a send that the gateway accepted. `id` is never empty.

    `from_number` is the linked phone, `to` the recipient as the gateway read it, and `created_at` the gateway's own
    text (`YYYY-MM-DD HH:mm:ss`, in an undocumented time zone). The repr omits fields that may hold a phone number,
    including the id, because similar gateways put the number into it.
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
    """Answer to setting the webhook."""

    message: str = ""
    code: Code = None


def session_status_of(word: object) -> SessionStatus:
    """Read a status word of the gateway. An undocumented word is `UNKNOWN`, not an error.

    `ready`, which only a restart answers, is `UNKNOWN` too: it may describe the service rather than the link.
    """
    try:
        return SessionStatus(str(word).strip().lower())
    except ValueError:
        return SessionStatus.UNKNOWN


# Words of newer gateways of this family, in lower case and without anything but letters.
_TROUBLE_OF = {
    "passkeyrequired": SessionTrouble.PASSKEY,
    "passkeyrequire": SessionTrouble.PASSKEY,
    "passkeyconfirmationrequired": SessionTrouble.PASSKEY,
    "suspended": SessionTrouble.RESTRICTED,
    "yellowcard": SessionTrouble.RESTRICTED,
    "restricted": SessionTrouble.RESTRICTED,
    "banned": SessionTrouble.BANNED,
    "blocked": SessionTrouble.BANNED,
}


def session_trouble_of(word: str) -> SessionTrouble | None:
    """Read a status word, in any case and with any separators; None if it reports no known problem."""
    return _TROUBLE_OF.get(re.sub(r"[\W_]+", "", word[:100]).lower())


def require_content(text: str, image_url: str) -> None:
    """Raise `InvalidMessageError` for a message with neither text nor image.

    The reference makes both optional, but the recipient would get nothing. Every implementation must call this before
    it sends.
    """
    if not text.strip() and not image_url:
        raise InvalidMessageError("A message needs a text or an image URL.")


def load_gateway_class() -> type[Gateway]:
    """Return the class that `KPWA["GATEWAY"]` names. Raises `ImproperlyConfigured` if it is not a `Gateway`."""
    path = kpwa_settings().GATEWAY
    try:
        gateway_class = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"KPWA['GATEWAY'] is {path!r}, which cannot be imported: {error}") from error
    if not (isinstance(gateway_class, type) and issubclass(gateway_class, Gateway)):
        raise ImproperlyConfigured(f"KPWA['GATEWAY'] is {path!r}, not a subclass of django_kpwa.gateway.Gateway.")
    return gateway_class


class Gateway(ABC):
    """A client of the gateway for one license. An instance must be used by one thread only.

    Every operation may raise `GatewayError`; the subclass determines the outcome (see the table in
    `gateway.outcome`). `deadline_seconds` limits the whole call; None means `KPWA["CALL_DEADLINE_SECONDS"]`.
    """

    leaves_the_process: ClassVar[bool] = False
    """True if this implementation really sends; a site's tests then use the gateway in memory instead."""

    pretends: ClassVar[str] = ""
    """What happens to messages instead of being sent, for example "printed"; empty if they are sent."""

    ends_at: float | None = None
    """Time by `time.monotonic()` at which a series of calls must have ended; None: each call has only its own deadline.

    For callers that occupy something during the whole series, as a web request occupies its worker.
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
        """Ask whether a WhatsApp account is linked."""

    @abstractmethod
    def get_login_qr(self) -> LoginQr:
        """Return the QR code that links an account. May raise for a linked license: check the status then."""

    @abstractmethod
    def check_number(self, phone_number: str) -> NumberCheck:
        """Ask whether `phone_number`, in any spelling that the gateway reads, has WhatsApp."""

    @abstractmethod
    def send_message(self, phone_number: str, text: str = "", image_url: str = "") -> SentMessage:
        """Send to a number. Raises `InvalidMessageError` if neither `text` nor `image_url` is given."""

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
        """Close connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
