"""The texts about a message's status, and about the cause of that status."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..formatting import coming_day, coming_time
from ..gateway.outcome import Cause, OutcomeKind
from ..models import (
    NOT_REGISTERED,
    NUMBER_FORGOTTEN,
    RENDER_ERROR,
    WITHDRAWN,
    FailureCause,
    HoldReason,
    OutboundMessage,
    PauseReason,
    Status,
    StopReason,
)
from .receipts import Fate
from .rows import (
    NOTHING_TO_DO,
    UNKNOWN_CODE,
    UPDATE,
    UPDATE_COMMAND,
    CauseRow,
    Explained,
    Mark,
    StatusRow,
    Table,
    Tone,
    Words,
)

_RESEND = "Send it anyway: manage.py kpwa messages resend {id}"
_NO_COMMAND = "There is nothing to do."
_SEE_DOCTOR = "See `manage.py kpwa doctor`; `manage.py kpwa dispatch` sends what is due now."
_SEND_AGAIN = _("“Send again” sends it anyway.")

STATUSES = Table[StatusRow](
    {
        Status.QUEUED: StatusRow(
            Tone.WAITING,
            "◷",
            label=Status.QUEUED.label,
            meaning=_("It is waiting for its turn and is sent automatically."),
            advice=NOTHING_TO_DO,
            command=_SEE_DOCTOR,
            fate=Fate.WAITING,
        ),
        Status.SENDING: StatusRow(
            Tone.WAITING,
            "➤",
            label=Status.SENDING.label,
            meaning=_("It is on its way to WhatsApp right now."),
            advice=NOTHING_TO_DO,
            command=_SEE_DOCTOR,
            fate=Fate.WAITING,
        ),
        Status.SENT: StatusRow(
            Tone.GOOD,
            "✓",
            label=Status.SENT.label,
            meaning=_("WhatsApp has it. The customer's phone has not said yet that it arrived."),
            advice=NOTHING_TO_DO,
            command=_NO_COMMAND,
            fate=Fate.ARRIVED,
        ),
        Status.DELIVERED: StatusRow(
            Tone.GOOD,
            "✓✓",
            label=Status.DELIVERED.label,
            meaning=_("It is on the customer's phone."),
            advice=NOTHING_TO_DO,
            command=_NO_COMMAND,
            fate=Fate.ARRIVED,
        ),
        Status.READ: StatusRow(
            Tone.GOOD,
            "✓✓",
            label=Status.READ.label,
            meaning=_("The customer has read it."),
            advice=NOTHING_TO_DO,
            command=_NO_COMMAND,
            fate=Fate.ARRIVED,
        ),
        Status.FAILED: StatusRow(
            Tone.BAD,
            "✕",
            label=Status.FAILED.label,
            meaning=_("It did not go out."),
            advice=_("Fix the cause, then press “Send again”."),
            command="Fix the cause, then: manage.py kpwa messages resend {id}",
            fate=Fate.FAILED,
        ),
        Status.UNKNOWN: StatusRow(
            Tone.ATTENTION,
            "?",
            label=Status.UNKNOWN.label,
            meaning=_("Nobody knows whether the customer got it."),
            advice=_(
                "Ask the customer, or look at the shop's own phone. It is there: press “It arrived”. It is not: press "
                "“Send again”; the customer may then get a second copy."
            ),
            command=(
                "Ask the customer, or look at the shop's own phone. It is there: manage.py kpwa messages mark-sent "
                "{id}. It is not: manage.py kpwa messages resend {id}; the customer may then get a second copy."
            ),
            fate=Fate.DOUBT,
        ),
        Status.CANCELLED: StatusRow(
            Tone.NEUTRAL,
            "–",
            label=Status.CANCELLED.label,
            meaning=_("It was cancelled and does not go out."),
            advice=_SEND_AGAIN,
            command=_RESEND,
            fate=Fate.CANCELLED,
        ),
        Status.EXPIRED: StatusRow(
            Tone.NEUTRAL,
            "⊘",
            label=Status.EXPIRED.label,
            meaning=_("It waited too long to be of use, so it was not sent."),
            advice=_SEND_AGAIN,
            command=_RESEND,
            fate=Fate.EXPIRED,
        ),
    },
    otherwise=StatusRow(
        Tone.NEUTRAL, "?", label="", meaning=UNKNOWN_CODE, advice=UPDATE, command=UPDATE_COMMAND, fate=Fate.DOUBT
    ),
)
_UNDELIVERED = StatusRow(
    Tone.ATTENTION,
    "!",
    label=_("sent, but reported as not delivered"),
    meaning=_("The gateway took it, and reported later that it did not reach the customer."),
    advice=_("Ask the customer. If it is not there, press “Send again”, or send it to another number."),
    command=(
        "Ask the customer. If it is not there: manage.py kpwa messages resend {id}; the customer may get a second copy."
    ),
    fate=Fate.ARRIVED,
)
_ONE_TICK = replace(
    STATUSES[Status.SENT],
    tone=Tone.ATTENTION,
    label=_("one tick only"),
    meaning=_(
        "WhatsApp has it, but the customer's phone has not received it for half an hour. Others got theirs sooner."
    ),
    advice=_("The phone may be off or without a connection. Ask the customer whether the number is right."),
)
_WRONG_NUMBER = StatusRow(
    Tone.ATTENTION,
    "!",
    label=StopReason.WRONG_NUMBER.label,
    meaning=_("It was sent, and whoever has this number wrote that they are not the customer."),
    advice=_("Ask the customer for the right number, then send the receipt there."),
    command="Ask the customer for the right number, then: press “Send to another number” in the admin",
    fate=Fate.ARRIVED,
)
_STOPPED = replace(
    STATUSES[Status.CANCELLED],
    advice=NOTHING_TO_DO,
    command=(
        "If the customer asks for messages again: manage.py kpwa lift-stop NUMBER, "
        "then: manage.py kpwa messages resend {id}"
    ),
)
_LEFT = replace(
    STATUSES[Status.UNKNOWN],
    meaning=_("Nobody knows whether the customer got it, and somebody decided to leave it that way."),
    advice=_("It can still be decided."),
)
_NOT_CHOSEN = replace(
    STATUSES[Status.QUEUED],
    meaning=_("It is waiting, because it is not clear which license sends it."),
    advice=_(
        "Open the license that should send it, make sure that it is active, and tick “default”; then it is sent "
        "automatically."
    ),
)
_PUT_OFF = replace(
    STATUSES[Status.QUEUED],
    meaning=_("It was put off, and is sent automatically then."),
    advice=_("“Send now” sends it without waiting."),
    command="To send it without waiting: manage.py kpwa messages send-now {id}",
)
_PUT_OFF_AS_COLD = replace(
    _PUT_OFF,
    advice=_(
        "Whoever has written to the shop in the last weeks does not wait. The limit is on the page of the license."
    ),
    command="See the limit, and change it: manage.py kpwa licenses new-customers NAME",
)
_RESTRICTED = replace(
    _PUT_OFF,
    advice=_("It goes out sooner if the customer writes to the shop."),
    command="It goes out sooner if the customer writes to the shop. See: manage.py kpwa doctor",
)
_CHECKING = replace(
    _PUT_OFF,
    advice=_("It goes out sooner if the customer writes to the shop."),
    command="It goes out sooner if the customer writes to the shop.",
)
_NOT_HURRIED: Mapping[str, StatusRow] = {
    HoldReason.COLD_LIMIT: _PUT_OFF_AS_COLD,
    HoldReason.RESTRICTED: _RESTRICTED,
    HoldReason.CHECKING: _CHECKING,
}
_TRIED = replace(
    STATUSES[Status.QUEUED],
    meaning=_("It was tried and did not go out yet."),
    advice=_("It is tried again automatically."),
)


def status_row(message: OutboundMessage) -> StatusRow:
    """Return the row of the message's status, adapted to its other columns and to `lacks_tick`."""
    row = _status_row(message)
    return replace(row, advice=NOTHING_TO_DO, command=_NO_COMMAND) if message.is_forgotten else row


def _status_row(message: OutboundMessage) -> StatusRow:
    if message.is_undelivered:
        return _UNDELIVERED
    if message.has_arrived and message.reason == StopReason.WRONG_NUMBER:
        return _WRONG_NUMBER
    if message.status == Status.SENT and message.lacks_tick:
        return _ONE_TICK
    if message.status == Status.CANCELLED and message.reason in StopReason.values:
        return replace(_STOPPED, label=StopReason(message.reason).label)
    if message.status == Status.UNKNOWN and message.dismissed_at is not None:
        return _LEFT
    if message.status == Status.QUEUED and message.license_id is None:
        return _NOT_CHOSEN
    if message.is_put_off:
        row = _NOT_HURRIED.get(message.reason, _PUT_OFF)
        return replace(row, label=_waits_until(message))
    if message.status == Status.QUEUED and message.reason and message.reason not in HoldReason.values:
        return _TRIED
    return STATUSES[message.status]


def _waits_until(message: OutboundMessage) -> str:
    told = {"time": put_off_time(message.reason, message.due_at), "why": HoldReason(message.reason).label}
    return gettext("waits until %(time)s: %(why)s") % told


def put_off_time(reason: str, until: datetime) -> str:
    """Format when a message that was put off for `reason` is due. A restriction lasts for days, so it gets the day."""
    return coming_day(until) if reason == HoldReason.RESTRICTED else coming_time(until)


OUTCOMES = Table[Mark](
    {
        OutcomeKind.RUNNING: Mark(Tone.WAITING, "➤", OutcomeKind.RUNNING.label),
        OutcomeKind.ACCEPTED: Mark(Tone.GOOD, "✓", OutcomeKind.ACCEPTED.label),
        OutcomeKind.NOT_SENT: Mark(Tone.ATTENTION, "↻", OutcomeKind.NOT_SENT.label),
        OutcomeKind.RATE_LIMITED: Mark(Tone.WAITING, "◷", OutcomeKind.RATE_LIMITED.label),
        OutcomeKind.REFUSED: Mark(Tone.BAD, "✕", OutcomeKind.REFUSED.label),
        OutcomeKind.LICENSE_REFUSED: Mark(Tone.BAD, "✕", OutcomeKind.LICENSE_REFUSED.label),
        OutcomeKind.IN_DOUBT: Mark(Tone.ATTENTION, "?", OutcomeKind.IN_DOUBT.label),
    },
    otherwise=Mark(Tone.NEUTRAL, "?", ""),
)

_NOTHING_SENT = _("Nothing was sent.")
_MAY_BE_THERE = _("It may have reached the customer anyway.")
_ASK_GATEWAY = _("If it happens often, ask the gateway's support.")

NOT_ON_WHATSAPP = CauseRow(
    label=_("this number has no WhatsApp"),
    meaning=_NOTHING_SENT,
    advice=_("Ask the customer for the right number, then send the receipt there."),
)

CAUSES = Table[CauseRow](
    {
        Cause.NOT_CONNECTED: CauseRow(
            label=Cause.NOT_CONNECTED.label,
            meaning=_NOTHING_SENT,
            advice=_("Check whether this site can reach the gateway: its address, the network, a proxy."),
            title=_("Gateway unreachable"),
            asking=_(
                "No connection to the gateway could be made. Check this site's internet connection, then try again."
            ),
        ),
        Cause.RATE_LIMITED: CauseRow(
            label=Cause.RATE_LIMITED.label,
            meaning=_NOTHING_SENT,
            advice=_("Sending continues automatically."),
            title=_("The gateway asks to wait"),
            asking=_("The gateway was asked too often. Wait a minute, then try again."),
        ),
        Cause.REFUSED: CauseRow(
            label=Cause.REFUSED.label,
            meaning=_NOTHING_SENT,
            advice=_("Usually the number is wrong or has no WhatsApp; see the gateway's message."),
            title=_("Refused"),
            asking=_("The gateway refused the request."),
        ),
        Cause.UNAUTHORIZED: CauseRow(
            label=Cause.UNAUTHORIZED.label,
            meaning=_NOTHING_SENT,
            advice=_("Enter the current API key on its license's page."),
            title=_("Key refused"),
            asking=_(
                "The gateway does not accept the API key. Enter the current one; it is in the gateway's dashboard."
            ),
        ),
        Cause.TURNED_AWAY: CauseRow(
            label=Cause.TURNED_AWAY.label,
            meaning=_NOTHING_SENT,
            advice=_("Check what is between this site and WhatsApp: a firewall, a proxy, a size limit."),
            title=_("Request rejected"),
            asking=_(
                "The gateway, or something in front of it, rejected the request. Wait a minute, then try "
                "again; if it happens again, check the base URL and ask the gateway's support."
            ),
        ),
        Cause.SERVER_ERROR: CauseRow(
            label=Cause.SERVER_ERROR.label,
            meaning=_MAY_BE_THERE,
            advice=_ASK_GATEWAY,
            title=_("Gateway failed"),
            asking=_("The gateway had an internal error. Wait a minute, then try again."),
        ),
        Cause.TIMEOUT: CauseRow(
            label=Cause.TIMEOUT.label,
            meaning=_MAY_BE_THERE,
            advice=_ASK_GATEWAY,
            title=_("No answer in time"),
            asking=_("The gateway did not answer in time. Wait a minute, then try again."),
        ),
        Cause.CONNECTION_LOST: CauseRow(
            label=Cause.CONNECTION_LOST.label,
            meaning=_MAY_BE_THERE,
            advice=_("If it happens often, check the network between this site and the gateway."),
            title=_("Connection lost"),
            asking=_("The connection to the gateway broke before its answer came. Try again."),
        ),
        Cause.BAD_ANSWER: CauseRow(
            label=Cause.BAD_ANSWER.label,
            meaning=_MAY_BE_THERE,
            advice=_("If it happens often, the gateway has changed: look for a newer release of django-kpwa."),
            title=_("Answer not understood"),
            asking=_(
                "The gateway's answer was not understood. Wait a minute, then try again; if it happens again, "
                "ask its support."
            ),
        ),
        Cause.WORKER_LOST: CauseRow(
            label=Cause.WORKER_LOST.label,
            meaning=_MAY_BE_THERE,
            advice=_("If it happens often, find out why workers stop while sending: memory, restarts, deployments."),
        ),
        Cause.LOGGED_OUT: CauseRow(
            label=Cause.LOGGED_OUT.label,
            meaning=_("Its license sends nothing until WhatsApp is linked again."),
            advice=_("Scan the code of its license with the shop's phone."),
        ),
        HoldReason.QUIET_HOURS: CauseRow(
            label=HoldReason.QUIET_HOURS.label,
            meaning=_("During these hours, neither bulk messages nor late ones are sent."),
            advice=NOTHING_TO_DO,
        ),
        Cause.RESTRICTED: CauseRow(
            label=Cause.RESTRICTED.label,
            meaning=_("WhatsApp turns down messages to customers who have not written to the shop lately."),
            advice=_("It is sent automatically once that may be over. Trying sooner makes the restriction longer."),
        ),
        HoldReason.COLD_LIMIT: CauseRow(
            label=HoldReason.COLD_LIMIT.label,
            meaning=_("WhatsApp restricts numbers that write to many people who have not written to them."),
            advice=NOTHING_TO_DO,
        ),
        HoldReason.CHECKING: CauseRow(
            label=HoldReason.CHECKING.label,
            meaning=_(
                "The gateway says that this number has no WhatsApp. That is sometimes wrong: it is asked once more."
            ),
            advice=NOTHING_TO_DO,
        ),
        NOT_REGISTERED: NOT_ON_WHATSAPP,
        RENDER_ERROR: CauseRow(
            label=_("its text could not be written"),
            meaning=_NOTHING_SENT,
            advice=_("Fix the receipt class or its template; the error is in the site's log."),
        ),
        StopReason.STOPPED: CauseRow(
            label=StopReason.STOPPED.label,
            meaning=_("The customer wrote that they want no more messages."),
            advice=_("If the customer asks for them again, press “The customer asks again”, then “Send again”."),
        ),
        StopReason.WRONG_NUMBER: CauseRow(
            label=StopReason.WRONG_NUMBER.label,
            meaning=_("Whoever has this number wrote that they are not the customer."),
            advice=_("Ask the customer for the right number, then send the receipt there."),
        ),
        NUMBER_FORGOTTEN: CauseRow(
            label=_("its number was forgotten"),
            meaning=_("Somebody had all data about this number emptied while the message was waiting."),
            advice=NOTHING_TO_DO,
        ),
        WITHDRAWN: CauseRow(
            label=_("cancelled before it was sent again"),
            meaning=_("An earlier attempt is in doubt."),
            advice=NOTHING_TO_DO,
        ),
    },
    otherwise=CauseRow(label="", meaning=UNKNOWN_CODE, advice=UPDATE),
)
"""Why a message has its status: the causes of failed attempts, and the reasons that exist without an attempt."""

FOR_DEVELOPER = _("The site's developer can fix this: %(words)s")


def error_told(stored: str) -> tuple[str, bool]:
    """Return a license's stored last error for people, and True if it is in the gateway's own words.

    Our own texts were stored in the site's language, and are returned in the active language.
    """
    ours: list[Words] = [row.label for row in CAUSES.values()]
    ours += [reason.label for reason in PauseReason]
    with translation.override(settings.LANGUAGE_CODE):
        known = {str(label): label for label in ours}
        begins = str(FOR_DEVELOPER).partition("%")[0]
    if stored in known:
        return str(known[stored]), False
    if stored.startswith(begins):
        return str(FOR_DEVELOPER) % {"words": stored.removeprefix(begins)}, False
    return stored, True


_NO_MESSAGE = _("No message was made.")
_SHOW = _("Show this to the developer of this site; once it is fixed, press “Send now”.")

FAILURES = Table[Explained](
    {
        FailureCause.NUMBER: Explained(
            label=FailureCause.NUMBER.label,
            meaning=_("No message was made, because the number cannot be one of WhatsApp."),
            advice=_("Correct the number and save, or send the receipt to another number."),
        ),
        FailureCause.LICENSE: Explained(
            label=FailureCause.LICENSE.label,
            meaning=_("No message was made, because the license that the receipt names does not exist."),
            advice=_("Add a license of that name, or show this to the developer of this site; then press “Send now”."),
        ),
        FailureCause.UNCLEAR: Explained(
            label=FailureCause.UNCLEAR.label,
            meaning=_("No message was made, because an earlier message may be the receipt of this object."),
            advice=_("If the number was corrected, send that message to the right one."),
        ),
        FailureCause.RAISED: Explained(
            label=FailureCause.RAISED.label,
            meaning=_("No message was made, because the site's own code has a fault."),
            advice=_SHOW,
        ),
        # Stored by a release that did not record the cause.
        "": Explained(label=_("no receipt was made"), meaning=_NO_MESSAGE, advice=_SHOW),
    },
    otherwise=Explained(label="", meaning=_NO_MESSAGE, advice=_SHOW),
)
"""Why an object got no receipt, by the cause of its `ReceiptFailure`."""

_UNWANTED = CauseRow(
    label=_("it was no longer wanted"),
    meaning=_("This was checked again before its text was written."),
    advice=NOTHING_TO_DO,
)
_NO_LICENSE = CauseRow(
    label=_("no license has been chosen to send it yet"), meaning=_NOT_CHOSEN.meaning, advice=_NOT_CHOSEN.advice
)
_NO_REASON = CauseRow(label="", meaning="", advice=NOTHING_TO_DO)


# The wordings of gateways of this family, in the two languages that they use.
_SAYS_NOT_ON_WHATSAPP = re.compile(
    r"(number|phone|nomou?r|nomer).{0,40}(not (registered|on whatsapp)|(tidak|belum) terdaftar)", re.IGNORECASE
)


_ENDED_WAITING = (Status.EXPIRED, Status.UNKNOWN)


def reason_row(message: OutboundMessage) -> CauseRow:
    """Return why the message has its status; a row with an empty label if there is nothing to say."""
    if message.license_id is None and message.status == Status.QUEUED:
        return _NO_LICENSE
    if message.status == Status.CANCELLED and message.reason == WITHDRAWN:
        return _UNWANTED
    if message.reason in HoldReason.values and not (message.is_put_off or message.status in _ENDED_WAITING):
        # The hold is over, so its reason no longer explains the status.
        return _NO_REASON
    if message.has_arrived and message.reason == StopReason.WRONG_NUMBER:
        return _NO_REASON  # the status already says it
    # Only if the words are loaded: lists defer them, and reading them would take a query per row.
    words = "" if "reason_words" in message.get_deferred_fields() else message.reason_words
    if message.reason == Cause.REFUSED and _SAYS_NOT_ON_WHATSAPP.search(words):
        return NOT_ON_WHATSAPP
    row = CAUSES[message.reason] if message.reason else _NO_REASON
    return replace(row, advice=NOTHING_TO_DO) if message.is_forgotten else row


def who_said(message: OutboundMessage) -> Words:
    """Return the words that introduce `message.reason_words`; empty if these are our own text."""
    if message.reason == WITHDRAWN:
        return ""
    return _("For the site's developer:") if message.reason == RENDER_ERROR else _("The gateway said:")
