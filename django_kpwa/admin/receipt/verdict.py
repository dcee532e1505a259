"""Whether a previewed receipt would go out, in a mark and a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from ...conditions import Mark, Tone, Words
from ...receipts.preview import Preview


@dataclass(frozen=True)
class Verdict:
    mark: Mark
    words: Words


_KNOWN = Verdict(
    Mark(Tone.NEUTRAL, "✓", _("has it")),
    _("This receipt exists already, so it is not sent a second time. Its message says what became of it."),
)
_UNCLEAR = Verdict(
    Mark(Tone.ATTENTION, "?", _("is it this one's?")),
    _(
        "There is a message under its key, and its number, or the time at which it happened, is another now. Nothing "
        "more is sent. If the number was corrected, send that message to the right one; if this is another object "
        "under a primary key that was used before, the receipt class needs get_fingerprint()."
    ),
)
_RAISES = Verdict(
    Mark(Tone.BAD, "✕", _("raises an error")), _("The receipt class raised an error. It has to be mended first.")
)
_NOT_WANTED = Verdict(
    Mark(Tone.NEUTRAL, "–", _("not wanted")), _("should_send() says no, so there is no such receipt.")
)
_NO_NUMBER = Verdict(
    Mark(Tone.NEUTRAL, "–", _("no number")), _("There is no phone number, so there is nobody to send it to.")
)
_BAD_NUMBER = Verdict(
    Mark(Tone.BAD, "✕", _("no phone number")), _("What stands for the number is no phone number. Correct it first.")
)
_TOO_OLD = Verdict(
    Mark(Tone.ATTENTION, "⌛", _("too old to go by itself")),
    _("It happened longer ago than the class allows, so saving it sends nothing. “Send now” sends it all the same."),
)
_READY = Verdict(
    Mark(Tone.GOOD, "✓", _("can be sent")),
    _("It has no such receipt yet. It gets one when it is saved, or when you press “Send now”."),
)


def verdict_of(preview: Preview) -> Verdict:
    if preview.known is not None:
        return _UNCLEAR if preview.is_unclear else _KNOWN
    if preview.problems:
        return _RAISES
    if not preview.is_wanted:
        return _NOT_WANTED
    if not preview.phone_number:
        return _NO_NUMBER
    if not preview.recipient:
        return _BAD_NUMBER
    return _READY if preview.is_recent else _TOO_OLD
