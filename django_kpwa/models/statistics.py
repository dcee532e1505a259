"""Figures that the dashboard reads instead of counting messages, and heartbeats of what should be running."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .database import DatabaseNow, OutboxManager, in_seconds
from .license import License

HISTOGRAM_SECONDS = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
"""Upper bounds of the buckets for the time from queued to sent; one more bucket holds what took longer."""


class HourlyStatistic(models.Model):
    """How many messages of a license were settled in one hour (UTC), and how."""

    license = models.ForeignKey(License, models.CASCADE, related_name="statistics", verbose_name=_("license"))
    hour = models.DateTimeField(_("hour"))
    sent = models.PositiveIntegerField(_("sent"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    unknown = models.PositiveIntegerField(_("in doubt"), default=0)
    cancelled = models.PositiveIntegerField(_("cancelled"), default=0)
    expired = models.PositiveIntegerField(_("expired"), default=0)
    # Of the sent messages: those delivered, read, and reported as not delivered. NULL: counted by a release without
    # these columns.
    delivered = models.PositiveIntegerField(_("delivered"), null=True)
    read = models.PositiveIntegerField(_("read"), null=True)
    undelivered = models.PositiveIntegerField(_("reported as not delivered"), null=True)
    # A count for each bucket of HISTOGRAM_SECONDS, and one for what took longer.
    queued_to_sent = models.JSONField(_("queued to sent"), default=list)

    objects = OutboxManager()

    class Meta:
        verbose_name = _("hourly statistic")
        verbose_name_plural = _("hourly statistics")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["license", "hour"], name="kpwa_statistic_once")]
        indexes = [models.Index(fields=["hour"], name="kpwa_statistic_hour")]

    def __str__(self) -> str:
        return f"{self.license_id} {self.hour:%Y-%m-%d %H}"


SILENT_SECONDS = 90.0
"""Seconds without a heartbeat after which a service is considered dead. Cron and beat sweep at least every minute."""


class HeartbeatQuerySet(models.QuerySet["Heartbeat"]):
    def renew(self, name: str) -> bool:
        """Store that the service called `name` is alive now; False if it was never seen before."""
        was_silent = models.When(seen_at__lt=in_seconds(-SILENT_SECONDS), then=DatabaseNow())
        since = models.Case(was_silent, default=models.F("since"))
        # `since` goes first: MariaDB gives the columns that follow the values that are set already.
        return bool(self.filter(name=name).update(since=since, seen_at=DatabaseNow()))

    def note(self, name: str) -> None:
        """Like `renew()`, but also for a service that was never seen before."""
        if not self.renew(name):
            noted = Heartbeat(name=name, seen_at=DatabaseNow(), since=DatabaseNow())
            self.bulk_create([noted], ignore_conflicts=True)


STRANGERS = "strangers"
"""Name of a row that is not a heartbeat, see `Heartbeat`."""


class Heartbeat(models.Model):
    """When a service was last seen alive, and since when without a silence of `SILENT_SECONDS`.

    `sweep`: a sweep has run, started by beat and a worker, by `kpwa run` or by cron.
    `worker`: a Celery worker takes tasks from our queue. `other worker`: one takes tasks from other queues alone.
    `beat`: Celery's beat runs, and our tasks are in its schedule. `other beat`: it runs without our tasks.
    `run`, `dispatch`: `kpwa run` looked for work; a round of `kpwa dispatch` began.
    `publish failed`: the broker did not take a task.
    `alerts`: a process checked whether people have to be notified.
    `strangers`: not a service; `seen_at` is when the last event was received whose sender the purge has examined.
    """

    name = models.CharField(_("name"), max_length=64, primary_key=True)
    seen_at = models.DateTimeField(_("seen"))
    # The previous release writes rows without it.
    since = models.DateTimeField(_("since"), null=True)

    objects = OutboxManager.from_queryset(HeartbeatQuerySet)()

    class Meta:
        verbose_name = _("heartbeat")
        verbose_name_plural = _("heartbeats")
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
