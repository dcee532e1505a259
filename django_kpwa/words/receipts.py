"""The texts about what became of an object that could have had a receipt."""

from __future__ import annotations

from enum import Enum

from django.utils.translation import gettext_lazy as _

from .rows import NOTHING_TO_DO, UNKNOWN_CODE, UPDATE, Row, Table, Tone


class Fate(str, Enum):
    """What became of the receipt of an object that a receipt class returned as a candidate."""

    NEVER_QUEUED = "never_queued"
    RAISED = "raised"
    """The receipt class raised an error for the object."""
    FAILURE = "failure"
    """The object has a `ReceiptFailure`, and the receipt is still wanted."""
    TOO_OLD = "too_old"
    """It has no message, and is older than the class's `max_age`."""
    FAILED = "failed"
    DOUBT = "doubt"
    WAITING = "waiting"
    JUST_NOW = "just_now"
    """It has no message yet, but happened so recently that one may still be stored."""
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    NO_NUMBER = "no_number"
    NOT_WANTED = "not_wanted"
    ARRIVED = "arrived"


FATES = Table[Row](
    {
        Fate.NEVER_QUEUED: Row(
            Tone.BAD,
            "✕",
            label=_("never queued"),
            meaning=_("A receipt is wanted, but none was ever made: the sale was imported, or saved past the till."),
            advice=_("Press “Send the missing”."),
        ),
        Fate.RAISED: Row(
            Tone.BAD,
            "✕",
            label=_("the receipt class failed"),
            meaning=_("Whether a receipt is wanted is not known, because the site's own code has a fault."),
            advice=_("Show this to the developer of this site."),
        ),
        Fate.FAILURE: Row(
            Tone.BAD,
            "✕",
            label=_("could not be made"),
            meaning=_("A receipt was tried, but could not be made. “Receipt failures” says why."),
            advice=_("Mend what it says, then press “Send the missing”."),
        ),
        Fate.TOO_OLD: Row(
            Tone.ATTENTION,
            "⊘",
            label=_("without a receipt, and too old"),
            meaning=_("It happened longer ago than the receipt class allows, so it is not sent with the missing."),
            advice=_("What is still wanted is sent one by one, by “Send now” on the receipt's page."),
        ),
        Fate.FAILED: Row(
            Tone.BAD,
            "✕",
            label=_("failed"),
            meaning=_("The message was refused, or its text could not be written."),
            advice=_("See the list of messages."),
        ),
        Fate.DOUBT: Row(
            Tone.ATTENTION,
            "?",
            label=_("in doubt"),
            meaning=_("Nobody knows whether it arrived."),
            advice=_("Say for each whether it arrived."),
        ),
        Fate.WAITING: Row(
            Tone.WAITING,
            "◷",
            label=_("waiting"),
            meaning=_("The receipt is queued and will be sent."),
            advice=NOTHING_TO_DO,
        ),
        Fate.JUST_NOW: Row(
            Tone.WAITING,
            "◷",
            label=_("sold a moment ago"),
            meaning=_("It happened less than a minute ago, so its receipt may just be being made."),
            advice=_("Look again in a minute."),
        ),
        Fate.EXPIRED: Row(
            Tone.ATTENTION,
            "⊘",
            label=_("expired"),
            meaning=_("It waited longer than the receipt class allows, so it was not sent."),
            advice=_("See the list of messages."),
        ),
        Fate.CANCELLED: Row(
            Tone.NEUTRAL,
            "–",
            label=_("cancelled"),
            meaning=_("A person cancelled it, or it was no longer wanted when it was its turn."),
            advice=NOTHING_TO_DO,
        ),
        Fate.NO_NUMBER: Row(
            Tone.NEUTRAL,
            "–",
            label=_("without a number"),
            meaning=_("There is no phone number, so there is nobody to send it to."),
            advice=NOTHING_TO_DO,
        ),
        Fate.NOT_WANTED: Row(
            Tone.NEUTRAL,
            "–",
            label=_("no receipt wanted"),
            meaning=_("The receipt class says that there is none, because it is not paid, for example."),
            advice=NOTHING_TO_DO,
        ),
        Fate.ARRIVED: Row(
            Tone.GOOD,
            "✓",
            label=_("arrived"),
            meaning=_("WhatsApp took the receipt."),
            advice=NOTHING_TO_DO,
        ),
    },
    otherwise=Row(Tone.NEUTRAL, "?", label="", meaning=UNKNOWN_CODE, advice=UPDATE),
)
"""What became of receipts, in the order in which they are shown: the worst first."""
