"""Each fault of the sandbox over a real socket: what the client receives and concludes, and what was delivered."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

import pytest
import requests

from django_kpwa.conf import Settings
from django_kpwa.encryption import Secret
from django_kpwa.exceptions import GatewayError
from django_kpwa.gateway.http import HttpGateway
from django_kpwa.gateway.outcome import Cause, OutcomeKind, is_restriction, outcome_of_answer, outcome_of_error
from django_kpwa.sandbox.faults import FaultBoard
from tests.sandbox import SandboxProcess

DELIVERED, NOT_DELIVERED = 1, 0


@pytest.fixture(scope="module")
def process():
    with SandboxProcess("--linked", "--group", "Dapur") as process:
        yield process


@pytest.fixture
def sandbox(process):
    process.reset()
    process.scan()
    return process


@pytest.fixture
def session(sandbox):
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-API-KEY"] = sandbox.key
        yield session


def send(session, sandbox, **options):
    content = {"phoneNumber": "081234567890", "message": "Struk"}
    return session.post(f"{sandbox.base_url}/openapi/wa/message", data=content, timeout=10, **options)


def outcome_of_a_send(sandbox):
    with HttpGateway(Secret(sandbox.key), base_urls=[sandbox.base_url]) as gateway:
        try:
            return outcome_of_answer(gateway.send_message("081234567890", "Struk"))
        except GatewayError as error:
            return outcome_of_error(error)


@pytest.mark.parametrize(
    ("fault", "kind", "cause", "delivered"),
    [
        ("error_500", OutcomeKind.IN_DOUBT, Cause.SERVER_ERROR, NOT_DELIVERED),
        ("timeout_504_before", OutcomeKind.IN_DOUBT, Cause.TIMEOUT, NOT_DELIVERED),
        ("timeout_504_after", OutcomeKind.IN_DOUBT, Cause.TIMEOUT, DELIVERED),
        ("reset_before", OutcomeKind.IN_DOUBT, Cause.CONNECTION_LOST, NOT_DELIVERED),
        ("reset_after", OutcomeKind.IN_DOUBT, Cause.CONNECTION_LOST, DELIVERED),
        ("html_200", OutcomeKind.IN_DOUBT, Cause.BAD_ANSWER, NOT_DELIVERED),
        ("malformed_json_200", OutcomeKind.IN_DOUBT, Cause.BAD_ANSWER, DELIVERED),
        ("no_id_200", OutcomeKind.IN_DOUBT, Cause.BAD_ANSWER, DELIVERED),
        ("rate_limited_429", OutcomeKind.RATE_LIMITED, Cause.RATE_LIMITED, NOT_DELIVERED),
        ("revoked_key", OutcomeKind.LICENSE_REFUSED, Cause.UNAUTHORIZED, NOT_DELIVERED),
        ("logged_out", OutcomeKind.REFUSED, Cause.REFUSED, NOT_DELIVERED),
    ],
)
def test_a_fault_gives_the_client_its_outcome_and_strikes_where_its_name_says(sandbox, fault, kind, cause, delivered):
    sandbox.set_faults(**{fault: {"count": 1}})
    outcome = outcome_of_a_send(sandbox)
    assert (outcome.kind, outcome.cause) == (kind, cause)
    assert len(sandbox.ledger()) == delivered
    assert sandbox.log()[-1]["fault"] == fault
    sandbox.scan()
    assert outcome_of_a_send(sandbox).kind is OutcomeKind.ACCEPTED


@pytest.mark.parametrize(("fault", "delivered"), [("stall_before", NOT_DELIVERED), ("stall_after", DELIVERED)])
def test_a_stall_answers_nothing_until_the_client_gives_up(sandbox, session, fault, delivered):
    sandbox.set_faults(**{fault: {"count": 1}})
    with pytest.raises(requests.ReadTimeout):
        session.post(
            f"{sandbox.base_url}/openapi/wa/message", data={"phoneNumber": "0812000111", "message": "a"}, timeout=0.5
        )
    assert len(sandbox.ledger()) == delivered


@pytest.mark.parametrize(
    ("fault", "kind", "is_marked"),
    [
        ("restricted_400", OutcomeKind.REFUSED, True),
        ("restricted_500", OutcomeKind.IN_DOUBT, True),
        ("cold_refused_400", OutcomeKind.REFUSED, False),
        ("cold_failed_500", OutcomeKind.IN_DOUBT, False),
    ],
)
def test_cold_contacts_are_turned_down_from_the_nth_on_and_warm_ones_are_not(sandbox, fault, kind, is_marked):
    sandbox.set_faults(**{fault: {"amount": 3}})
    sandbox.answer("Halo", chat="6281200000009")
    numbers = [f"628120000000{n}" for n in (1, 1, 2, 3, 9, 1, 4)]
    with HttpGateway(Secret(sandbox.key), base_urls=[sandbox.base_url]) as gateway:
        outcomes = [outcome_to(gateway, number) for number in numbers]
    marks = Settings().RESTRICTION_MARKS
    turned_down = [outcome.kind is kind and is_restriction(outcome, marks) == is_marked for outcome in outcomes]
    assert turned_down == [False, False, False, True, False, True, True]
    assert [delivery["is_cold"] for delivery in sandbox.ledger()] == [True, True, True, False]
    sandbox.answer("Halo", chat=numbers[-1])
    assert outcome_of_a_send(sandbox).kind is kind
    with HttpGateway(Secret(sandbox.key), base_urls=[sandbox.base_url]) as gateway:
        assert outcome_to(gateway, numbers[-1]).kind is OutcomeKind.ACCEPTED


def outcome_to(gateway, number):
    try:
        return outcome_of_answer(gateway.send_message(number, "Struk"))
    except GatewayError as error:
        return outcome_of_error(error)


def test_a_suspended_number_is_told_by_the_status_alone(sandbox):
    sandbox.set_faults(suspended={"count": 1})
    with HttpGateway(Secret(sandbox.key), base_urls=[sandbox.base_url]) as gateway:
        assert outcome_of_a_send(sandbox).kind is OutcomeKind.ACCEPTED
        assert gateway.get_status().word == "suspended"
        assert sandbox.log()[-1]["fault"] == "suspended"
        assert gateway.get_status().word == "connected"


@pytest.mark.parametrize(("fault", "said"), [("check_no_once", [False, True, True]), ("check_no", [False] * 3)])
def test_check_number_says_no_wrongly_once_about_each_number_or_always(sandbox, fault, said):
    sandbox.set_faults(**{fault: 1})
    with HttpGateway(Secret(sandbox.key), base_urls=[sandbox.base_url]) as gateway:
        for number in ("6281200000001", "6281200000002"):
            assert [gateway.check_number(number).is_registered for _ in range(3)] == said
        assert gateway.send_message("6281200000001", "Struk").id
        assert gateway.get_status().word == "connected"


def test_check_number_is_slow_and_nothing_else_is(sandbox, session):
    sandbox.set_faults(check_slow={"amount": 3})
    with pytest.raises(requests.ReadTimeout):
        session.get(f"{sandbox.base_url}/openapi/wa/check-number/6281200000001", timeout=0.5)
    assert session.post(f"{sandbox.base_url}/openapi/wa/status", timeout=2.5).json()["status"] == "connected"


def test_a_phone_that_is_asked_for_a_passkey_is_not_linked_by_the_scan(sandbox):
    sandbox.logout()
    sandbox.set_faults(passkey_asked={"count": 2})
    with HttpGateway(Secret(sandbox.key), base_urls=[sandbox.base_url]) as gateway:
        for word in ("qr", "qr", "connected"):
            sandbox.scan()
            assert gateway.get_status().word == word


def test_a_scan_of_a_phone_that_is_linked_leaves_it_linked(sandbox):
    sandbox.set_faults(passkey_asked=1)
    sandbox.scan()
    assert outcome_of_a_send(sandbox).kind is OutcomeKind.ACCEPTED


def test_a_stall_ends_with_the_connection(sandbox, session):
    sandbox.set_faults(stall_after={"amount": 0.2})
    started_at = time.monotonic()
    with pytest.raises(requests.ConnectionError):
        send(session, sandbox)
    assert 0.2 <= time.monotonic() - started_at < 3


def test_a_dripping_answer_comes_byte_by_byte_and_whole(sandbox, session):
    sandbox.set_faults(drip={"amount": 2})
    answer = send(session, sandbox)
    assert answer.elapsed.total_seconds() < 1  # the head arrives at once
    assert answer.json()["result"]["id"] == sandbox.ledger()[0]["id"]
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_latency_is_in_milliseconds_and_delays_every_answer(sandbox, session):
    sandbox.set_faults(latency={"amount": 250})
    for _ in range(2):
        assert send(session, sandbox).elapsed.total_seconds() >= 0.25


def test_a_reset_is_a_tcp_reset(sandbox):
    sandbox.set_faults(reset_before=1)
    address = urlsplit(sandbox.url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        connection.sendall(b"POST /backend/openapi/wa/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(1000)


def test_the_retry_after_of_a_429_can_be_set(sandbox, session):
    sandbox.set_faults(rate_limited_429={"amount": 17})
    answer = send(session, sandbox)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "17")


def test_logged_out_leaves_the_phone_unlinked(sandbox, session):
    sandbox.set_faults(logged_out={"count": 1})
    assert send(session, sandbox).status_code == 400
    assert session.post(f"{sandbox.base_url}/openapi/wa/status", timeout=10).json()["status"] == "qr"


def test_a_fault_for_sends_leaves_other_operations_alone(sandbox, session):
    sandbox.set_faults(error_500={"operation": "sends"})
    assert session.post(f"{sandbox.base_url}/openapi/wa/status", timeout=10).status_code == 200
    assert send(session, sandbox).status_code == 500


def test_a_counted_fault_strikes_so_often_and_is_off_then(sandbox, session):
    sandbox.set_faults(error_500={"count": 2})
    assert [send(session, sandbox).status_code for _ in range(4)] == [500, 500, 200, 200]
    assert sandbox.faults()["error_500"]["probability"] == 0


def test_a_connection_is_kept_alive_between_answers(sandbox):
    address = urlsplit(sandbox.url)
    request = (
        f"POST /backend/openapi/wa/status HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {sandbox.key}\r\n\r\n".encode()
    )
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert connection.recv(4000).startswith(b"HTTP/1.1 200 OK")


def test_a_body_in_chunks_is_refused_and_not_taken_for_a_request(sandbox, session):
    url = f"{sandbox.base_url}/openapi/wa/message"
    answer = session.post(url, data=iter([b"phoneNumber=081234567890&message=a"]), timeout=10)
    assert answer.status_code == 400
    assert sandbox.ledger() == []


@pytest.mark.parametrize(
    "setting",
    [2, -0.1, "often", None, True, {"count": 0}, {"count": 1.5}, {"operation": "sing"}, {"amount": -1}, {"until": 3}],
)
def test_an_impossible_setting_is_refused_and_changes_nothing(sandbox, setting):
    settings = {"html_200": 1, "error_500": setting}
    answer = requests.put(f"{sandbox.url}/sandbox/api/faults", json=settings, timeout=10)
    assert answer.status_code == 400
    assert "error_500" in answer.json()["message"]
    assert not any(fault["probability"] for fault in sandbox.faults().values())


def test_an_unknown_fault_is_refused_with_the_known_ones(sandbox):
    answer = requests.put(f"{sandbox.url}/sandbox/api/faults", json={"fire": 1}, timeout=10)
    assert answer.status_code == 400
    assert "reset_after" in answer.json()["message"]


def test_the_same_seed_strikes_at_the_same_requests():
    def strikes(seed):
        board = FaultBoard(seed)
        board.update({"error_500": 0.3})
        return [bool(board.strikes("error_500")) for _ in range(200)]

    assert strikes(7) == strikes(7) != strikes(8)
    assert 30 <= sum(strikes(7)) <= 90
