"""`manage.py kpwa` as a whole: help, wrong usage, errors in one line."""

from __future__ import annotations

import os
import re

import pytest
from django.core.management import CommandError

from tests.cli import kpwa
from tests.processes import run_manage, start_manage

SUBCOMMANDS = (
    *("doctor", "status", "qr", "restart", "check-number", "send", "send-group", "messages", "licenses", "webhook"),
    *("run", "dispatch", "purge", "sandbox"),
)


@pytest.fixture
def without_database(tmp_path):
    """The environment of a process that must not need the test database."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"sqlite:///{tmp_path}/empty.sqlite3",
        "COLUMNS": "100",
    }


def test_help_names_every_subcommand_and_the_exit_codes(without_database):
    shown = run_manage("kpwa", "--help", environment=without_database).stdout
    for name in SUBCOMMANDS:
        assert re.search(rf"^    {name}\b", shown, re.MULTILINE), name
    assert "3  the gateway failed" in shown


def test_help_of_a_subcommand_has_its_own_options_and_not_djangos(without_database):
    shown = run_manage("kpwa", "qr", "--help", environment=without_database).stdout
    assert "save it as a PNG that only you can read" in shown
    assert "--pythonpath" not in shown


def test_help_of_an_action_says_what_it_does(without_database):
    shown = run_manage("kpwa", "messages", "mark-sent", "--help", environment=without_database).stdout
    assert "Say that a message in doubt arrived." in shown


def test_an_unknown_subcommand_is_wrong_usage(without_database):
    finished = run_manage("kpwa", "sing", environment=without_database)
    assert finished.returncode == 2
    assert "invalid choice: 'sing'" in finished.stderr


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

    monkeypatch.setattr("django_kpwa.cli.status.check_status", broken)
    with pytest.raises(RuntimeError, match="a fault"):
        kpwa("status")


def test_sandbox_becomes_the_simulated_phone_with_the_same_arguments(without_database):
    arguments = ("--port", "0", "--license", "A:key-a")
    with start_manage("kpwa", "sandbox", *arguments, environment=without_database) as process:
        assert "http://127.0.0.1:" in process.wait_for_output("License   A")
        assert process.stop() == 0
