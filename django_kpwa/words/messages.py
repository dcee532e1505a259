"""The texts about a message's status, and about the cause of that status."""

from __future__ import annotations

from dataclasses import replace

from django.utils.translation import gettext_lazy as _

from ..gateway.outcome import Cause, OutcomeKind
from ..models import RENDER_ERROR, WITHDRAWN, OutboundMessage, Status
from .rows import NOTHING_TO_DO, UNHEARD_OF, UPDATE, UPDATE_COMMAND, CauseRow, Mark, StatusRow, Table, Tone

_RESEND = "Send it after all: manage.py kpwa messages resend {id}"
_NO_COMMAND = "There is nothing to do."
_SEE_DOCTOR = "See `manage.py kpwa doctor`; `manage.py kpwa dispatch` sends what is due now."
_SEND_AGAIN = _("“Send again” sends it after all.")

STATUSES = Table[StatusRow](
    {
        Status.QUEUED: StatusRow(
            Tone.WAITING,
            "◷",
            label=Status.QUEUED.label,
            meaning=_("It waits for its turn and goes out by itself."),
            advice=NOTHING_TO_DO,
            command=_SEE_DOCTOR,
        ),
        Status.SENDING: StatusRow(
            Tone.WAITING,
            "➤",
            label=Status.SENDING.label,
            meaning=_("It is on its way to WhatsApp right now."),
            advice=NOTHING_TO_DO,
            command=_SEE_DOCTOR,
        ),
        Status.SENT: StatusRow(
            Tone.GOOD,
            "✓",
            label=Status.SENT.label,
            meaning=_("WhatsApp has it. The customer's phone has not said yet that it arrived."),
            advice=NOTHING_TO_DO,
            command=_NO_COMMAND,
        ),
        Status.DELIVERED: StatusRow(
            Tone.GOOD,
            "✓✓",
            label=Status.DELIVERED.label,
            meaning=_("It is on the customer's phone."),
            advice=NOTHING_TO_DO,
            command=_NO_COMMAND,
        ),
        Status.READ: StatusRow(
            Tone.GOOD,
            "✓✓",
            label=Status.READ.label,
            meaning=_("The customer has read it."),
            advice=NOTHING_TO_DO,
            command=_NO_COMMAND,
        ),
        Status.FAILED: StatusRow(
            Tone.BAD,
            "✕",
            label=Status.FAILED.label,
            meaning=_("It did not go out."),
            advice=_("Mend the cause, then press “Send again”."),
            command="Mend the cause, then: manage.py kpwa messages resend {id}",
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
        ),
        Status.CANCELLED: StatusRow(
            Tone.NEUTRAL,
            "–",
            label=Status.CANCELLED.label,
            meaning=_("It was cancelled and does not go out."),
            advice=_SEND_AGAIN,
            command=_RESEND,
        ),
        Status.EXPIRED: StatusRow(
            Tone.NEUTRAL,
            "⌛",
            label=Status.EXPIRED.label,
            meaning=_("It waited too long to be of use, so it was not sent."),
            advice=_SEND_AGAIN,
            command=_RESEND,
        ),
    },
    otherwise=StatusRow(Tone.NEUTRAL, "?", label="", meaning=UNHEARD_OF, advice=UPDATE, command=UPDATE_COMMAND),
)
_LEFT = replace(
    STATUSES[Status.UNKNOWN],
    meaning=_("Nobody knows whether the customer got it, and somebody chose to leave it so."),
    advice=_("It can still be decided."),
)
_NOT_CHOSEN = replace(
    STATUSES[Status.QUEUED],
    meaning=_("It waits, because it cannot be told which license sends it."),
    advice=_("Open the license that should, see that it is active, and tick “default”; then it goes out by itself."),
)
_TRIED = replace(
    STATUSES[Status.QUEUED], meaning=_("It was tried and did not go out yet."), advice=_("It is tried again by itself.")
)


def status_row(message: OutboundMessage) -> StatusRow:
    """Return the row of the message's status, adapted to its other columns."""
    if message.status == Status.UNKNOWN and message.dismissed_at is not None:
        return _LEFT
    if message.status == Status.QUEUED and message.license_id is None:
        return _NOT_CHOSEN
    if message.status == Status.QUEUED and message.reason:
        return _TRIED
    return STATUSES[message.status]


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
_MAY_BE_THERE = _("It may have reached the customer all the same.")
_ASK_GATEWAY = _("Where it happens often, ask whoever runs the gateway.")

CAUSES = Table[CauseRow](
    {
        Cause.NOT_CONNECTED: CauseRow(
            label=Cause.NOT_CONNECTED.label,
            meaning=_NOTHING_SENT,
            advice=_("See whether this site reaches the gateway: its address, the network, a proxy."),
            title=_("Gateway unreachable"),
            asking=_(
                "No connection to the gateway could be made. Look at this site's internet connection, then try again."
            ),
        ),
        Cause.RATE_LIMITED: CauseRow(
            label=Cause.RATE_LIMITED.label,
            meaning=_NOTHING_SENT,
            advice=_("Sending goes on by itself."),
            title=_("The gateway asks to wait"),
            asking=_("It was asked too often. Wait a minute, then try again."),
        ),
        Cause.REFUSED: CauseRow(
            label=Cause.REFUSED.label,
            meaning=_NOTHING_SENT,
            advice=_("Most often the number is wrong, or has no WhatsApp; what the gateway said tells."),
            title=_("Refused"),
            asking=_("The gateway refused what was asked."),
        ),
        Cause.UNAUTHORIZED: CauseRow(
            label=Cause.UNAUTHORIZED.label,
            meaning=_NOTHING_SENT,
            advice=_("Enter the present API key on its license's page."),
            title=_("Key refused"),
            asking=_(
                "The gateway does not accept the API key. Enter the present one; it is in the gateway's dashboard."
            ),
        ),
        Cause.TURNED_AWAY: CauseRow(
            label=Cause.TURNED_AWAY.label,
            meaning=_NOTHING_SENT,
            advice=_("See what stands between this site and WhatsApp: a firewall, a proxy, a limit of the size."),
            title=_("Turned away"),
            asking=_(
                "The gateway, or something in front of it, did not take the request. Wait a minute, then try again; "
                "if it stays so, check its base URL and ask its support."
            ),
        ),
        Cause.SERVER_ERROR: CauseRow(
            label=Cause.SERVER_ERROR.label,
            meaning=_MAY_BE_THERE,
            advice=_ASK_GATEWAY,
            title=_("Gateway failed"),
            asking=_("The gateway had a failure of its own. Wait a minute, then try again."),
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
            advice=_("Where it happens often, look at the network between this site and the gateway."),
            title=_("Connection lost"),
            asking=_("The connection to the gateway broke before its answer came. Try again."),
        ),
        Cause.BAD_ANSWER: CauseRow(
            label=Cause.BAD_ANSWER.label,
            meaning=_MAY_BE_THERE,
            advice=_("Where it happens often, the gateway was changed: look for a newer release of django-kpwa."),
            title=_("Answer not understood"),
            asking=_(
                "What the gateway answered makes no sense. Wait a minute, then try again; if it stays so, ask its "
                "support."
            ),
        ),
        Cause.WORKER_LOST: CauseRow(
            label=Cause.WORKER_LOST.label,
            meaning=_MAY_BE_THERE,
            advice=_("Where it happens often, see why processes end in the middle: memory, restarts, deployments."),
        ),
        Cause.LOGGED_OUT: CauseRow(
            label=Cause.LOGGED_OUT.label,
            meaning=_("Its license sends nothing until WhatsApp is linked again."),
            advice=_("Scan the code of its license with the shop's phone."),
        ),
        RENDER_ERROR: CauseRow(
            label=_("its text could not be written"),
            meaning=_NOTHING_SENT,
            advice=_("Mend the receipt class or its template; the site's log has the error."),
        ),
        WITHDRAWN: CauseRow(
            label=_("withdrawn before it was sent again"),
            meaning=_("An earlier attempt is in doubt."),
            advice=NOTHING_TO_DO,
        ),
    },
    otherwise=CauseRow(label="", meaning=UNHEARD_OF, advice=UPDATE),
)
"""Why a message has its status: the causes of attempts, and the reasons that come without an attempt."""

_UNWANTED = CauseRow(
    label=_("it was no longer wanted"),
    meaning=_("That was asked again before its text was written."),
    advice=NOTHING_TO_DO,
)
_NO_LICENSE = CauseRow(
    label=_("it is not chosen yet which license sends it"), meaning=_NOT_CHOSEN.meaning, advice=_NOT_CHOSEN.advice
)
_NO_REASON = CauseRow(label="", meaning="", advice=NOTHING_TO_DO)


def reason_row(message: OutboundMessage) -> CauseRow:
    """Return why the message has its status; a row with an empty label if there is nothing to say."""
    if message.license_id is None and message.status == Status.QUEUED:
        return _NO_LICENSE
    if message.status == Status.CANCELLED and message.reason == WITHDRAWN:
        return _UNWANTED
    return CAUSES[message.reason] if message.reason else _NO_REASON
