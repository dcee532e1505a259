"""The row classes of the tables of words, and the table: a dict with a default row for unknown codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from .receipts import Fate

Words = str | Promise
"""Text for people: already translated, or lazy and translated when it is shown."""


class Tone(str, Enum):
    """How good or bad something is. The value is also the CSS class that colours it: `kpwa-good`, `kpwa-bad`, …"""

    GOOD = "good"
    WAITING = "waiting"
    ATTENTION = "attention"
    BAD = "bad"
    NEUTRAL = "neutral"


class Help(str, Enum):
    """The button that fixes a license's condition. The value names the admin's view (`change` is the form)."""

    NONE = ""
    LINK = "link"
    PASSKEY = "passkey"
    ENTER_KEY = "change"
    CONFIRM_NUMBER = "confirm_number"
    CHECK_STATUS = "check_status"
    RESUME = "resume"


class Tells(str, Enum):
    """The alert that a problem opens, see `alerts`. Several problems may open the same alert.

    The value is the alert's code in the database, in the JSON that is posted, and for receivers of the signals.
    """

    NOTHING = ""
    LICENSE_STOPPED = "license_stopped"
    NOBODY_SENDS = "nobody_sends"
    UNCHOSEN = "unchosen"
    RECEIPTS_FAIL = "receipts_fail"
    LATE = "late"
    MUCH_DOUBT = "much_doubt"
    WEBHOOKS_SILENT = "webhooks_silent"
    NEVER_QUEUED = "never_queued"
    RESTRICTED = "restricted"


NOTHING_TO_DO = _("There is nothing to do.")


@dataclass(frozen=True)
class Mark:
    """A symbol and a label in a colour. The colour is never the only signal: symbol and label are always shown."""

    tone: Tone
    symbol: str
    label: Words


@dataclass(frozen=True, kw_only=True)
class Explained:
    """`meaning` and `advice` are sentences: what it means for the shop, and what to do about it."""

    label: Words
    meaning: Words
    advice: Words

    @property
    def explained(self) -> str:
        """The meaning, followed by the advice unless there is nothing to do."""
        return " ".join(str(words) for words in (self.meaning, self.advice) if words is not NOTHING_TO_DO)


@dataclass(frozen=True, kw_only=True)
class Row(Explained, Mark):
    """A mark with the sentences that the admin shows about it."""


@dataclass(frozen=True, kw_only=True)
class StatusRow(Row):
    """A message's status.

    `command`: what to do on the command line; `{id}` stands for the message's primary key.
    `fate`: what this status means for a receipt.
    """

    command: str
    fate: Fate


@dataclass(frozen=True, kw_only=True)
class CauseRow(Explained):
    """Why a message has its status.

    `title` and `asking` describe the same failure of any other call to the gateway: a summary, and what the user who
    pressed the button can do next. They are empty for causes that occur only when sending.
    """

    title: Words = ""
    asking: Words = ""


@dataclass(frozen=True, kw_only=True)
class EventRow(Row):
    """A webhook event's status. `report` is the result that is shown after processing an event again."""

    report: Words


@dataclass(frozen=True, kw_only=True)
class Condition(Row):
    """Whether a license sends.

    `code`: its name in monitoring, which never changes.
    `urgency`: its rank among conditions; 0 is the most urgent.
    `tells`: the alert that it opens.
    `counter`: the text of the banner at the counter.
    `command`: what to do on the command line, in English; `{name}` stands for the license's name.
    """

    code: str
    urgency: int
    tells: Tells = Tells.NOTHING
    help: Help = Help.NONE
    help_label: Words = ""
    counter: Words = ""
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class PauseRow(Condition):
    """The condition of a paused license.

    `why` completes the sentence "nothing is sent because …".
    """

    why: Words


@dataclass(frozen=True, kw_only=True)
class UnchosenRow:
    """Why no license can be chosen for messages for which none is given.

    `label`: completes the sentence "nothing is sent because …".
    `command`: what to do on the command line, in English.
    `error`: the message of the exception that code gets which needs a license at once; `{name}` stands for the value of
    KPWA["DEFAULT_LICENSE"].
    """

    label: Words
    advice: Words
    command: str
    error: str


@dataclass(frozen=True, kw_only=True)
class AlertRow:
    """An alert. `over` describes the state after its end, and begins the sentence that says when it ended."""

    label: Words
    over: Words


_Shown = TypeVar("_Shown", bound=Mark | Explained | UnchosenRow | AlertRow)


class Table(dict[str, _Shown]):
    """Rows by the codes of an enum. Looking up a code without a row returns `otherwise`, labelled with the code."""

    def __init__(self, rows: Mapping[str, _Shown], otherwise: _Shown) -> None:
        super().__init__(rows)
        self._otherwise = otherwise

    def __missing__(self, code: str) -> _Shown:
        return replace(self._otherwise, label=code)


UNKNOWN_CODE = _("This release of django-kpwa does not know it.")
UPDATE = _("Update django-kpwa in all processes of this site.")
UPDATE_COMMAND = "Update django-kpwa in all processes of this site."
