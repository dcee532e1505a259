"""The texts about problems of the whole site that keep receipts from going out or need attention."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from django.utils.translation import gettext_lazy as _

from .rows import UNKNOWN_CODE, UPDATE, UPDATE_COMMAND, AlertRow, Row, Table, Tells, Tone, Words


class Problem(str, Enum):
    """What can be wrong with a site, apart from the conditions of licenses. The value is the code in monitoring."""

    NOT_SET_UP = "not_set_up"
    NONE_ACTIVE = "none_active"
    UNCHOSEN = "unchosen"
    """Messages wait because no license can be chosen for them."""
    WILL_BE_UNCHOSEN = "will_be_unchosen"
    """No license can be chosen, but no message waits for that yet."""
    NO_SENDER = "no_sender"
    NO_WORKER_AND_NO_BEAT = "no_worker_and_no_beat"
    NO_WORKER = "no_worker"
    OTHER_QUEUE = "other_queue"
    BROKER_DOWN = "broker_down"
    NO_BEAT = "no_beat"
    OTHER_SCHEDULE = "other_schedule"
    STARTING = "starting"
    READ_ONLY = "read_only"
    RECEIPTS_FAIL = "receipts_fail"
    """All recent receipts failed before they became messages."""
    RECEIPTS_MISSING = "receipts_missing"
    """Some recent receipts failed before they became messages."""
    NEVER_QUEUED = "never_queued"
    """There are sales whose receipt was never queued."""
    MISSING_UNKNOWN = "missing_unknown"
    """It is unknown whether receipts were never queued, because a receipt class raises."""
    HELD = "held"
    """Messages wait for a license that is not active."""
    DELETED_LICENSE = "deleted_license"
    LATE = "late"
    MUCH_DOUBT = "much_doubt"
    DOUBT = "doubt"
    UNDELIVERED = "undelivered"
    """The gateway accepted messages and reported later that they were not delivered."""
    FEW_DELIVERED = "few_delivered"
    """Far fewer of a license's messages reach a phone than usual."""
    RESTRICTED = "restricted"
    """WhatsApp restricts a license's number: messages to new customers wait."""
    WEBHOOKS_SILENT = "webhooks_silent"
    WEBHOOKS_LATE = "webhooks_late"
    NO_URLS = "no_urls"


@dataclass(frozen=True, kw_only=True)
class ProblemRow(Row):
    """A problem of the site. Texts may contain figures of a finding: `%(count)s`, `%(name)s` and so on.

    `urgency`: its rank among problems; 0 is the most urgent.
    `tells`: the alert that it opens.
    `blocks`: True if no receipts go out because of it.
    `headline`: the dashboard's sentence if nothing is more urgent; empty if the problem has none.
    `counter`: the text of the banner at the counter; empty if it does not concern the counter.
    `command`: what to do on the command line, in English.
    `part`: the HTML id of the dashboard's part with details.
    """

    urgency: int
    tells: Tells = Tells.NOTHING
    blocks: bool = False
    headline: Words = ""
    counter: Words = ""
    command: str = ""
    part: str = ""


_NOBODY_SENDS = _("Receipts are not going out: the sending service is not running.")
_NOT_SENT = _("Receipts are not going out: the sending service is not running")
_SERVICES = "kpwa-services"
_SCHEDULE = "with the schedule of django_kpwa.schedule"

PROBLEMS = Table[ProblemRow](
    {
        Problem.READ_ONLY: ProblemRow(
            Tone.BAD,
            "✕",
            label=_("Database is read-only"),
            meaning=_("The site's database takes no changes at present."),
            advice=_("Ask the administrator of this site."),
            urgency=0,
            tells=Tells.NOBODY_SENDS,
            blocks=True,
            headline=_("Receipts are not going out: the site's database takes no changes."),
            counter=_("Receipts are not going out: the site's database takes no changes"),
            command="Make the database writable again. Sales fail as well.",
        ),
        Problem.NOT_SET_UP: ProblemRow(
            Tone.NEUTRAL,
            "→",
            label=_("Not set up"),
            meaning="",
            advice=_("Add a license first: its API key comes from the gateway's dashboard. Then link WhatsApp."),
            urgency=10,
            blocks=True,
            headline=_("WhatsApp is not set up yet."),
            command="Add a license: manage.py kpwa licenses add NAME",
        ),
        Problem.NONE_ACTIVE: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("No license is active"),
            meaning=_("Messages are accepted and kept."),
            advice=_("Open a license and tick “active”."),
            urgency=11,
            blocks=True,
            headline=_("Nothing is sent: no license is active."),
            command="Activate one: manage.py kpwa licenses activate NAME",
        ),
        Problem.UNCHOSEN: ProblemRow(
            Tone.BAD,
            "!",
            label=_("No license is chosen"),
            meaning=_("%(waiting)s, because %(why)s."),
            advice="%(advice)s",
            urgency=12,
            tells=Tells.UNCHOSEN,
            blocks=True,
            headline=_("Receipts are not going out: it is not clear which license sends them."),
            counter=_("%(waiting)s, because %(why)s"),
            command="%(command)s",
        ),
        Problem.NO_SENDER: ProblemRow(
            Tone.BAD,
            "✕",
            label=_("Nobody sends"),
            meaning=_("No process looks after the outbox."),
            advice=_("Start “kpwa run” on the server, or call “kpwa dispatch” from cron every minute."),
            urgency=20,
            tells=Tells.NOBODY_SENDS,
            blocks=True,
            headline=_NOBODY_SENDS,
            counter=_NOT_SENT,
            command="Start `manage.py kpwa run`, or call `manage.py kpwa dispatch` from cron every minute.",
            part=_SERVICES,
        ),
        Problem.NO_WORKER_AND_NO_BEAT: ProblemRow(
            Tone.BAD,
            "✕",
            label=_("Nobody sends"),
            meaning=_("Neither a worker nor beat is running."),
            advice=_("Start both on the server."),
            urgency=20,
            tells=Tells.NOBODY_SENDS,
            blocks=True,
            headline=_NOBODY_SENDS,
            counter=_NOT_SENT,
            command=f"Start a Celery worker, and beat {_SCHEDULE}.",
            part=_SERVICES,
        ),
        Problem.NO_WORKER: ProblemRow(
            Tone.BAD,
            "✕",
            label=_("No worker"),
            meaning=_("Beat is running, but no worker takes its tasks."),
            advice=_("Start a worker on the server, and check that the broker is running."),
            urgency=20,
            tells=Tells.NOBODY_SENDS,
            blocks=True,
            headline=_NOBODY_SENDS,
            counter=_NOT_SENT,
            command="Start a Celery worker, and check that the broker is running.",
            part=_SERVICES,
        ),
        Problem.OTHER_QUEUE: ProblemRow(
            Tone.BAD,
            "✕",
            label=_("No worker for our tasks"),
            meaning=_("A worker is running, but it takes no tasks from the queue that ours are sent to."),
            advice=_("Start a worker for that queue."),
            urgency=20,
            tells=Tells.NOBODY_SENDS,
            blocks=True,
            headline=_NOBODY_SENDS,
            counter=_NOT_SENT,
            command="A worker takes tasks only from other queues. Name ours as well when you start it: -Q %(queue)s",
            part=_SERVICES,
        ),
        Problem.BROKER_DOWN: ProblemRow(
            Tone.BAD,
            "✕",
            label=_("Broker does not answer"),
            meaning=_("The broker takes no tasks. Sales go on, and messages are kept."),
            advice=_("Start the broker on the server."),
            urgency=20,
            tells=Tells.NOBODY_SENDS,
            blocks=True,
            headline=_NOBODY_SENDS,
            counter=_NOT_SENT,
            command="Start the broker. Until then `manage.py kpwa run` sends without it.",
            part=_SERVICES,
        ),
        Problem.NO_BEAT: ProblemRow(
            Tone.BAD,
            "!",
            label=_("No beat"),
            meaning=_("Receipts go out when they are made, but those that have to wait are not sent."),
            advice=_("Start beat on the server."),
            urgency=21,
            tells=Tells.NOBODY_SENDS,
            headline=_("Receipts that have to wait are not sent: beat is not running."),
            counter=_("Some receipts are not sent: a part of the sending service is not running"),
            command=f"Start Celery beat {_SCHEDULE}.",
            part=_SERVICES,
        ),
        Problem.OTHER_SCHEDULE: ProblemRow(
            Tone.BAD,
            "!",
            label=_("Beat without our tasks"),
            meaning=_("Receipts go out when they are made, but those that have to wait are not sent."),
            advice=_("Add the tasks of django_kpwa.schedule to beat's schedule."),
            urgency=21,
            tells=Tells.NOBODY_SENDS,
            headline=_("Receipts that have to wait are not sent: beat does not know our tasks."),
            counter=_("Some receipts are not sent: a part of the sending service is not running"),
            command="Write CELERY_BEAT_SCHEDULE = {**django_kpwa.schedule.beat_schedule(), …}, and restart beat.",
            part=_SERVICES,
        ),
        Problem.RECEIPTS_FAIL: ProblemRow(
            Tone.BAD,
            "✕",
            label=_("No receipt is made"),
            meaning=_("The last receipts could not be made: %(number)s."),
            advice=_("See “Receipt failures”, and show it to the developer of this site."),
            urgency=25,
            tells=Tells.RECEIPTS_FAIL,
            blocks=True,
            headline=_("No receipts are made: %(number)s failed."),
            counter=_("Receipts cannot be made: %(number)s failed"),
            command="Fix the receipt class: the errors are under WhatsApp › Receipt failures. The newest: %(said)s",
        ),
        Problem.RECEIPTS_MISSING: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("Sales without a receipt"),
            meaning=_("Sales without a receipt: %(number)s. The newest: %(said)s."),
            advice=_("Open “Receipt failures”: each says why, and what to do."),
            urgency=41,
            headline=_("Receipts are going out, but some sales have none: %(number)s."),
            counter=_("Sales without a receipt: %(number)s"),
            command="They are listed, each with its reason, under WhatsApp › Receipt failures.",
        ),
        Problem.NEVER_QUEUED: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("Receipts never queued"),
            meaning=_("Sales for which no receipt was ever made: %(number)s."),
            advice=_("Press “Send the missing” under “Missing receipts”."),
            urgency=41,
            tells=Tells.NEVER_QUEUED,
            headline=_("Receipts are going out, but for some sales none was ever made: %(number)s."),
            counter=_("Sales for which no receipt was made: %(number)s"),
            command="Look, then send them: manage.py kpwa missing --since 2d --send",
            part="kpwa-missing",
        ),
        Problem.MISSING_UNKNOWN: ProblemRow(
            Tone.ATTENTION,
            "?",
            label=_("Missing receipts unclear"),
            meaning=_("Whether receipts are missing is not known: a receipt class failed when it was asked."),
            advice=_("Show this to the developer of this site."),
            urgency=47,
            tells=Tells.NEVER_QUEUED,
            headline=_("Receipts are going out, but it is not known whether some are missing."),
            command="See what it raises: manage.py kpwa missing --since 2d",
            part="kpwa-missing",
        ),
        Problem.HELD: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("License not active"),
            meaning=_("%(count)s wait for the license “%(name)s”, which is not active."),
            advice=_("Open the license and tick “active”."),
            urgency=40,
            headline=_("Some receipts are not going out: their license is not active."),
            counter=_("WhatsApp of “%(name)s” is switched off, %(count)s waiting"),
            command="Send them: manage.py kpwa licenses activate %(quoted)s",
        ),
        Problem.DELETED_LICENSE: ProblemRow(
            Tone.BAD,
            "!",
            label=_("License is gone"),
            meaning=_("%(count)s wait for a license that was deleted while they were being stored; none sends them."),
            advice=_("Cancel them, and send what is still wanted again."),
            urgency=40,
            headline=_("Some receipts are not going out: their license was deleted."),
            command="Cancel them, and send again what is still wanted: manage.py kpwa messages cancel %(ids)s",
        ),
        Problem.LATE: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("Late"),
            meaning=_("The oldest has been due for %(time)s."),
            advice=_("Check whether more workers are needed, or a shorter pace."),
            urgency=42,
            tells=Tells.LATE,
            headline=_("Receipts are going out late."),
            counter=_("Receipts are going out late"),
            command="Look at what the worker does, and at the license's pace.",
        ),
        Problem.MUCH_DOUBT: ProblemRow(
            Tone.ATTENTION,
            "?",
            label=_("Much doubt"),
            meaning=_("Of the last %(of)s messages, %(count)s may or may not have arrived."),
            advice=_("Ask the gateway's support."),
            urgency=43,
            tells=Tells.MUCH_DOUBT,
            headline=_("Receipts are going out, but of many nobody knows whether they arrived."),
            command="Ask the gateway's support. See: manage.py kpwa messages --status unknown",
        ),
        Problem.DOUBT: ProblemRow(
            Tone.ATTENTION,
            "?",
            label=_("In doubt"),
            meaning="%(told)s",
            advice=_("Say for each whether it arrived."),
            urgency=44,
            command="Decide about them: manage.py kpwa messages --status unknown",
            part="kpwa-decisions",
        ),
        Problem.FEW_DELIVERED: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("Few delivered"),
            meaning=_(
                "Of the %(sent)s messages that “%(name)s” sent in the last hour, %(share)s reached a phone; "
                "usually %(usual)s do."
            ),
            advice=_("Look at the shop's own phone: WhatsApp may be limiting it."),
            urgency=43,
            headline=_("Receipts are going out, but far fewer reach a phone than usual."),
            command="Look at the shop's own phone: WhatsApp may limit it. See: manage.py kpwa messages --status sent",
            part="kpwa-days",
        ),
        Problem.UNDELIVERED: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("Not delivered"),
            meaning=_("Sent in the last day, but reported as not delivered: %(count)s."),
            advice=_("Open the list of messages under “reported as not delivered”, and ask the customers."),
            urgency=44,
            headline=_("Receipts are going out, but the gateway reports some as not delivered: %(count)s."),
            command="Look at them, and send again what is not there: manage.py kpwa messages --undelivered",
        ),
        Problem.RESTRICTED: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("New customers wait"),
            meaning=_("WhatsApp limits messages of “%(name)s” to new customers %(until)s; %(count)s."),
            advice=_(
                "Wait, and do not link the phone anew. Customers who write to the shop get theirs at once. If the "
                "phone says that it is over, press “End the restriction” on the license's page."
            ),
            urgency=42,
            tells=Tells.RESTRICTED,
            headline=_("Receipts are going out, but those to new customers wait."),
            counter=_("WhatsApp limits messages to new customers %(until)s; %(count)s"),
            command="Wait. If the phone says that it is over: manage.py kpwa licenses end-restriction %(quoted)s",
        ),
        Problem.WEBHOOKS_SILENT: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("No answers"),
            meaning=_("The license “%(name)s” sends, but its webhook has brought nothing for %(time)s."),
            advice=_("Open the license and register the webhook again."),
            urgency=45,
            tells=Tells.WEBHOOKS_SILENT,
            headline=_("Receipts are going out, but the gateway no longer says whether they arrive."),
            command="Register it again: manage.py kpwa webhook set --license %(quoted)s",
        ),
        Problem.WEBHOOKS_LATE: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("Webhooks wait"),
            meaning=_("Nobody has processed a webhook for %(time)s."),
            advice=_("See “What must run”."),
            urgency=46,
            command="Process them: manage.py kpwa dispatch",
            part=_SERVICES,
        ),
        Problem.WILL_BE_UNCHOSEN: ProblemRow(
            Tone.ATTENTION,
            "!",
            label=_("No license is chosen"),
            meaning=_("The next receipt will wait, because %(why)s."),
            advice="%(advice)s",
            urgency=13,
            blocks=True,
            headline=_("New receipts will wait: it is not clear which license sends them."),
            command="%(command)s",
        ),
        Problem.NO_URLS: ProblemRow(
            Tone.NEUTRAL,
            "?",
            label=_("Addresses missing"),
            meaning=_("The site's urls.py does not include django_kpwa.urls: no webhook can come, no button appears."),
            advice=_("Show this to the developer of this site."),
            urgency=50,
            command="Write path('whatsapp/', include('django_kpwa.urls')) into the site's urls.py.",
            part=_SERVICES,
        ),
        Problem.STARTING: ProblemRow(
            Tone.WAITING,
            "◷",
            label=_("Starting"),
            meaning=_("The worker started a moment ago, and beat has not been seen yet."),
            advice=_("Wait a minute."),
            urgency=51,
            command="Wait a minute, then look again.",
            part=_SERVICES,
        ),
    },
    otherwise=ProblemRow(
        Tone.BAD, "!", label="", meaning=UNKNOWN_CODE, advice=UPDATE, urgency=0, command=UPDATE_COMMAND
    ),
)

ALERTS = Table[AlertRow](
    {
        Tells.LICENSE_STOPPED: AlertRow(label=_("WhatsApp stopped"), over=_("Connected again")),
        Tells.NOBODY_SENDS: AlertRow(label=_("Nobody sends"), over=_("The sending service is running again")),
        Tells.UNCHOSEN: AlertRow(label=_("No license is chosen"), over=_("A license is chosen")),
        Tells.RECEIPTS_FAIL: AlertRow(label=_("No receipt is made"), over=_("Receipts are made again")),
        Tells.LATE: AlertRow(label=_("Late"), over=_("Receipts are no longer late")),
        Tells.MUCH_DOUBT: AlertRow(label=_("Much doubt"), over=_("Few messages are in doubt")),
        Tells.NEVER_QUEUED: AlertRow(label=_("Receipts never queued"), over=_("No receipt is missing any more")),
        Tells.RESTRICTED: AlertRow(label=_("New customers wait"), over=_("Messages to new customers go out again")),
        Tells.WEBHOOKS_SILENT: AlertRow(label=_("No answers"), over=_("The webhook brings answers again")),
    },
    otherwise=AlertRow(label="", over=_("It is over")),
)
"""The labels of alerts, and what is said when they are over."""
