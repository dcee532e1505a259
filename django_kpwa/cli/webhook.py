"""`kpwa webhook`: registers or removes this site's webhook, shows which events arrived, and processes events again.

The token in the webhook's address is a secret, so it is never shown.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import CommandError
from django.db.models import Count, Max
from django.utils import translation

from .. import license_actions
from ..exceptions import WebhookAddressError
from ..models import NOT_UNDERSTOOD, License, WebhookEvent, WebhookToken
from ..words import quoted
from .arguments import add_action, add_license_argument, chosen_license, since
from .console import EXIT_NO, EXIT_OK, Console, Subcommand, moment


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for action, explained in (
        ("set", "register this site with the gateway, under a new token"),
        ("reset", "remove the webhook from the gateway"),
        ("show", "show since when it is registered, and which events arrived"),
    ):
        parser_ = add_action(actions, action, explained)
        add_license_argument(parser_)
        if action == "set":
            parser_.add_argument(
                "--untried",
                action="store_true",
                help="register it although this site cannot reach its own address from inside",
            )
    replay = add_action(actions, "replay", "process stored events again, e.g. with a better parser")
    replay.add_argument(
        "ids", nargs="*", metavar="ID", help="public ids of events (default: all that were not understood)"
    )
    replay.add_argument("--since", type=since, metavar="WHEN", help="30m, 2h, 3d ago, or a date like 2016-11-05")
    add_license_argument(replay)


def _run(console: Console, options: dict[str, Any]) -> int:
    if options["action"] == "replay":
        return _replay(console, options)
    license_ = chosen_license(options)
    if options["action"] == "set":
        return _set(console, license_, is_tried=not options["untried"])
    if options["action"] == "reset":
        return _reset(console, license_)
    return _show(console, license_)


def _set(console: Console, license_: License, *, is_tried: bool) -> int:
    with translation.override("en"):
        try:
            license_actions.check_webhook_address(license_, is_tried=is_tried)
            url = _masked(license_actions.set_webhook(license_))
        except WebhookAddressError as error:
            hint = f" If this site only cannot reach its own address from inside: {_how_to_set(license_)} --untried"
            raise CommandError(f"{error}{hint if error.was_tried else ''}", returncode=EXIT_NO) from None
    console.document({"license": license_.name, "url": url})
    console.say(f"The gateway now posts the events of {license_.name} to {url}")
    return EXIT_OK


def _reset(console: Console, license_: License) -> int:
    license_actions.reset_webhook(license_)
    console.document({"license": license_.name, "url": None})
    console.say(f"The gateway no longer posts the events of {license_.name}. Late ones are accepted for one more day.")
    return EXIT_OK


def _show(console: Console, license_: License) -> int:
    token = (
        WebhookToken.objects.filter(license=license_, registered_at__isnull=False, expires_at=None)
        .order_by("-pk")
        .first()
    )
    events = WebhookEvent.objects.filter(license=license_)
    by_status = dict(events.order_by().values_list("status").annotate(Count("pk")))
    last_event_at = events.aggregate(last=Max("last_received_at"))["last"]
    console.document(
        {
            "license": license_.name,
            "registered_at": token.registered_at if token else None,
            "first_event_at": token.first_used_at if token else None,
            "last_event_at": last_event_at,
            "events": by_status,
        }
    )
    if token is None:
        console.say(f"No webhook is registered for {license_.name}: {_how_to_set(license_)}")
    else:
        console.say(f"Registered for {license_.name} at {moment(token.registered_at)}.")
        console.say(f"First event under its token: {moment(token.first_used_at)}.")
    console.say(f"Last event: {moment(last_event_at)}.")
    for status, count in sorted(by_status.items()):
        console.say(f"  {status}: {count}")
    return EXIT_OK if token else EXIT_NO


def _how_to_set(license_: License) -> str:
    return f"manage.py kpwa webhook set --license {quoted(license_.name)}"


def _replay(console: Console, options: dict[str, Any]) -> int:
    from ..webhooks import reprocess

    event_ids = list(_chosen_events(options).values_list("pk", flat=True))
    processed = left = 0
    for event_id in event_ids:
        event = WebhookEvent.objects.get(pk=event_id)
        processed += reprocess(event)
        event.refresh_from_db(fields=["status"])
        left += event.status in NOT_UNDERSTOOD
    missing = max(len(set(options["ids"])) - len(event_ids), 0)
    console.document({"processed": processed, "not_understood": left, "missing": missing})
    console.say(f"Processed {processed} again; {left} are still not understood.")
    if missing:
        console.say(f"{missing} of the ids name no event.")
    return EXIT_NO if missing or left else EXIT_OK


def _chosen_events(options: dict[str, Any]) -> Any:
    events = WebhookEvent.objects.order_by("pk")
    if options["license"]:
        events = events.filter(license=chosen_license(options))
    if options["since"]:
        events = events.filter(received_at__gte=options["since"])
    if options["ids"]:
        return events.filter(uuid__in=list(_uuids(options["ids"])))
    return events.filter(status__in=NOT_UNDERSTOOD)


def _uuids(given: Iterable[str]) -> Iterable[uuid.UUID]:
    for text in given:
        try:
            yield uuid.UUID(text)
        except ValueError:
            continue


def _masked(url: str) -> str:
    """Return the webhook's URL with `•••` instead of its token, which is the last part of the path."""
    parts = urlsplit(url)
    head, _, token = parts.path.rstrip("/").rpartition("/")
    return parts._replace(path=f"{head}/•••/").geturl() if token else url


WEBHOOK = Subcommand(
    "register or remove this site's webhook, show its events, process them again", _add_arguments, _run
)
