"""Tests of everything that the dispatcher relies on in a gateway class; a site's own test class inherits them.

    class TestWartaGateway(testing.HttpGatewayContract):
        gateway_class = WartaGateway
        answers = {
            "send_message": (201, {"id": "w-1"}),
            "get_status": (200, {"state": "online"}),
        }

They work in plain pytest classes and, combined with `SimpleTestCase`, under Django's test runner. A failure is an
`AssertionError` that says what the gateway did and what the consequence would be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.conf import settings
from django.test import override_settings

from .encryption import Secret
from .exceptions import BadRequestError, GatewayError, InvalidMessageError, RateLimitedError
from .failing_server import (
    STALL_SECONDS,
    Behaviour,
    FailingServer,
    HttpAnswer,
    answering,
    closed_port,
    cut_short,
    drip,
    hang_up,
    repeating,
    reset,
    stall,
)
from .gateway import Gateway, LoginQr, NumberCheck, SentMessage, ServiceStatus, SessionStatus, WebhookAnswer
from .gateway.outcome import OutcomeKind, outcome_of_error

_KEY = "contract-key-4711"
_OTHER_KEY = "contract-key-8022"
_NUMBER = "6281234567890"
_TEXT = "Struk 4711"
_IMAGE_URL = "https://shop.example/struk-4711.png"
_DEADLINE_SECONDS = 10.0
"""Deadline of calls that are answered: long, so that no test fails because a machine is busy."""
_SHORT_SECONDS = 0.5
_SEND_SECONDS = 1.0
"""Deadline of a send that is not answered: long enough for a busy machine to write the request."""
_SLACK_SECONDS = 3.0
"""How much later than its deadline a call may end, on a machine that is busy."""

_OPERATIONS: Mapping[str, tuple[type, Callable[[Gateway], Any]]] = {
    "send_message": (SentMessage, lambda gateway: gateway.send_message(_NUMBER, _TEXT)),
    "send_group_message": (SentMessage, lambda gateway: gateway.send_group_message("Dapur", _TEXT)),
    "get_status": (ServiceStatus, lambda gateway: gateway.get_status()),
    "restart": (ServiceStatus, lambda gateway: gateway.restart()),
    "get_login_qr": (LoginQr, lambda gateway: gateway.get_login_qr()),
    "check_number": (NumberCheck, lambda gateway: gateway.check_number(_NUMBER)),
    "set_webhook": (WebhookAnswer, lambda gateway: gateway.set_webhook("https://shop.example/hook/")),
    "reset_webhook": (ServiceStatus, lambda gateway: gateway.reset_webhook()),
}


class GatewayContract:
    """Tests for every gateway, whatever it talks to. A subclass sets `gateway_class`, or overrides `make_gateway()`."""

    gateway_class: type[Gateway]
    unsupported: Sequence[str] = ()
    """The operations that the service does not have, e.g. `("send_group_message",)`. They raise `BadRequestError`."""

    def make_gateway(self, api_key: Secret, base_url: str) -> Gateway:
        """Return a gateway for the service at `base_url`; empty: any base URL."""
        return self.gateway_class(api_key, base_urls=[base_url] if base_url else [])

    def test_a_message_that_is_accepted_has_an_id(self) -> None:
        with self._working("send_message") as gateway:
            sent = gateway.send_message(_NUMBER, _TEXT)
        _must(isinstance(sent, SentMessage), f"send_message() returned {type(sent).__name__}, not a SentMessage.")
        has_id = isinstance(sent.id, str) and bool(sent.id.strip())
        _must(has_id, "The SentMessage has no id: no tick would find its message.")
        _must(len(sent.id) <= 255, "The SentMessage's id is longer than 255 characters.")

    def test_a_message_that_says_nothing_is_refused(self) -> None:
        with self._working("send_message") as gateway:
            for text in ("", " \n"):
                try:
                    gateway.send_message(_NUMBER, text)
                except InvalidMessageError:
                    continue
                except Exception as error:
                    raised = f"raised {type(error).__name__}, not InvalidMessageError"
                    raise AssertionError(f"A message with neither text nor image {raised}.") from error
                raise AssertionError("Neither text nor image, and it was sent. Call require_content() first.")

    def test_operations_return_what_they_are_to_return(self) -> None:
        for name, (kind, call) in self._supported():
            with self._working(name) as gateway:
                try:
                    returned = call(gateway)
                except GatewayError:
                    if name == "get_login_qr":
                        continue  # a phone is linked, so there may be no code
                    raise
            _must(isinstance(returned, kind), f"{name}() returned {type(returned).__name__}, not {kind.__name__}.")

    def test_a_linked_phone_is_connected(self) -> None:
        with self._working("get_status") as gateway:
            status = gateway.get_status(deadline_seconds=10)
        said = "No message is sent before the status is CONNECTED"
        _must(status.session_status is SessionStatus.CONNECTED, f"{said}; it was {status.session_status!r}.")

    def test_what_the_service_does_not_have_is_refused_without_a_call(self) -> None:
        for name, (_, call) in _OPERATIONS.items():
            if name in self._unsupported():
                with self._working("get_status") as gateway:
                    error = _error_of(name, partial(call, gateway))
                is_refused = isinstance(error, BadRequestError)
                _must(is_refused, f"{name}() raised {type(error).__name__}, not BadRequestError.")
                _must(self._requests_seen() == 0, f"{name}() called the service, which has no such operation.")

    def test_the_key_is_in_no_repr(self) -> None:
        with self._working("send_message") as gateway:
            gateway.send_message(_NUMBER, _TEXT)
            shown = repr(gateway) + repr(vars(gateway))
        said = "The key is in a repr of the gateway. Keep the Secret, and reveal() it for a request."
        _must(_KEY not in shown, said)

    def test_it_may_be_closed_twice(self) -> None:
        with self._working("get_status") as gateway:
            gateway.close()
            gateway.close()

    @contextmanager
    def _working(self, operation: str) -> Iterator[Gateway]:
        """Yield a gateway whose service works and carries out `operation`."""
        with self.make_gateway(Secret(_KEY), "") as gateway:
            yield gateway

    def _unsupported(self) -> set[str]:
        return set(self.unsupported)

    def _requests_seen(self) -> int:
        return 0

    def _supported(self) -> list[tuple[str, tuple[type, Callable[[Gateway], Any]]]]:
        return [(name, operation) for name, operation in _OPERATIONS.items() if name not in self._unsupported()]


class HttpGatewayContract(GatewayContract):
    """Tests for a gateway that calls an HTTP API, run against a server that fails in every way in which servers do.

    A subclass sets `gateway_class` and `answers`, and overrides the other attributes if its service answers otherwise.
    An answer is a status and a body, which is sent as JSON.
    """

    answers: Mapping[str, HttpAnswer]
    """The answers to the service's operations while a phone is linked. Operations without an answer must raise."""
    unlinked: HttpAnswer | None = None
    """The answer to `get_status()` while no phone is linked; None: not tested."""
    refused: HttpAnswer = (400, {"message": "The number is not valid."})
    """The answer if the message itself is invalid: it was not sent, and is not tried again."""
    key_refused: HttpAnswer = (401, {"message": "Unauthorized"})
    asks_to_wait: HttpAnswer = (429, {"message": "Too many requests"})
    """Sent with `Retry-After: 7`."""
    in_doubt: Sequence[HttpAnswer] = (
        (500, {"message": "Internal server error"}),
        (500, "<h1>Internal server error</h1>"),
        (502, ""),
        (503, ""),
        (504, ""),
        (302, ""),
        (200, "<h1>Welcome</h1>"),
        (200, {}),
        (200, b"\x00\xff"),
        (200, "[1]"),
    )
    """Answers after which it is unknown whether the message was sent."""
    not_sent: Sequence[HttpAnswer] = ()
    """Answers which prove that the message was not sent and may be tried again."""

    _server: FailingServer | None = None

    def test_a_sites_tests_do_not_reach_it(self) -> None:
        said = "Set leaves_the_process = True: the tests of a site would send to its customers."
        with self._working("get_status") as gateway:
            _must(type(gateway).leaves_the_process is True, said)
            said = "It sends, so `pretends` must be empty: otherwise the admin would say that it does not."
            _must(not gateway.pretends, said)

    def test_a_message_goes_out_once_with_its_number_and_text(self) -> None:
        with self._working("send_message") as gateway:
            gateway.send_message(_NUMBER, _TEXT)
            self._must_have_asked_once("send_message()")
            for part in (_NUMBER, "4711"):
                _must(part.encode() in self._asked(), f"The request does not contain {part!r}, which had to be sent.")

    def test_each_license_sends_by_its_own_key(self) -> None:
        with self._working("send_message") as gateway:
            gateway.send_message(_NUMBER, _TEXT)
            by_this = self._asked()
            with self.make_gateway(Secret(_OTHER_KEY), self._server.url if self._server else "") as other:
                other.send_message(_NUMBER, _TEXT)
            is_another = self._asked() != by_this * 2
        _must(is_another, "Another license's key made the same request: its messages come from this one's number.")

    def test_an_image_is_sent_or_refused_but_never_left_out(self) -> None:
        with self._working("send_message") as gateway:
            try:
                gateway.send_message(_NUMBER, _TEXT, _IMAGE_URL)
            except GatewayError as error:
                _must_be(OutcomeKind.REFUSED, error, "an image")
                said = "The message was refused because of its image, but it was sent."
                _must(self._requests_seen() == 0, said)
            else:
                _must(b"struk-4711.png" in self._asked(), "The message was sent without its image, without an error.")

    def test_a_phone_that_is_not_linked_is_not_connected(self) -> None:
        if self.unlinked is not None:
            with self._serving(self.unlinked) as gateway:
                status = gateway.get_status()
            said = f"No phone is linked, but the status was {status.session_status!r}. Only QR holds the queue."
            _must(status.session_status is SessionStatus.QR, said)

    def test_without_a_connection_nothing_was_sent(self) -> None:
        with closed_port() as url, self._gateway(url) as gateway:
            for name, (_, call) in self._supported():
                error = _error_of(name, partial(call, gateway))
                _must_be(OutcomeKind.NOT_SENT, error, "a refused connection")

    def test_answers_that_leave_it_open_are_in_doubt(self) -> None:
        for answer in self.in_doubt:
            with self._serving(answer) as gateway:
                error = _error_of(f"send_message(), answered {answer!r},", lambda: gateway.send_message(_NUMBER, _TEXT))
                _must_be(OutcomeKind.IN_DOUBT, error, f"the answer {answer!r}")
                self._must_have_asked_once(f"send_message(), answered {answer!r},")

    def test_a_connection_that_breaks_after_the_request_is_in_doubt(self) -> None:
        for how in (hang_up, reset, cut_short):
            with self._serving(how) as gateway:
                what = f"a connection that breaks ({how.__name__.replace('_', ' ')})"
                error = _error_of(f"send_message(), on {what},", lambda: gateway.send_message(_NUMBER, _TEXT))
                _must_be(OutcomeKind.IN_DOUBT, error, what)
                self._must_have_asked_once(f"send_message(), on {what},")

    def test_a_send_without_an_answer_ends_at_the_deadline_and_is_in_doubt(self) -> None:
        for how in (stall, drip):
            serving = self._serving(how, deadline_seconds=_SEND_SECONDS)
            with serving as gateway, _must_end_within(_SEND_SECONDS, "A send"):
                error = _error_of("send_message(), without an answer,", lambda: gateway.send_message(_NUMBER, _TEXT))
            _must_be(OutcomeKind.IN_DOUBT, error, "a request without an answer")
            self._must_have_asked_once("send_message(), without an answer,")

    def test_the_deadline_of_a_status_is_kept(self) -> None:
        with self._serving(stall) as gateway, _must_end_within(_SHORT_SECONDS, "A status"):
            _error_of("get_status()", lambda: gateway.get_status(deadline_seconds=_SHORT_SECONDS))

    def test_the_end_of_a_series_of_calls_is_kept(self) -> None:
        with self._serving(stall, deadline_seconds=10 * STALL_SECONDS) as gateway:
            for name, (_, call) in self._supported():
                with _must_end_within(_SHORT_SECONDS, f"With ends_at set, {name}()"):
                    gateway.ends_at = time.monotonic() + _SHORT_SECONDS
                    _error_of(name, partial(call, gateway))

    def test_a_refused_message_is_refused(self) -> None:
        with self._serving(self.refused) as gateway:
            error = _error_of("send_message()", lambda: gateway.send_message(_NUMBER, _TEXT))
            _must_be(OutcomeKind.REFUSED, error, f"the answer {self.refused!r}")

    def test_answers_which_prove_that_nothing_was_sent_are_believed(self) -> None:
        for answer in self.not_sent:
            with self._serving(answer) as gateway:
                error = _error_of("send_message()", lambda: gateway.send_message(_NUMBER, _TEXT))
            _must_be(OutcomeKind.NOT_SENT, error, f"the answer {answer!r}")

    def test_a_refused_key_is_told_by_every_operation(self) -> None:
        for name, (_, call) in self._supported():
            with self._serving(self.key_refused) as gateway:
                error = _error_of(name, partial(call, gateway))
                _must_be(OutcomeKind.LICENSE_REFUSED, error, f"the answer {self.key_refused!r} to {name}()")

    def test_a_service_that_asks_to_wait_says_for_how_long(self) -> None:
        with self._serving(self.asks_to_wait, "Retry-After: 7") as gateway:
            error = _error_of("send_message()", lambda: gateway.send_message(_NUMBER, _TEXT))
            _must_be(OutcomeKind.RATE_LIMITED, error, f"the answer {self.asks_to_wait!r}")
            waits = error.retry_after_seconds if isinstance(error, RateLimitedError) else None
            _must(waits == 7, f"It was asked to wait 7 seconds (Retry-After), but retry_after_seconds is {waits!r}.")

    def test_whatever_is_answered_no_operation_raises_anything_but_a_gateway_error(self) -> None:
        for name, (kind, call) in self._supported():
            for answer in ((500, ""), (200, "<h1>Welcome</h1>"), (200, '{"id": 1e999}'), (200, "[]"), (200, "{")):
                with self._serving(answer) as gateway:
                    try:
                        returned = call(gateway)
                    except GatewayError:
                        continue
                    except Exception as error:
                        raised = f"raised {type(error).__name__}, which is not a GatewayError."
                        raise AssertionError(f"{name}(), answered {answer!r}, {raised}") from error
                _must(isinstance(returned, kind), f"{name}() returned {type(returned).__name__}, not {kind.__name__}.")

    def test_a_key_that_the_service_repeats_is_in_no_error(self) -> None:
        for answer in (self.refused, self.key_refused, self.asks_to_wait, *self.in_doubt):
            with self._serving(repeating(answer, _KEY)) as gateway:
                error = _error_of("send_message()", lambda: gateway.send_message(_NUMBER, _TEXT))
            shown = f"{error!s} {error!r} {error.words} {error.said} {error.errors} {error.code}"
            _must(_KEY not in shown, f"The service repeats the key in its answer, and {type(error).__name__} shows it.")

    @contextmanager
    def _working(self, operation: str) -> Iterator[Gateway]:
        with self._serving(self.answers[operation]) as gateway:
            yield gateway

    @contextmanager
    def _serving(
        self, answer: HttpAnswer | Behaviour, *headers: str, deadline_seconds: float = _DEADLINE_SECONDS
    ) -> Iterator[Gateway]:
        """Yield a gateway whose service answers every request with `answer`."""
        behaviour = answer if callable(answer) else answering(answer, headers)
        with FailingServer(behaviour) as self._server, self._gateway(self._server.url, deadline_seconds) as gateway:
            yield gateway

    @contextmanager
    def _gateway(self, url: str, deadline_seconds: float = _DEADLINE_SECONDS) -> Iterator[Gateway]:
        kpwa = {**getattr(settings, "KPWA", {}), "CALL_DEADLINE_SECONDS": deadline_seconds}
        with override_settings(KPWA=kpwa), self.make_gateway(Secret(_KEY), url) as gateway:
            yield gateway

    def _unsupported(self) -> set[str]:
        return set(_OPERATIONS) - set(self.answers)

    def _requests_seen(self) -> int:
        return len(self._server.requests) if self._server else 0

    def _asked(self) -> bytes:
        return b"".join(self._server.requests) if self._server else b""

    def _must_have_asked_once(self, what: str) -> None:
        count = self._requests_seen()
        said = "and each may have sent the message. Follow no redirects, and do not retry."
        _must(count == 1, f"{what} made {count} requests, {said}")


def _must(is_so: bool, said: str) -> None:
    if not is_so:
        raise AssertionError(said)


def _error_of(what: str, call: Callable[[], object]) -> GatewayError:
    try:
        returned = call()
    except GatewayError as error:
        return error
    except Exception as error:
        raise AssertionError(f"{what} raised {type(error).__name__}, which is not a GatewayError.") from error
    raise AssertionError(f"{what} returned a {type(returned).__name__}, as if it had succeeded.")


_FOLLOWS = {
    OutcomeKind.NOT_SENT: "it is tried again",
    OutcomeKind.RATE_LIMITED: "it is tried again at the time that the service names",
    OutcomeKind.REFUSED: "it has failed",
    OutcomeKind.LICENSE_REFUSED: "it waits for another key",
    OutcomeKind.IN_DOUBT: "a person decides whether it is sent again",
}


def _must_be(kind: OutcomeKind, error: GatewayError, after: str) -> None:
    found = outcome_of_error(error).kind
    if found != kind:
        raise AssertionError(
            f"After {after}, {type(error).__name__} means {found.value} ({_FOLLOWS[found]}). "
            f"It has to be {kind.value} ({_FOLLOWS[kind]})."
        )


@contextmanager
def _must_end_within(seconds: float, what: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    _must(took < seconds + _SLACK_SECONDS, f"{what} took {took:.1f} s, but its deadline was {seconds} s.")
