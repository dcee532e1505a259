"""The services that must run for receipts to be sent, and the command that starts or repairs each."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.admin import AdminSite
from django.db.models import Count, Min
from django.http import HttpRequest
from django.utils.translation import gettext

from .. import broker
from ..counts import MAX_COUNTED, bounded, count_up_to
from ..formatting import duration
from ..health import LATE_WEBHOOK_SECONDS, Health, last_seen
from ..models import SILENT_SECONDS, EventStatus, WebhookEvent
from ..senders import Senders
from ..words import Mark, Problem, Tone
from .links import Links

_RUN = "python manage.py kpwa run"
_DOCTOR = "python manage.py kpwa doctor"
_SCHEDULE = "CELERY_BEAT_SCHEDULE = {**django_kpwa.schedule.beat_schedule(), …}"
_INCLUDE = "path('whatsapp/', include('django_kpwa.urls'))"
NEVER = float("inf")


@dataclass(frozen=True)
class Service:
    """One service: its state, an explanation, and the commands that start or repair it.

    `url`: a page with details. `press_url`: the URL to which the button that tests the service posts.
    """

    name: str
    mark: Mark
    words: str = ""
    commands: tuple[str, ...] = ()
    url: str = ""
    url_words: str = ""
    press_url: str = ""


def look_at_services(site: AdminSite, request: HttpRequest, health: Health) -> list[Service]:
    """Return the services in the order in which a message passes them."""
    senders = health.senders
    sending = [_sender(senders)] if senders.is_without_broker else [_broker(health), _worker(health), _beat(health)]
    return [*sending, _waiting_webhooks(health), _unrecognised_webhooks(site, request), *_urls(health)]


def _broker(health: Health) -> Service:
    """Return the broker's state as far as heartbeats show it.

    The page must not connect to the broker: if the broker is down, the page would hang. Its state is inferred from a
    worker that is connected to it, or a task that it did not take; `kpwa doctor` connects to the broker itself.
    """
    name, senders = gettext("Broker"), health.senders
    if health.find(Problem.BROKER_DOWN):
        words = gettext("It took no task %(time)s ago. Sales are not held up, and messages are kept. This asks it:")
        return Service(
            name, _bad(gettext("Does not answer")), _ago(words, senders.seen.get("publish failed")), (_DOCTOR,)
        )
    if senders.is_alive("worker"):
        return Service(
            name, _good(gettext("Delivers")), _ago(gettext("A worker used it %(time)s ago."), senders.seen["worker"])
        )
    words = gettext("No worker has used it lately. This asks it; sales are not held up, and messages are kept:")
    return Service(name, Mark(Tone.NEUTRAL, "?", gettext("Unknown")), words, (_DOCTOR,))


def _worker(health: Health) -> Service:
    name, senders = gettext("Worker"), health.senders
    if senders.is_alive("worker"):
        return _runs(name, senders.seen["worker"])
    if found := health.find(Problem.OTHER_QUEUE):
        return Service(
            name,
            _bad(gettext("Not running")),
            found.say("meaning"),
            (f"{_celery('worker')} -Q {found.figures['queue']}",),
        )
    return _missing(name, senders.seen.get("worker"), _celery("worker"))


def _beat(health: Health) -> Service:
    """Return beat's state, by its own heartbeat or by the sweeps that it starts."""
    name, senders = gettext("Beat (the clock)"), health.senders
    seen = min(senders.seen.get("beat", NEVER), senders.seen.get("sweep", NEVER))
    if health.find(Problem.STARTING):
        return Service(name, Mark(Tone.WAITING, "◷", gettext("Starting")), gettext("It was not seen yet."))
    if found := health.find(Problem.OTHER_SCHEDULE):
        return Service(name, _bad(gettext("Runs without our tasks")), found.say("advice"), (_SCHEDULE,))
    if seen <= SILENT_SECONDS:
        return _runs(name, seen)
    return _missing(name, None if seen == NEVER else seen, _celery("beat"))


def _sender(senders: Senders) -> Service:
    """Return the state of the sender that needs no broker: `kpwa run`, or `kpwa dispatch` by cron."""
    name = gettext("Sender")
    seen = min(senders.seen.get(each, NEVER) for each in ("run", "dispatch", "sweep"))
    if seen <= SILENT_SECONDS:
        return _runs(name, seen)
    words = gettext("Start this, or call “kpwa dispatch” from cron every minute:")
    return Service(name, _bad(gettext("Not running")), f"{last_seen(None if seen == NEVER else seen)} {words}", (_RUN,))


def _urls(health: Health) -> list[Service]:
    found = health.find(Problem.NO_URLS)
    if found is None:
        return []
    return [Service(gettext("Addresses of the site"), _bad(gettext("Missing")), found.say("meaning"), (_INCLUDE,))]


def _runs(name: str, seconds: float) -> Service:
    return Service(name, _good(gettext("Running")), last_seen(seconds))


def _missing(name: str, seconds: float | None, command: str) -> Service:
    words = gettext("Start it:")
    return Service(name, _bad(gettext("Not running")), f"{last_seen(seconds)} {words}", (command,))


def _waiting_webhooks(health: Health) -> Service:
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
    age = (health.now - found["oldest"]).total_seconds()
    words = _ago(gettext("The oldest came %(time)s ago."), age)
    if age <= LATE_WEBHOOK_SECONDS:
        return Service(name, Mark(Tone.WAITING, "◷", str(waiting)), words)
    if health.senders.problem is None:
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
