"""The texts that people read about a status, pause reason or cause: one table each, used by all pages and commands.

A row has a tone and a symbol, a label, what it means and what to do, and separate texts for readers who need their
own: a cashier at the counter, an operator at a command line. `tests/unit/test_words.py` fails if a member of an enum
has no row. A running site shows a code without a row as it is, for example one that a newer release has stored. Texts
for command lines and alerts are English; all others are translated.
"""

from .events import EVENT_STATUSES, event_row
from .licenses import (
    CONNECTED,
    INACTIVE,
    NEVER_LINKED,
    NEW_KEY,
    NO_KEY,
    NOT_SEEN,
    PAUSES,
    TROUBLES,
    UNCHOSEN,
    UNCLEAR,
    quoted,
    what_to_do,
)
from .messages import (
    CAUSES,
    FAILURES,
    FOR_DEVELOPER,
    NOT_ON_WHATSAPP,
    OUTCOMES,
    STATUSES,
    error_told,
    reason_row,
    status_row,
    who_said,
)
from .problems import ALERTS, PROBLEMS, Problem, ProblemRow
from .receipts import FATES, Fate
from .rows import (
    NOTHING_TO_DO,
    AlertRow,
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
    Tells,
    Tone,
    UnchosenRow,
    Words,
)

__all__ = [
    "ALERTS",
    "CAUSES",
    "CONNECTED",
    "EVENT_STATUSES",
    "FAILURES",
    "FATES",
    "FOR_DEVELOPER",
    "INACTIVE",
    "NEVER_LINKED",
    "NEW_KEY",
    "NOTHING_TO_DO",
    "NOT_ON_WHATSAPP",
    "NOT_SEEN",
    "NO_KEY",
    "OUTCOMES",
    "PAUSES",
    "PROBLEMS",
    "STATUSES",
    "TROUBLES",
    "UNCHOSEN",
    "UNCLEAR",
    "AlertRow",
    "CauseRow",
    "Condition",
    "EventRow",
    "Explained",
    "Fate",
    "Help",
    "Mark",
    "PauseRow",
    "Problem",
    "ProblemRow",
    "Row",
    "StatusRow",
    "Table",
    "Tells",
    "Tone",
    "UnchosenRow",
    "Words",
    "error_told",
    "event_row",
    "quoted",
    "reason_row",
    "status_row",
    "what_to_do",
    "who_said",
]
