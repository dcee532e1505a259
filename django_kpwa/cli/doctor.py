"""`kpwa doctor`: says whether receipts can go out, and if not, what to do. The exit code is 1 if there is a problem.

It examines the layers from the bottom up (database, settings, services, licenses), and stops early if the next layer
can't be examined: without tables there are no licenses.
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
from django.utils import translation

from .. import broker, license_actions
from ..conf import kpwa_settings
from ..counts import MAX_COUNTED, count_up_to
from ..exceptions import (
    GatewayError,
    InvalidApiKeyError,
    KeyUnreadableError,
    UnauthorizedError,
    WebhookAddressError,
)
from ..gateway import SessionStatus, load_gateway_class, session_trouble_of
from ..gateway.locmem import LocmemGateway
from ..health import STOPPED, Finding, last_seen, look
from ..license_conditions import NewCustomers, new_customers
from ..models import (
    DatabaseNow,
    Lane,
    License,
    OutboundMessage,
    Status,
    WebhookEvent,
    WebhookToken,
    write_alias,
)
from ..phone import mask
from ..receipts.registry import registrations
from ..senders import senders
from ..store import store
from ..store.heartbeats import takes_changes
from ..words import PROBLEMS, Problem, Tone, quoted
from .arguments import license_named
from .console import EXIT_NO, EXIT_OK, Console, Subcommand, duration, migrate_command
from .licenses import why_paused

OK, NOTE, PROBLEM = "ok", "note", "problem"

# Checks that are omitted, because the examination finds the same problems itself and names the licenses.
_EXAMINED_HERE = {"kpwa.W001", "kpwa.W007", "kpwa.W110"}


@dataclass(frozen=True)
class Line:
    """The result of one examination.

    `level` is `PROBLEM` if something has to be done, `NOTE` if it is worth knowing, else `OK`.
    `blocks`: True if it keeps receipts from going out.
    """

    level: str
    subject: str
    words: str
    blocks: bool = False


class _CannotContinue(Exception):  # noqa: N818 - it ends the examination, and is not an error
    """Raised after a finding that makes all further examination impossible."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--license", metavar="NAME", help="examine only this license (default: all that are not archived)"
    )


def _run(console: Console, options: dict[str, Any]) -> int:
    # The command's own sentences are in English, so the translated ones are shown in English as well.
    with translation.override("en"):
        lines = list(_examine(options["license"]))
    can_send = not any(line.blocks for line in lines)
    is_well = not any(line.level == PROBLEM for line in lines)
    console.document(
        {
            "receipts_can_go_out": can_send,
            "findings": [{"level": line.level, "subject": line.subject, "words": line.words} for line in lines],
        }
    )
    for line in lines:
        console.say(f"[{line.level:^7}] {line.subject}: {line.words}")
    console.say()
    console.say(_CONCLUSIONS[can_send, is_well])
    return EXIT_OK if is_well else EXIT_NO


_CONCLUSIONS = {
    (True, True): "Receipts can go out.",
    (True, False): "Receipts can go out, but not all of them will: see the findings marked as a problem.",
    (False, False): "Receipts cannot go out: see the findings marked as a problem.",
}


def _examine(license_name: str | None) -> Iterator[Line]:
    try:
        yield from _database()
        yield from _settings()
        yield _broker()
        yield _receipt_classes()
        licenses = [license_named(license_name)] if license_name else list(License.objects.kept())
        # The gateway is called only if its answers can be stored.
        is_writable = takes_changes()
        if not is_writable:
            yield _line(Finding(Problem.READ_ONLY, PROBLEMS[Problem.READ_ONLY]))
        for license_ in licenses:
            if license_.is_active and is_writable:
                yield from _ask_gateway(license_)
        health = look()
        if health.senders.problem is None:
            yield Line(OK, "senders", f"the outbox was last swept {duration(health.senders.seen['sweep'])} ago.")
        names = {license_.pk for license_ in licenses}
        for finding in health.findings:
            if finding.code == Problem.READ_ONLY:
                continue  # reported above
            if finding.license is None or finding.license.pk in names:
                yield _line(finding)
        for license_ in licenses:
            yield from _of_license(license_)
        yield from _public_url(licenses)
    except _CannotContinue:
        return


def _line(finding: Finding) -> Line:
    level = PROBLEM if finding.blocks or finding.tone == Tone.BAD else NOTE
    license_, words = finding.license, finding.say("meaning")
    if license_ is not None and finding.code == STOPPED:
        # Fetched again, because the gateway's answer may have changed the lane.
        lane = Lane.objects.filter(pk=license_.pk).first()
        if lane is not None and lane.pause_reason:
            said = f" The gateway said: {lane.pause_words}" if lane.pause_words else ""
            words = f"is paused: {why_paused(license_, lane)}{said}"
            return Line(level, f"license {license_.name}", words, finding.blocks)
    seen = _seen(finding)
    subject = f"license {license_.name}" if license_ is not None else str(finding.row.label).lower()
    return Line(level, subject, " ".join(filter(None, (words, seen, finding.command))), finding.blocks)


def _seen(finding: Finding) -> str:
    """Return when a missing sender was last seen; empty for other findings."""
    if finding.code not in (Problem.NO_SENDER, Problem.NO_WORKER_AND_NO_BEAT, Problem.NO_WORKER, Problem.NO_BEAT):
        return ""
    return last_seen(senders().seen.get("sweep"))


def _database() -> Iterator[Line]:
    from django.db.migrations.executor import MigrationExecutor

    connection = store().connection
    try:
        connection.ensure_connection()
        executor = MigrationExecutor(connection)
        pending = executor.migration_plan(
            [node for node in executor.loader.graph.leaf_nodes() if node[0] == "django_kpwa"]
        )
    except (DatabaseError, InterfaceError) as error:
        yield Line(
            PROBLEM,
            "database",
            f"it does not answer ({type(error).__name__}), so sales fail as well. Check the server and DATABASES.",
            True,
        )
        raise _CannotContinue from None
    if pending:
        yield Line(PROBLEM, "database", f"not all migrations are applied. Run: {migrate_command()}", True)
        raise _CannotContinue
    yield Line(OK, "database", f"answers ({connection.display_name}), its tables are up to date.")


def _settings() -> Iterator[Line]:
    found = [
        message
        for message in checks.run_checks(
            tags=["kpwa"], databases=[write_alias()], include_deployment_checks=not settings.DEBUG
        )
        if message.id not in _EXAMINED_HERE and not message.is_silenced()
    ]
    for message in found:
        is_problem = message.level >= checks.ERROR or (message.id == "kpwa.W081" and not _is_test_double())
        words = f"{message.msg} {message.hint or ''}".strip()
        yield Line(PROBLEM if is_problem else NOTE, message.id or "check", words, is_problem)
    if any(message.level >= checks.ERROR for message in found):
        raise _CannotContinue
    if not found:
        yield Line(OK, "settings", "all checks pass.")
    gateway_class = load_gateway_class()
    if gateway_class.pretends:
        words = f"messages are {gateway_class.pretends} and reach nobody: KPWA['GATEWAY'] is not the real one."
        yield Line(NOTE, "gateway", words)


def _is_test_double() -> bool:
    """Return True if the gateway is the in-memory test double: such a site is not live, even with DEBUG off."""
    return issubclass(load_gateway_class(), LocmemGateway)


def _broker() -> Line:
    """Examine the broker by connecting to it, which no page or alert does."""
    if broker.is_configured():
        if why := broker.why_unusable():
            return Line(NOTE if senders().is_without_broker else PROBLEM, "broker", f"cannot be used: {why}")
        if broker.answers():
            return Line(OK, "broker", "answers.")
        words = "does not answer. Nothing is lost; messages go out once it answers, or with: manage.py kpwa run"
        return Line(NOTE if senders().is_without_broker else PROBLEM, "broker", words)
    if not broker.runs_tasks_at_once() and senders().is_alive("worker"):
        words = (
            "none is configured in this process, though a worker is running: receipts wait for beat's next sweep. "
            "Import the site's Celery app in the project's __init__.py (kpwa.W001)."
        )
        return Line(NOTE, "broker", words)
    if broker.is_set_but_unread():
        words = "CELERY_BROKER_URL is set, but no Celery app of this process reads it: see kpwa.W001."
        return Line(NOTE, "broker", words)
    why = "tasks are not handed to it (kpwa.W100)" if broker.runs_tasks_at_once() else "none is configured"
    return Line(OK, "broker", f"{why}: this site sends by `manage.py kpwa run` or `kpwa dispatch`.")


def _receipt_classes() -> Line:
    """List the receipt classes: one whose module is not imported sends nothing, and nothing else shows that."""
    registered = registrations()
    if registered:
        named = (f"{each.model._meta.label} ({type(each.receipt).__name__})" for each in registered)
        return Line(OK, "receipts", f"of {', '.join(named)}.")
    words = (
        "no class is registered, so saving a sale sends nothing. Define one in the whatsapp.py of an installed app, "
        "decorated with @receipts.register(…)."
    )
    return Line(NOTE, "receipts", words)


def _ask_gateway(license_: License) -> Iterator[Line]:
    """Request the status from the gateway, which pauses the lane or ends its pause; `look()` then finds the result."""
    subject = f"license {license_.name}"
    try:
        status = license_actions.check_status(license_)
    except (KeyUnreadableError, InvalidApiKeyError, UnauthorizedError):
        return  # the lane was paused for this reason, which `look()` reports
    except ImproperlyConfigured as error:
        yield Line(PROBLEM, subject, str(error), blocks=True)
    except GatewayError as error:
        yield Line(PROBLEM, subject, f"its status could not be checked: {error}", blocks=True)
    else:
        if status.session_status == SessionStatus.CONNECTED:
            number = Lane.objects.get(pk=license_.pk).linked_number
            yield Line(OK, subject, f"WhatsApp is linked{f' ({mask(number)})' if number else ''}.")
        elif status.session_status == SessionStatus.UNKNOWN:
            undocumented = "" if session_trouble_of(status.word) else "undocumented "
            yield Line(NOTE, subject, f"the gateway reports the {undocumented}status {status.word!r}.")


def _of_license(license_: License) -> Iterator[Line]:
    """Report what is not a finding of `look()`: the number of waiting messages, new customers, and the webhook."""
    subject = f"license {license_.name}"
    if not license_.is_active:
        words = "is not active: its messages are held. Send them: manage.py kpwa licenses activate"
        yield Line(NOTE, subject, f"{words} {quoted(license_.name)}")
        return
    waiting = OutboundMessage.objects.filter(license=license_, status=Status.QUEUED)
    yield Line(OK, subject, f"messages waiting: {count_up_to(MAX_COUNTED, waiting)}.")
    yield from _of_new_customers(license_)
    registered = WebhookToken.objects.filter(license=license_, registered_at__isnull=False, expires_at=None)
    if not registered.exists():
        words = "no webhook is registered, so neither ticks nor answers arrive. Register it"
        yield Line(NOTE, subject, f"{words}: manage.py kpwa webhook set --license {quoted(license_.name)}")
        return
    events = WebhookEvent.objects.filter(license=license_).order_by("-last_received_at")
    newest = events.values_list("last_received_at", DatabaseNow()).first()
    last = "no event has arrived yet"
    if newest is not None:
        last = f"the last event arrived {duration((newest[1] - newest[0]).total_seconds())} ago"
    yield Line(OK, subject, f"its webhook is registered; {last}.")


def _of_new_customers(license_: License) -> Iterator[Line]:
    fresh = License.objects.select_related("lane").get(pk=license_.pk)
    found = new_customers(fresh, store().now())
    yield _of_cold_limit(license_, found)
    words = f"messages of this month to people who have not written since: {found.unanswered}."
    if found.is_much:
        words += " WhatsApp restricts numbers that few answer: have customers write first, for example by a QR code."
    yield Line(NOTE if found.is_much else OK, f"license {license_.name}", words)


def _of_cold_limit(license_: License, found: NewCustomers) -> Line:
    subject, name = f"license {license_.name}", quoted(license_.name)
    if found.is_asked:
        words = "it is not set since when its number has been in use, so new customers are not limited. Set it"
        return Line(NOTE, subject, f"{words}: manage.py kpwa licenses new-customers {name} --in-use-since DATE")
    if found.limit is None:
        return Line(OK, subject, "new customers are not limited.")
    words = f"new customers today: {found.sent} of at most {found.limit}."
    if found.sent < found.limit:
        return Line(OK, subject, words)
    return Line(
        NOTE,
        subject,
        f"{words} Others wait for what tomorrow leaves. Change it: manage.py kpwa licenses new-customers {name}",
    )


def _public_url(licenses: list[License]) -> Iterator[Line]:
    """Examine whether webhooks can arrive: the site requests its own public URL once, as `webhook set` does."""
    if not kpwa_settings().PUBLIC_URL:
        yield Line(NOTE, "webhooks", "KPWA['PUBLIC_URL'] is not set, so no webhook can be registered.")
        return
    # All licenses share the public URL, so the first one whose gateway can be set up is enough.
    for license_ in licenses:
        with contextlib.suppress(KeyUnreadableError, ImproperlyConfigured), translation.override("en"):
            try:
                license_actions.check_webhook_address(license_)
            except WebhookAddressError as error:
                if error.was_tried:  # a problem that the URL alone shows was reported by a system check already
                    yield Line(
                        NOTE,
                        "webhooks",
                        f"{error} Webhooks do not arrive, unless it is only this site that cannot reach its own "
                        "address.",
                    )
            return


DOCTOR = Subcommand("check whether receipts can go out, and if not, say what to do", _add_arguments, _run)
