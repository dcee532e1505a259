"""Stores alerts. Many processes may check at once; conditional UPDATEs let exactly one of them notify of each change.

Nothing here locks a lane or a message, and each method takes one or two statements.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import Q, QuerySet

from ..counts import MAX_COUNTED, count_up_to
from ..models.alert import Alert, Telling
from ..models.database import DatabaseNow, in_seconds
from ..models.message import OutboundMessage, Status
from ..models.statistics import Heartbeat
from .base import StoreBase
from .clock_ahead import CLOCK_SECONDS

LOOK_EVERY_SECONDS = 25.0
"""Minimum seconds between two checks of a site for alerts, however many processes it has."""
FLAPPING_SECONDS = 60.0
"""Seconds that a finding must hold to open an alert, and must be gone to close it."""
REMIND_SECONDS = 3600.0
"""Seconds that an alert must be open before people are reminded of it."""
TELL_SECONDS = 120.0
"""Seconds that a process has to notify of a change. If it does not confirm by then, another process notifies. The time
doubles with each notification that reached nobody."""
_MAX_DOUBLINGS = 5
"""Maximum number of times that `TELL_SECONDS` doubles."""
GIVEN_UP_SECONDS = 86_400.0
"""Seconds after the end of an alert from which no process notifies of it any more."""
LOOKS = "alerts"
"""Name of the heartbeat of these checks."""


class Alerts(StoreBase):
    """The states of alerts, and who notifies of their changes."""

    def may_look_for_alerts(self) -> bool:
        """True for one process in each `LOOK_EVERY_SECONDS`, which then checks for alerts."""
        due = Q(seen_at__lte=in_seconds(-LOOK_EVERY_SECONDS)) | Q(seen_at__gt=in_seconds(CLOCK_SECONDS))
        if Heartbeat.objects.filter(due).renew(LOOKS):
            return True
        if Heartbeat.objects.filter(name=LOOKS).exists():
            return False
        # This is a site's very first check. Two processes may do it at once, because each alert is conditional as well.
        Heartbeat.objects.note(LOOKS)
        return True

    def has_looked_for_a_while(self) -> bool:
        """True if checks have run for a minute without a gap. A process that was starting then has started by now."""
        return Heartbeat.objects.filter(name=LOOKS, since__lte=in_seconds(-FLAPPING_SECONDS)).exists()

    def note_alert(self, key: str, code: str, license_id: int | None, since: datetime | None) -> None:
        """Store that a finding holds.

        If the alert is not open yet, a later `since` means that the finding began anew, and so does the alert's time.

        Args:
            key: Identifies the finding.
            code: The kind of the finding.
            license_id: The license that it concerns; None if it concerns the site.
            since: When the finding began, by the database's clock; None if unknown.
        """
        rows = Alert.objects.filter(key=key)
        rows.filter(gone_at__isnull=False).update(gone_at=None, waiting=None, expired=None)
        if since is not None:
            rows.filter(opened_at=None, since__lt=since).update(since=since, noticed_at=DatabaseNow())
        if not rows.exists():
            noticed = Alert(
                key=key, code=code, license_id=license_id, since=since or DatabaseNow(), noticed_at=DatabaseNow()
            )
            Alert.objects.bulk_create([noticed], ignore_conflicts=True)

    def open_alert(self, alert_id: int, *, is_sure: bool) -> bool:
        """Open an alert whose finding was noticed at least a minute ago. True: the caller has to notify.

        `is_sure`: the alert is also opened if its finding is known to have begun at least a minute ago (`since`).
        """
        for_a_minute = in_seconds(-FLAPPING_SECONDS)
        lasts = Q(noticed_at__lte=for_a_minute)
        if is_sure:
            lasts |= Q(since__lte=for_a_minute)
        return self._change(
            Alert.objects.filter(lasts, pk=alert_id, opened_at=None), Telling.OPENED, opened_at=DatabaseNow()
        )

    def remind_of_alert(self, alert_id: int) -> bool:
        """Store that people are reminded of an alert that has been open for an hour. True: the caller has to do so."""
        due = Alert.objects.filter(
            pk=alert_id, opened_at__lte=in_seconds(-REMIND_SECONDS), reminded_at=None, gone_at=None, closed_at=None
        )
        return self._change(due, Telling.REMINDED, reminded_at=DatabaseNow())

    def note_gone(self, alert: Alert) -> None:
        """Store that an alert's finding is gone, and how many messages wait and have expired; for `close_alert()`.

        An alert that was never open is deleted.
        """
        if alert.opened_at is None:
            Alert.objects.filter(pk=alert.pk, opened_at=None).delete()
        elif alert.gone_at is None:
            messages = OutboundMessage.objects.all()
            if alert.license_id is not None:
                messages = messages.filter(license_id=alert.license_id)
            expired = messages.filter(status=Status.EXPIRED, settled_at__gte=alert.since)
            Alert.objects.filter(pk=alert.pk, gone_at=None, closed_at=None).update(
                gone_at=DatabaseNow(),
                waiting=count_up_to(MAX_COUNTED, messages.filter(status=Status.QUEUED)).number,
                expired=count_up_to(MAX_COUNTED, expired).number,
            )

    def close_alert(self, alert_id: int) -> bool:
        """Close an alert whose finding has been gone for a minute. True: the caller has to notify."""
        gone = Alert.objects.filter(pk=alert_id, gone_at__lte=in_seconds(-FLAPPING_SECONDS), closed_at=None)
        return self._change(gone, Telling.CLOSED, key=None, closed_at=DatabaseNow())

    def untold_alerts(self) -> QuerySet[Alert]:
        """Return the alerts whose notification another process took on and did not confirm.

        Alerts that ended more than `GIVEN_UP_SECONDS` ago are left out.
        """
        untold = Alert.objects.exclude(untold="").filter(told_again_at__lte=DatabaseNow())
        return untold.exclude(closed_at__lte=in_seconds(-GIVEN_UP_SECONDS))

    def take_telling(self, alert: Alert) -> bool:
        """Take over an alert's pending notification. True: the caller has to send it."""
        seconds = TELL_SECONDS * 2 ** min(alert.failures, _MAX_DOUBLINGS)
        same = self.untold_alerts().filter(pk=alert.pk, untold=alert.untold)
        return bool(same.update(told_again_at=in_seconds(seconds)))

    def confirm_told(self, alert: Alert, *, has_failed: bool) -> None:
        """Store that an alert's notification was sent; or, with `has_failed`, that nobody could be reached."""
        same = Alert.objects.filter(pk=alert.pk, untold=alert.untold)
        if has_failed:
            same.update(failures=alert.failures + 1)
        else:
            same.update(untold="", told_again_at=None, failures=0)

    @contextmanager
    def own_connection(self, schema: str) -> Iterator[bool]:
        """Give a thread its own connection to the schema `schema` (see `outbox_key()`), and close it afterwards.

        Yields False if the schema cannot be chosen in this thread.
        """
        connection: Any = connections[self.using]
        try:
            if schema and hasattr(connection, "set_schema"):
                connection.set_schema(schema)
            yield schema == str(getattr(connection, "schema_name", None) or "")
        finally:
            connection.close()

    @staticmethod
    def _change(rows: QuerySet[Alert], telling: Telling, **columns: Any) -> bool:
        untold = {"untold": telling, "told_again_at": in_seconds(TELL_SECONDS), "failures": 0}
        return bool(rows.update(**columns, **untold))
