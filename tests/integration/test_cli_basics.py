"""`manage.py kpwa` as a whole: help, wrong usage, and errors on one line."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
from django.core.management import CommandError, ManagementUtility

from django_kpwa.models import DatabaseNow, License, OutboundMessage
from tests.cli import kpwa
from tests.processes import ROOT, run_manage, start_manage

SUBCOMMANDS = (
    *("doctor", "alerts", "status", "qr", "restart", "check-number", "send", "send-group", "messages", "missing"),
    *("lift-stop", "forget", "export", "licenses", "groups", "webhook", "run", "dispatch", "purge", "sandbox"),
)


@pytest.fixture
def without_database(tmp_path):
    """The environment of a process that must not use the test database."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path}/empty.sqlite3",
        "COLUMNS": "100",
    }


@pytest.fixture(scope="module")
def migrated_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "migrated.sqlite3"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": f"sqlite:///{path}"}
    assert run_manage("migrate", "-v", "0", environment=environment).returncode == 0
    return path


@pytest.fixture
def with_tables(without_database, migrated_file, tmp_path):
    """The same environment, with the tables of a site in its database."""
    shutil.copy(migrated_file, tmp_path / "empty.sqlite3")
    return without_database


@pytest.fixture
def manage(capsys, monkeypatch):
    """Return a function that runs `manage.py` in this process and returns its exit code, its output and its errors."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            ManagementUtility(["manage.py", *arguments]).execute()
        return ended.value.code, *capsys.readouterr()

    return run


def test_help_names_every_subcommand_and_the_exit_codes(manage):
    _, shown, _ = manage("kpwa", "--help")
    for name in SUBCOMMANDS:
        assert re.search(rf"^    {name}\b", shown, re.MULTILINE), name
    assert "3  the gateway failed" in shown


def test_help_of_a_subcommand_has_its_own_options_and_not_djangos(manage):
    _, shown, _ = manage("kpwa", "qr", "--help")
    assert "save it as a PNG that only you can read" in shown
    assert "--pythonpath" not in shown


def test_help_of_an_action_says_what_it_does(manage):
    _, shown, _ = manage("kpwa", "messages", "mark-sent", "--help")
    assert "Mark a message in doubt as sent." in shown


def test_an_unknown_subcommand_is_wrong_usage(manage):
    code, _, error = manage("kpwa", "sing")
    assert code == 2
    assert "invalid choice: 'sing'" in error


def test_djangos_own_options_may_follow_the_subcommand(license_):
    assert kpwa("messages", "--no-color", "--verbosity", "2") == (0, "No messages.\n")


def test_without_tables_it_says_migrate_and_shows_no_traceback(without_database):
    finished = run_manage("kpwa", "status", environment=without_database)
    assert finished.returncode == 1
    assert "Run `manage.py migrate`" in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1


def test_wrong_settings_are_one_line_and_no_traceback(license_, settings):
    settings.KPWA = {"PACE": 3}
    with pytest.raises(CommandError, match=r"KPWA\['PACE'\] is not a setting of django-kpwa"):
        kpwa("status")


def test_a_fault_of_the_code_keeps_its_traceback(license_, monkeypatch):
    def broken(license_):
        raise RuntimeError("a fault")

    monkeypatch.setattr("django_kpwa.license_actions.check_status", broken)
    with pytest.raises(RuntimeError, match="a fault"):
        kpwa("status")


def test_sandbox_becomes_the_simulated_phone_with_the_same_arguments(without_database):
    arguments = ("--port", "0", "--license", "A:key-a")
    with start_manage("kpwa", "sandbox", *arguments, environment=without_database) as process:
        assert "http://127.0.0.1:" in process.wait_for_output("License   A")
        assert process.stop() == 0


def test_sandbox_adds_its_license_to_a_site_under_development(with_tables, tmp_path):
    (tmp_path / "developing.py").write_text("from tests.settings import *\n\nDEBUG = True\nKPWA.pop('GATEWAY', None)\n")
    environment = {**with_tables, "DJANGO_SETTINGS_MODULE": "developing", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
    for said in ("Added Toko Senja", "Found Toko Senja"):
        arguments = ("kpwa", "sandbox", "--add-license", "Toko Senja", "--port", port)
        with start_manage(*arguments, environment=environment) as process:
            assert f"{said}: it sends to the simulated phone" in process.wait_for_output("Ctrl-C stops it")
            status = run_manage("kpwa", "status", environment=environment)
            assert "Toko Senja: linked" in status.stdout, status.stderr
            assert process.stop() == 0


def test_sandbox_adds_no_license_that_sends_elsewhere_or_to_a_port_that_changes(license_, settings):
    settings.DEBUG = True
    settings.KPWA = {name: value for name, value in settings.KPWA.items() if name != "GATEWAY"}
    License.objects.update(base_url="http://127.0.0.1:8900/backend")
    for arguments, said in (
        (("Toko Utama", "--port", "8901"), "another address than this sandbox"),
        (("Toko Fajar", "--port", "0"), "name a port"),
    ):
        with pytest.raises(CommandError, match=said) as refused:
            kpwa("sandbox", "--", "--add-license", *arguments)
        assert refused.value.returncode == 2
    assert [each.name for each in License.objects.all()] == [license_.name]


def test_sandbox_adds_no_license_that_would_send_to_what_listens_there_already(license_, settings, monkeypatch):
    settings.DEBUG = True
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("The sandbox was started."))
    settings.KPWA = {name: value for name, value in settings.KPWA.items() if name != "GATEWAY"}
    with socket.create_server(("127.0.0.1", 0)) as another:
        port = str(another.getsockname()[1])
        with pytest.raises(CommandError, match=f"Port {port} is taken.*--port. Nothing was added") as refused:
            kpwa("sandbox", "--", "--add-license", "Toko Senja", "--port", port)
    assert refused.value.returncode == 2
    assert [each.name for each in License.objects.all()] == [license_.name]


def test_sandbox_adds_no_license_to_a_site_that_serves_customers(license_, settings):
    settings.DEBUG = False
    with pytest.raises(CommandError, match="with DEBUG off, receipts of customers could end in the sandbox") as refused:
        kpwa("sandbox", "--", "--add-license", "Toko Senja")
    assert refused.value.returncode == 2
    settings.DEBUG = True
    with pytest.raises(CommandError, match=r"KPWA\['GATEWAY'\] sends nothing, so the phone would show none"):
        kpwa("sandbox", "--", "--add-license", "Toko Senja")
    assert [each.name for each in License.objects.all()] == [license_.name]


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_a_terminal_that_lacks_characters_gets_question_marks(with_tables, encoding):
    environment = {**with_tables, "PYTHONIOENCODING": encoding}
    added = run_manage("kpwa", "licenses", "add", "Kopi ☕", environment=environment, stdin="key-of-a-shop-0001")
    assert added.returncode == 0, added.stderr
    listed = run_manage("kpwa", "licenses", environment=environment)
    assert listed.returncode == 0, listed.stderr
    assert "Kopi ?" in listed.stdout


def test_a_reader_that_has_read_enough_is_no_error(with_tables):
    command = f"{sys.executable} manage.py kpwa messages | true; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], cwd=ROOT, env=with_tables, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_words_of_others_cannot_steer_the_terminal_nor_forge_a_line(license_):
    words = "a\x1b[2Jb\nc\u2028d\u202ee\x9bf"
    OutboundMessage.objects.create(
        license=license_,
        recipient=f"Dapur {words}",
        recipient_type="group",
        text="x",
        status="failed",
        created_at=DatabaseNow(),
        due_at=DatabaseNow(),
    )
    _, listed = kpwa("messages")
    assert "b c d e f" in listed
    assert not set(listed) & set("\x1b\u2028\u202e\x9b")
    assert len(listed.splitlines()) == 2
