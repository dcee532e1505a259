"""The tables of words: each member has a row, each row has all its fields, and Indonesian differs from English."""

from __future__ import annotations

import re
from dataclasses import fields
from enum import Enum

import pytest
from django.utils import translation
from django.utils.functional import Promise

from django_kpwa import words
from django_kpwa.cli.linking import SESSION_WORDS
from django_kpwa.exceptions import GatewayError
from django_kpwa.gateway import SessionStatus, SessionTrouble
from django_kpwa.gateway.outcome import Cause, OutcomeKind, outcome_of_error
from django_kpwa.models import EventStatus, FailureCause, OutboundMessage, PauseReason, Status, WebhookEvent
from django_kpwa.store.choosing import Unchosen

TABLES = {
    "statuses": (words.STATUSES, Status),
    "event statuses": (words.EVENT_STATUSES, EventStatus),
    "pauses": (words.PAUSES, PauseReason),
    "causes": (words.CAUSES, Cause),
    "outcomes": (words.OUTCOMES, OutcomeKind),
    "unchosen": (words.UNCHOSEN, Unchosen),
    "problems": (words.PROBLEMS, words.Problem),
    "failures": (words.FAILURES, FailureCause),
    "fates": (words.FATES, words.Fate),
    "alerts": (words.ALERTS, words.Tells),
    "troubles": (words.TROUBLES, SessionTrouble),
}
CONDITIONS = ("CONNECTED", "INACTIVE", "NEVER_LINKED", "NEW_KEY", "NO_KEY", "NOT_SEEN", "UNCLEAR")
ROWS = {
    **{f"{name}-{code}": row for name, (table, _) in TABLES.items() for code, row in table.items()},
    **{name: getattr(words, name) for name in CONDITIONS},
}
OPTIONAL = {
    words.CauseRow: {"title", "asking"},
    words.Condition: {"help", "help_label", "counter", "command", "tells"},
    words.ProblemRow: {"meaning", "headline", "counter", "part", "tells"},
    words.PauseRow: {"help", "help_label", "tells"},
}
"""Fields that may be empty. A query to the gateway never ends with a lost worker. A healthy license needs no button
and no line in the banner."""


def _errors_under(kind):
    return [error for each in kind.__subclasses__() for error in (each, *_errors_under(each))]


@pytest.mark.parametrize("name", TABLES)
def test_every_member_has_a_row(name):
    table, members = TABLES[name]
    # The empty member means that there is nothing to show: not paused, or no cause.
    assert {member.value for member in members if member.value} <= table.keys()


def test_a_status_of_the_link_is_told_at_the_command_line():
    assert set(SESSION_WORDS) == set(SessionStatus)


def test_every_field_of_a_row_says_something():
    for name, row in ROWS.items():
        for field in fields(row):
            if field.name not in OPTIONAL.get(type(row), ()):
                value = getattr(row, field.name)
                assert str(value.value if isinstance(value, Enum) else value).strip(), (name, field.name)


def test_what_stops_a_license_and_does_not_end_by_itself_is_told():
    telling = {reason for reason, row in words.PAUSES.items() if row.tells == words.Tells.LICENSE_STOPPED}
    assert telling == {reason for reason, row in words.PAUSES.items() if row.tone == words.Tone.BAD}
    assert {row.tells for row in words.PROBLEMS.values()} - {""} <= set(words.ALERTS)


def test_what_is_translated_has_other_words_in_indonesian():
    for name, row in ROWS.items():
        for field in fields(row):
            value = getattr(row, field.name)
            if isinstance(value, Promise):
                with translation.override("en"):
                    english = str(value)
                with translation.override("id"):
                    assert str(value) != english, (name, field.name)


def test_only_commands_and_symbols_are_not_translated():
    for name, row in ROWS.items():
        plain = {field.name for field in fields(row) if isinstance(getattr(row, field.name), str)}
        # A text that is only a placeholder is translated where its value is made.
        said = {each for each in plain if re.sub(r"^%\(\w+\)s$", "", getattr(row, each))}
        assert said <= {"tone", "symbol", "code", "command", "error", "fate", "help", "part", "tells"}, name


@pytest.mark.parametrize("error", [GatewayError, *_errors_under(GatewayError)])
def test_every_error_of_the_gateway_is_told_to_the_person_who_asked(error):
    row = words.CAUSES[outcome_of_error(error("no")).cause]
    assert row.title
    assert row.asking


def test_a_help_button_has_a_label():
    for row in [*words.PAUSES.values(), *words.TROUBLES.values(), *(getattr(words, name) for name in CONDITIONS)]:
        assert bool(row.help.value) is bool(row.help_label)


def test_each_condition_has_a_code_of_its_own():
    assert {reason: row.code for reason, row in words.PAUSES.items()} == {reason: reason for reason in words.PAUSES}
    assert {getattr(words, name).code for name in CONDITIONS} == {name.lower() for name in CONDITIONS}
    assert {trouble: row.code for trouble, row in words.TROUBLES.items()} == {
        trouble: trouble for trouble in words.TROUBLES
    }


@pytest.mark.parametrize("name", TABLES)
def test_a_code_without_a_row_is_shown_by_itself(name):
    table, _ = TABLES[name]
    row = table["of_a_newer_release"]
    assert row.label == "of_a_newer_release"
    assert "of_a_newer_release" not in table


def test_a_receipt_with_a_status_of_a_newer_release_counts_as_in_doubt():
    assert words.STATUSES["of_a_newer_release"].fate == words.Fate.DOUBT


def test_a_message_and_an_event_of_a_newer_release_can_be_explained():
    message = OutboundMessage(status="recalled", reason="another_cause", license_id=1)
    assert words.status_row(message).label == "recalled"
    assert words.status_row(message).command.format(id=7)
    assert words.reason_row(message).label == "another_cause"
    assert words.event_row(WebhookEvent(status="postponed")).explained
    assert words.what_to_do("another_pause", "Toko")


def test_what_a_message_waits_for_goes_before_its_status():
    waiting = OutboundMessage(status=Status.QUEUED, license_id=1)
    assert words.status_row(waiting) is words.STATUSES[Status.QUEUED]
    assert not words.reason_row(waiting).label
    assert not words.reason_row(waiting).explained
    tried = OutboundMessage(status=Status.QUEUED, license_id=1, reason=Cause.TIMEOUT)
    assert "tried again" in words.status_row(tried).explained
    assert words.reason_row(tried) is words.CAUSES[Cause.TIMEOUT]
    assert "license" in words.status_row(OutboundMessage(status=Status.QUEUED)).explained


def test_there_being_nothing_to_do_is_not_said_beside_what_is_meant():
    delivered = words.STATUSES[Status.DELIVERED]
    assert str(delivered.advice) == "There is nothing to do."
    assert delivered.explained == "It is on the customer's phone."


def test_a_command_names_the_license_as_a_shell_wants_it():
    assert words.what_to_do(PauseReason.UNAUTHORIZED, "Toko Utama").endswith('licenses set-key "Toko Utama"')
