"""Above the list: how many events nobody understood, or could place, and one click to see them alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from ...conditions import Mark, event_mark
from ...counts import BoundedCount, count_up_to
from ...models import EventStatus, WebhookEvent

MOST_COUNTED = 1000

_STATUSES = (EventStatus.UNRECOGNISED, EventStatus.FAILED, EventStatus.UNMATCHED)
_PARAMETER = "status__exact"


@dataclass(frozen=True)
class Trouble:
    mark: Mark
    count: BoundedCount
    url: str
    is_chosen: bool


def troubles_of(list_url: str, query: Mapping[str, str]) -> list[Trouble]:
    """The kinds of trouble that there is, unrecognised events first, counted as far as `MOST_COUNTED`."""
    chosen = query.get(_PARAMETER, "")
    counts = {status: count_up_to(MOST_COUNTED, WebhookEvent.objects.filter(status=status)) for status in _STATUSES}
    return [
        Trouble(
            event_mark(status),
            count,
            f"{list_url}?{urlencode({_PARAMETER: status.value})}",
            chosen == status,
        )
        for status, count in counts.items()
        if count or chosen == status
    ]
