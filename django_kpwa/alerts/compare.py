"""Compares what `health` finds with the table of alerts, and sends notifications about what has changed.

However many processes check, only one notifies: each change is a conditional UPDATE (`store.alerts`), and the process
that changes the row sends the notification. The row holds that process's deadline; if it dies before it has confirmed,
another one takes over after two minutes. So every notification is sent at least once, and twice only if a process dies
between sending and confirming.

A check runs in its own thread, so that neither a sweep nor a request waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.utils import timezone, translation

from .. import announce, outside
from ..health import STOPPED, Finding, Health, look
from ..logs import get_logger
from ..models import Alert, Telling, outbox_key, write_alias
from ..rehearsal import is_rehearsal
from ..store import store
from ..store.alerts import LOOK_EVERY_SECONDS, REMIND_SECONDS, TELL_SECONDS
from ..store.locks import brief_statements, lacks_tables
from ..words import PauseRow, Tells, Tone
from .texts import Told, told_of
from .ways import SECONDS, tell

logger = get_logger("django_kpwa.alerts.compare")

LOG_EVERY_SECONDS = 3600.0
MAX_AT_ONCE = int(TELL_SECONDS / SECONDS) - 1
"""Maximum number of notifications per check: they end before the deadline of their rows even if every way hangs."""
_TOLERANCE_SECONDS = 5.0

looking = outside.Gate()
logging = outside.Gate()


def check_soon(*, asks_first: bool = False) -> None:
    """Start a check in a thread, unless this process did so a moment ago. Never raises, and does not wait.

    Sweeps, requests that show the site's state, workers and beat call it. The site as a whole checks once per
    `LOOK_EVERY_SECONDS`, so that people are notified within two minutes after something stops.

    `asks_first`: use the caller's own database connection to find out whether another process has just checked. The
    thread would open a new one for that, which is most of what an idle process costs; but the caller may then have to
    wait for the database.
    """
    # Slightly longer than the site's interval: otherwise a single process would come a moment too early, and then only
    # after twice the interval.
    if is_rehearsal() or not looking.passes(1.05 * LOOK_EVERY_SECONDS, outbox_key()):
        return
    if asks_first and not _may_look():
        return
    _, schema = outbox_key()
    outside.in_a_thread(lambda: _check_in_thread(schema, may_look=asks_first))


def _may_look() -> bool:
    may_look = False
    with _failures_logged(), brief_statements(write_alias()):
        may_look = store().may_look_for_alerts()
    return may_look


def _check_in_thread(schema: str, *, may_look: bool = False) -> None:
    with _failures_logged(), store().own_connection(schema) as is_there:
        if is_there and (may_look or store().may_look_for_alerts()):
            check()


@contextmanager
def _failures_logged() -> Iterator[None]:
    """Catch and log what the block raises, at most once per `LOG_EVERY_SECONDS`."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        # Only the type is logged, because databases quote rows in their error messages.
        if not lacks_tables(error) and logging.passes(LOG_EVERY_SECONDS):
            logger.error("Alerts could not be checked: the database failed (%s).", type(error).__name__)
    except Exception as error:
        if logging.passes(LOG_EVERY_SECONDS):
            logger.error("Alerts could not be checked (%s).", type(error).__name__)


def check() -> list[Told]:
    """Check once, and send notifications about what has changed. Returns those that this process sent.

    Raises `DatabaseError` if the database does not answer or is read-only.
    """
    with translation.override(settings.LANGUAGE_CODE), timezone.override(None):
        health = look(with_urls=False)  # missing URLs open no alert
        found = _telling(health)
        _note(found, health)
        changed = list(islice(chain(_changed(found, health), _retaken()), MAX_AT_ONCE))
        announced = (_announced(alert_id, telling, found, health) for alert_id, telling in changed)
        news = [each for each in announced if each is not None]
        ways_of = tell([(told, alert.license) for alert, told in news])
        for (alert, _told), ways in zip(news, ways_of, strict=True):
            # Confirmed one by one: if the process dies now, only the others are sent again.
            failed = bool(ways) and all(way.failure is not None for way in ways)
            store().confirm_told(alert, has_failed=failed)
        return [told for _alert, told in news]


def _telling(health: Health) -> dict[str, Finding]:
    """Return the findings that open an alert, by the key of the alert; for several with one key, the most urgent."""
    found: dict[str, Finding] = {}
    for finding in health.findings:
        if finding.row.tells:
            code = finding.row.tells.value
            found.setdefault(f"{code}:{finding.license.pk}" if finding.license else code, finding)
    return found


def _note(found: Mapping[str, Finding], health: Health) -> None:
    """Store which findings have begun, and which are gone."""
    rows = _present()
    for key, finding in found.items():
        row = rows.get(key)
        if row is None or row.gone_at is not None or _begins_anew(row, finding):
            license_id = finding.license.pk if finding.license else None
            store().note_alert(key, finding.row.tells.value, license_id, finding.since)
    kept = {key for key, row in rows.items() if key in found or _is_held(row, health)}
    for key, row in rows.items():
        if key not in kept:
            store().note_gone(row)
        elif key not in found and row.gone_at is not None:
            store().note_alert(key, row.code, row.license_id, None)


def _changed(found: Mapping[str, Finding], health: Health) -> Iterator[tuple[int, str]]:
    """Yield the ids of the alerts that this process has changed, and the notification (`Telling`) to send for each."""
    for row in _present().values():
        if telling := _change(row, found, health):
            yield row.pk, telling


def _begins_anew(row: Alert, finding: Finding) -> bool:
    """True if the row, which is not open yet, is about an earlier problem of the same kind that ended meanwhile."""
    if row.opened_at is not None or finding.since is None:
        return False
    # The tolerance is needed because the time of the last sweep is computed from two times that are not read at once.
    return (finding.since - row.since).total_seconds() > _TOLERANCE_SECONDS


def _change(row: Alert, found: Mapping[str, Finding], health: Health) -> str:
    """Open the alert, mark it as reminded, or close it, if that is due and no other process has done it.

    Returns the notification to send; empty if nothing was done.
    """
    if row.gone_at is not None:
        return Telling.CLOSED if store().close_alert(row.pk) else ""
    if str(row.key) not in found:
        return ""
    if row.opened_at is None:
        return Telling.OPENED if store().open_alert(row.pk, is_sure=store().has_looked_for_a_while()) else ""
    is_due = row.reminded_at is None and (health.now - row.opened_at).total_seconds() >= REMIND_SECONDS
    return Telling.REMINDED if is_due and store().remind_of_alert(row.pk) else ""


def _present() -> dict[str, Alert]:
    return {str(row.key): row for row in Alert.objects.exclude(key=None)}


def _is_held(row: Alert, health: Health) -> bool:
    """True if the problem of the alert is not over, although no finding reports it any more.

    For example, a license was logged out and a person then paused it, or its new key is being tried.
    """
    if row.code != Tells.LICENSE_STOPPED or row.opened_at is None:
        return False
    license_ = next((each for each in health.licenses if each.license.pk == row.license_id), None)
    if license_ is None:
        return health.is_cut
    return license_.license.is_active and license_.condition.tone not in (Tone.GOOD, Tone.NEUTRAL)


def _retaken() -> Iterator[tuple[int, str]]:
    """Take over the notifications that another process did not confirm in time. Yields the same as `_changed()`."""
    for alert in store().untold_alerts():
        if store().take_telling(alert):
            yield alert.pk, alert.untold


def _announced(alert_id: int, telling: str, found: Mapping[str, Finding], health: Health) -> tuple[Alert, Told] | None:
    """Log the alert and send its signal, then return it with the notification to deliver; None if it is outdated."""
    alert = Alert.objects.select_related("license").filter(pk=alert_id, untold=telling).first()
    if alert is None:  # its license was deleted a moment ago, or another process notifies about a later change
        return None
    finding = found.get(str(alert.key))
    told = told_of(alert, finding, health)
    # A notification that is retried after a failure has been logged and signalled before.
    if alert.failures == 0 and alert.untold == Telling.OPENED:
        is_logged = finding is not None and finding.code == STOPPED and isinstance(finding.row, PauseRow)
        command = finding.command if finding is not None else ""
        announce.alert_opened(alert, told.title, told.text, command, is_logged=is_logged)
    elif alert.failures == 0 and alert.untold == Telling.CLOSED:
        announce.alert_closed(alert, told.title, told.text)
    return alert, told
