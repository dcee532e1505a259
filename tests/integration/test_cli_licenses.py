"""`kpwa licenses`: keys are read without being shown, and a license can be paused."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone

import pytest
from django.core.management import CommandError
from django.utils import translation

from django_kpwa.models import Lane, License, PauseReason
from django_kpwa.testing import deliver
from tests.cli import kpwa, kpwa_json
from tests.processes import ROOT, run_manage, site_environment

# Runs a command at a terminal of its own, and types the key when the command asks for it.
AT_A_TERMINAL = """
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.executable, [sys.executable, "manage.py", "kpwa", "licenses", "add", "Toko Utama"])
shown = b""
while b"API key: " not in shown:
    shown += os.read(terminal, 1024)
os.write(terminal, b"typed-key-0123456789\\n")
try:
    while chunk := os.read(terminal, 1024):
        shown += chunk
except OSError:
    pass
sys.stdout.write(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_key_from_standard_input_is_stored_encrypted_and_never_shown(transactional_db):
    finished = run_manage("kpwa", "licenses", "add", "Toko Utama", stdin="a-key-of-the-shop-0001\n")
    assert finished.returncode == 0, finished.stderr
    assert 'manage.py kpwa qr --license "Toko Utama"' in finished.stdout
    license_ = License.objects.get()
    assert license_.get_api_key().reveal() == "a-key-of-the-shop-0001"
    assert "a-key-of" not in license_.api_key_ciphertext
    assert "a-key-of" not in finished.stdout + finished.stderr


def test_at_a_terminal_the_key_is_asked_for_and_not_echoed(transactional_db):
    command = [sys.executable, "-c", AT_A_TERMINAL]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=site_environment(), timeout=60)
    assert finished.returncode == 0, finished
    assert License.objects.get().get_api_key().reveal() == "typed-key-0123456789"
    assert "typed-key" not in finished.stdout


def test_no_key_is_wrong_usage_and_stores_nothing(db):
    with pytest.raises(CommandError, match="No API key was given") as raised:
        kpwa("licenses", "add", "Toko Utama")
    assert raised.value.returncode == 2
    assert not License.objects.exists()


def test_a_key_unfit_for_a_header_is_refused_without_being_shown(license_):
    with pytest.raises(CommandError) as raised:
        kpwa("licenses", "set-key", "Toko Utama", stdin="two words 12345\n")
    assert raised.value.returncode == 2
    assert "two words" not in str(raised.value)


def test_a_new_key_counts_its_version_up(license_):
    code, told = kpwa_json("licenses", "set-key", "Toko Utama", stdin="the-new-key-0000001\n")
    assert (code, told) == (0, {"name": "Toko Utama", "api_key_version": 2})
    license_.refresh_from_db()
    assert license_.get_api_key().reveal() == "the-new-key-0000001"


def test_a_name_that_is_taken_or_an_address_that_is_none_is_refused(license_):
    with pytest.raises(CommandError, match="already exists"):
        kpwa("licenses", "add", "Toko Utama", stdin="a-key\n")
    with pytest.raises(CommandError, match="valid URL"):
        kpwa("licenses", "add", "Cabang", "--base-url", "ftp://x", stdin="a-key\n")


def test_the_list_shows_state_and_waiting_but_no_key(license_):
    kpwa("send", "0812 3456 7890", "Halo")
    code, [row] = kpwa_json("licenses")
    assert code == 0
    assert (row["name"], row["session_status"], row["waiting"]) == ("Toko Utama", "unknown", 1)
    told = kpwa("licenses")[1]
    assert "Toko Utama" in told
    assert "…0001" in told
    assert "test-api-key" not in told


def test_an_empty_list_says_how_to_add_one(db):
    assert kpwa("licenses") == (0, "There is no license yet. Add one: manage.py kpwa licenses add NAME\n")


def test_a_paused_license_holds_its_messages_until_it_is_resumed(license_):
    assert kpwa("licenses", "pause", "Toko Utama")[0] == 0
    assert Lane.objects.get().pause_reason == PauseReason.BY_PERSON
    assert "was paused already" in kpwa("licenses", "pause", "Toko Utama")[1]
    assert "a person paused it" in kpwa("licenses")[1]
    kpwa("send", "0812 3456 7890", "Halo")
    assert deliver() == []
    assert kpwa("licenses", "resume", "Toko Utama") == (0, "Toko Utama sends again.\n")
    assert [sent.text for sent in deliver()] == ["Halo"]
    assert "was not paused" in kpwa("licenses", "resume", "Toko Utama")[1]


def test_a_changed_number_is_confirmed_by_its_own_command(license_):
    columns = {"confirmed_number": "6281111111111", "linked_number": "6281222222222"}
    Lane.objects.create(license=license_, pause_reason=PauseReason.NUMBER_CHANGED, **columns)
    code, told = kpwa("licenses", "resume", "Toko Utama")
    assert (code, 'kpwa licenses confirm-number "Toko Utama"' in told) == (1, True)
    assert "62812•••••222 instead of 62811•••••111" in told
    assert kpwa_json("licenses", "resume", "Toko Utama")[1]["paused"] is True
    code, told = kpwa("licenses", "confirm-number", "Toko Utama")
    assert (code, told) == (0, "Toko Utama sends again, from 62812•••••222.\n")
    assert Lane.objects.get().pause_reason == ""
    assert kpwa("licenses", "confirm-number", "Toko Utama")[0] == 1


def test_a_phone_that_was_linked_again_is_kept(license_):
    columns = {"confirmed_number": "6281111111111", "linked_number": "6281222222222"}
    Lane.objects.create(license=license_, pause_reason=PauseReason.NUMBER_CHANGED, **columns)
    code, told = kpwa_json("licenses", "confirm-number", "Toko Utama", "--keep")
    assert (code, told["confirmed_number"], told["changed"]) == (0, "62811•••••111", True)


def test_status_says_what_stopped_and_what_went_wrong_last(license_):
    columns = {"confirmed_number": "6281111111111", "linked_number": "6281222222222"}
    at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)
    wrong = {"last_error": "Device busy", "last_error_at": at}
    Lane.objects.create(license=license_, pause_reason=PauseReason.NUMBER_CHANGED, **columns, **wrong)
    told = kpwa("status")[1]
    assert "Nothing is sent: another phone is linked, 62812•••••222 instead of 62811•••••111" in told
    assert "Device busy" in told
    told = kpwa_json("status")[1]
    assert (told["confirmed_number"], told["last_error"]) == ("62811•••••111", "Device busy")
    assert "another phone is linked" in kpwa("licenses")[1]


def test_the_commands_speak_english_on_a_site_in_indonesian(license_):
    kpwa("licenses", "pause", license_.name)
    with translation.override("id"):
        assert "a person paused it" in kpwa("licenses")[1]
