"""Queries over all waiting messages whose cost depends on the number of licenses, not on the length of the backlog.

They read one index, `kpwa_message_claim`, which begins with the status and the license. Each database needs its own
form of query to jump from one license to the next; with the other form it would read the whole backlog:

- PostgreSQL and SQLite: a recursive query, which jumps to the next license, and then to its next priority.
- MySQL and MariaDB: a DISTINCT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from django.db.models import OuterRef, Subquery

from ..models.database import DatabaseNow
from ..models.license import License
from ..models.message import OutboundMessage, OutboundMessageQuerySet, Status
from .base import StoreBase
from .sql import with_tables

# Number of licenses per recursive query. With more of them, PostgreSQL expects the query to take long, and spends time
# on JIT compilation first.
_FEW = 50

_LOOK = """
SELECT
    EXISTS (SELECT 1 FROM django_kpwa_lane WHERE lease_token IS NOT NULL AND lease_expires_at <= {now}),
    EXISTS (SELECT 1 FROM django_kpwa_outboundmessage WHERE status = 'queued'),
    EXISTS (SELECT 1 FROM django_kpwa_webhookevent WHERE next_try_at <= {now})
"""

_QUEUED = """
WITH RECURSIVE found (license_id, place) AS (
    SELECT MIN(license_id), 1 FROM django_kpwa_outboundmessage
    WHERE status = 'queued' AND license_id > %s
    UNION ALL
    SELECT (SELECT MIN(waiting.license_id) FROM django_kpwa_outboundmessage waiting
            WHERE waiting.status = 'queued' AND waiting.license_id > found.license_id), place + 1
    FROM found WHERE license_id IS NOT NULL AND place < %s
)
SELECT license_id FROM found WHERE license_id IS NOT NULL
"""

# Takes one step per priority, because within a priority the index gives the earliest `due_at` at once. A plain search
# would read all messages that are due later, up to the first one that is due now.
_DUE = """
WITH RECURSIVE found (license_id, priority) AS (
    VALUES {licenses}
    UNION ALL
    SELECT license_id, (SELECT MIN(waiting.priority) FROM django_kpwa_outboundmessage waiting
                        WHERE waiting.status = 'queued' AND waiting.license_id = found.license_id
                        AND waiting.priority > found.priority)
    FROM found WHERE priority IS NOT NULL
)
SELECT DISTINCT license_id FROM found
WHERE (SELECT MIN(waiting.due_at) FROM django_kpwa_outboundmessage waiting
       WHERE waiting.status = 'queued' AND waiting.license_id = found.license_id
       AND waiting.priority = found.priority) <= {now}
"""


class Waiting(NamedTuple):
    """Whether there are abandoned lanes, queued messages (due or not), and webhook events that are due."""

    lanes: bool
    messages: bool
    events: bool


class Backlog(StoreBase):
    """What the sweep asks of the store: whether anything waits, and for which licenses."""

    LICENSES_AT_ONCE = 500
    """Maximum number of licenses per statement."""

    def look(self) -> Waiting:
        """Check, in one statement, whether anything waits. On most sites, nothing waits most of the time."""
        with self.connection.cursor() as cursor:
            # With parameters, even if there are none: the SQL of the present time has doubled percent signs.
            cursor.execute(with_tables(_LOOK.format(now=self.now_sql), self.using), ())
            return Waiting(*map(bool, cursor.fetchone()))

    def queued_license_ids(self) -> Iterator[list[int]]:
        """Yield the ids of the licenses that have queued messages, due or not, in ascending order and in batches."""
        query = self._queued_by_distinct if self.dialect.jumps_by_distinct else self._queued_by_steps
        after = 0
        while license_ids := query(after, self.LICENSES_AT_ONCE):
            yield license_ids
            if len(license_ids) < self.LICENSES_AT_ONCE:
                return
            after = license_ids[-1]

    def queued_without_their_license(self) -> OutboundMessageQuerySet:
        """Return the queued messages whose license was deleted while a transaction that stored them was open."""
        lost: list[int] = []
        for license_ids in self.queued_license_ids():
            there = License.objects.filter(pk__in=license_ids).values_list("pk", flat=True)
            lost += set(license_ids).difference(there)
        return OutboundMessage.objects.filter(status=Status.QUEUED, license_id__in=lost)

    def due_license_ids(self, license_ids: Iterable[int]) -> list[int]:
        """Return those of `license_ids` (at most `LICENSES_AT_ONCE`) that have a message due, in ascending order."""
        wanted = sorted(license_ids)
        found = self._due_at_their_head(wanted) if wanted else []
        query = self._due_by_first if self.dialect.jumps_by_distinct else self._due_by_steps
        # The first message of a license is usually due: it seldom is one to be tried again later, or queued for
        # tomorrow. So only few licenses need the slower query.
        others = sorted(set(wanted) - set(found))
        for start in range(0, len(others), _FEW):
            found += query(others[start : start + _FEW])
        return sorted(found)

    def _queued_by_steps(self, after: int, limit: int) -> list[int]:
        with self.connection.cursor() as cursor:
            cursor.execute(with_tables(_QUEUED, self.using), (after, limit))
            return [license_id for (license_id,) in cursor.fetchall()]

    def _queued_by_distinct(self, after: int, limit: int) -> list[int]:
        queued = OutboundMessage.objects.filter(status=Status.QUEUED, license_id__gt=after)
        # The status is constant here, but has to be selected: MariaDB jumps through the index only for a DISTINCT of
        # the index's leading columns.
        found = queued.order_by("license_id").values_list("status", "license_id").distinct()
        return [license_id for _, license_id in found[:limit]]

    def _due_at_their_head(self, license_ids: list[int]) -> list[int]:
        """Return those of `license_ids` whose first message in the queue is due."""
        queued = OutboundMessage.objects.filter(status=Status.QUEUED, license_id=OuterRef("pk"))
        head = Subquery(queued.order_by("priority", "due_at").values("due_at")[:1])
        licenses = License.objects.filter(pk__in=license_ids).alias(head=head)
        return list(licenses.filter(head__lte=DatabaseNow()).order_by().values_list("pk", flat=True))

    def _due_by_steps(self, license_ids: list[int]) -> list[int]:
        statement = _DUE.format(licenses=", ".join(["(%s, -1)"] * len(license_ids)), now=self.now_sql)
        with self.connection.cursor() as cursor:
            cursor.execute(with_tables(statement, self.using), license_ids)
            return [license_id for (license_id,) in cursor.fetchall()]

    def _due_by_first(self, license_ids: list[int]) -> list[int]:
        due = OutboundMessage.objects.due().filter(license_id=OuterRef("pk"))
        # A subquery, not EXISTS: MariaDB turns EXISTS into a join that reads every message that is due.
        licenses = License.objects.filter(pk__in=license_ids).alias(due=Subquery(due.values("status")[:1]))
        return list(licenses.filter(due__isnull=False).order_by().values_list("pk", flat=True))
