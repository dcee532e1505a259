"""The hot path's SQL: leases, claims and records. Every status change is a conditional UPDATE on the status it leaves.

Whoever writes several of them locks in one order: lane, then messages, then their attempts. A transaction begins with
a write, so that SQLite takes its lock at once and MariaDB reads what is committed. Recording is durable: it never hides
in a caller's transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from django.db import connections
from django.views.decorators.debug import sensitive_variables

from ...gateway.outcome import Outcome
from ...models.clock import DatabaseNow, in_seconds
from ...models.database import write_alias
from ...models.lane import Lane
from ...models.message import Status
from ..locks import FINISH_SECONDS, TAKE_SECONDS, brief_transaction
from ..results import Claim, Claimed, LaneVerdict, Lease, LeaseLost, Lost, MessageVerdict, Pause, Recorded
from . import portable, postgresql, statements
from .columns import error_columns, lane_columns, usual_values


class WrittenForm(Protocol):
    """The usual case, written out for one database. Where it is another, nothing is written but a renewed lease."""

    def claim_next(self, using: str, lease: Lease, seconds: float, /) -> Claimed | None: ...

    def record_accepted(
        self, using: str, lease: Lease, values: dict[str, Any], seconds: float, /, *, claims_next: bool
    ) -> tuple[bool, Claimed | None]: ...


WRITTEN_FORMS: dict[str, WrittenForm] = {"postgresql": postgresql, "mysql": statements, "sqlite": statements}
"""By the database's vendor; `portable` stands in for others, Oracle's for one."""


@contextmanager
def durable(seconds: int = FINISH_SECONDS) -> Iterator[str]:
    """A transaction that is really committed at its end; gives the database's alias.

    `seconds`: how long it waits for another's lock, see `waiting`.
    """
    using = write_alias()
    with brief_transaction(using, seconds=seconds, durable=True):
        yield using


def ensure_lane(license_id: int) -> None:
    """Insert the lane's row where it is missing; harmless where somebody else just did."""
    Lane.objects.bulk_create([Lane(license_id=license_id)], ignore_conflicts=True)


def take_lease(
    license_id: int, seconds: float, *, resend_lost: bool, max_attempts: int, claims: bool = False
) -> Lease | None:
    """Take a lane that nobody drives. None: somebody does. Raises as `waiting` says where its row stays locked.

    Where the lease had run out, its worker was lost: the message that it was sending is in doubt from here on
    (`resend_lost`: goes back to `queued` instead, while attempts are left). `claims`: the first message may be claimed
    by the same statement, see `Lease.claimed`.
    """
    token = uuid.uuid4()
    if _written_form(write_alias()) is postgresql:
        is_done, lease = postgresql.take_lease(write_alias(), license_id, token, seconds, claims=claims)
        if is_done:
            return lease
    with durable(TAKE_SECONDS) as using:
        taken = (
            Lane.objects.filter(pk=license_id)
            .free()
            .update(lease_token=token, lease_expires_at=in_seconds(seconds), lease_taken_at=DatabaseNow())
        )
        if not taken:
            return None
        lost = portable.settle_lost(using, license_id, resend_lost=resend_lost, max_attempts=max_attempts)
    return Lease(license_id, token, lost.doubtful_ids, lost.proven_ids)


def swap_lease(license_id: int, token: uuid.UUID, seconds: float, *, claims: bool = False) -> Lease | None:
    """Take over a lease that its holder passed on with `token`. None: it was taken already, by a repeat of the task.

    `claims` as for `take_lease()`.
    """
    fresh = uuid.uuid4()
    if _written_form(write_alias()) is postgresql:
        return postgresql.swap_lease(write_alias(), license_id, token, fresh, seconds, claims=claims)
    with durable(TAKE_SECONDS):
        swapped = Lane.objects.filter(pk=license_id, lease_token=token).update(
            lease_token=fresh, lease_expires_at=in_seconds(seconds)
        )
    return Lease(license_id, fresh) if swapped else None


def has_startable_work(license_id: int) -> bool:
    """Whether the lane is free and may be driven, and has something due."""
    using = write_alias()
    if _written_form(using) is postgresql:
        return postgresql.has_startable_work(using, license_id)
    return portable.has_startable_work(using, license_id)


def release_lease(lease: Lease) -> bool:
    """Give the lane back. False: the lease was lost before."""
    with durable() as using:
        return bool(portable.held(using, lease).update(lease_token=None, lease_expires_at=None))


def claim_next(lease: Lease, seconds: float) -> Claimed:
    """Renew the lease and claim the next message that may go now."""
    using = write_alias()
    if written := _written_form(using):
        claimed = written.claim_next(using, lease, seconds)
        if claimed is not None:
            return claimed
    with durable():
        if not portable.renew(using, lease, seconds):
            return Claimed(LeaseLost())
        return portable.claim(using, lease)


def give_back(claim: Claim) -> Status | None:
    """Return a claimed message that was not sent after all; `sent` where proof of an earlier attempt has come.

    None: the lease ran out and it is in doubt already.
    """
    with durable() as using:
        return portable.undo_claim(using, claim.message_id, claim.attempt_number)


@sensitive_variables()
def record(
    lease: Lease,
    claim: Claim,
    outcome: Outcome,
    verdict: MessageVerdict,
    lane: LaneVerdict,
    *,
    lease_seconds: float,
    claims_next: bool,
    is_retry: bool = False,
) -> Recorded:
    """Record an outcome, renew the lease and, where `claims_next`, claim the next message: one transaction.

    With nothing to send the lane is given back instead, by the same commit (`Idle.is_released`).
    Where the lease was lost meanwhile, what was learned still upgrades this attempt and its message, and nothing else.
    `is_retry`: an earlier try's COMMIT may have gone through unanswered; what it claimed is given back.
    """
    using = write_alias()
    usual = None if is_retry else usual_values(claim, outcome, verdict, lane)
    written = _written_form(using)
    if usual is not None and written is not None:
        is_recorded, claimed = written.record_accepted(using, lease, usual, lease_seconds, claims_next=claims_next)
        if is_recorded:
            if claims_next and claimed is None:
                with durable():
                    is_held = portable.renew(using, lease, lease_seconds)
                    claimed = portable.claim_or_release(using, lease) if is_held else Claimed(LeaseLost())
            return Recorded(Status.SENT, claimed)
    with durable():
        columns = lane_columns(lane) | {"lease_expires_at": in_seconds(lease_seconds)}
        held = bool(portable.held(using, lease).update(**columns))
        paused = held and lane.pause is not None and portable.pause(using, lease, lane.pause, probes=0)
        status = portable.settle(using, claim, outcome, verdict)
        portable.finish_attempt(using, claim, outcome)
        if not held:
            return Recorded(status, None, lease_lost=True)
        if is_retry:
            status = status or portable.recorded_before(using, claim)
            portable.give_back_unstarted(using, lease.license_id)
        claimed = portable.claim_or_release(using, lease) if claims_next else None
        return Recorded(status, claimed, paused=paused)


def pause_lane(lease: Lease, pause: Pause, *, probes: int = 0, error: str = "") -> bool:
    """Pause a lane that one drives, or pause it anew after `probes` status checks. `error`: what went wrong, in words.

    False: the lease was lost, or the lane has meanwhile a pause that people end, which stays.
    """
    with durable() as using:
        return portable.pause(using, lease, pause, probes=probes, **error_columns(error))


def settle_abandoned(license_id: int, *, resend_lost: bool, max_attempts: int) -> Lost:
    """Free a lane whose lease ran out and that nobody takes; returns what became of its messages.

    One that somebody is at is left to them, or to the next time.
    """
    with durable(TAKE_SECONDS) as using:
        skips = connections[using].features.has_select_for_update_skip_locked
        abandoned = Lane.objects.filter(pk=license_id).abandoned()
        if not list(abandoned.select_for_update(skip_locked=skips).values_list("pk", flat=True)):
            return Lost()
        abandoned.update(lease_token=None, lease_expires_at=None)
        return portable.settle_lost(using, license_id, resend_lost=resend_lost, max_attempts=max_attempts)


def _written_form(using: str) -> WrittenForm | None:
    """The written-out statements for this database.

    None in a transaction that somebody else opened: the portable form refuses that, as every durable one does.
    """
    connection = connections[using]
    if connection.in_atomic_block or not connection.get_autocommit():
        return None
    return WRITTEN_FORMS.get(connection.vendor)
