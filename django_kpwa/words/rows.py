"""What a row of a table of words has, and the table: a dict that answers for a code without a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Words = str | Promise
"""Text for a person, translated already or when it is shown."""


class Tone(str, Enum):
    """Also the CSS class that colours it: `kpwa-good`, `kpwa-bad`, …"""

    GOOD = "good"
    WAITING = "waiting"
    ATTENTION = "attention"
    BAD = "bad"
    NEUTRAL = "neutral"


class Help(str, Enum):
    """The one button that helps a license; the value names the admin's view of it (`change` is its form)."""

    NONE = ""
    LINK = "link"
    ENTER_KEY = "change"
    CONFIRM_NUMBER = "confirm_number"
    CHECK_STATUS = "check_status"
    RESUME = "resume"


NOTHING_TO_DO = _("There is nothing to do.")


@dataclass(frozen=True)
class Mark:
    """What is seen at a glance. The tone is never the only signal: it is always shown with the symbol and the label."""

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
        """What it means and, where there is something to do, what."""
        return " ".join(str(words) for words in (self.meaning, self.advice) if words is not NOTHING_TO_DO)


@dataclass(frozen=True, kw_only=True)
class Row(Explained, Mark):
    """The mark, and the sentences as somebody reads them in the admin."""


@dataclass(frozen=True, kw_only=True)
class StatusRow(Row):
    """A message's status. `command`: what to do at a command line, with `{id}` for the message."""

    command: str


@dataclass(frozen=True, kw_only=True)
class CauseRow(Explained):
    """Why a message is as it is. `title` and `asking`: the same failure of another question to the gateway, for the
    person who pressed the button, with what to do next; empty for causes that no question has.
    """

    title: Words = ""
    asking: Words = ""


@dataclass(frozen=True, kw_only=True)
class EventRow(Row):
    """A webhook event's status. `report`: what came of processing it again."""

    report: Words


@dataclass(frozen=True, kw_only=True)
class Condition(Row):
    """Whether a license sends. `urgency` 0 is worst; `counter`: what the shop's person reads in the banner."""

    urgency: int
    help: Help = Help.NONE
    help_label: Words = ""
    counter: Words = ""


@dataclass(frozen=True, kw_only=True)
class PauseRow(Condition):
    """The condition of a license that is paused. `why`: the end of "nothing is sent because …".

    `command`: what to do at a command line, with `{name}` for the license.
    """

    why: Words
    command: str


@dataclass(frozen=True, kw_only=True)
class UnchosenRow:
    """Why no license is chosen for what names none. `label`: the end of "nothing is sent because …".

    `command`: what to do at a command line. `error`: what a developer reads who sends such a message, with `{name}`
    for what KPWA["DEFAULT_LICENSE"] has.
    """

    label: Words
    advice: Words
    command: str
    error: str


_Shown = TypeVar("_Shown", bound=Mark | Explained | UnchosenRow)


class Table(dict[str, _Shown]):
    """Rows by the codes of an enum. Looking up a code without a row returns `otherwise`, labelled with the code."""

    def __init__(self, rows: Mapping[str, _Shown], otherwise: _Shown) -> None:
        super().__init__(rows)
        self._otherwise = otherwise

    def __missing__(self, code: str) -> _Shown:
        return replace(self._otherwise, label=code)


UNHEARD_OF = _("This release of django-kpwa does not know it.")
UPDATE = _("Update django-kpwa in all processes of this site.")
UPDATE_COMMAND = "Update django-kpwa in all processes of this site."
