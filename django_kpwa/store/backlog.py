"""Looks over what waits that cost the same however much of it waits: from license to license, never row by row.

They read one index, `kpwa_message_claim`, which begins with the status and the license. PostgreSQL and SQLite read all
of a backlog for a DISTINCT; there a recursive query looks for the next license, and then for its next priority. MySQL
and MariaDB go through a DISTINCT in such steps by themselves, and would read a backlog for the recursive query.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.db.models import OuterRef, Subquery

from ..models.clock import DatabaseNow
from ..models.license import License
from ..models.message import OutboundMessage, OutboundMessageQuerySet, Status
from .base import StoreBase
from .sql import with_tables

LICENSES_AT_ONCE = 500
"""Maximum number of licenses per statement."""

# PostgreSQL takes a recursive query from so many licenses to be long, and would compile it first.
_FEW = 50

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

# By priority: what is due later would otherwise be read until the first message that is due now.
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


class Backlog(StoreBase):
    def queued_license_ids(self) -> Iterator[list[int]]:
        """The licenses that have messages waiting, due or not, some at a time and in the order of their ids."""
        query = self._queued_by_distinct if self.is_mysql else self._queued_by_steps
        after = 0
        while license_ids := query(after, LICENSES_AT_ONCE):
            yield license_ids
            if len(license_ids) < LICENSES_AT_ONCE:
                return
            after = license_ids[-1]

    def queued_without_their_license(self) -> OutboundMessageQuerySet:
        """Messages whose license is gone: it was deleted while a transaction that stored them was open."""
        lost: list[int] = []
        for license_ids in self.queued_license_ids():
            there = License.objects.filter(pk__in=license_ids).values_list("pk", flat=True)
            lost += set(license_ids).difference(there)
        return OutboundMessage.objects.filter(status=Status.QUEUED, license_id__in=lost)

    def due_license_ids(self, license_ids: Iterable[int]) -> list[int]:
        """Those of `license_ids`, at most `LICENSES_AT_ONCE` of them, that have a message due."""
        wanted = sorted(license_ids)
        found = self._due_at_their_head(wanted) if wanted else []
        query = self._due_by_first if self.is_mysql else self._due_by_steps
        # What goes first is seldom not due: a message that is tried again later, or was queued for tomorrow.
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
        # With the status, which is one: MariaDB takes steps for a DISTINCT of what its index begins with alone.
        found = queued.order_by("license_id").values_list("status", "license_id").distinct()
        return [license_id for _, license_id in found[:limit]]

    def _due_at_their_head(self, license_ids: list[int]) -> list[int]:
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
        # Not EXISTS: MariaDB makes a join of it that reads everything that is due.
        licenses = License.objects.filter(pk__in=license_ids).alias(due=Subquery(due.values("status")[:1]))
        return list(licenses.filter(due__isnull=False).order_by().values_list("pk", flat=True))
