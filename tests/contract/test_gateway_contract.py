"""The contract that sites inherit for their gateways: our own gateways pass, and broken ones fail.

`docs/howto/own-gateway.md` has the example, and tests/integration/test_howto_developers.py follows that page.
"""

from __future__ import annotations

import pytest
import requests

from django_kpwa import testing
from django_kpwa.encryption import Secret
from django_kpwa.exceptions import (
    BadRequestError,
    GatewayError,
    GatewayTimeoutError,
    NotConnectedError,
    TurnedAwayError,
    UnauthorizedError,
)
from django_kpwa.gateway import Gateway, SentMessage, ServiceStatus, SessionStatus
from django_kpwa.gateway.console import ConsoleGateway
from django_kpwa.gateway.http import ApiGateway, HttpGateway
from django_kpwa.gateway.locmem import LocmemGateway
from tests.sites.warta import WartaGateway

pytestmark = pytest.mark.waits
OK = {"message": "OK", "code": 20001}


class TestLocmemGateway(testing.GatewayContract):
    gateway_class = LocmemGateway


class TestConsoleGateway(testing.GatewayContract):
    gateway_class = ConsoleGateway


class TestHttpGateway(testing.HttpGatewayContract):
    gateway_class = HttpGateway
    answers = {
        "send_message": (200, {**OK, "result": {"id": "3EB0A1"}}),
        "send_group_message": (200, {**OK, "result": {"id": "3EB0A2"}}),
        "get_status": (200, {**OK, "status": "connected"}),
        "restart": (200, {**OK, "status": "ready"}),
        "get_login_qr": (200, {**OK, "qrString": "2@abcdef,ghijkl,mnopqr"}),
        "check_number": (200, {**OK, "is_registered": True}),
        "set_webhook": (200, OK),
        "reset_webhook": (200, {**OK, "status": "connected"}),
    }
    unlinked = (200, {**OK, "status": "qr"})
    not_sent = ((403, ""), (404, ""), (413, ""), (422, {"message": "no"}), (521, ""))


class WartaContract(testing.HttpGatewayContract):
    gateway_class = WartaGateway
    answers = {
        "send_message": (201, {"id": "w-1"}),
        "get_status": (200, {"state": "online"}),
        "set_webhook": (200, {}),
        "reset_webhook": (200, {"state": "online"}),
    }
    unlinked = (200, {"state": "offline"})


# Gateways that break the contract


class TakesATimeoutForSuccess(WartaGateway):
    def send_message(self, *arguments):
        try:
            return super().send_message(*arguments)
        except GatewayTimeoutError:
            return SentMessage(id="probably")


class TakesATimeoutForNotSent(WartaGateway):
    def send_message(self, *arguments):
        try:
            return super().send_message(*arguments)
        except GatewayTimeoutError as error:
            raise NotConnectedError("Not sent.") from error


class RaisesSomethingElse(WartaGateway):
    def send_message(self, *arguments):
        try:
            return super().send_message(*arguments)
        except GatewayError as error:
            raise ValueError("It did not work.") from error


class TriesAgain(WartaGateway):
    def send_message(self, *arguments):
        try:
            return super().send_message(*arguments)
        except GatewayError:
            return super().send_message(*arguments)


class TakesEveryErrorForATurnedAway(WartaGateway):
    def send_message(self, *arguments):
        try:
            return super().send_message(*arguments)
        except UnauthorizedError:
            raise
        except GatewayError as error:
            raise TurnedAwayError("Not sent.") from error


class LeavesTheImageOut(WartaGateway):
    def send_message(self, phone_number, text="", image_url=""):
        return super().send_message(phone_number, text or "x" * bool(image_url))


class SendsNothingAtAll(WartaGateway):
    def send_message(self, phone_number, text="", image_url=""):
        return super().send_message(phone_number, text or " ", image_url or "https://shop.example/blank.png")


class KeepsTheKey(WartaGateway):
    def __init__(self, api_key, *, base_urls=()):
        super().__init__(api_key, base_urls=base_urls)
        self.key = api_key.reveal()


class HasNoId(WartaGateway):
    def send_message(self, *arguments):
        super().send_message(*arguments)
        return SentMessage(id="")


class SaysItIsAlwaysLinked(WartaGateway):
    def get_status(self, *, deadline_seconds=None):
        super().get_status(deadline_seconds=deadline_seconds)
        return ServiceStatus(SessionStatus.CONNECTED)


class SaysItIsNeverLinked(WartaGateway):
    def get_status(self, *, deadline_seconds=None):
        super().get_status(deadline_seconds=deadline_seconds)
        return ServiceStatus(SessionStatus.UNKNOWN)


class ForgetsTheDeadlineOfAStatus(WartaGateway):
    def get_status(self, *, deadline_seconds=None):
        return super().get_status()


class HasNoneImplemented(WartaGateway):
    def restart(self):
        raise NotImplementedError


class AsksForWhatThereIsNot(WartaGateway):
    def restart(self):
        self.ask_json("POST", "/restart")
        raise BadRequestError("There is none.")


class SendsInTests(WartaGateway):
    leaves_the_process = False


class HasOneKeyForAllLicenses(WartaGateway):
    def get_headers(self):
        return {"Authorization": "Bearer from-the-settings"}


class ThreeLines(Gateway):
    """A careless implementation: requests with its default exceptions, redirects and timeouts."""

    leaves_the_process = True

    def _ask(self, method, path, **options):
        headers = {"Authorization": f"Bearer {self.api_key.reveal()}"}
        answer = requests.request(method, self.base_urls[0] + path, headers=headers, timeout=2, **options)
        answer.raise_for_status()
        return answer.json()

    def send_message(self, phone_number, text="", image_url=""):
        if not text.strip() and not image_url:
            raise BadRequestError("Nothing to send.")
        answer = self._ask("POST", "/messages", json={"to": phone_number, "text": text, "image": image_url})
        return SentMessage(id=answer["id"])

    def get_status(self, *, deadline_seconds=None):
        return ServiceStatus(SessionStatus.CONNECTED if self._ask("GET", "/session")["state"] else SessionStatus.QR)

    def _refuse(self, *arguments):
        raise BadRequestError("There is none.")

    send_group_message = restart = get_login_qr = check_number = set_webhook = reset_webhook = _refuse


DOUBT = "answers_that_leave_it_open_are_in_doubt"
BREAKS = "a_connection_that_breaks_after_the_request_is_in_doubt"
NO_ANSWER = "a_send_without_an_answer_ends_at_the_deadline_and_is_in_doubt"
NO_CONNECTION = "without_a_connection_nothing_was_sent"
NOTHING_ELSE = "whatever_is_answered_no_operation_raises_anything_but_a_gateway_error"
SAYS_NOTHING = "a_message_that_says_nothing_is_refused"
UNSUPPORTED = "what_the_service_does_not_have_is_refused_without_a_call"


@pytest.mark.parametrize(
    ("gateway_class", "broken"),
    [
        (TakesATimeoutForSuccess, {DOUBT, NO_ANSWER, "a_key_that_the_service_repeats_is_in_no_error"}),
        (TakesATimeoutForNotSent, {DOUBT, NO_ANSWER}),
        (TakesEveryErrorForATurnedAway, {DOUBT, NO_ANSWER, BREAKS, "a_refused_message_is_refused"}),
        (TriesAgain, {DOUBT, NO_ANSWER, BREAKS}),
        (RaisesSomethingElse, {DOUBT, NO_ANSWER, BREAKS, NO_CONNECTION, NOTHING_ELSE}),
        (LeavesTheImageOut, {"an_image_is_sent_or_refused_but_never_left_out"}),
        (SendsNothingAtAll, {SAYS_NOTHING}),
        (KeepsTheKey, {"the_key_is_in_no_repr"}),
        (HasNoId, {"a_message_that_is_accepted_has_an_id"}),
        (SaysItIsAlwaysLinked, {"a_phone_that_is_not_linked_is_not_connected"}),
        (SaysItIsNeverLinked, {"a_linked_phone_is_connected", "a_phone_that_is_not_linked_is_not_connected"}),
        (ForgetsTheDeadlineOfAStatus, {"the_deadline_of_a_status_is_kept"}),
        (HasNoneImplemented, {UNSUPPORTED}),
        (AsksForWhatThereIsNot, {UNSUPPORTED}),
        (HasOneKeyForAllLicenses, {"each_license_sends_by_its_own_key"}),
        (SendsInTests, {"a_sites_tests_do_not_reach_it"}),
        (ThreeLines, {DOUBT, NO_ANSWER, BREAKS, NO_CONNECTION, NOTHING_ELSE, SAYS_NOTHING}),
    ],
)
def test_what_a_gateway_breaks_is_found(gateway_class, broken):
    case = WartaContract()
    case.gateway_class = gateway_class
    for name in sorted(broken):
        with pytest.raises(AssertionError):
            getattr(case, f"test_{name}")()


def test_a_helper_of_a_site_takes_no_name_that_its_base_class_needs():
    """A subclass knows only the documented names. It may well name its own helper `_call`, for example."""
    with HttpGateway(Secret("key-of-this-test")) as gateway:
        names = {*vars(gateway), *(name for kind in (ApiGateway, HttpGateway) for name in vars(kind))}
    named = {
        name
        for name in names
        if name.startswith("_") and not name.startswith(("__", "_ApiGateway__", "_HttpGateway__"))
    }
    assert named == {"_abc_impl", "_ask_and_read"}
