"""`kpwa messages`: lists the outbox, and applies decisions to messages that did not arrive or may not have arrived."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import Any

from django.db.models import Q

from .. import outbox, phone
from ..exceptions import InvalidPhoneNumberError
from ..models import OutboundMessage, Status
from .choosing import add_action, license_named, message_with_id, positive_count, since
from .console import EXIT_NO, EXIT_OK, Console

HELP = "list messages; resend, cancel, mark as sent or dismiss them"

_DECISIONS: dict[str, tuple[Callable[[OutboundMessage], bool], str, str]] = {
    "resend": (outbox.resend, "queued again", "queue again what failed, expired, was cancelled or is in doubt"),
    "cancel": (outbox.cancel, "cancelled", "cancel what is still waiting"),
    "mark-sent": (outbox.mark_sent, "marked as sent", "mark a message in doubt as sent"),
    "dismiss": (outbox.dismiss, "dismissed", "leave a message in doubt as it is, and take it off the list"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--status",
        choices=Status.values,
        action="append",
        metavar="STATUS",
        help=f"only messages with this status; may be repeated: {', '.join(Status.values)}",
    )
    parser.add_argument("--license", metavar="NAME", help="only messages of this license")
    parser.add_argument("--to", metavar="NUMBER", help="only messages to this number or group")
    parser.add_argument("--since", type=since, metavar="WHEN", help="30m, 2h, 3d ago, or a date like 2016-11-05")
    parser.add_argument(
        "--limit",
        type=positive_count,
        default=20,
        metavar="N",
        help="maximum number of messages (default: %(default)s)",
    )
    decisions = parser.add_subparsers(dest="decision", metavar="DECISION")
    for name, (_, _, explained) in _DECISIONS.items():
        decision = add_action(decisions, name, explained)
        decision.add_argument("ids", nargs="+", metavar="ID", help="number or public id, as the list shows them")


def run(console: Console, options: dict[str, Any]) -> int:
    if options["decision"]:
        return _decide(console, options["decision"], options["ids"])
    return _list(console, options)


def _list(console: Console, options: dict[str, Any]) -> int:
    messages = list(_filtered(options).select_related("license").defer("text").order_by("-pk")[: options["limit"]])
    console.document(
        [
            {
                "id": message.pk,
                "uuid": message.uuid,
                "license": message.license.name if message.license else None,
                "recipient": message.masked_recipient,
                "status": message.status,
                "reason": message.reason,
                "reason_words": message.reason_words,
                "attempts": message.attempts_made,
                "created_at": message.created_at,
                "due_at": message.due_at,
                "sent_at": message.sent_at,
            }
            for message in messages
        ]
    )
    if not messages:
        console.say("No messages.")
        return EXIT_OK
    console.table(
        ("ID", "QUEUED", "LICENSE", "RECIPIENT", "STATUS", "REASON"),
        [
            (
                m.pk,
                m.created_at,
                m.license.name if m.license else "not chosen" if m.license_id is None else "deleted",
                m.masked_recipient,
                m.status,
                _reason(m),
            )
            for m in messages
        ],
    )
    return EXIT_OK


def _reason(message: OutboundMessage) -> str:
    """Return the reason shortened for a line of the table; `--json` and the admin have the full text."""
    words = " ".join(message.reason_words.split())
    return ": ".join(filter(None, (message.reason, textwrap.shorten(words, 60, placeholder="…"))))


def _filtered(options: dict[str, Any]) -> Any:
    messages = OutboundMessage.objects.all()
    if options["status"]:
        messages = messages.filter(status__in=options["status"])
    if options["license"]:
        messages = messages.filter(license=license_named(options["license"]))
    if options["to"]:
        messages = messages.filter(_recipient(options["to"]))
    if options["since"]:
        messages = messages.filter(created_at__gte=options["since"])
    return messages


def _recipient(given: str) -> Q:
    named = Q(recipient=given)
    try:
        return named | Q(recipient=phone.parse(given))
    except InvalidPhoneNumberError:
        return named


def _decide(console: Console, decision: str, ids: list[str]) -> int:
    decide, done, _ = _DECISIONS[decision]
    outcomes = []
    for given in ids:
        message = message_with_id(given)
        if message is None:
            outcomes.append({"id": given, "done": False, "status": None})
            console.say(f"{given}: there is no such message.")
            continue
        changed = decide(message)
        outcomes.append({"id": given, "done": changed, "status": message.status})
        console.say(f"{given}: {done}." if changed else f"{given}: left unchanged, because it is {message.status}.")
    console.document(outcomes)
    return EXIT_OK if all(outcome["done"] for outcome in outcomes) else EXIT_NO
