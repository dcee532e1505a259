"""The columns that each change of state writes. Every statement takes them from here, so that none omits a column."""

from __future__ import annotations

from typing import Any

from django.db.models import F
from django.db.models.functions import Coalesce

from ..gateway import SentMessage, SessionStatus
from ..gateway.outcome import Outcome
from ..logs import without_controls
from ..models.database import DatabaseNow, in_seconds
from ..models.message import Status
from ..phone import mask_numbers
from .restriction import Known
from .results import Hold, LaneVerdict, MessageVerdict, Pause


def outcome_columns(outcome: Outcome) -> dict[str, Any]:
    """The columns of an attempt that store an outcome of any kind."""
    return {
        "outcome": outcome.kind.value,
        "cause": outcome.cause.value,
        "http_status": outcome.status_code,
        "code": "" if outcome.code is None else str(outcome.code)[:64],
        "words": outcome.words,
    }


def answer_columns(answer: SentMessage) -> dict[str, str]:
    """The columns of an attempt that store the gateway's answer to an accepted send."""
    return {
        "gateway_id": answer.id[:255],
        "read_as": answer.to[:64],
        "gateway_created_at": answer.created_at[:64],
    }


def sent_columns(at: Any) -> dict[str, Any]:
    """The columns of a message that was accepted; `at`: the time of that, as a value or an expression."""
    return {
        "status": Status.SENT,
        "sent_at": at,
        "settled_at": DatabaseNow(),
        "reason": "",
        "reason_words": "",
        "in_doubt": False,
        "dismissed_at": None,
    }


def verdict_columns(verdict: MessageVerdict) -> dict[str, Any]:
    """The columns of a message that was not accepted, according to the verdict on it."""
    columns: dict[str, Any] = {"status": verdict.status, "reason": verdict.reason, "reason_words": verdict.words}
    if verdict.status == Status.QUEUED:
        if verdict.due_in_seconds is not None:
            columns["due_at"] = in_seconds(verdict.due_in_seconds)
        if verdict.refunds_attempt:
            columns["attempts_spent"] = F("attempts_spent") - 1
    else:
        columns["settled_at"] = DatabaseNow()
    return columns


def hold_columns(hold: Hold) -> dict[str, Any]:
    """The columns of a queued message that is put off."""
    return {"due_at": hold.until, "reason": hold.reason, "reason_words": ""}


def lane_columns(lane: LaneVerdict) -> dict[str, Any]:
    """The columns of a lane after a send, except those of a pause and of a restriction."""
    columns: dict[str, Any] = {
        "next_send_at": in_seconds(lane.next_send_in_seconds),
        "failures": lane.failures,
    }
    if lane.session_status is not None:
        columns |= session_columns(lane.session_status, lane.session_word)
    if lane.linked_number:
        columns["linked_number"] = lane.linked_number
        if lane.confirms_number:
            columns["confirmed_number"] = lane.linked_number
    return columns | error_columns(lane.error)


def restriction_columns(known: Known, words: str | None = None) -> dict[str, Any]:
    """The columns of a lane that store a restriction.

    `words`: the gateway's text, masked. None: the stored text is kept, and emptied once there is no restriction.
    """
    columns: dict[str, Any] = {
        "restriction_step": known.step,
        "cold_trail": ",".join(map(str, known.trail)),
    }
    if not known.is_restricted:
        return columns | {"restricted_until": None, "restricted_at": None, "restriction_words": ""}
    if known.wait_seconds is not None:
        columns["restricted_until"] = in_seconds(known.wait_seconds)
    columns["restricted_at"] = Coalesce("restricted_at", DatabaseNow())
    return columns if words is None else columns | {"restriction_words": words[:500]}


def error_columns(error: str) -> dict[str, Any]:
    """The columns of a lane that store its last error, a text for people."""
    return {"last_error": error, "last_error_at": DatabaseNow()} if error else {}


def session_columns(session_status: SessionStatus, word: str) -> dict[str, Any]:
    """The columns of a lane that store its session.

    `word`: the gateway's own word for the status, which is kept only if the status is unknown.
    """
    # Masked here as well, because a site's own gateway class or parser may not have done so.
    storable = word.encode("utf-8", "replace").decode() if session_status == SessionStatus.UNKNOWN else ""
    return {
        "session_status": session_status.value,
        "session_word": mask_numbers(without_controls(storable)).strip()[:64],
        "session_seen_at": DatabaseNow(),
    }


def pause_columns(pause: Pause) -> dict[str, Any]:
    """The columns of a lane that store a pause which begins now."""
    return {
        "pause_reason": pause.reason,
        "pause_words": pause.words,
        "paused_at": DatabaseNow(),
        "paused_until": None if pause.seconds is None else in_seconds(pause.seconds),
        "paused_key_version": pause.key_version,
    }
