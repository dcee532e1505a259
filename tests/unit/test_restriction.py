"""The policy of `store.restriction`: what answers and ticks tell about a restriction of a number by WhatsApp."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_kpwa.exceptions import (
    BadRequestError,
    ConnectionLostError,
    GatewayTimeoutError,
    NotConnectedError,
    RateLimitedError,
    ServerError,
    TurnedAwayError,
    UnauthorizedError,
)
from django_kpwa.gateway import SentMessage
from django_kpwa.gateway.outcome import Cause, Outcome, OutcomeKind, outcome_of_answer, outcome_of_error
from django_kpwa.pace import RESTRICTED_SECONDS
from django_kpwa.store.restriction import MAX_REMEMBERED, Fate, Known, Sent, Sign, sign_of, weigh

DAY = 86_400.0
MARKED, FAILED, DOUBT, ACCEPTED, NOT_MADE, NONE = Sign


@pytest.mark.parametrize(
    ("outcome", "sign"),
    [
        (outcome_of_answer(SentMessage("A1")), ACCEPTED),
        (outcome_of_error(BadRequestError("no", status_code=400, words="463")).because_restricted(), MARKED),
        (outcome_of_error(BadRequestError("no", status_code=400)), FAILED),
        (outcome_of_error(BadRequestError("no", words="The number is not registered on WhatsApp")), NOT_MADE),
        (outcome_of_error(BadRequestError("no", words="Nomor tidak terdaftar")), NOT_MADE),
        (outcome_of_error(BadRequestError("no")).because_logged_out(), NOT_MADE),
        (outcome_of_error(ServerError("no", status_code=500)), DOUBT),
        (outcome_of_error(ServerError("no", status_code=500)).because_logged_out(), NONE),
        (outcome_of_error(GatewayTimeoutError("no")), DOUBT),
        (outcome_of_error(ConnectionLostError("no")), DOUBT),
        (Outcome(OutcomeKind.IN_DOUBT, Cause.WORKER_LOST), NONE),
        (outcome_of_error(NotConnectedError("no")), NOT_MADE),
        (outcome_of_error(TurnedAwayError("no", status_code=403)), NOT_MADE),
        (outcome_of_error(RateLimitedError("no", status_code=429)), NOT_MADE),
        (outcome_of_error(UnauthorizedError("no", status_code=401)), NOT_MADE),
    ],
)
def test_what_an_outcome_says(outcome, sign):
    assert sign_of(outcome) is sign


# A story is told by steps such as `A-` (a message to the new customer A fails), `A?` (it is in doubt), `A+` (accepted),
# `A!` (turned down with a mark), `W+`, `W-` (to a known customer), `G+` (to a group), `A0` (WhatsApp did not see it),
# `A~` (what was accepted is reported as not delivered), `A#` (the same, with a mark), `A*` (a phone has it).
_SIGNS = {"-": FAILED, "?": DOUBT, "+": ACCEPTED, "!": MARKED, "0": NOT_MADE, "~": FAILED, "#": MARKED}
_FATES = {"-": Fate.FAILED, "?": Fate.FAILED, "!": Fate.FAILED, "+": Fate.ACCEPTED, "~": Fate.UNDELIVERED,
          "#": Fate.UNDELIVERED, "*": Fate.PROVEN}  # fmt: skip


def told(story, known=Known()):  # noqa: B008 - it is frozen
    """What is known after the story. Under a restriction, the next message to a new customer is its try."""
    sent = {}
    for who, what in story.split():
        message_id = ord(who)
        is_cold = {"W": False, "G": None}.get(who, True)
        if what in _FATES:
            sent[message_id] = Sent(who, _FATES[what])
        if what == "*":
            continue
        if known.is_restricted and is_cold and what not in "~#":
            known = Known(known.step, True, known.is_marked, (message_id,))
        known = weigh(known, _SIGNS[what], message_id, is_cold, sent)
    return known


@pytest.mark.parametrize(
    "story",
    [
        # A mark says so at once, by whoever it comes.
        "A!",
        "W!",
        "A+ A#",
        "A- W+ B!",
        # Without marks: three new customers, and a known one in between.
        "A- W+ B- C-",
        "A? W+ B? C-",
        "A- B- W+ C-",
        "A- B- C- W+ D-",
        # One of the three tried again.
        "A- B- C- W+ A-",
        # Reported afterwards: that they were accepted is no success then.
        "A+ A~ W+ B+ B~ C+ C~",
        "A+ B+ C+ A~ W+ B~ C~",
        "A+ A~ W+ B? C-",
        # Known customers failed before, and one got through since.
        "A- W- B- W+ C-",
        "W- A- W+ B- C-",
        # Groups and what WhatsApp never saw say nothing.
        "A- W+ G- B- G+ C-",
        "A- W+ D0 B- E0 C-",
    ],
)
def test_what_is_a_restriction(story):
    known = told(story)
    assert (known.is_restricted, known.step, known.trail, known.wait_seconds) == (True, 1, (), DAY)
    assert known.is_marked == (story[-1] in "!#")


@pytest.mark.parametrize(
    "story",
    [
        "",
        "A-",
        "A- W+ B-",
        # One person, again and again.
        "A- W+ A- W+ A- W+ A-",
        "A- W+ B- A- B-",
        # A gateway that fails for everybody, is back, and stays.
        "A- B- C-",
        "A- B- C- W+",
        "A- B- C- D- E- F-",
        "A? W? B? W? C? W? D?",
        "W+ A- B- C- W+ D+",
        "A- B- W- C- D-",
        # It got through to known customers, and then to nobody.
        "A- W+ W- B- C-",
        "A- W+ B- W- C-",
        # It was never reached at all.
        "A0 W+ B0 W+ C0 W+ D0",
        # Numbers without WhatsApp, and only groups in between.
        "A- G+ B- C-",
        # A new customer got through in between.
        "A- W+ B- D+ C-",
        "A- W+ B- D+ W+ C- E-",
        "A+ A~ W+ B+ B~ D+ D* C+ C~",
        # One of them got through later: at another attempt, or because it was in doubt.
        "A- W+ B- A+ C-",
        "A? W+ B? B* C-",
    ],
)
def test_what_is_none(story):
    known = told(story)
    assert (known.is_restricted, known.step) == (False, 0)


@pytest.mark.parametrize("story", ["", "W+ A+ B+ W-", "A- W+ B- C+", "A- W+ A+", "A+ A~ W+ B+ B* D+", "W- W- A0"])
def test_nothing_is_remembered_of_what_goes_well(story):
    assert told(story) == Known()


@pytest.mark.parametrize(
    ("story", "step", "seconds"),
    [
        ("A! B!", 2, 2 * DAY),
        ("A! B-", 2, 2 * DAY),
        ("A! B! C!", 3, 7 * DAY),
        ("A! B! C- D!", 3, 7 * DAY),
        ("A- W+ B- C- D-", 2, 2 * DAY),
        # Nobody has marked it, so doubt is all that there is to see.
        ("A- W+ B- C- D?", 2, 2 * DAY),
        # A try that was accepted and reported afterwards goes on with the next step.
        ("A! B+ B~", 2, 2 * DAY),
        ("A! B+ B#", 2, 2 * DAY),
        ("A! B+ W+ C+ B~", 2, 2 * DAY),
        ("A! B! C+ D+ W+ C~", 3, 7 * DAY),
        # And so does another that says so, while it is not known that the try has arrived.
        ("A! B+ C!", 2, 2 * DAY),
        ("A! B+ C+ C#", 2, 2 * DAY),
        ("A! B+ C- W+ D- E-", 2, 2 * DAY),
        # Once that is known, it is another restriction.
        ("A! B+ B* C!", 1, DAY),
        ("A! B+ C+ C* D!", 1, DAY),
        ("A! B! C+ C* W+ D- E- W+ F-", 1, DAY),
        # The try was not made.
        ("A! B0", 1, 0.0),
    ],
)
def test_how_long_new_customers_wait_after_a_try(story, step, seconds):
    known = told(story)
    assert (known.is_restricted, known.step, known.wait_seconds) == (True, step, seconds)


@pytest.mark.parametrize(
    ("story", "step"),
    [
        # One that is in doubt says neither where a mark was seen: it waits on, as was noted before it was sent.
        ("A! B?", 1),
        # What is not the try says nothing new.
        ("A! W!", 1),
        ("A! W+", 1),
        ("A! W-", 1),
        ("A! G+", 1),
        ("D+ A! D~", 1),
        ("D+ A! D#", 1),
    ],
)
def test_what_leaves_a_restriction_as_it_is(story, step):
    before = told("D+ A!")
    known = told(story)
    assert (known.is_restricted, known.step, known.is_marked) == (True, step, True)
    assert known.wait_seconds in (before.wait_seconds, None)


@pytest.mark.parametrize(("story", "step"), [("A! B+", 1), ("A! B! C+", 2), ("A- W+ B- C- D+", 1)])
def test_a_try_that_is_accepted_ends_it_and_is_remembered_until_a_phone_has_it(story, step):
    known = told(story)
    assert (known.is_restricted, known.step, known.trail) == (False, step, (ord(story[-2]),))
    assert told(f"{story} {story[-2]}* E+") == Known()


def test_messages_that_are_gone_are_forgotten():
    trail = (1, 0, 2)
    assert weigh(Known(trail=trail), FAILED, 3, True, {3: Sent("C")}) == Known(trail=(3,))


STEPS = st.tuples(st.sampled_from("ABCDEFGHW"), st.sampled_from("-?+!0~#*")).map("".join)


@given(st.lists(STEPS, max_size=80))
def test_whatever_comes_the_state_is_bounded_and_a_restriction_has_its_step(steps):
    known = told(" ".join(steps))
    assert 0 <= known.step <= len(RESTRICTED_SECONDS)
    assert known.step or not known.is_restricted
    assert len(known.trail) <= MAX_REMEMBERED
    assert known.wait_seconds in (None, 0.0, *RESTRICTED_SECONDS)


@given(st.lists(st.tuples(st.sampled_from("ABCDEF"), st.sampled_from("-?+0")).map("".join), max_size=60))
def test_without_a_mark_nothing_is_found_where_no_known_customer_gets_anything(steps):
    assert not told(" ".join(steps)).is_restricted


@given(st.lists(STEPS, max_size=40))
def test_the_next_that_is_accepted_and_arrives_ends_what_was_remembered(steps):
    known = told(" ".join(steps))
    sent = {ord("Z"): Sent("Z", Fate.PROVEN)}
    if not known.is_restricted:
        assert weigh(known, ACCEPTED, ord("Z"), True, sent) == Known()
