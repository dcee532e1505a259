"""`kpwa licenses`: lists and adds licenses, changes keys, pauses and resumes, and whatever else the admin's page can.

An API key is read from a prompt or standard input, never from an argument: process lists and shell histories show
arguments.
"""

from __future__ import annotations

import argparse
import getpass
from datetime import date
from typing import Any

from django.core.management.base import CommandError
from django.db.models import F, ProtectedError

from .. import license_actions
from ..conf import kpwa_settings
from ..license_conditions import new_customers
from ..models import Lane, License, OutboundMessage, PauseReason, Status
from ..phone import mask
from ..store import store
from ..store.choosing import choose
from ..wake import wake_license
from ..words import PAUSES, UNCHOSEN, quoted, what_to_do
from .arguments import add_action, license_named
from .console import EXIT_NO, EXIT_OK, EXIT_USAGE, Console, Subcommand, in_english


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    add = add_action(actions, "add", "add a license; its API key is read from a prompt or standard input")
    add.add_argument("name", help="a name for people, e.g. of the outlet")
    add.add_argument("--base-url", default="", metavar="URL", help="only for a sandbox or your own gateway")
    for action, explained in (
        ("set-key", "store a new API key, read from a prompt or standard input"),
        ("pause", "hold the license's messages until it is resumed"),
        ("resume", "end a pause, whatever its reason; a changed number is confirmed instead"),
        ("end-restriction", "send to new customers again, because WhatsApp no longer restricts the number"),
        ("default", "let it send the messages for which no license is given"),
        ("activate", "let it send, and be chosen for messages for which no license is given"),
        ("deactivate", "hold its messages, and do not choose it for messages for which no license is given"),
        ("archive", "archive a license that is not active; its messages stay"),
        ("take-back", "restore a license from the archive; it stays inactive"),
        ("delete", "delete a license that has neither messages nor webhook events"),
    ):
        add_action(actions, action, explained).add_argument("name")
    new = add_action(actions, "new-customers", "show or change how many new customers a license writes to a day")
    new.add_argument("name")
    new.add_argument("--in-use-since", metavar="DATE", type=_day, help="since when its number is in use: 2026-01-31")
    new.add_argument(
        "--limit",
        metavar="N",
        type=_limit,
        help="maximum number of new customers a day; `none`: no limit; `usual`: by the number's age",
    )
    confirm = add_action(actions, "confirm-number", "send again after another phone was linked")
    confirm.add_argument("name")
    confirm.add_argument("--keep", action="store_true", help="the previous phone has been linked again")


def _run(console: Console, options: dict[str, Any]) -> int:
    action = options["action"]
    if action is None:
        return _list(console)
    if action == "add":
        return _add(console, options["name"], options["base_url"])
    license_ = license_named(options["name"])
    if action == "new-customers":
        return _new_customers(console, license_, options["in_use_since"], options["limit"])
    if action == "confirm-number":
        return _confirm_number(console, license_, keep=options["keep"])
    return _ACTIONS[action](console, license_)


def why_paused(license_: License, lane: Lane) -> str:
    """Return why a paused license sends nothing and what to do about it, in English with masked numbers."""
    numbers = ""
    if lane.pause_reason == PauseReason.NUMBER_CHANGED:
        numbers = f", {mask(lane.linked_number)} instead of {mask(lane.confirmed_number)}"
    return f"{in_english(PAUSES[lane.pause_reason].why)}{numbers}. {what_to_do(lane.pause_reason, license_.name)}"


def _list(console: Console) -> int:
    licenses = list(License.objects.order_by(F("archived_at").asc(nulls_first=True), "name"))
    lanes = {lane.pk: lane for lane in Lane.objects.all()}
    rows = []
    for license_ in licenses:
        lane = lanes.get(license_.pk) or Lane(license=license_)
        waiting = OutboundMessage.objects.filter(license=license_, status=Status.QUEUED).count()
        rows.append(
            {
                "name": license_.name,
                "uuid": license_.uuid,
                "is_active": license_.is_active,
                "is_default": license_.is_default,
                "archived_at": license_.archived_at,
                "api_key_hint": license_.api_key_hint,
                "base_url": license_.base_url,
                "session_status": lane.session_status,
                "session_word": lane.session_word,
                "session_seen_at": lane.session_seen_at,
                "linked_number": mask(lane.linked_number),
                "confirmed_number": mask(lane.confirmed_number),
                "pause_reason": lane.pause_reason,
                "restricted_until": lane.restricted_until,
                "waiting": waiting,
            }
        )
    console.document(rows)
    if not rows:
        console.say("There is no license yet. Add one: manage.py kpwa licenses add NAME")
        return EXIT_OK
    console.table(
        ("LICENSE", "DEFAULT", "WHATSAPP", "NUMBER", "SENDING", "WAITING", "KEY"),
        [
            (
                row["name"],
                "yes" if row["is_default"] else "",
                row["session_status"],
                row["linked_number"],
                _sending(row),
                row["waiting"],
                f"…{row['api_key_hint']}" if row["api_key_hint"] else "stored",
            )
            for row in rows
        ],
    )
    return EXIT_OK


def _sending(row: dict[str, Any]) -> str:
    if row["archived_at"]:
        return "archived"
    if not row["is_active"]:
        return "not active"
    return in_english(PAUSES[row["pause_reason"]].why) if row["pause_reason"] else "on"


def _add(console: Console, name: str, base_url: str) -> int:
    license_ = License(name=name, base_url=base_url)
    license_.full_clean()
    license_.set_api_key(_read_key(console))
    license_.save(force_insert=True)
    console.document({"name": license_.name, "uuid": license_.uuid})
    console.say(f"Added {license_.name}. Link WhatsApp to it: manage.py kpwa qr --license {quoted(license_.name)}")
    return EXIT_OK


def _set_key(console: Console, license_: License) -> int:
    license_.set_api_key(_read_key(console))
    license_.save(update_fields=["api_key_ciphertext", "api_key_version", "api_key_hint", "updated_at"])
    # Waking is enough: a pause because of the old key ends by itself when the lane is driven.
    wake_license(license_.pk)
    console.document({"name": license_.name, "api_key_version": license_.api_key_version})
    console.say(f"Stored the new key of {license_.name}.")
    return EXIT_OK


def _pause(console: Console, license_: License) -> int:
    paused = license_actions.pause(license_)
    console.document({"name": license_.name, "paused": True, "changed": paused})
    console.say(f"{license_.name} {'is paused; its messages are kept' if paused else 'was paused already'}.")
    return EXIT_OK


def _resume(console: Console, license_: License) -> int:
    lifted = license_actions.resume(license_)
    lane = Lane.objects.filter(pk=license_.pk).first()
    if lane is not None and lane.pause_reason == PauseReason.NUMBER_CHANGED:
        console.document({"name": license_.name, "paused": True, "changed": False})
        console.say(f"{license_.name} stays paused: {why_paused(license_, lane)}")
        return EXIT_NO
    console.document({"name": license_.name, "paused": False, "changed": lifted})
    console.say(f"{license_.name} sends again." if lifted else f"{license_.name} was not paused.")
    return EXIT_OK


def _end_restriction(console: Console, license_: License) -> int:
    ended = license_actions.end_restriction(license_)
    console.document({"name": license_.name, "restricted_until": None, "changed": ended})
    console.say(f"{license_.name} sends to new customers again." if ended else f"{license_.name} was not restricted.")
    return EXIT_OK


def _confirm_number(console: Console, license_: License, *, keep: bool) -> int:
    confirmed = license_actions.confirm_number(license_, keep=keep)
    lane = Lane.objects.filter(pk=license_.pk).first()
    number = mask(lane.confirmed_number) if lane else ""
    console.document({"name": license_.name, "confirmed_number": number, "changed": confirmed})
    if not confirmed:
        console.say(f"{license_.name} has no changed number to confirm.")
        return EXIT_NO
    console.say(f"{license_.name} sends again, from {number}.")
    return EXIT_OK


def _new_customers(console: Console, license_: License, since: date | None, limit: tuple[int | None] | None) -> int:
    if since is not None:
        license_.in_use_since = since
    if limit is not None:
        (license_.cold_limit,) = limit
    if since is not None or limit is not None:
        license_.full_clean()
        license_.save(update_fields=["in_use_since", "cold_limit", "updated_at"])
        if store().end_cold_holds(license_.pk):
            wake_license(license_.pk)
    found = new_customers(License.objects.select_related("lane").get(pk=license_.pk), store().now())
    console.document(
        {
            "name": license_.name,
            "in_use_since": license_.in_use_since,
            "limit": found.limit,
            "sent_today": found.sent,
            "unanswered_this_month": found.unanswered,
        }
    )
    of = "not limited" if found.limit is None else f"{found.sent} of at most {found.limit} today"
    since_when = f"in use since {license_.in_use_since}" if license_.in_use_since else "in use since an unknown date"
    console.say(f"{license_.name}: new customers: {of}; its number: {since_when}.")
    return EXIT_OK


def _day(given: str) -> date:
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{given!r} is not a day such as 2026-01-31") from None


def _limit(given: str) -> tuple[int | None]:
    """Return the value for `License.cold_limit` in a tuple, because None is a valid value."""
    if given in ("none", "usual"):
        return (0 if given == "none" else None,)
    if not given.isdecimal() or int(given) == 0:
        raise argparse.ArgumentTypeError(f"{given!r} is not a number above 0, `none` or `usual`")
    return (int(given),)


def _default(console: Console, license_: License) -> int:
    if not license_.is_active:
        return _refused(console, license_, "is not active, so it would send nothing", "activate")
    license_.is_default = True
    license_.save(update_fields=["is_default", "updated_at"])
    console.document({"name": license_.name, "is_default": True})
    console.say(f"{license_.name} now sends the messages that name no license.")
    if named := kpwa_settings().DEFAULT_LICENSE:
        console.say(f"KPWA['DEFAULT_LICENSE'] takes precedence: it names {named}.")
    return EXIT_OK


def _activate(console: Console, license_: License) -> int:
    if license_.archived_at is not None:
        return _refused(console, license_, "is archived", "take-back")
    return _set_active(console, license_, True)


def _deactivate(console: Console, license_: License) -> int:
    return _set_active(console, license_, False)


def _set_active(console: Console, license_: License, is_active: bool) -> int:
    license_.is_active = is_active
    license_.save(update_fields=["is_active", "updated_at"])
    if is_active:
        wake_license(license_.pk)
    console.document({"name": license_.name, "is_active": is_active})
    console.say(
        f"{license_.name} is active." if is_active else f"{license_.name} is not active; its messages are kept."
    )
    _say_who_sends(console)
    return EXIT_OK


def _archive(console: Console, license_: License) -> int:
    if license_.is_active:
        return _refused(console, license_, "is still active", "deactivate")
    license_.archive()
    console.document({"name": license_.name, "archived_at": license_.archived_at})
    console.say(f"{license_.name} is archived. It no longer sends; its messages stay.")
    return EXIT_OK


def _take_back(console: Console, license_: License) -> int:
    license_.take_back()
    console.document({"name": license_.name, "archived_at": None})
    console.say(f"{license_.name} is back in the list. {_how_to('activate', license_)}")
    return EXIT_OK


def _delete(console: Console, license_: License) -> int:
    if license_.has_history():
        return _refused(console, license_, "has messages or webhook events, so it can only be archived", "archive")
    try:
        license_.delete()
    except ProtectedError:  # a message was stored after the check above
        return _refused(console, license_, "has messages, so it can only be archived", "archive")
    console.document({"name": license_.name, "deleted": True})
    console.say(f"Deleted {license_.name}.")
    _say_who_sends(console)
    return EXIT_OK


def _say_who_sends(console: Console) -> None:
    """Warn if, after the change, no license can be chosen any more for messages for which none is given."""
    chosen = choose(kpwa_settings().DEFAULT_LICENSE)
    if chosen.why_not is not None:
        row = UNCHOSEN[chosen.why_not]
        console.say(f"Messages that name no license wait: {in_english(row.label)}. {row.command}")


def _refused(console: Console, license_: License, why: str, helps: str) -> int:
    console.document({"name": license_.name, "refused": why})
    console.say(f"{license_.name} {why}. {_how_to(helps, license_)}")
    return EXIT_NO


def _how_to(action: str, license_: License) -> str:
    return f"Run: manage.py kpwa licenses {action} {quoted(license_.name)}"


def _read_key(console: Console) -> str:
    __traceback_hide__ = True  # this frame holds the key in plain text, see `encryption`
    try:
        key = getpass.getpass("API key: ") if console.stdin.isatty() else console.stdin.readline()
    except EOFError:
        key = ""
    if not key.strip():
        raise CommandError("No API key was given: type it at the prompt, or pipe it in.", returncode=EXIT_USAGE)
    return key


_ACTIONS = {
    "set-key": _set_key,
    "pause": _pause,
    "resume": _resume,
    "end-restriction": _end_restriction,
    "default": _default,
    "activate": _activate,
    "deactivate": _deactivate,
    "archive": _archive,
    "take-back": _take_back,
    "delete": _delete,
}


LICENSES = Subcommand(
    "list licenses; add, pause, resume, archive or delete one; change its key; choose the default", _add_arguments, _run
)
