"""The services that must run for receipts to be sent, and the command that starts or repairs each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.contrib.admin import AdminSite
from django.db.models import Count, Min
from django.http import HttpRequest
from django.utils.translation import gettext

from .. import broker
from ..counts import bounded, count_up_to
from ..formatting import duration
from ..health import Missing, Senders
from ..models import EventStatus, WebhookEvent
from ..words import Mark, Tone
from .links import Links
from .long_list import MAX_COUNTED

LATE_SECONDS = 300.0
"""If the oldest pending webhook has waited longer than this, the page says that webhooks are not being processed."""

_RUN = "python manage.py kpwa run"
_DOCTOR = "python manage.py kpwa doctor"


@dataclass(frozen=True)
class Service:
    """One service: its state, an explanation, and the commands that start or repair it. `url` links to details."""

    name: str
    mark: Mark
    words: str = ""
    commands: tuple[str, ...] = ()
    url: str = ""
    url_words: str = ""


def look_at_services(site: AdminSite, request: HttpRequest, senders: Senders, now: datetime) -> list[Service]:
    """Return the services in the order in which a message passes them.

    Args:
        now: The database's time, because waiting webhooks are stamped by the database.
    """
    if not broker.is_configured():
        return [_sender(senders), _waiting_webhooks(senders, now), _unrecognised_webhooks(site, request)]
    return [
        _broker(senders),
        _worker(senders),
        _beat(senders),
        _waiting_webhooks(senders, now),
        _unrecognised_webhooks(site, request),
    ]


def _broker(senders: Senders) -> Service:
    """Return the broker's state as far as heartbeats show it.

    The page must not connect to the broker: if the broker is down, the page would hang. A recent task of a worker
    proves that the broker delivers; `kpwa doctor` asks the broker itself.
    """
    name = gettext("Broker")
    if senders.has_worker:
        return Service(
            name, _good(gettext("Delivers")), _ago(gettext("It delivered a task %(time)s ago."), senders.worked_seconds)
        )
    words = gettext("No task has come through it lately. Sales are not delayed, and messages are kept. Check it with:")
    return Service(name, Mark(Tone.NEUTRAL, "?", gettext("Unknown")), words, (_DOCTOR,))


def _worker(senders: Senders) -> Service:
    name = gettext("Worker")
    if senders.has_worker:
        return Service(
            name, _good(gettext("Running")), _ago(gettext("It took a task %(time)s ago."), senders.worked_seconds)
        )
    if senders.worked_seconds is None:
        words = gettext("No worker has ever taken a task. Start one:")
    else:
        words = _ago(gettext("No worker has taken a task for %(time)s. Start one:"), senders.worked_seconds)
    return Service(name, _bad(gettext("Not running")), words, (_celery("worker"),))


def _beat(senders: Senders) -> Service:
    """Return beat's state. Beat has no heartbeat of its own: only a worker that runs its tasks shows that it runs."""
    name = gettext("Beat (the clock)")
    if senders.missing == Missing.NOTHING:
        return Service(name, _good(gettext("Running")), _ago(gettext("It ran %(time)s ago."), senders.swept_seconds))
    if senders.missing == Missing.WORKER_AND_BEAT:
        words = gettext("It is only detected through a worker, so start both:")
        return Service(name, _bad(gettext("Not detected")), words, (_celery("worker"), _celery("beat")))
    if senders.swept_seconds is None:
        words = gettext("It has never run with the schedule from django_kpwa.schedule. Start it:")
    else:
        words = _ago(gettext("It has not run for %(time)s. Start it:"), senders.swept_seconds)
    return Service(name, _bad(gettext("Not running")), words, (_celery("beat"),))


def _sender(senders: Senders) -> Service:
    """Return the state of the sender on a site without a broker: `kpwa run`, or `kpwa dispatch` by cron."""
    name = gettext("Sender")
    if senders.missing == Missing.NOTHING:
        return Service(name, _good(gettext("Running")), _ago(gettext("It ran %(time)s ago."), senders.swept_seconds))
    if senders.swept_seconds is None:
        words = gettext(
            "Nothing has ever sent messages here. Start this, or call “kpwa dispatch” from cron every minute:"
        )
    else:
        words = _ago(
            gettext("It has not run for %(time)s. Start this, or call “kpwa dispatch” from cron every minute:"),
            senders.swept_seconds,
        )
    return Service(name, _bad(gettext("Not running")), words, (_RUN,))


def _waiting_webhooks(senders: Senders, now: datetime) -> Service:
    name = gettext("Waiting webhooks")
    pending = WebhookEvent.objects.filter(status=EventStatus.PENDING)
    found = (
        pending.order_by()
        .values("received_at")[: MAX_COUNTED + 1]
        .aggregate(count=Count("*"), oldest=Min("received_at"))
    )
    waiting = bounded(MAX_COUNTED, found["count"])
    if not waiting:
        return Service(name, _good(gettext("Nothing")))
    age = (now - found["oldest"]).total_seconds()
    words = _ago(gettext("The oldest came %(time)s ago."), age)
    if age <= LATE_SECONDS:
        return Service(name, Mark(Tone.WAITING, "◷", str(waiting)), words)
    if senders.missing == Missing.NOTHING:
        why = gettext("The worker has not processed them yet. This processes them:")
    else:
        why = gettext("Nothing processes them. This does:")
    return Service(name, Mark(Tone.ATTENTION, "!", str(waiting)), f"{words} {why}", ("python manage.py kpwa dispatch",))


def _unrecognised_webhooks(site: AdminSite, request: HttpRequest) -> Service:
    name = gettext("Unrecognised webhooks")
    unrecognised = count_up_to(MAX_COUNTED, WebhookEvent.objects.filter(status=EventStatus.UNRECOGNISED))
    if not unrecognised:
        return Service(name, _good(gettext("Nothing")))
    words = gettext("They are kept. A parser of your own (WEBHOOK_PARSER) can teach the site to read them; then:")
    url = Links(site, request).to_page(WebhookEvent, "changelist", status__exact=EventStatus.UNRECOGNISED.value)
    return Service(
        name,
        Mark(Tone.NEUTRAL, "?", str(unrecognised)),
        words,
        ("python manage.py kpwa webhook replay",),
        url,
        gettext("Look at them"),
    )


def _celery(program: str) -> str:
    return f"celery -A {broker.app_name() or 'PROJECT'} {program}"


def _ago(words: str, seconds: float | None) -> str:
    return words % {"time": duration(seconds or 0.0)}


def _good(words: str) -> Mark:
    return Mark(Tone.GOOD, "✓", words)


def _bad(words: str) -> Mark:
    return Mark(Tone.BAD, "✕", words)
