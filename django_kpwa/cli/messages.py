"""Subcommands about messages: `kpwa send`, `send-group` and `messages`.

`send` and `send-group` queue a message, and can wait until it is sent. `messages` lists the outbox, and applies
decisions to messages that did not arrive or may not have arrived.
"""

from __future__ import annotations

import argparse
import textwrap
import time
from collections.abc import Callable
from typing import Any

from django.db.models import Q
from django.utils import timezone, translation

from .. import broker, outbox, phone
from ..exceptions import InvalidPhoneNumberError, RecipientForgottenError, RecipientStoppedError
from ..models import UNSETTLED, OutboundMessage, Status
from ..words import reason_row, status_row
from .arguments import (
    add_action,
    add_license_argument,
    chosen_license,
    license_named,
    message_with_id,
    positive_count,
    positive_seconds,
    since,
    text_argument,
)
from .console import EXIT_NO, EXIT_OK, Console, Subcommand

_POLL_SECONDS = 0.2


def _add_send_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", help="the phone number, as people write it: 0812…, +62 812…")
    _add_message_arguments(parser)


def _send(console: Console, options: dict[str, Any]) -> int:
    message = outbox.send_message(options["number"], **_message_arguments(console, options))
    return _show_message(console, message, options)


def _add_message_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="?", help="the text; - reads it from standard input; not needed with --image")
    parser.add_argument("--image", metavar="URL", help="the http(s) URL from which the gateway fetches the image")
    parser.add_argument("--key", metavar="KEY", help="idempotency key; a key that was used before sends nothing")
    parser.add_argument("--wait", action="store_true", help="wait until the message was sent, or will not be sent")
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        default=120.0,
        metavar="SECONDS",
        help="how long --wait waits (default: %(default).0f)",
    )
    add_license_argument(parser)


def _message_arguments(console: Console, options: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments for `outbox.send_message()` or `outbox.send_group_message()`.

    Raises:
        LicenseChoiceError: No license can be chosen.
    """
    return {
        "text": text_argument(console, options["text"]),
        "image_url": options["image"],
        "license": chosen_license(options),
        "idempotency_key": options["key"],
    }


def _show_message(console: Console, message: OutboundMessage, options: dict[str, Any]) -> int:
    """Show the status of `message`, after waiting for it if `--wait` was given, and return the exit code.

    The exit code is `EXIT_NO` if the message was not sent, or not within the `--timeout` of `--wait`.
    """
    if options["wait"]:
        _wait_until_settled(message, options["timeout"])
    console.document(_described(message))
    reason = ": ".join(part for part in (message.reason, message.reason_words) if part)
    shown = f"{message.status} ({reason})" if reason else message.status
    console.say(f"Message {message.uuid} to {message.masked_recipient}: {shown}")
    if message.has_arrived:
        return EXIT_OK
    row = status_row(message)
    if message.status not in UNSETTLED:
        with translation.override("en"):
            said = " ".join(filter(None, (str(row.meaning), reason_row(message).explained)))
        console.say(f"{said} {row.command.format(id=message.pk)}")
        return EXIT_NO
    if options["wait"]:
        console.say(f"It is still waiting. {row.command.format(id=message.pk)}")
        return EXIT_NO
    if not broker.is_configured():
        console.say("This site has no broker: `manage.py kpwa run` or `manage.py kpwa dispatch` sends it.")
    return EXIT_OK


def _described(message: OutboundMessage) -> dict[str, Any]:
    return {
        "id": message.pk,
        "uuid": message.uuid,
        "license": message.license.name if message.license else None,
        "recipient": message.masked_recipient,
        "status": message.status,
        "reason": message.reason,
        "reason_words": message.reason_words,
        "put_off_until": message.due_at if message.is_put_off else None,
        "undelivered": message.is_undelivered,
        "undelivered_words": message.undelivered_words,
    }


def _wait_until_settled(message: OutboundMessage, seconds: float) -> None:
    until = time.monotonic() + seconds
    while message.status in UNSETTLED and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        message.refresh_from_db()


def _add_send_group_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", help="the group's name, as WhatsApp shows it")
    _add_message_arguments(parser)


def _send_group(console: Console, options: dict[str, Any]) -> int:
    message = outbox.send_group_message(options["group"], **_message_arguments(console, options))
    return _show_message(console, message, options)


_DECISIONS: dict[str, tuple[Callable[[OutboundMessage], bool], str, str]] = {
    "resend": (
        outbox.resend,
        "queued again",
        "queue messages again that failed, expired, were cancelled, are in doubt or were not delivered",
    ),
    "send-now": (outbox.send_now, "due now", "send messages that were put off, without waiting"),
    "cancel": (outbox.cancel, "cancelled", "cancel messages that still wait"),
    "mark-sent": (outbox.mark_sent, "marked as sent", "mark a message in doubt as sent"),
    "dismiss": (outbox.dismiss, "dismissed", "leave a message in doubt, so that it needs no decision any more"),
}


def _add_messages_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--status",
        choices=Status.values,
        action="append",
        metavar="STATUS",
        help=f"only messages with this status; may be repeated: {', '.join(Status.values)}",
    )
    parser.add_argument(
        "--undelivered", action="store_true", help="only messages that were sent and then reported as not delivered"
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


def _messages(console: Console, options: dict[str, Any]) -> int:
    if options["decision"]:
        return _decide(console, options["decision"], options["ids"])
    return _list(console, options)


def _list(console: Console, options: dict[str, Any]) -> int:
    messages = list(_filtered(options).select_related("license").defer("text").order_by("-pk")[: options["limit"]])
    console.document(
        [
            {
                **_described(message),
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
    reason, words = message.reason, message.reason_words
    if message.is_put_off:
        words = f"until {timezone.localtime(message.due_at):%Y-%m-%d %H:%M}"
    if message.is_undelivered:
        reason, words = "reported as not delivered", message.undelivered_words
    return ": ".join(filter(None, (reason, textwrap.shorten(" ".join(words.split()), 60, placeholder="…"))))


def _filtered(options: dict[str, Any]) -> Any:
    messages = OutboundMessage.objects.all()
    if options["status"]:
        messages = messages.filter(status__in=options["status"])
    if options["undelivered"]:
        messages = messages.undelivered()
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
        if decision == "resend" and (copy := outbox.arrived_elsewhere(message)) is not None:
            outcomes.append({"id": given, "done": False, "status": message.status})
            console.say(f"{given}: left unchanged, because it arrived at another number as message {copy.pk}.")
            continue
        try:
            changed = decide(message)
        except RecipientForgottenError:
            outcomes.append({"id": given, "done": False, "status": message.status})
            console.say(f"{given}: left unchanged, because its number and its text were forgotten.")
            continue
        except RecipientStoppedError:
            outcomes.append({"id": given, "done": False, "status": message.status})
            console.say(
                f"{given}: left unchanged, because the owner of {message.masked_recipient} wants no messages. If they "
                "ask for them again: manage.py kpwa lift-stop NUMBER"
            )
            continue
        outcomes.append({"id": given, "done": changed, "status": message.status})
        console.say(f"{given}: {done}." if changed else f"{given}: left unchanged, because it is {message.status}.")
    console.document(outcomes)
    return EXIT_OK if all(outcome["done"] for outcome in outcomes) else EXIT_NO


SEND = Subcommand("send a message to a number", _add_send_arguments, _send)
SEND_GROUP = Subcommand("send a message to a group", _add_send_group_arguments, _send_group)
MESSAGES = Subcommand("list messages; resend, cancel, mark as sent or dismiss them", _add_messages_arguments, _messages)
