"""What the admin says about a gateway that refused or failed."""

from __future__ import annotations

from django_kpwa.admin.gateway_failures import failure_of, failure_of_code
from django_kpwa.exceptions import RateLimitedError, TurnedAwayError, UnauthorizedError


def test_a_key_that_the_second_address_refuses_says_nothing_about_the_key():
    assert failure_of(UnauthorizedError("no")).title == "Key refused"
    assert failure_of(UnauthorizedError("no", from_fallback=True)).title == "Gateway unreachable"


def test_a_request_that_was_turned_away_says_so_and_quotes_who_did():
    turned_away = TurnedAwayError("The gateway answered 403: …", status_code=403, words="Blocked")
    assert failure_of(turned_away).title == failure_of_code(turned_away).title == "Request rejected"
    assert "The gateway said: Blocked" in failure_of(turned_away).sentence
    # Gateways of this family answer 422 if the service needs a restart.
    assert failure_of_code(TurnedAwayError("x", status_code=422)).title == "Restart needed"


def test_a_gateway_that_asks_to_wait_says_how_long():
    assert "Try again in 7 seconds" in failure_of(RateLimitedError("wait", retry_after_seconds=6.7)).sentence
    assert "Wait a minute" in failure_of(RateLimitedError("wait")).sentence
