"""`python -m django_kpwa.sandbox` as a process: its options, its start and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest
import requests

from django_kpwa.sandbox.__main__ import main
from tests.sandbox import SandboxProcess


def run(*arguments, **options):
    command = [sys.executable, "-m", "django_kpwa.sandbox", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **options)


def status_of(sandbox, key="sandbox-key"):
    url = f"{sandbox.base_url}/openapi/wa/status"
    return requests.post(url, headers={"X-API-KEY": key}, timeout=10).json().get("status")


def send(sandbox, key="sandbox-key"):
    content = {"phoneNumber": "081234567890", "message": "Struk"}
    requests.post(f"{sandbox.base_url}/openapi/wa/message", content, headers={"X-API-KEY": key}, timeout=10)


def test_without_options_there_is_one_license_that_is_not_linked():
    with SandboxProcess() as sandbox:
        assert status_of(sandbox) == "qr"
        assert [license["name"] for license in sandbox.state()["licenses"]] == ["sandbox"]
        sandbox.scan()
        assert status_of(sandbox) == "connected"


def test_the_options_set_everything_up():
    with SandboxProcess(
        *("--linked", "--license", "Dago:dago-key", "--license", "Riau:riau-key"),
        *("--group", "Dapur", "--group", "Kasir", "--fault", "error_500=0.25", "--latency", "7", "--seed", "3"),
        *("--unregistered", "0812 000 1111", "--unlinked-status", "500", "--fault", "restricted_400=1:5"),
    ) as sandbox:
        state = sandbox.state(license="Riau")
        assert [(each["name"], each["linked"]) for each in state["licenses"]] == [("Dago", True), ("Riau", True)]
        assert len({each["number"] for each in state["licenses"]}) == 2
        assert {chat["name"] for chat in state["chats"]} == {"Dapur", "Kasir"}
        assert sandbox.faults()["error_500"]["probability"] == 0.25
        restricted = sandbox.faults()["restricted_400"]
        assert (restricted["probability"], restricted["amount"]) == (1, 5)
        assert (sandbox.faults()["latency"]["probability"], sandbox.faults()["latency"]["amount"]) == (1, 7)
        assert (state["unregistered"], state["unlinked_status"]) == (["628120001111"], 500)
        sandbox.clear_faults()
        assert status_of(sandbox, "riau-key") == "connected"
        assert status_of(sandbox, "sandbox-key") is None


def test_licenses_do_not_see_each_others_chats():
    with SandboxProcess("--linked", "--license", "Dago:dago-key", "--license", "Riau:riau-key") as sandbox:
        send(sandbox, "riau-key")
        assert sandbox.ledger()[0]["license"] == "Riau"
        assert sandbox.state(license="Dago")["chats"] == []
        assert len(sandbox.state(license="Riau")["chats"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--license", "Dago"),
        ("--license", "Dago:two words"),
        ("--license", "Dago:key", "--license", "Riau:key"),
        ("--fault", "fire=1"),
        ("--fault", "error_500"),
        ("--fault", "error_500=2"),
        ("--fault", "restricted_400=1:"),
        ("--fault", "restricted_400=1:-1"),
        ("--fault", "restricted_400=1:2:3"),
        ("--latency", "-5"),
        ("--port", "many"),
    ],
)
def test_a_wrong_option_ends_with_2_and_a_reason(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(list(arguments)))
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error
    assert "two words" not in error


def test_a_port_that_is_taken_is_said_plainly():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finished = run("--port", str(port))
    assert finished.returncode == 3
    assert f"127.0.0.1:{port}" in finished.stderr
    assert "--port" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_settings_of_a_surrounding_site_do_not_matter():
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "no.such.settings"}
    with subprocess.Popen(
        [sys.executable, "-m", "django_kpwa.sandbox", "--port", "0"], stdout=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert process.stdout.readline() == "A simulated WhatsApp phone is running.\n"
        process.terminate()
        assert process.wait(timeout=10) == 0


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_with_0_while_answers_are_stalled_and_connections_open(signal_number):
    with SandboxProcess("--linked", "--fault", "stall_after=1") as sandbox:
        address = urlsplit(sandbox.url)
        idle = socket.create_connection((address.hostname, address.port))
        stalled = threading.Thread(target=_ignore_errors, args=(lambda: send(sandbox),))
        stalled.start()
        sandbox.wait_for_deliveries(1)  # only the answer stalls, after the delivery
        started_at = time.monotonic()
        sandbox.process.send_signal(signal_number)
        assert sandbox.process.wait(timeout=10) == 0
        assert time.monotonic() - started_at < 2
        stalled.join(timeout=10)
        idle.close()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_while_requests_pour_in(signal_number):
    stop_pouring, answered = threading.Event(), threading.Semaphore(0)
    with SandboxProcess("--linked") as sandbox:
        pouring = [threading.Thread(target=_pour, args=(sandbox.url, stop_pouring, answered)) for _ in range(8)]
        for thread in pouring:
            thread.start()
        try:
            assert all(answered.acquire(timeout=10) for _ in range(100))
            sandbox.process.send_signal(signal_number)
            assert sandbox.process.wait(timeout=10) == 0
        finally:
            stop_pouring.set()
            for thread in pouring:
                thread.join()


def test_a_signal_raises_nothing_in_the_middle_of_taking_a_request():
    # An exception from a signal handler could be lost while socketserver starts a thread.
    # The sandbox would then serve for ever.
    signalled = """
import os, signal, sys
from django_kpwa.sandbox.__main__ import main
from django_kpwa.sandbox.transport import SandboxServer

def process_request(self, *arguments, original=SandboxServer.process_request):
    os.kill(os.getpid(), signal.SIGTERM)
    original(self, *arguments)
    print("taken", flush=True)

SandboxServer.process_request = process_request
sys.exit(main(["--port", "0"]))
"""
    with subprocess.Popen([sys.executable, "-c", signalled], stdout=subprocess.PIPE, text=True) as process:
        try:
            address = urlsplit(next(line.split()[1] for line in process.stdout if line.startswith("  Phone")))
            with socket.create_connection((address.hostname, address.port), timeout=10):
                assert "taken\n" in process.stdout.readlines()
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()


def test_started_again_it_has_its_old_port():
    sandbox = SandboxProcess("--linked")
    sandbox.start()
    before = sandbox.url
    assert sandbox.stop() == 0
    sandbox.start()
    try:
        assert sandbox.url == before
        assert status_of(sandbox) == "connected"
    finally:
        sandbox.stop()


def test_nothing_of_a_request_is_printed():
    process = subprocess.Popen(
        [sys.executable, "-m", "django_kpwa.sandbox", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        url = next(line.split()[1] for line in process.stdout if line.startswith("  Phone"))
        headers = {"X-API-KEY": "wrong-key"}
        assert (
            requests.get(f"{url}backend/openapi/wa/check-number/081234567890", headers=headers, timeout=10).ok is False
        )
        requests.get(f"{url}sandbox/api/nothing", timeout=10)
    finally:
        process.terminate()
        printed = "".join(process.communicate(timeout=10))
    assert "081234567890" not in printed
    assert "wrong-key" not in printed


def _pour(url, stop, answered):
    address = urlsplit(url)
    while not stop.is_set():
        # Each request has its own connection, so the server is always about to start a thread.
        try:
            with socket.create_connection((address.hostname, address.port), timeout=1) as connection:
                connection.sendall(b"GET /sandbox/api/ledger HTTP/1.0\r\n\r\n")
                connection.recv(1)
            answered.release()
        except OSError:
            time.sleep(0.01)


def _ignore_errors(action):
    try:
        action()
    except requests.RequestException:
        pass
