"""What a person is told about a status, a pause or a cause: one table each, from which every page and command takes it.

A row has its tone and symbol, its label, what it means and what to do, and where a reader needs words of their own (a
shop's person at the counter, somebody at a command line) those as well. A member of an enum that has no row here is a
failing test; to a running site it is shown by its code, as is one that a newer release has stored. Command lines and
alerts are English; everything else is translated.
"""

from .events import EVENT_STATUSES, event_row
from .licenses import (
    CONNECTED,
    INACTIVE,
    NEVER_LINKED,
    NEW_KEY,
    NO_KEY,
    NONE_CHOSEN,
    NOT_SEEN,
    PAUSES,
    UNCHOSEN,
    quoted,
    what_to_do,
)
from .messages import CAUSES, OUTCOMES, STATUSES, reason_row, status_row
from .rows import (
    NOTHING_TO_DO,
    CauseRow,
    Condition,
    EventRow,
    Explained,
    Help,
    Mark,
    PauseRow,
    Row,
    StatusRow,
    Table,
    Tone,
    UnchosenRow,
    Words,
)

__all__ = [
    "CAUSES",
    "CONNECTED",
    "EVENT_STATUSES",
    "INACTIVE",
    "NEVER_LINKED",
    "NEW_KEY",
    "NONE_CHOSEN",
    "NOTHING_TO_DO",
    "NOT_SEEN",
    "NO_KEY",
    "OUTCOMES",
    "PAUSES",
    "STATUSES",
    "UNCHOSEN",
    "CauseRow",
    "Condition",
    "EventRow",
    "Explained",
    "Help",
    "Mark",
    "PauseRow",
    "Row",
    "StatusRow",
    "Table",
    "Tone",
    "UnchosenRow",
    "Words",
    "event_row",
    "quoted",
    "reason_row",
    "status_row",
    "what_to_do",
]
