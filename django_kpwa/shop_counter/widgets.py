"""What a site's own pages show to the shop's staff: chips and the banner.

A chip is the status of the messages about an object, with buttons for users allowed to act on them. It shows the newest
message, and those earlier messages that need a person's decision or help. The banner has one line for each license with
a problem, and one if no license is chosen; it is empty if all is well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from django.db.models import Exists, F, Model, Q, Window
from django.db.models.functions import RowNumber
from django.utils.translation import gettext, ngettext

from .. import phone
from ..counts import BoundedCount, count_up_to
from ..formatting import short_time
from ..gateway import SessionStatus
from ..gateway.outcome import Cause
from ..health import Unassigned, lane_of, license_condition, unassigned
from ..models import (
    RESENDABLE,
    UNSETTLED,
    DatabaseNow,
    License,
    OutboundMessage,
    RecipientType,
    Status,
    about,
    database_of,
    source_id_of,
)
from ..receipts import registry
from ..site_urls import find_url
from ..store import choosing
from ..words import NO_KEY, NONE_CHOSEN, STATUSES, Condition, Help, Mark, Tone, reason_row

MAX_MESSAGES = 5
"""Maximum number of messages that are read per object, newest first."""
MAX_SHOWN = 3
"""Maximum number of messages that a chip shows."""
MAX_LICENSES = 200
"""Maximum number of licenses whose condition is examined."""
MAX_LINES = 5
"""Maximum number of lines for licenses."""
MAX_WAITING = 1000
"""Waiting receipts of a license are counted up to this number."""
_PREFETCHED = "_kpwa_messages"


@dataclass(frozen=True)
class Person:
    """A user of the site, or an anonymous visitor. Only authenticated, active users have permissions."""

    user: Any

    def may(self, codename: str) -> bool:
        """Return True if the user has our app's permission `codename` (given without the app label)."""
        # A site's own user class may lack both attributes; such users have no permissions here.
        asked = getattr(self.user, "has_perm", None)
        return bool(getattr(self.user, "is_active", False) and asked and asked(f"django_kpwa.{codename}"))

    @property
    def is_staff(self) -> bool:
        """True if the user may log in to the admin."""
        return bool(self.user is not None and getattr(self.user, "is_staff", False))


def person_of(request: Any) -> Person:
    """Return the user of `request`; an anonymous visitor on a site without authentication."""
    return Person(getattr(request, "user", None))


# Chips


@dataclass(frozen=True)
class Shown:
    """One message as its chip shows it.

    `resend_url` and `send_to_url` are empty if there is no such button. `why` and `recipient` are empty if the user may
    not view messages. `asks_first` is True if resending needs a confirmation.
    """

    message: OutboundMessage
    mark: Mark
    at: datetime | None
    at_words: str
    why: str
    recipient: str = field(repr=False)
    resend_url: str
    asks_first: bool
    send_to_url: str


def messages_about(objects: Iterable[Model]) -> dict[Model, list[OutboundMessage]]:
    """Return the newest messages about each object, at most `MAX_MESSAGES`, newest first, without their texts.

    It takes one query per model and database.

    Raises:
        ValueError: Two objects of one model have the same primary key in different databases. They are equal to Django,
            so they can't be two keys of the result.
    """
    instances = list(objects)
    places: dict[Model, str] = {}
    for obj in instances:
        # Instances with the same primary key are equal even if they are from different databases.
        if places.setdefault(obj, database_of(obj)) != database_of(obj):
            raise ValueError(
                "Objects in two databases have the same primary key: call this for each database separately."
            )
    return dict(zip(instances, _messages_about(instances), strict=True))


def prefetch_messages(objects: Iterable[Model]) -> None:
    """Fetch the messages about all `objects` at once and cache them on the instances: chips then need no query."""
    instances = list(objects)
    for obj, messages in zip(instances, _messages_about(instances), strict=True):
        setattr(obj, _PREFETCHED, messages)


def chip(obj: Model, person: Person) -> list[Shown]:
    """Return the messages that the chip of a saved object shows to `person`; empty if there are none."""
    messages = getattr(obj, _PREFETCHED, None)
    if messages is None:
        [messages] = _messages_about([obj])
    earlier = [message for message in messages[1:] if message.needs_somebody]
    return [_shown(message, person) for message in [*messages[:1], *earlier][:MAX_SHOWN]]


def _messages_about(instances: Sequence[Model]) -> list[list[OutboundMessage]]:
    """Return the newest messages about each instance, in the same order.

    If a row is given twice, as proxy and as concrete model, both get the same messages.
    """
    found: list[list[OutboundMessage]] = [[] for _ in instances]
    places: dict[tuple[type[Model], str], dict[str, list[int]]] = {}
    for number, obj in enumerate(instances):
        table = obj._meta.concrete_model or type(obj)
        by_id = places.setdefault((table, database_of(obj)), {})
        by_id.setdefault(source_id_of(obj), []).append(number)
    for (table, alias), by_id in places.items():
        for message in _newest(about(table, alias, by_id)):
            for number in by_id.get(message.source_id, ()):
                found[number].append(message)
    return [registry.without_earlier_rows(messages, obj) for messages, obj in zip(found, instances, strict=True)]


def _newest(wanted: Q) -> list[OutboundMessage]:
    messages = OutboundMessage.objects.filter(wanted)
    # The limit is per object: an object with thousands of messages must not displace those of the others.
    place = Window(RowNumber(), partition_by=F("source_id"), order_by=F("pk").desc())
    newest = messages.annotate(place=place).filter(place__lte=MAX_MESSAGES).order_by("-pk")
    return list(newest.defer("text", "image_url", "idempotency_key"))


def _is_for_another(message: OutboundMessage) -> bool:
    """Return True if the message's text may be sent to another number: it is settled, and was not to a group."""
    return message.recipient_type == RecipientType.NUMBER and message.status not in UNSETTLED


def _shown(message: OutboundMessage, person: Person) -> Shown:
    may_view = person.may("view_outboundmessage")
    may_resend = message.status in RESENDABLE and person.may("decide_outboundmessage")
    may_send_to = _is_for_another(message) and may_view and person.may("add_outboundmessage")
    at = _moment(message)
    return Shown(
        message=message,
        mark=STATUSES[message.status],
        at=at,
        at_words=short_time(at) if at else "",
        why=_why(message) if may_view else "",
        recipient=phone.written(message.recipient) if may_view else "",
        resend_url=find_url("django_kpwa:message_resend", message.uuid) if may_resend else "",
        asks_first=message.status == Status.UNKNOWN,
        send_to_url=find_url("django_kpwa:message_send_to", message.uuid) if may_send_to else "",
    )


def _moment(message: OutboundMessage) -> datetime | None:
    moments = {
        Status.SENT: message.sent_at,
        Status.DELIVERED: message.delivered_at or message.sent_at,
        Status.READ: message.read_at,
        Status.FAILED: message.settled_at,
        Status.UNKNOWN: message.settled_at,
    }
    return moments.get(cast(Any, message.status))


def _why(message: OutboundMessage) -> str:
    """Return why the message is not or was not sent, for a refusal in the gateway's own words; empty otherwise."""
    if message.status == Status.FAILED and message.reason == Cause.REFUSED and message.reason_words:
        return gettext("the gateway said: %(words)s") % {"words": message.reason_words}
    is_told = message.status in RESENDABLE or message.license_id is None
    return str(reason_row(message).label) if is_told else ""


# The banner


def banner(person: Person) -> tuple[list[dict[str, Any]], int]:
    """Return the `MAX_LINES` most urgent lines, and the number of licenses with a problem that are not shown.

    In a line, `name` is empty if the site has only one license, and `url` if the user may not fix the problem.
    """
    active = License.objects.active().select_related("lane").defer("base_url")
    # Everything in one query, because every page at the till has a banner.
    asked = active.annotate(looked_at=DatabaseNow(), kpwa_some_unassigned=Exists(choosing.unassigned()))
    licenses = list(asked[:MAX_LICENSES])
    looked = [(license_condition(license_, cast(Any, license_).looked_at), license_) for license_ in licenses]
    wrong = [found for found in looked if found[0].tone in (Tone.BAD, Tone.ATTENTION)]
    wrong.sort(key=lambda found: (found[0].urgency, found[1].name))
    lines = [_line(person, license_, condition, len(licenses) > 1) for condition, license_ in wrong[:MAX_LINES]]
    more = len(wrong) - len(lines)
    if (not licenses or cast(Any, licenses[0]).kpwa_some_unassigned) and (found := unassigned()):
        lines.insert(0, _unassigned_line(person, found))
    return lines, more


def _unassigned_line(person: Person, found: Unassigned) -> dict[str, Any]:
    """Return the line about messages for which no license is chosen: they wait even if all licenses work."""
    said = gettext("%(waiting)s, because %(why)s") % {
        "waiting": receipts_waiting(found.count),
        "why": found.why,
    }
    may_help = person.is_staff and (person.may("view_license") or person.may("change_license"))
    url = find_url("admin:django_kpwa_license_changelist") if may_help else ""
    return {"mark": NONE_CHOSEN, "name": "", "sentence": said, "url": url, "help_label": gettext("Open")}


def _line(person: Person, license_: License, condition: Condition, is_one_of_several: bool) -> dict[str, Any]:
    url, help_label = _help(person, license_, condition)
    queued = OutboundMessage.objects.filter(license=license_, status=Status.QUEUED)
    waiting = receipts_waiting(count_up_to(MAX_WAITING, queued))
    said = _sentence(str(condition.counter), _since(license_, condition), waiting)
    name = license_.name if is_one_of_several else ""
    return {"mark": condition, "name": name, "sentence": said, "url": url, "help_label": help_label}


def _help(person: Person, license_: License, condition: Condition) -> tuple[str, str]:
    """Return the URL of the admin page that fixes the problem, and the link's label; empty if the user may not."""
    if not person.is_staff:
        return "", ""
    if condition.help == Help.LINK and person.may("link_license"):
        url = find_url("admin:django_kpwa_license_link", license_.pk)
        if url:
            return url, str(condition.help_label)
    if person.may("view_license") or person.may("change_license"):
        return find_url("admin:django_kpwa_license_change", license_.pk), gettext("Open")
    return "", ""


def _since(license_: License, condition: Condition) -> datetime | None:
    """Return since when the license has been paused or waiting for a scan; None if that is unknown."""
    lane = lane_of(license_)
    if lane is None or condition == NO_KEY:
        return None
    if lane.pause_reason:
        return lane.paused_at
    return lane.session_seen_at if lane.session_status == SessionStatus.QR.value else None


def _sentence(problem: str, since: datetime | None, waiting: str) -> str:
    """Return the banner's sentence, for example "WhatsApp disconnected since 19.04, 37 receipts waiting"."""
    said = problem
    if since is not None:
        said = gettext("%(problem)s since %(time)s") % {"problem": problem, "time": short_time(since)}
    return gettext("%(problem)s, %(waiting)s") % {"problem": said, "waiting": waiting} if waiting else said


def receipts_waiting(count: BoundedCount) -> str:
    """Return for example "37 receipts waiting"; empty if none wait."""
    if not count:
        return ""
    return ngettext("%(count)s receipt waiting", "%(count)s receipts waiting", count.number) % {"count": count}
