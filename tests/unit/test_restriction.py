"""The policy of `store.restriction`: how answers and ticks show that WhatsApp restricts a number."""

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


# A story is a list of steps. The letter is the recipient: `W` is a known customer, `G` a group, and any other letter a
# new customer. The sign is what happens to the message: `-` failed, `?` in doubt, `+` accepted, `!` refused with a
# mark, `0` never seen by WhatsApp. For a message that was accepted before: `~` reported as not delivered, `#` the same
# with a mark, `*` arrived on a phone.
_SIGNS = {"-": FAILED, "?": DOUBT, "+": ACCEPTED, "!": MARKED, "0": NOT_MADE, "~": FAILED, "#": MARKED}
_FATES = {"-": Fate.FAILED, "?": Fate.FAILED, "!": Fate.FAILED, "+": Fate.ACCEPTED, "~": Fate.UNDELIVERED,
          "#": Fate.UNDELIVERED, "*": Fate.PROVEN}  # fmt: skip


def told(story, known=Known()):  # noqa: B008 - it is frozen
    """Return what is known after the story. In a restriction, the next message to a new customer is the try."""
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
        # A single mark is enough, whoever the recipient is.
        "A!",
        "W!",
        "A+ A#",
        "A- W+ B!",
        # Without marks: three new customers fail, and a known one succeeds in between.
        "A- W+ B- C-",
        "A? W+ B? C-",
        "A- B- W+ C-",
        "A- B- C- W+ D-",
        # One of the three fails again.
        "A- B- C- W+ A-",
        # Failures reported later: the earlier acceptance no longer counts as a success.
        "A+ A~ W+ B+ B~ C+ C~",
        "A+ B+ C+ A~ W+ B~ C~",
        "A+ A~ W+ B? C-",
        # Known customers failed at first, and one has succeeded since.
        "A- W- B- W+ C-",
        "W- A- W+ B- C-",
        # Groups, and messages that WhatsApp never saw, do not count.
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
        # The same person fails repeatedly.
        "A- W+ A- W+ A- W+ A-",
        "A- W+ B- A- B-",
        # A gateway that fails for everybody, with or without a recovery.
        "A- B- C-",
        "A- B- C- W+",
        "A- B- C- D- E- F-",
        "A? W? B? W? C? W? D?",
        "W+ A- B- C- W+ D+",
        "A- B- W- C- D-",
        # Messages reached known customers at first, and then nobody.
        "A- W+ W- B- C-",
        "A- W+ B- W- C-",
        # WhatsApp was never reached.
        "A0 W+ B0 W+ C0 W+ D0",
        # Failures with only groups in between, as with numbers without WhatsApp.
        "A- G+ B- C-",
        # A new customer succeeded in between.
        "A- W+ B- D+ C-",
        "A- W+ B- D+ W+ C- E-",
        "A+ A~ W+ B+ B~ D+ D* C+ C~",
        # One of them succeeded later, at another attempt or after doubt.
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
        # No mark was ever seen, so doubt counts as a failed try.
        ("A- W+ B- C- D?", 2, 2 * DAY),
        # A try that was accepted but later reported as not delivered leads to the next step.
        ("A! B+ B~", 2, 2 * DAY),
        ("A! B+ B#", 2, 2 * DAY),
        ("A! B+ W+ C+ B~", 2, 2 * DAY),
        ("A! B! C+ D+ W+ C~", 3, 7 * DAY),
        # So does another failing message, while the try is not known to have arrived.
        ("A! B+ C!", 2, 2 * DAY),
        ("A! B+ C+ C#", 2, 2 * DAY),
        ("A! B+ C- W+ D- E-", 2, 2 * DAY),
        # Once the try is known to have arrived, a failure begins another restriction.
        ("A! B+ B* C!", 1, DAY),
        ("A! B+ C+ C* D!", 1, DAY),
        ("A! B! C+ C* W+ D- E- W+ F-", 1, DAY),
        # The try never reached WhatsApp.
        ("A! B0", 1, 0.0),
    ],
)
def test_how_long_new_customers_wait_after_a_try(story, step, seconds):
    known = told(story)
    assert (known.is_restricted, known.step, known.wait_seconds) == (True, step, seconds)


@pytest.mark.parametrize(
    ("story", "step"),
    [
        # After a mark, a try in doubt decides nothing. The wait noted before the try continues.
        ("A! B?", 1),
        # A message that is not the try changes nothing.
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
