"""The status check of a license, and how its answers change the lane."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from django_kpwa.dispatch import drive
from django_kpwa.exceptions import (
    BadRequestError,
    GatewayTimeoutError,
    NotConnectedError,
    ServerError,
    UnauthorizedError,
)
from django_kpwa.gateway import locmem
from django_kpwa.models import PauseReason, Status
from django_kpwa.outbox import send_message

from .lanes import (
    NUMBER,
    drive_once_connected,
    fresh,
    lane_of,
    set_lane,
    texts,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_last_error_stays_with_its_time_and_is_the_newest(license_, hooks):
    drive_once_connected(license_)
    assert (lane_of(license_).last_error, lane_of(license_).last_error_at) == ("", None)
    send_message(NUMBER, "a")
    locmem.fail_next(GatewayTimeoutError("no answer within 30 s"))
    drive(license_.pk)
    assert lane_of(license_).last_error == "no answer in time"
    first_at = lane_of(license_).last_error_at
    send_message(NUMBER, "b")
    locmem.fail_next(ServerError("broken", status_code=500, words="Device busy"))
    drive(license_.pk)
    lane = lane_of(license_)
    assert (lane.last_error, lane.last_error_at > first_at) == ("Device busy", True)
    send_message(NUMBER, "c")
    drive(license_.pk)
    assert texts()[-1] == "c"
    assert (lane_of(license_).last_error, lane_of(license_).last_error_at) == ("Device busy", lane.last_error_at)


def test_a_status_check_that_fails_is_the_last_error(license_, hooks):
    send_message(NUMBER, "x")

    def refuse():
        raise NotConnectedError("refused")

    hooks.on_status = refuse
    drive(license_.pk)
    assert lane_of(license_).last_error == "no connection to the gateway"

    def say_why():
        raise ServerError("broken", status_code=500, words="Restarting")

    hooks.on_status = say_why
    set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
    drive(license_.pk)
    assert (lane_of(license_).last_error, lane_of(license_).pause_words) == ("Restarting", "Restarting")


def test_a_key_that_the_status_check_refuses_pauses_the_lane(license_, hooks):
    message = send_message(NUMBER, "x")

    def refuse():
        raise UnauthorizedError("no", status_code=401)

    hooks.on_status = refuse
    drive(license_.pk)
    assert lane_of(license_).pause_reason == PauseReason.UNAUTHORIZED
    assert fresh(message).attempts_made == 0


def test_a_401_of_the_second_address_to_the_status_check_says_nothing_of_the_key(license_, hooks):
    send_message(NUMBER, "x")

    def refuse():
        raise UnauthorizedError("no", status_code=401, from_fallback=True)

    hooks.on_status = refuse
    drive(license_.pk)
    assert lane_of(license_).pause_reason == PauseReason.FAILING


def test_a_logged_out_license_stays_so_while_its_status_cannot_be_told(license_, hooks):
    locmem.unlink()
    send_message(NUMBER, "x")
    drive(license_.pk)

    def unreachable():
        raise NotConnectedError("refused")

    hooks.on_status = unreachable
    set_lane(license_, paused_until=timezone.now() - timedelta(seconds=1))
    drive(license_.pk)
    assert (lane_of(license_).pause_reason, lane_of(license_).probes) == (PauseReason.LOGGED_OUT, 1)


def test_a_refusal_whose_status_check_fails_is_tried_again(license_, hooks):
    drive_once_connected(license_)
    message = send_message(NUMBER, "x")
    locmem.fail_next(BadRequestError("no", status_code=400))

    def unreachable():
        raise NotConnectedError("refused")

    hooks.on_status = unreachable
    drive(license_.pk)
    assert (fresh(message).status, fresh(message).reason) == (Status.QUEUED, "refused")


def test_a_gateway_that_is_configured_wrongly_pauses_the_lane_and_says_why(license_, settings, caplog):
    settings.KPWA = {**settings.KPWA, "GATEWAY": "tests.gateways.no_such_class"}
    message = send_message(NUMBER, "x")
    drive(license_.pk)
    assert lane_of(license_).pause_reason == PauseReason.FAILING
    assert "no_such_class" in caplog.text
    assert fresh(message).attempts_made == 0
