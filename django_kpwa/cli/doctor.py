"""`kpwa doctor`: says whether receipts can go out, and if not, what to do. The exit code is 1 if they cannot.

It examines from the bottom up (database, settings, services, licenses), and stops early if the next layer can't be
examined: without tables there are no licenses.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError
from django.db.migrations.executor import MigrationExecutor
from django.db.models import QuerySet
from django.utils import translation

from .. import broker, license_actions
from ..conf import kpwa_settings
from ..counts import count_up_to
from ..exceptions import (
    GatewayError,
    KeyForAnotherUrlError,
    KeyUnreadableError,
    UnauthorizedError,
    WebhookAddressError,
)
from ..gateway import SessionStatus, load_gateway_class
from ..gateway.locmem import LocmemGateway
from ..health import Missing, senders, unassigned
from ..models import (
    DatabaseNow,
    Lane,
    License,
    OutboundMessage,
    PauseReason,
    ReceiptFailure,
    Status,
    WebhookEvent,
    WebhookToken,
    in_seconds,
    write_alias,
)
from ..phone import mask
from ..store import store
from ..words import PAUSES, Tone, quoted, what_to_do
from .arguments import license_named
from .console import EXIT_NO, EXIT_OK, Console, Subcommand, duration, in_english
from .licenses import why_paused

OK, NOTE, PROBLEM = "ok", "note", "problem"

_MOST_IDS = 10
_LATELY_SECONDS = 172_800.0
_MOST_FAILURES = 100
OLD_SECONDS = 600.0
"""A message is late once it has been due for longer than this."""

# Checks that are left out, because the examination finds the same problems itself and names the licenses.
_LOOKED_AT_HERE = {"kpwa.W001", "kpwa.W007"}

_MISSING = {
    Missing.SENDER: ". Start `manage.py kpwa run`, or call `manage.py kpwa dispatch` from cron every minute.",
    Missing.BEAT: (
        ", although a worker took a task {worked} ago: beat is not running. Start Celery beat with the "
        "schedule of django_kpwa.schedule."
    ),
    Missing.WORKER_AND_BEAT: (
        ", and no worker takes tasks. Start a Celery worker and beat with the tasks of django_kpwa.schedule."
    ),
}


@dataclass(frozen=True)
class Finding:
    """The result of one examination.

    `level` is `PROBLEM` if it keeps receipts from going out, `NOTE` if someone should know about it, else `OK`.
    """

    level: str
    subject: str
    words: str


class _Hopeless(Exception):  # noqa: N818 - it ends the examination, it is no error
    """Raised after a finding that makes all further examination impossible."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--license", metavar="NAME", help="examine only this license (default: all that are not archived)"
    )


def _run(console: Console, options: dict[str, Any]) -> int:
    findings = list(_examine(options["license"]))
    can_send = not any(finding.level == PROBLEM for finding in findings)
    console.document(
        {
            "receipts_can_go_out": can_send,
            "findings": [vars(finding) for finding in findings],
        }
    )
    for finding in findings:
        console.say(f"[{finding.level:^7}] {finding.subject}: {finding.words}")
    console.say()
    console.say("Receipts can go out." if can_send else "Receipts cannot go out: see the findings marked as a problem.")
    return EXIT_OK if can_send else EXIT_NO


def _examine(license_name: str | None) -> Iterator[Finding]:
    try:
        yield from _database()
        yield from _settings()
        yield from _services()
        licenses = [license_named(license_name)] if license_name else list(License.objects.kept())
        if not licenses:
            yield Finding(PROBLEM, "licenses", "there is none yet. Add one: manage.py kpwa licenses add NAME")
        for license_ in licenses:
            yield from _license(license_)
        if found := unassigned():
            with translation.override("en"):
                words = f"{found.count} wait, because {found.why}. {found.what_to_do}"
            yield Finding(
                PROBLEM, "messages without a license", f"{words} Or: manage.py kpwa licenses activate, default"
            )
        yield from _without_their_license()
        yield from _failed_receipts()
        yield from _public_url(licenses)
    except _Hopeless:
        return


def _without_their_license() -> Iterator[Finding]:
    lost = store().queued_without_their_license()
    if count := lost.count():
        ids = " ".join(str(pk) for pk in lost.order_by("pk").values_list("pk", flat=True)[:_MOST_IDS])
        words = (
            f"{count} wait for a license that was deleted while they were being stored, so nothing sends them. "
            "Cancel them, and send again what is still needed: manage.py kpwa messages cancel "
            f"{ids}{' …' if count > _MOST_IDS else ''}"
        )
        yield Finding(PROBLEM, "messages of a deleted license", words)


def _database() -> Iterator[Finding]:
    connection = store().connection
    try:
        connection.ensure_connection()
        executor = MigrationExecutor(connection)
        pending = executor.migration_plan(
            [node for node in executor.loader.graph.leaf_nodes() if node[0] == "django_kpwa"]
        )
    except (DatabaseError, InterfaceError) as error:
        yield Finding(
            PROBLEM,
            "database",
            f"it does not answer ({type(error).__name__}), so sales fail as well. Check the server and DATABASES.",
        )
        raise _Hopeless from None
    if pending:
        yield Finding(PROBLEM, "database", "not all migrations are applied. Run: manage.py migrate")
        raise _Hopeless
    yield Finding(OK, "database", f"answers ({connection.display_name}), its tables are up to date.")


def _settings() -> Iterator[Finding]:
    found = [
        message
        for message in checks.run_checks(
            tags=["kpwa"], databases=[write_alias()], include_deployment_checks=not settings.DEBUG
        )
        if message.id not in _LOOKED_AT_HERE and not message.is_silenced()
    ]
    for message in found:
        is_problem = message.level >= checks.ERROR or (message.id == "kpwa.W081" and not _is_test_double())
        level = PROBLEM if is_problem else NOTE
        yield Finding(level, message.id or "check", f"{message.msg} {message.hint or ''}".strip())
    if any(message.level >= checks.ERROR for message in found):
        raise _Hopeless
    if not found:
        yield Finding(OK, "settings", "all checks pass.")
    gateway_class = load_gateway_class()
    if gateway_class.pretends:
        words = f"messages are {gateway_class.pretends} and reach nobody: KPWA['GATEWAY'] is not the real one."
        yield Finding(NOTE, "gateway", words)


def _is_test_double() -> bool:
    """Return True if the gateway is the in-memory test double: such a site is not live, even with DEBUG off."""
    return issubclass(load_gateway_class(), LocmemGateway)


def _services() -> Iterator[Finding]:
    """Examine who sends: a broker with beat and workers, `kpwa run`, or cron. Each of them leaves heartbeats."""
    if broker.is_configured():
        if broker.answers():
            yield Finding(OK, "broker", "answers.")
        else:
            words = "does not answer. Nothing is lost; messages go out once it answers, or with: manage.py kpwa run"
            yield Finding(NOTE, "broker", words)
    else:
        why = "tasks are not handed to it (kpwa.W100)" if broker.runs_tasks_at_once() else "none is configured"
        yield Finding(OK, "broker", f"{why}: this site sends by `manage.py kpwa run` or `kpwa dispatch`.")
    yield _senders()


def _senders() -> Finding:
    found = senders()
    if found.missing == Missing.NOTHING:
        return Finding(OK, "senders", f"the outbox was last swept {duration(found.swept_seconds or 0.0)} ago.")
    swept = found.swept_seconds
    looked = "ever swept the outbox" if swept is None else f"swept the outbox for {duration(swept)}"
    worked = "" if found.worked_seconds is None else duration(found.worked_seconds)
    return Finding(PROBLEM, "senders", f"nothing has {looked}{_MISSING[found.missing].format(worked=worked)}")


def _license(license_: License) -> Iterator[Finding]:
    subject = f"license {license_.name}"
    if not license_.is_active:
        yield Finding(
            NOTE,
            subject,
            f"is not active: its messages are held. Send them: manage.py kpwa licenses activate {_quoted(license_)}",
        )
        return
    yield from _link(license_, subject)
    yield from _pause(license_, subject)
    yield from _queue(license_, subject)
    yield from _webhook(license_, subject)


def _link(license_: License, subject: str) -> Iterator[Finding]:
    try:
        status = license_actions.check_status(license_)
    except KeyForAnotherUrlError as error:
        yield Finding(PROBLEM, subject, f"{error} manage.py kpwa licenses set-key {_quoted(license_)}")
        return
    except KeyUnreadableError:
        yield Finding(PROBLEM, subject, _advice(PauseReason.KEY_UNREADABLE, license_))
        return
    except ImproperlyConfigured as error:
        yield Finding(PROBLEM, subject, str(error))
        return
    except UnauthorizedError:
        # If sending was refused with the same key, the lane is paused for it, and `_pause()` reports that with the
        # gateway's words.
        if not _is_paused_for_its_key(license_):
            yield Finding(PROBLEM, subject, _advice(PauseReason.UNAUTHORIZED, license_))
        return
    except GatewayError as error:
        yield Finding(PROBLEM, subject, f"its status could not be checked: {error}")
        return
    if status.session_status == SessionStatus.QR:
        yield Finding(PROBLEM, subject, _advice(PauseReason.LOGGED_OUT, license_))
    elif status.session_status == SessionStatus.CONNECTED:
        number = Lane.objects.get(pk=license_.pk).linked_number
        yield Finding(OK, subject, f"WhatsApp is linked{f' ({mask(number)})' if number else ''}.")
    else:
        yield Finding(NOTE, subject, f"the gateway reports the undocumented status {status.word!r}.")


def _is_paused_for_its_key(license_: License) -> bool:
    paused = Lane.objects.filter(pk=license_.pk, pause_reason=PauseReason.UNAUTHORIZED)
    return paused.filter(paused_key_version=license_.api_key_version).exists()


def _pause(license_: License, subject: str) -> Iterator[Finding]:
    lane = Lane.objects.filter(pk=license_.pk).first()
    # `_link()` has just reported a log-out or an unreadable key from its own call to the gateway.
    if lane is None or lane.pause_reason in (PauseReason.NONE, PauseReason.LOGGED_OUT, PauseReason.KEY_UNREADABLE):
        return
    if lane.has_new_key:
        yield Finding(OK, subject, "has a new API key; sending resumes with the next sweep.")
        return
    # A pause with the tone WAITING ends by itself before long, so it is no problem.
    level = NOTE if PAUSES[lane.pause_reason].tone == Tone.WAITING else PROBLEM
    words = f" The gateway said: {lane.pause_words}" if lane.pause_words else ""
    yield Finding(level, subject, f"is paused: {why_paused(license_, lane)}{words}")


def _queue(license_: License, subject: str) -> Iterator[Finding]:
    messages = OutboundMessage.objects.filter(license=license_)
    waiting = messages.filter(status=Status.QUEUED).count()
    late = _age(messages.due().order_by("due_at"), "due_at") or 0.0
    if late > OLD_SECONDS:
        yield Finding(NOTE, subject, f"messages waiting: {waiting}, the oldest due for {duration(late)}.")
    else:
        yield Finding(OK, subject, f"messages waiting: {waiting}.")
    undecided = messages.undecided().count()
    if undecided:
        yield Finding(
            NOTE,
            subject,
            f"messages in doubt that need a decision: {undecided}. See: manage.py kpwa messages --status unknown",
        )


def _webhook(license_: License, subject: str) -> Iterator[Finding]:
    registered = WebhookToken.objects.filter(license=license_, registered_at__isnull=False, expires_at=None)
    if not registered.exists():
        words = (
            "no webhook is registered, so neither ticks nor answers arrive. Register it: manage.py kpwa webhook "
            "set --license"
        )
        yield Finding(NOTE, subject, f"{words} {_quoted(license_)}")
        return
    events = WebhookEvent.objects.filter(license=license_)
    age = _age(events.order_by("-last_received_at"), "last_received_at")
    last = "no event has arrived yet" if age is None else f"the last event arrived {duration(age)} ago"
    yield Finding(OK, subject, f"its webhook is registered; {last}.")


def _failed_receipts() -> Iterator[Finding]:
    """Report receipts that failed before they were queued: there is no message that would show them."""
    failures = ReceiptFailure.objects.filter(occurred_at__gt=in_seconds(-_LATELY_SECONDS))
    newest = failures.order_by("-occurred_at").first()
    if newest is not None:
        found = count_up_to(_MOST_FAILURES, failures)
        shown = f"more than {found.number}" if found.is_more else found.number
        words = (
            f"objects whose receipt could not be queued in the last two days: {shown}. The newest is "
            f"{newest.receipt} {newest.source_id}: {newest.error} All are listed under WhatsApp › Receipt "
            "failures."
        )
        yield Finding(NOTE, "receipts", words)


def _public_url(licenses: list[License]) -> Iterator[Finding]:
    """Examine whether webhooks can arrive: the site requests its own public URL once, as `webhook set` does."""
    if not kpwa_settings().PUBLIC_URL:
        yield Finding(NOTE, "webhooks", "KPWA['PUBLIC_URL'] is not set, so no webhook can be registered.")
        return
    # All licenses share the public URL, so the first one whose gateway can be set up is enough.
    for license_ in licenses:
        with contextlib.suppress(KeyUnreadableError, ImproperlyConfigured), translation.override("en"):
            try:
                license_actions.check_webhook_address(license_)
            except WebhookAddressError as error:
                if error.was_tried:  # a problem that the URL alone shows was reported by a system check already
                    yield Finding(
                        NOTE,
                        "webhooks",
                        f"{error} Webhooks do not arrive, unless it is only this site that cannot reach its own "
                        "address.",
                    )
            return


def _age(rows: QuerySet[Any], column: str) -> float | None:
    """Return the seconds since `column` of the first row, by the database's clock; None if there is no row."""
    first = rows.values_list(column, DatabaseNow()).first()
    return None if first is None else (first[1] - first[0]).total_seconds()


def _advice(reason: PauseReason, license_: License) -> str:
    return f"{in_english(PAUSES[reason].why)}. {what_to_do(reason, license_.name)}"


def _quoted(license_: License) -> str:
    return quoted(license_.name)


DOCTOR = Subcommand("check whether receipts can go out, and if not, say what to do", _add_arguments, _run)
