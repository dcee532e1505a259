"""`manage.py demo` as people run it: real processes, which these tests kill, stop and look for afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from django.core.management import CommandError, call_command

from example_project.demo.management.commands.demo import Command

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60


class Demo:
    """One `manage.py demo` with a home of its own. It is killed at the end if it still runs."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        descriptor, self._output = tempfile.mkstemp(dir=home.parent, suffix=".txt")
        environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--home", str(home), *arguments],
            cwd=ROOT,
            env={**environment, "DJANGO_SETTINGS_MODULE": "example_project.settings", "SHOP_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(descriptor)

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()  # the watchdog ends the other processes
        self.process.wait()

    @property
    def output(self) -> str:
        return Path(self._output).read_text()

    def wait_for(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        gives_up_at = time.monotonic() + seconds
        while not (found := re.search(pattern, self.output)):
            assert self.process.poll() is None, f"It ended without {pattern!r}:\n{self.output}"
            assert time.monotonic() < gives_up_at, f"No {pattern!r} within {seconds} s:\n{self.output}"
            time.sleep(0.05)
        return found

    def wait_for_end(self, seconds: float) -> int:
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It did not end within {seconds} s:\n{self.output}") from None

    def tell_phone(self, method: str, path: str, content: object) -> None:
        """Send one request to the phone's own API, see tests/sandbox.py."""
        url = psutil.Process(self.pids()["worker"]).environ()["SANDBOX_URL"]
        request = urllib.request.Request(
            f"{url}/sandbox/api/{path}",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        urllib.request.urlopen(request, timeout=10).close()

    def is_refused(self, api_key: str) -> bool:
        """True if the phone does not accept `api_key`."""
        url = psutil.Process(self.pids()["worker"]).environ()["SANDBOX_URL"]
        request = urllib.request.Request(f"{url}/backend/openapi/wa/status", b"", {"X-API-KEY": api_key})
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except urllib.error.HTTPError as error:
            return error.code == 401
        return False

    def wait_until_sending_for(self, seconds: float) -> None:
        """Return when one message has been in state `sending` for `seconds`."""
        gives_up_at = time.monotonic() + 30
        with closing(sqlite3.connect(self.home / "shop.sqlite3", timeout=20)) as database:
            since, sending = time.monotonic(), None
            while sending is None or time.monotonic() - since < seconds:
                assert time.monotonic() < gives_up_at, f"Nothing was being sent for {seconds} s:\n{self.output}"
                row = database.execute("SELECT id FROM django_kpwa_outboundmessage WHERE status = 'sending'").fetchone()
                if row != sending:
                    since, sending = time.monotonic(), row
                time.sleep(0.02)

    def pids(self) -> dict[str, int]:
        line = self.wait_for(r"Process ids +(.+?)  ")[1]
        return {name: int(pid) for name, pid in re.findall(r"(\w+) (\d+)", line)}

    def processes(self) -> list[psutil.Process]:
        """Return every living process with this demo's home in its environment, except the supervisor."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get("SHOP_HOME") == str(self.home)
                if is_ours and process.pid != self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_until_nothing_runs(self, seconds: float = 5) -> None:
        gives_up_at = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < gives_up_at, f"Left running: {left}"
            time.sleep(0.05)


@pytest.mark.waits
def test_every_receipt_of_the_demos_sales_arrives_exactly_once_and_nothing_is_left_running(tmp_path):
    with Demo(tmp_path / "demo", "--sales", "3", "--exit") as demo:
        assert demo.is_refused("sandbox-key"), "A site that sends to another sandbox could send to this phone."
        exit_code = demo.wait_for_end(90)

        assert exit_code == 0, demo.output
        assert len(re.findall(r"KS-00000\d .* [\d,]+ ms$", demo.output, re.MULTILINE)) == 3
        assert "3 of 3 receipts arrived, once each" in demo.output
        demo.wait_until_nothing_runs()
        log = (demo.home / "log.txt").read_text()
        assert "POST /kpwa/webhooks/…/" in log
        assert re.search(r"/webhooks/[\w-]{20,}", log) is None
        assert "6281248271913" not in demo.output + log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--exit"], "--exit needs --sales or --csv"),
        (["--day", "2016-11-05"], "--day needs --csv"),
        (["--sales", "0"], "is not a whole number above 0"),
        (["--csv", "nowhere.csv"], "nowhere.csv cannot be read: .*No such file"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_started(tmp_path, arguments, words):
    with pytest.raises(CommandError, match=words):
        call_command(Command(), *arguments, home=tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_worker_killed_while_it_sends_comes_back_and_every_sale_ends_sent_or_in_doubt(tmp_path):
    with Demo(tmp_path / "demo", "--sales", "40", "--exit") as demo:
        demo.wait_for("KS-000010 ")
        demo.tell_phone("PUT", "faults", {"latency": {"amount": 4000, "count": 1, "operation": "sends"}})
        demo.wait_until_sending_for(0.5)
        os.kill(demo.pids()["worker"], signal.SIGKILL)
        exit_code = demo.wait_for_end(180)

        assert "was killed by signal 9" in demo.output
        assert re.search(r"worker started again, pid \d+", demo.output)
        assert exit_code == 1, demo.output
        assert "In doubt, kept for a person's decision (see the admin): 1" in demo.output
        assert "unknown (worker_lost)" in demo.output
        assert "39 of 40 receipts arrived, once each. None was lost and none came twice" in demo.output
        demo.wait_until_nothing_runs()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_one_day_of_a_real_tills_export_arrives(tmp_path):
    export = tmp_path / "till.csv"
    rows = [f"2016-11-05,{9 + number // 20:02}:{number % 60:02}:00,{100 + number},Coffee" for number in range(30)]
    rows += ["2016-11-05,10:00:00,100,Bread", "2016-11-05,10:00:00,100,NONE", "2016-11-06,08:00:00,999,Tea"]
    export.write_text("date,time,sale,item\n" + "\n".join(rows) + "\n")
    with Demo(tmp_path / "demo", "--csv", str(export), "--day", "2016-11-05", "--exit") as demo:
        assert demo.wait_for_end(180) == 0, demo.output
        assert "30 of 30 receipts arrived, once each" in demo.output
        assert re.search(r"2016-11-05 09:00  #100 .* 2 items", demo.output)
        assert "#999" not in demo.output


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_demos_side_by_side_take_other_ports_and_one_folder_is_never_shared(tmp_path):
    with Demo(tmp_path / "one") as one, Demo(tmp_path / "two") as two:
        ports = [demo.wait_for(r"Till and phone +http://127\.0\.0\.1:(\d+)/demo/")[1] for demo in (one, two)]
        assert len(set(ports)) == 2
        for port in ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/demo/", timeout=20) as page:
                assert page.status == 200
        assert "is taken; the shop uses" in one.output + two.output
        with Demo(tmp_path / "one") as intruder:
            assert intruder.wait_for_end(30) == 1
            assert "Another demo runs in" in intruder.output

        for demo in (one, two):
            demo.process.send_signal(signal.SIGINT)
        for demo in (one, two):
            assert demo.wait_for_end(30) == 0, demo.output
            assert "nothing is left running" in demo.output
            demo.wait_until_nothing_runs()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["phone", "site", "beat"])
def test_a_process_that_dies_is_started_again_and_sales_go_on(tmp_path, name):
    with Demo(tmp_path / "demo", "--sales", "25", "--exit") as demo:
        demo.wait_for("KS-000003 ")
        os.kill(demo.pids()[name], signal.SIGKILL)
        demo.wait_for(rf"{name} started again, pid \d+")
        demo.wait_for_end(90)

        # The report knows what the phone received before it was killed. A send at that moment may be in doubt.
        assert re.search(r"2[345] of 25 receipts arrived, once each", demo.output), demo.output
        assert "DISAGREE" not in demo.output


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_receipts_that_do_not_arrive_in_time_are_listed_with_the_reason(tmp_path):
    with Demo(tmp_path / "demo", "--sales", "30", "--exit", "--timeout", "18") as demo:
        demo.wait_for("KS-000003 ")
        demo.tell_phone("POST", "logout", {})

        assert demo.wait_for_end(90) == 1
        assert "Toko Demo is paused: logged_out" in demo.output
        assert re.search(r"Not sent: \d+\n +KS-0000\d\d .* queued.*, not on the phone", demo.output), demo.output
        assert "None was lost and none came twice" in demo.output


@pytest.mark.slow
def test_nothing_outlives_a_demo_that_is_killed(tmp_path):
    with Demo(tmp_path / "demo") as demo:
        demo.wait_for("Ctrl-C stops everything")
        assert len(demo.processes()) >= 4
        demo.process.kill()
        demo.process.wait()
        demo.wait_until_nothing_runs(15)
