"""The usual cases of a lane on PostgreSQL: one statement, hence one round trip and one commit, for each message.

PostgreSQL promises no order among the CTEs of a statement that write, and each of them sees the tables as they were
before the statement. The order rests on RETURNING alone: each CTE reads the rows that the CTE before it returned. This
has two effects, and a CTE that does not read its predecessor's rows would break both:

- Rows are locked in the order lane, message, attempt, next message.
- A CTE writes nothing if the one before it wrote nothing.

Every unusual case is left to the portable form. It finds the rows unchanged, except that the lease may be renewed.
"""

# ruff: noqa: S608 - every part of the statements stands in this file; values are parameters

from __future__ import annotations

from typing import Any

from django.db.models import Field
from django.views.decorators.debug import sensitive_variables

from ...gateway.outcome import Outcome
from ...models.lane import Lane
from ...models.license import License
from ...models.message import RecipientType, Status
from ..columns import answer_columns, outcome_columns
from ..lanes import Lanes
from ..locks import FINISH_SECONDS, TAKE_SECONDS
from ..recipients import KNOWN, contact_of
from ..results import (
    CONTENT_COLUMNS,
    FACT_COLUMNS,
    Ahead,
    Claim,
    Content,
    Facts,
    Idle,
    LaneVerdict,
    Lease,
    LeaseLost,
    MessageVerdict,
    Ready,
    Recorded,
    Step,
    Unrendered,
)
from .prepared import Row, Statement

_NOW = "STATEMENT_TIMESTAMP()"
_LEASE_EXPIRES_AT = f"{_NOW} + make_interval(secs => %(lease_seconds)s)"
_STEPPED_BACK = f"{_NOW} + make_interval(secs => %(step_back_seconds)s)"

_STALE = f"{_NOW} - make_interval(secs => {Lanes.TEXT_KEEPS_SECONDS})"

# Limits how long the statement waits for a row lock. It is part of the statement, which saves a round trip. The first
# UPDATE has to read it by `FROM patience`: this sets the limit before any row is locked.
_PATIENCE = "patience AS MATERIALIZED (SELECT set_config('lock_timeout', '{}s', true))"
_FINISHES, _TAKES = _PATIENCE.format(FINISH_SECONDS), _PATIENCE.format(TAKE_SECONDS)

# The first message that is due, even if it is overdue or has no text yet. The CTEs below tell these cases apart.
_NEXT = f"""next AS MATERIALIZED (
  SELECT id, due_at, attempts_made, recipient_type, recipient, {", ".join(FACT_COLUMNS)},
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
  RETURNING license_id, lease_token, pause_reason, next_send_at, restricted_until
)"""

_GOES_ON = """%(keeps_lease)s OR EXISTS (SELECT 1 FROM next) AND pause_reason = ''
    AND (SELECT is_active FROM django_kpwa_license WHERE id = %(license_id)s)"""

# Records an accepted send. If there is nothing more to send, `held` gives the lane back in the same commit.
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
    session_status = %(session_status)s, session_word = '', session_seen_at = {_NOW},
    linked_number = CASE WHEN %(linked_number)s <> '' THEN %(linked_number)s ELSE linked_number END,
    confirmed_number = CASE WHEN %(confirms_number)s THEN %(linked_number)s ELSE confirmed_number END
  FROM patience
  WHERE license_id = %(license_id)s AND lease_token = %(lease)s AND cold_trail = '' AND EXISTS (SELECT 1 FROM running)
  RETURNING license_id, lease_token, pause_reason, next_send_at, restricted_until
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
), met AS (
  INSERT INTO django_kpwa_recipient AS recipient
    (license_id, number, lid, stop_reason, first_sent_at, last_sent_at, sent_since_inbound)
  SELECT %(license_id)s, %(number)s, '', '', {_NOW}, {_NOW}, 1 FROM finished WHERE %(number)s <> ''
  ON CONFLICT (number, license_id) DO UPDATE
  SET first_sent_at = COALESCE(recipient.first_sent_at, {_NOW}), last_sent_at = {_NOW},
    sent_since_inbound = recipient.sent_since_inbound + 1
)"""

# Claims the message `next`. If its text has to be written first, the message is moved back in the queue instead.
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
  RETURNING message.id, message.attempts_made, message.attempts_spent,
    {", ".join(f"message.{name}" for name in CONTENT_COLUMNS)}
), started AS (
  INSERT INTO django_kpwa_sendattempt
    (message_id, number, started_at, outcome, cause, code, words, gateway_id, read_as, gateway_created_at)
  SELECT claimed.id, claimed.attempts_made, {_NOW}, 'running', '', '', '', '', '', ''
  FROM claimed, next WHERE NOT next.is_unrendered
  RETURNING id
)"""

_FOUND_COLUMNS = f"""held.lease_token IS NULL AS is_released,
  held.pause_reason <> '' OR NOT license.is_active AS is_paused,
  next.id AS next_id, next.due_at, next.is_unrendered, next.is_overdue,
  EXTRACT(EPOCH FROM held.next_send_at - {_NOW})::float8 AS wait_seconds,
  claimed.id AS claimed_id, started.id AS attempt_id, claimed.attempts_made, claimed.attempts_spent,
  {", ".join(f"claimed.{name}" for name in CONTENT_COLUMNS)}, {", ".join(f"next.{name}" for name in FACT_COLUMNS)},
  COALESCE(claimed.recipient_type, next.recipient_type) AS kind, COALESCE(claimed.recipient, next.recipient) AS number,
  {", ".join(f"known.{name}" for name in KNOWN)}, {_NOW} AS now,
  EXISTS (SELECT 1 FROM django_kpwa_recipient WHERE stopped_at IS NOT NULL) AS has_stops,
  held.restricted_until IS NOT NULL AS is_restricted"""
# LATERAL makes PostgreSQL use the index for the recipient, whatever the planner's statistics say about the table.
_KNOWN = f"""LEFT JOIN next ON true LEFT JOIN claimed ON true LEFT JOIN started ON true LEFT JOIN LATERAL (
  SELECT {", ".join(KNOWN)} FROM django_kpwa_recipient
  WHERE license_id = %(license_id)s AND number = COALESCE(claimed.recipient, next.recipient)
  LIMIT 1
) known ON true"""
_FOUND = f"""{_FOUND_COLUMNS}
FROM held JOIN django_kpwa_license license ON license.id = held.license_id {_KNOWN}"""

# Takes the lease and, with `claims`, claims the first message. No message is claimed if the lane's session or linked
# number has to be checked first. The lane's row is also read as it was before: this tells a lane that is driven from
# one with an expired lease, which the portable form has to settle.
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
SELECT held.license_id IS NOT NULL AS is_taken, lane.lease_expires_at > {_NOW} AS is_driven,
  {", ".join(f'held.{column} AS "lane.{column}"' for column in _LANE_COLUMNS)},
  {", ".join(f'license.{column} AS "license.{column}"' for column in _LICENSE_COLUMNS)},
  {_FOUND_COLUMNS}
FROM django_kpwa_lane lane JOIN django_kpwa_license license ON license.id = lane.license_id
  LEFT JOIN held ON true {_KNOWN}
WHERE lane.license_id = %(license_id)s"""

_LOOK = f"""SELECT (EXISTS (
  SELECT 1 FROM django_kpwa_outboundmessage
  WHERE license_id = %(license_id)s AND status = 'queued' AND due_at <= {_NOW}
) AND EXISTS (
  SELECT 1 FROM django_kpwa_lane lane JOIN django_kpwa_license license ON license.id = lane.license_id
  WHERE lane.license_id = %(license_id)s AND license.is_active
    AND (lane.lease_token IS NULL OR lane.lease_expires_at <= {_NOW})
    AND (lane.next_send_at IS NULL OR lane.next_send_at <= {_NOW})
    AND (lane.pause_reason = '' OR lane.paused_until <= {_NOW} OR (lane.pause_reason = 'unauthorized'
      AND lane.paused_key_version IS DISTINCT FROM license.api_key_version))
)) AS is_startable"""

_TYPES = {
    "license_id": "bigint", "lease": "uuid", "previous_lease": "uuid", "lease_seconds": "float8",
    "step_back_seconds": "float8", "keeps_lease": "boolean", "claims": "boolean",
    "message_id": "bigint", "attempt_id": "bigint", "attempt_number": "integer",
    "next_send_in_seconds": "float8", "failures": "smallint", "session_status": "text",
    "linked_number": "text", "confirms_number": "boolean", "outcome": "text", "cause": "text",
    "http_status": "smallint", "code": "text", "words": "text", "gateway_id": "text", "read_as": "text",
    "gateway_created_at": "text", "number": "text",
}  # fmt: skip

_CLAIM = Statement(
    f"WITH {_FINISHES}, {_NEXT}, {_RENEWED}, {_CLAIMED.format(after='held', when='')} SELECT {_FOUND}", _TYPES
)
_RECORD = Statement(
    f"WITH {_FINISHES}, next AS (SELECT 1 WHERE false), {_RECORDED} SELECT id AS finished_id FROM finished", _TYPES
)
_RECORD_AND_CLAIM = Statement(
    f"WITH {_FINISHES}, {_NEXT}, {_RECORDED}, {_CLAIMED.format(after='held CROSS JOIN finished', when='')}"
    f" SELECT finished.id AS finished_id, {_FOUND} LEFT JOIN finished ON true",
    _TYPES,
)

_TAKE_FREE = Statement(
    _TAKE.format(
        taken_at=_NOW,
        # A message that is still `sending` belongs to a lost worker. The portable form has to settle it.
        where="""lease_token IS NULL AND NOT EXISTS (
    SELECT 1 FROM django_kpwa_outboundmessage WHERE license_id = %(license_id)s AND status = 'sending')""",
    ),
    _TYPES,
)
_SWAP = Statement(_TAKE.format(taken_at="lease_taken_at", where="lease_token = %(previous_lease)s"), _TYPES)
_HAS_STARTABLE_WORK = Statement(_LOOK, _TYPES)


class PostgreSQLLanes(Lanes):
    """Overrides what a driver calls for each message. For arguments and results see `Lanes`."""

    def _is_alone(self) -> bool:
        """False inside a transaction that a caller opened. The portable form raises an error in that case."""
        return not self.connection.in_atomic_block and self.connection.get_autocommit()

    @sensitive_variables()
    def take_lease(
        self, lease: Lease, seconds: float, *, resend_lost: bool, max_attempts: int, claims: bool = False
    ) -> Step:
        if self._is_alone():
            row = _TAKE_FREE.row(self.using, self._of_lease(lease, seconds) | {"claims": claims})
            # In all other cases the lane's row is missing, or a lost worker's messages have to be settled.
            if row is not None and (row["is_taken"] or row["is_driven"]):
                return self._taken(row)
        return super().take_lease(lease, seconds, resend_lost=resend_lost, max_attempts=max_attempts)

    @sensitive_variables()
    def swap_lease(self, passed_on: Lease, lease: Lease, seconds: float, *, claims: bool = False) -> Step:
        if not self._is_alone():
            return super().swap_lease(passed_on, lease, seconds)
        parameters = self._of_lease(lease, seconds) | {"previous_lease": passed_on.token, "claims": claims}
        return self._taken(_SWAP.row(self.using, parameters))

    def has_startable_work(self, license_id: int) -> bool:
        row = _HAS_STARTABLE_WORK.row(self.using, {"license_id": license_id})
        return bool(row and row["is_startable"])

    @sensitive_variables()
    def claim_next(self, lease: Lease, seconds: float, first_id: int | None = None) -> Step:
        if first_id is None and self._is_alone():
            row = _CLAIM.row(self.using, self._of_lease(lease, seconds))
            step = Step(LeaseLost()) if row is None else _found(row)
            if step is not None:
                return step
        return super().claim_next(lease, seconds, first_id)

    @sensitive_variables()
    def record(
        self,
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
        usual = None if is_retry or not self._is_alone() else _usual_values(claim, outcome, verdict, lane)
        if usual is not None:
            parameters = usual | self._of_lease(lease, lease_seconds) | {"keeps_lease": not claims_next}
            row = (_RECORD_AND_CLAIM if claims_next else _RECORD).row(self.using, parameters)
            # If the statement did not finish the attempt, it wrote nothing, and the portable form has to record it.
            if row is not None and row["finished_id"] is not None:
                return Recorded(Status.SENT, self._next(lease, row, lease_seconds) if claims_next else Step(Ready()))
        return super().record(
            lease,
            claim,
            outcome,
            verdict,
            lane,
            lease_seconds=lease_seconds,
            claims_next=claims_next,
            is_retry=is_retry,
        )

    @sensitive_variables()
    def _next(self, lease: Lease, row: Row, lease_seconds: float) -> Step:
        """Return the step that `row` describes. If the row does not decide it, search again in the portable form."""
        step = _found(row)
        if step is not None:
            return step
        with self.durable():
            return self._claim_or_release(lease) if self._renew(lease, lease_seconds) else Step(LeaseLost())

    @sensitive_variables()
    def _taken(self, row: Row | None) -> Step:
        if row is None or not row["is_taken"]:
            return Step(LeaseLost())
        lane = self._made(Lane, row)
        lane.license = self._made(License, row)
        step = _found(row)
        # Only a claimed message is returned. The driver first checks the lane, and then searches for anything else.
        return Step(step.claim if step is not None and step.claim else Ready(), lane=lane)

    def _made(self, model: Any, row: Row) -> Any:
        fields: list[Field[Any, Any]] = model._meta.concrete_fields
        prefix = model._meta.model_name
        return model.from_db(
            self.using, [field.attname for field in fields], [row[f"{prefix}.{field.column}"] for field in fields]
        )

    def _of_lease(self, lease: Lease, seconds: float) -> dict[str, Any]:
        return {
            "license_id": lease.license_id,
            "lease": lease.token,
            "lease_seconds": seconds,
            "step_back_seconds": self.RENDER_STEP_BACK_SECONDS,
        }


@sensitive_variables()
def _found(row: Row) -> Step | None:
    """Return the step that a statement's row describes; None if the portable form has to search.

    That is necessary for an overdue message, for example.
    """
    if row["is_paused"] or row["next_id"] is None:
        return Step(Idle(is_released=row["is_released"]))
    wait = row["wait_seconds"]
    columns = {name: row[name] for name in FACT_COLUMNS}
    facts = Facts(row["now"], **columns, is_restricted=row["is_restricted"])
    contact = contact_of(row["number"], row["now"], row) if row["kind"] == RecipientType.NUMBER else None
    if row["claimed_id"] is None:
        waits = not (row["is_overdue"] or row["is_unrendered"]) and wait is not None and wait > 0
        ahead = None if contact is None else Ahead(row["next_id"], facts, contact)
        return Step(Idle(wait_seconds=wait, ahead=ahead)) if waits else None
    if row["attempt_id"] is None:
        return Step(Unrendered(row["claimed_id"], row["due_at"], facts))
    content = Content(**{name: row[name] for name in CONTENT_COLUMNS})
    made, spent = row["attempts_made"], row["attempts_spent"]
    claim = Claim(row["claimed_id"], row["attempt_id"], made, spent, content, facts, row["has_stops"], contact)
    return Step(claim)


def _usual_values(claim: Claim, outcome: Outcome, verdict: MessageVerdict, lane: LaneVerdict) -> dict[str, Any] | None:
    """Return the parameters for recording an accepted send; None if this is not the usual case."""
    is_usual = verdict.status == Status.SENT and lane.session_status is not None and lane.pause is None
    if not is_usual or outcome.answer is None or lane.session_status is None:
        return None
    return {
        "message_id": claim.message_id,
        "attempt_id": claim.attempt_id,
        "attempt_number": claim.attempt_number,
        "next_send_in_seconds": lane.next_send_in_seconds,
        "failures": lane.failures,
        "session_status": lane.session_status.value,
        "linked_number": lane.linked_number,
        # Empty for a group, which has no `Recipient`.
        "number": claim.content.recipient if claim.content.recipient_type == RecipientType.NUMBER else "",
        "confirms_number": bool(lane.confirms_number and lane.linked_number),
        **outcome_columns(outcome),
        **answer_columns(outcome.answer),
    }
