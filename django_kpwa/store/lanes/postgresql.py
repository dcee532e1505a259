"""PostgreSQL's form of the usual case: one statement, and so one round trip and one durable commit, for a message.

The parts of a statement run in the order in which they read one another: that keeps the order of locks (lane, message,
attempt, next message), and lets nothing be written where the part before it wrote nothing. What is not the usual case
is left to the portable form, which finds the rows as they were; at most the lease has been renewed.
"""

# ruff: noqa: S608 - every part of the statements stands in this file; values are parameters

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from django.views.decorators.debug import sensitive_variables

from ...models.lane import Lane
from ...models.license import License
from ..locks import FINISH_SECONDS, TAKE_SECONDS
from ..prepared import Statement
from ..results import Claim, Claimed, Idle, Lease, LeaseLost, Unrendered
from . import portable

_NOW = "STATEMENT_TIMESTAMP()"
_LEASE_EXPIRES_AT = f"{_NOW} + make_interval(secs => %(lease_seconds)s)"
_STEPPED_BACK = f"{_NOW} + make_interval(secs => %(step_back_seconds)s)"

_STALE = f"{_NOW} - make_interval(secs => {portable.TEXT_KEEPS_SECONDS})"

# How long the statement waits for another's lock; set by the statement itself, so that it costs no round trip.
_PATIENCE = "patience AS MATERIALIZED (SELECT set_config('lock_timeout', '{}s', true))"
_FINISHES, _TAKES = _PATIENCE.format(FINISH_SECONDS), _PATIENCE.format(TAKE_SECONDS)

# The first that is due, whatever it is.
_NEXT = f"""next AS MATERIALIZED (
  SELECT id, due_at, attempts_made,
    renderer <> '' AND (rendered_at IS NULL OR (NOT in_doubt AND rendered_at <= {_STALE})) AS is_unrendered,
    expires_at IS NOT NULL AND expires_at <= {_NOW} AS is_overdue
  FROM django_kpwa_outboundmessage
  WHERE license_id = %(license_id)s AND status = 'queued' AND due_at <= {_NOW}
  ORDER BY priority, due_at, id
  LIMIT 1
)"""

_RENEWED = f"""held AS (
  UPDATE django_kpwa_lane SET lease_expires_at = {_LEASE_EXPIRES_AT}
  FROM patience
  WHERE license_id = %(license_id)s AND lease_token = %(lease)s
  RETURNING license_id, lease_token, pause_reason, next_send_at
)"""

_GOES_ON = """%(keeps_lease)s OR EXISTS (SELECT 1 FROM next) AND pause_reason = ''
    AND (SELECT is_active FROM django_kpwa_license WHERE id = %(license_id)s)"""

# With nothing to send, the lane is given back by the same commit.
_RECORDED = f"""running AS MATERIALIZED (
  SELECT 1 FROM django_kpwa_outboundmessage message, django_kpwa_sendattempt attempt
  WHERE message.id = %(message_id)s AND message.status = 'sending' AND message.attempts_made = %(attempt_number)s
    AND attempt.id = %(attempt_id)s AND attempt.outcome = 'running'
), held AS (
  UPDATE django_kpwa_lane
  SET lease_token = CASE WHEN {_GOES_ON} THEN lease_token END,
    lease_expires_at = CASE WHEN {_GOES_ON} THEN {_LEASE_EXPIRES_AT} END,
    next_send_at = {_NOW} + make_interval(secs => %(next_send_in_seconds)s),
    failures = %(failures)s,
    session_status = %(session_status)s, session_seen_at = {_NOW},
    linked_number = CASE WHEN %(linked_number)s <> '' THEN %(linked_number)s ELSE linked_number END,
    confirmed_number = CASE WHEN %(confirms_number)s THEN %(linked_number)s ELSE confirmed_number END
  FROM patience
  WHERE license_id = %(license_id)s AND lease_token = %(lease)s AND EXISTS (SELECT 1 FROM running)
  RETURNING license_id, lease_token, pause_reason, next_send_at
), sent AS (
  UPDATE django_kpwa_outboundmessage message
  SET status = 'sent', sent_at = {_NOW}, settled_at = {_NOW}, reason = '', reason_words = '', in_doubt = false,
    dismissed_at = NULL
  FROM held
  WHERE message.id = %(message_id)s AND message.status = 'sending' AND message.attempts_made = %(attempt_number)s
  RETURNING message.id
), finished AS (
  UPDATE django_kpwa_sendattempt attempt
  SET finished_at = {_NOW}, outcome = %(outcome)s, cause = %(cause)s, http_status = %(http_status)s, code = %(code)s,
    words = %(words)s, gateway_id = %(gateway_id)s, read_as = %(read_as)s, gateway_created_at = %(gateway_created_at)s
  FROM sent
  WHERE attempt.id = %(attempt_id)s
  RETURNING attempt.id
)"""

# A message that wants its text is not claimed: it steps back until it has it.
_CLAIMED = f"""claimed AS (
  UPDATE django_kpwa_outboundmessage message
  SET status = CASE WHEN next.is_unrendered THEN 'queued' ELSE 'sending' END,
    attempts_made = message.attempts_made + CASE WHEN next.is_unrendered THEN 0 ELSE 1 END,
    attempts_spent = message.attempts_spent + CASE WHEN next.is_unrendered THEN 0 ELSE 1 END,
    renderings_begun = message.renderings_begun + CASE WHEN next.is_unrendered THEN 1 ELSE 0 END,
    due_at = CASE WHEN next.is_unrendered THEN {_STEPPED_BACK} ELSE message.due_at END
  FROM {{after}}, next, django_kpwa_license license
  WHERE message.id = next.id AND message.status = 'queued' AND message.attempts_made = next.attempts_made
    AND NOT next.is_overdue AND license.id = held.license_id AND license.is_active AND held.pause_reason = '' {{when}}
    AND (next.is_unrendered OR held.next_send_at IS NULL OR held.next_send_at <= {_NOW})
  RETURNING message.id, message.attempts_made, message.attempts_spent, message.recipient_type, message.recipient,
    message.text, message.image_url
), started AS (
  INSERT INTO django_kpwa_sendattempt
    (message_id, number, started_at, outcome, cause, code, words, gateway_id, read_as, gateway_created_at)
  SELECT claimed.id, claimed.attempts_made, {_NOW}, 'running', '', '', '', '', '', ''
  FROM claimed, next WHERE NOT next.is_unrendered
  RETURNING id
)"""

_FOUND_COLUMNS = f"""held.lease_token IS NULL AS is_released,
  held.pause_reason <> '' OR NOT license.is_active AS is_paused,
  next.id, next.due_at, next.is_unrendered, next.is_overdue,
  EXTRACT(EPOCH FROM held.next_send_at - {_NOW})::float8 AS wait_seconds,
  claimed.id, started.id, claimed.attempts_made, claimed.attempts_spent, claimed.recipient_type, claimed.recipient,
  claimed.text, claimed.image_url"""
_FOUND = f"""{_FOUND_COLUMNS}
FROM held JOIN django_kpwa_license license ON license.id = held.license_id
  LEFT JOIN next ON true LEFT JOIN claimed ON true LEFT JOIN started ON true"""

# Whoever waits for the lane finds it driven. A lane that needs to be looked at is taken without a message.
_LANE_COLUMNS = [str(field.column) for field in Lane._meta.concrete_fields]
_LICENSE_COLUMNS = [str(field.column) for field in License._meta.concrete_fields]
_TAKE = f"""WITH {_TAKES}, {_NEXT}, held AS (
  UPDATE django_kpwa_lane
  SET lease_token = %(lease)s, lease_expires_at = {_LEASE_EXPIRES_AT}, lease_taken_at = {{taken_at}}
  FROM patience
  WHERE license_id = %(license_id)s AND {{where}}
  RETURNING {", ".join(_LANE_COLUMNS)}
), {
    _CLAIMED.format(
        after="held",
        when='''AND %(claims)s AND NOT next.is_unrendered AND held.session_status = 'connected'
    AND (held.confirmed_number = '' OR held.confirmed_number = held.linked_number)''',
    )
}
SELECT held.license_id IS NOT NULL, lane.lease_expires_at > {_NOW},
  {", ".join(f"held.{column}" for column in _LANE_COLUMNS)},
  {", ".join(f"license.{column}" for column in _LICENSE_COLUMNS)},
  {_FOUND_COLUMNS}
FROM django_kpwa_lane lane JOIN django_kpwa_license license ON license.id = lane.license_id
  LEFT JOIN held ON true LEFT JOIN next ON true LEFT JOIN claimed ON true LEFT JOIN started ON true
WHERE lane.license_id = %(license_id)s"""

_LOOK = f"""SELECT EXISTS (
  SELECT 1 FROM django_kpwa_outboundmessage
  WHERE license_id = %(license_id)s AND status = 'queued' AND due_at <= {_NOW}
) AND EXISTS (
  SELECT 1 FROM django_kpwa_lane lane JOIN django_kpwa_license license ON license.id = lane.license_id
  WHERE lane.license_id = %(license_id)s AND license.is_active
    AND (lane.lease_token IS NULL OR lane.lease_expires_at <= {_NOW})
    AND (lane.next_send_at IS NULL OR lane.next_send_at <= {_NOW})
    AND (lane.pause_reason = '' OR lane.paused_until <= {_NOW} OR (lane.pause_reason = 'unauthorized'
      AND lane.paused_key_version IS DISTINCT FROM license.api_key_version))
)"""

_TYPES = {
    "license_id": "bigint", "lease": "uuid", "previous_lease": "uuid", "lease_seconds": "float8",
    "step_back_seconds": "float8", "keeps_lease": "boolean", "claims": "boolean",
    "message_id": "bigint", "attempt_id": "bigint", "attempt_number": "integer",
    "next_send_in_seconds": "float8", "failures": "smallint", "session_status": "text",
    "linked_number": "text", "confirms_number": "boolean", "outcome": "text", "cause": "text",
    "http_status": "smallint", "code": "text", "words": "text", "gateway_id": "text", "read_as": "text",
    "gateway_created_at": "text",
}  # fmt: skip

_CLAIM = Statement(
    f"WITH {_FINISHES}, {_NEXT}, {_RENEWED}, {_CLAIMED.format(after='held', when='')} SELECT {_FOUND}", _TYPES
)
_RECORD = Statement(f"WITH {_FINISHES}, next AS (SELECT 1 WHERE false), {_RECORDED} SELECT id FROM finished", _TYPES)
_RECORD_AND_CLAIM = Statement(
    f"WITH {_FINISHES}, {_NEXT}, {_RECORDED}, {_CLAIMED.format(after='held CROSS JOIN finished', when='')}"
    f" SELECT finished.id, {_FOUND} LEFT JOIN finished ON true",
    _TYPES,
)

_TAKE_FREE = Statement(
    _TAKE.format(
        taken_at=_NOW,
        # One in the middle of a send would be a lost worker's.
        where="""lease_token IS NULL AND NOT EXISTS (
    SELECT 1 FROM django_kpwa_outboundmessage WHERE license_id = %(license_id)s AND status = 'sending')""",
    ),
    _TYPES,
)
_SWAP = Statement(_TAKE.format(taken_at="lease_taken_at", where="lease_token = %(previous_lease)s"), _TYPES)
_HAS_STARTABLE_WORK = Statement(_LOOK, _TYPES)


@sensitive_variables()
def take_lease(
    using: str, license_id: int, token: uuid.UUID, seconds: float, *, claims: bool
) -> tuple[bool, Lease | None]:
    """Take a lane that is free, and its first message. Returns whether that is all there is to do, and the lease."""
    lease = Lease(license_id, token)
    row = _TAKE_FREE.row(using, _of_lease(lease, seconds) | {"claims": claims})
    if row is None or not (row[0] or row[1]):
        return False, None
    return True, _taken(using, lease, row)


@sensitive_variables()
def swap_lease(
    using: str, license_id: int, previous: uuid.UUID, token: uuid.UUID, seconds: float, *, claims: bool
) -> Lease | None:
    """Take a lane over whose lease was passed on, and its next message."""
    lease = Lease(license_id, token)
    row = _SWAP.row(using, _of_lease(lease, seconds) | {"previous_lease": previous, "claims": claims})
    return None if row is None else _taken(using, lease, row)


def has_startable_work(using: str, license_id: int) -> bool:
    """Whether the lane is free and may be driven, and has something due."""
    row = _HAS_STARTABLE_WORK.row(using, {"license_id": license_id})
    return bool(row and row[0])


@sensitive_variables()
def claim_next(using: str, lease: Lease, seconds: float) -> Claimed | None:
    """Renew the lease and claim the next message. None: it is not one that can simply go."""
    row = _CLAIM.row(using, _of_lease(lease, seconds))
    return Claimed(LeaseLost()) if row is None else _found(*row)


@sensitive_variables()
def record_accepted(
    using: str, lease: Lease, values: dict[str, Any], seconds: float, *, claims_next: bool
) -> tuple[bool, Claimed | None]:
    """Record an accepted send by its `values` and, where `claims_next`, claim the next message or release the lane.

    Returns whether it is recorded, and what was claimed; None there: the next is not one that can simply go.
    """
    parameters = values | _of_lease(lease, seconds) | {"keeps_lease": not claims_next}
    row = (_RECORD_AND_CLAIM if claims_next else _RECORD).row(using, parameters)
    if row is None or row[0] is None:
        return False, None
    return True, _found(*row[1:]) if claims_next else None


@sensitive_variables()
def _found(
    is_released: bool, is_paused: bool, next_id: int | None, due_at: Any, is_unrendered: bool, is_overdue: bool,
    wait_seconds: float | None, claimed_id: int | None, attempt_id: int | None, number: int, spent: int,
    recipient_type: str, recipient: str, text: str, image_url: str,
) -> Claimed | None:  # fmt: skip
    if is_paused:
        return Claimed(Idle(is_paused=True, is_released=is_released))
    if next_id is None:
        return Claimed(Idle(is_released=is_released))
    if claimed_id is None:
        waits = not (is_overdue or is_unrendered) and wait_seconds is not None and wait_seconds > 0
        return Claimed(Idle(wait_seconds=wait_seconds)) if waits else None
    if attempt_id is None:
        return Claimed(Unrendered(claimed_id, due_at))
    return Claimed(Claim(claimed_id, attempt_id, number, spent, recipient_type, recipient, text, image_url))


@sensitive_variables()
def _taken(using: str, lease: Lease, row: tuple[Any, ...]) -> Lease | None:
    is_taken, _, *values = row
    if not is_taken:
        return None
    lane_values, values = values[: len(_LANE_COLUMNS)], values[len(_LANE_COLUMNS) :]
    license_values, found = values[: len(_LICENSE_COLUMNS)], values[len(_LICENSE_COLUMNS) :]
    lane = Lane.from_db(using, [field.attname for field in Lane._meta.concrete_fields], lane_values)
    lane.license = License.from_db(using, [field.attname for field in License._meta.concrete_fields], license_values)
    claimed = _found(*found)
    if claimed is not None and not isinstance(claimed.next, Claim):
        claimed = None
    return replace(lease, lane=lane, claimed=claimed)


def _of_lease(lease: Lease, seconds: float) -> dict[str, Any]:
    return {
        "license_id": lease.license_id,
        "lease": lease.token,
        "lease_seconds": seconds,
        "step_back_seconds": portable.RENDER_STEP_BACK_SECONDS,
    }
